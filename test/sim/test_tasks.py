from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.scene import kitchen_path
from qt_ros.sim.sdf import read_sdf
from qt_ros.sim.tasks import (
    Scorer,
    find_task,
    load_scene_rules,
    load_tasks,
    sample_scene,
    tasks_path,
)
from qt_ros.sim.world import World


def test_there_is_a_picking_task_for_every_object() -> None:
    objects = {model.name for model in read_sdf(kitchen_path()).models if model.free}
    tasks = load_tasks()
    assert {task.target for task in tasks.values()} == objects
    assert len(tasks) == len(objects) >= 8


def test_every_instruction_names_its_object_and_no_other_task_uses_it() -> None:
    seen: dict[str, str] = {}
    for task in load_tasks().values():
        assert len(task.instructions) >= 4 and len(task.held_out) >= 3
        for text in (*task.instructions, *task.held_out):
            assert seen.setdefault(text, task.name) == task.name
            assert "{" not in text
        assert all(task.target.replace("_", " ") in text for text in task.instructions)
        assert not set(task.instructions) & set(task.held_out)


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    task = find_task("pick_red_cube")
    assert sample_scene(task, 7) == sample_scene(task, 7)
    assert sample_scene(task, 7) != sample_scene(task, 8)
    assert sample_scene(None, 7) == sample_scene(None, 7)


def test_a_drawn_task_gives_the_scene_of_that_task() -> None:
    scene = sample_scene(None, 12)
    assert scene == sample_scene(find_task(scene.task), 12)


def test_seeds_draw_every_task_in_turn() -> None:
    drawn = [sample_scene(None, seed).task for seed in range(200)]
    assert set(drawn) == set(load_tasks())
    assert max(drawn.count(name) for name in set(drawn)) < 45


@pytest.mark.parametrize("seed", range(40))
def test_scenes_keep_the_rules(seed: int) -> None:
    rules = load_scene_rules()
    scene = sample_scene(None, seed)
    task = find_task(scene.task)
    assert scene.target == task.target in scene.objects
    assert scene.instruction in task.instructions
    assert rules.distractors[0] <= len(scene.objects) - 1 <= rules.distractors[1]
    for place in scene.objects.values():
        assert rules.area_x[0] <= place.x <= rules.area_x[1]
        assert rules.area_y[0] <= place.y <= rules.area_y[1]
    for one, other in combinations(scene.objects.values(), 2):
        assert np.hypot(one.x - other.x, one.y - other.y) >= rules.spacing
    assert scene.light_direction[2] < 0.0
    assert max(map(abs, scene.camera_offset[:3])) <= rules.camera_position
    assert max(map(abs, scene.camera_offset[3:])) <= rules.camera_rotation


def test_the_hand_starts_near_home_and_straight_down() -> None:
    world = World()
    rules = load_scene_rules()
    starts = []
    for seed in range(25):
        world.reset(sample_scene(None, seed))
        pose = world.tool_pose()
        starts.append(pose[:3])
        assert abs(pose[3:5]) @ abs(pose[3:5]) > 1.0 - 1e-4, "turned about the vertical only"
    spread = np.array(starts) - (0.6, 0.0, 0.91)
    assert np.all(np.abs(spread) <= np.array(rules.start_position) + 2e-3)
    assert np.all(spread.std(axis=0) > 0.005)


def test_objects_of_a_sampled_scene_stand_still_and_in_view() -> None:
    world = World()
    for seed in range(12):
        scene = sample_scene(None, seed)
        world.reset(scene)
        for _ in range(25):
            world.step(0.02)
        for name, place in scene.objects.items():
            pose = world.object_pose(name)
            assert pose[:2] == pytest.approx([place.x, place.y], abs=1e-3)
            assert world.project(pose[:3])[2], (seed, name)


def test_nothing_succeeds_before_anything_is_done() -> None:
    world = World()
    scene = sample_scene(None, 2)
    world.reset(scene)
    scorer = Scorer(find_task(scene.task))
    assert scorer.lift(world) == pytest.approx(0.0, abs=1e-6)
    assert not scorer.success(world)


def test_height_without_contact_is_no_success() -> None:
    world = World()
    task = find_task("pick_red_cube")
    scene = sample_scene(task, 2)
    world.reset(scene)
    world.data.joint("red_cube_joint").qpos[2] += 0.2  # only to ask the scorer; episodes never move an object by hand
    world.step(0.004)
    assert Scorer(task).lift(world) > 0.15
    assert not Scorer(task).success(world)


def test_scorer_refuses_a_skill_it_cannot_score() -> None:
    with pytest.raises(ValueError, match="juggle"):
        Scorer(replace(find_task("pick_red_cube"), skill="juggle"))


def test_unknown_task_and_negative_seed_are_refused() -> None:
    with pytest.raises(ValueError, match="pick_moon"):
        find_task("pick_moon")
    with pytest.raises(ValueError, match="-1"):
        sample_scene(None, -1)


def test_too_many_objects_for_the_area_are_refused() -> None:
    rules = replace(load_scene_rules(), spacing=0.5)
    with pytest.raises(ValueError, match="do not fit"):
        sample_scene(None, 0, rules=rules)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("schema: 1", "schema: 9", "schema 9"),
        ("spacing:", "spcing:", "spcing"),
        ("skill: pick, target: red_cube", "skill: throw, target: red_cube", "throw"),
        ("name: pick_green_cylinder", "name: pick_red_cube", "twice"),
        ("distractors: [2, 4]", "distractors: [4, 2]", "distractors"),
        ("target: red_cube, called: [red cube, red block]", "target: red_cube, called: []", "called"),
    ],
)
def test_mistakes_in_the_task_file_are_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    text = tasks_path().read_text()
    assert old in text
    path = tmp_path / "tasks.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=named):
        load_tasks(path)


def test_every_pick_lies_inside_the_workspace_of_the_contract() -> None:
    limits, rules = load_contract("mobile_manipulator").limits, load_scene_rules()
    assert limits.workspace_low[0] <= rules.area_x[0] and rules.area_x[1] <= limits.workspace_high[0]
    assert limits.workspace_low[1] <= rules.area_y[0] and rules.area_y[1] <= limits.workspace_high[1]
    assert limits.workspace_low[2] <= rules.surface + 0.02
