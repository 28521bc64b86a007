from __future__ import annotations

import json

import pytest

from benchmarks.pose_rules import compare, main


def test_every_episode_is_judged_twice_and_counted_once() -> None:
    result = compare("pick", "demonstration", range(1_500_000, 1_500_003))
    assert result["episodes"] == 3 and result["success_by_contacts"] >= 1
    assert result["agree"] + result["only_contacts_say_success"] + result["only_poses_say_success"] == 3
    assert len(result["seeds_that_differ"]) == 3 - result["agree"]


def test_it_reports_every_skill_and_source_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--episodes", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {(r["skill"], r["source"]) for r in report["results"]}
    assert found == {(s, o) for s in ("pick", "fetch", "move_near") for o in ("demonstration", "noise")}
    assert report["settings"] == {"episodes": 1, "seed": 1_700_000}
