"""The JSON document of a demo run; the run itself is tested in test/graph/test_demo.py."""

from __future__ import annotations

import json
from pathlib import Path

from qt_ros.cli.demo import Demo, Row
from qt_ros.cli.demo_plan import make_plan

TASKS = [f"pick_{i}" for i in range(10)]


def row(outcome: str) -> Row:
    return Row("pick", 7, outcome, "terminate", 12, 20.0, 30.0, "bags/e1", task="pick_1", messages=9, complete=True)


def test_the_document_has_what_scripts_rely_on(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text('{"id": "abc"}')
    demo = Demo(make_plan(3, 4, TASKS), tmp_path, tmp_path / "run")
    demo.rows = [row("success"), row("success"), row("failure"), row("unknown")]
    document = json.loads(json.dumps(demo.summary()))
    assert document["success_rate"] == 0.5
    keys = {"instruction", "seed", "outcome", "reason", "steps", "latency_ms_p50", "latency_ms_p95", "bag"}
    assert all(keys <= set(episode) for episode in document["episodes"])
    assert (document["seed"], document["checkpoint"]) == (3, "abc")


def test_a_run_without_episodes_has_no_success(tmp_path: Path) -> None:
    assert Demo(make_plan(3, 4, TASKS), tmp_path, tmp_path / "run").success_rate == 0.0
