"""Which tasks and scenes a demo run shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from qt_ros.cli.demo import Demo
from qt_ros.cli.demo_plan import make_plan
from qt_ros.sim.seeds import TEST_SEEDS, TRAINING_SEEDS
from qt_ros.sim.tasks import SKILLS, load_tasks

TASKS = [f"pick_{i}" for i in range(10)]


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


def test_a_few_episodes_show_every_skill_and_many_every_task() -> None:
    tasks = list(load_tasks())
    plan = make_plan(5, 200, tasks)
    skills = [load_tasks()[task].skill for task, _ in plan.episodes]
    assert set(skills[: len(SKILLS)]) == set(SKILLS)
    assert skills[: len(SKILLS)] == skills[len(SKILLS) : 2 * len(SKILLS)]
    assert {task for task, _ in plan.episodes} == set(tasks)
