"""The plan of a demo run and its JSON document; the run itself is tested in test/graph/test_demo.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qt_ros.cli.demo import Demo, Row, make_plan
from qt_ros.sim.rollout import TEST_SEEDS, TRAINING_SEEDS

TASKS = [f"pick_{i}" for i in range(10)]


def row(outcome: str) -> Row:
    return Row("pick", 7, outcome, "terminate", 12, 20.0, 30.0, "bags/e1", task="pick_1", messages=9, complete=True)


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert make_plan(3, 10, TASKS) == make_plan(3, 10, TASKS)
    assert make_plan(3, 10, TASKS).episodes != make_plan(4, 10, TASKS).episodes


def test_every_object_has_its_turn_in_a_scene_of_its_own() -> None:
    plan = make_plan(3, 25, TASKS)
    assert len({task for task, _ in plan.episodes[:10]}) == 10
    assert [t for t, _ in plan.episodes[:5]] == [t for t, _ in plan.episodes[10:15]]
    assert len({seed for _, seed in plan.episodes}) == 25


@pytest.mark.parametrize(
    ("training", "seeds", "name"), [(False, TEST_SEEDS, "test"), (True, TRAINING_SEEDS, "training")]
)
def test_scenes_stay_inside_their_range_and_the_document_says_which(
    training: bool, seeds: range, name: str, tmp_path: Path
) -> None:
    plan = make_plan(7, 2000, TASKS, training)
    assert all(seed in seeds for _, seed in plan.episodes)
    assert max(seed for _, seed in plan.episodes) > seeds.start + 0.9 * len(seeds)
    (tmp_path / "checkpoint.json").write_text('{"id": "abc"}')
    assert Demo(plan, tmp_path, tmp_path / "run").summary()["scenes"] == name


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    assert make_plan(3, 50, TASKS).episodes[:10] == make_plan(3, 10, TASKS).episodes


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
