from __future__ import annotations

import json
from pathlib import Path

import pytest

from qt_ros.improvement.measuring import measure, rate, skills_document
from qt_ros.improvement.settings import ImprovementError, Interrupted
from qt_ros.model.checkpoint import read_info
from qt_ros.sim.task_file import draw_task

SEEDS = range(1_000_000, 1_000_003)


def test_an_interrupted_measurement_goes_on_where_it_stopped(start: Path, tmp_path: Path) -> None:
    identity, file = read_info(start).id, tmp_path / "m" / "success.jsonl"
    ran: list[int] = []

    def count(result: object, summary: object) -> None:
        ran.append(result.seed)  # type: ignore[attr-defined]

    with pytest.raises(Interrupted):
        measure(start, identity, SEEDS, file, workers=0, on_result=count, stopped=lambda: len(ran) >= 1)
    assert ran == [1_000_000]
    file.write_bytes(file.read_bytes() + b'{"seed": 1000001, "outc')  # the power went while the next one was written
    success = measure(start, identity, SEEDS, file, workers=0, on_result=count)
    assert ran == list(SEEDS) and success == dict.fromkeys(SEEDS, False)
    assert [json.loads(line).get("seed") for line in file.read_text().splitlines()] == [None, *SEEDS]
    assert measure(start, identity, SEEDS, file, workers=0, on_result=count) == success
    assert len(ran) == 3 and rate(success).episodes == 3
    for other in ((identity, range(1_000_000, 1_000_002)), ("another", SEEDS)):
        with pytest.raises(ImprovementError, match="another measurement"):
            measure(start, *other, file, workers=0)


def test_scenes_whose_physics_failed_count_neither_way(start: Path, tmp_path: Path) -> None:
    identity, file = read_info(start).id, tmp_path / "success.jsonl"
    head = {"checkpoint": identity, "first": 1_000_000, "episodes": 3, "tasks": []}
    rows = [{"seed": seed, "outcome": outcome} for seed, outcome in zip(SEEDS, ("success", "unstable", "failure"))]
    file.write_text("".join(json.dumps(row) + "\n" for row in (head, *rows)))
    assert measure(start, identity, SEEDS, file) == {1_000_000: True, 1_000_002: False}


def test_a_damaged_measurement_is_named(start: Path, tmp_path: Path) -> None:
    (tmp_path / "success.jsonl").write_text("{}\nrubbish\n")
    with pytest.raises(ImprovementError, match="delete it"):
        measure(start, read_info(start).id, SEEDS, tmp_path / "success.jsonl")


def test_success_is_told_by_skill_and_every_skill_counts_alike_in_the_mean() -> None:
    tasks = ("pick_red_cube", "pick_blue_ball", "open_drawer")
    seeds = {skill: [s for s in range(100) if draw_task(tasks, s).skill == skill] for skill in ("pick", "open_drawer")}
    scenes = [*seeds["pick"][:8], *seeds["open_drawer"][:2]]
    found = skills_document({seed: seed in scenes[-2:] for seed in scenes}, tasks)
    assert {k: (v["success"], v["episodes"]) for k, v in found["by_skill"].items()} == {
        "pick": (0, 8), "open_drawer": (2, 2),
    }  # fmt: skip
    assert found["skill_mean"] == 0.5
    assert skills_document({}, tasks) == {"by_skill": {}, "skill_mean": None}
