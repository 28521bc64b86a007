from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.sim.scene import kitchen_path
from qt_ros.sim.sdf import read_sdf
from qt_ros.sim.task_file import load_task_file
from qt_ros.sim.tasks import (
    Scorer,
    default_tasks,
    draw_task,
    find_task,
    load_tasks,
    sample_scene,
    select_tasks,
)
from qt_ros.sim.world import SceneSpec, World


def test_there_is_a_picking_task_for_every_object() -> None:
    objects = {model.name for model in read_sdf(kitchen_path()).models if model.free}
    tasks = [task for task in load_tasks().values() if task.skill == "pick"]
    assert {task.target for task in tasks} == objects
    assert len(tasks) == len(objects) >= 8
    assert set(default_tasks()) <= set(load_tasks())


def test_scenes_of_picking_stay_what_they_always_were() -> None:
    """Numbers that were reported and stores that were collected hold for these scenes."""
    fields = ("seed", "task", "target", "instruction", "objects", "joints", "light_direction", "light_intensity")
    fields += ("ambient_intensity", "camera_offset")

    def digest(scene: SceneSpec) -> str:
        found = {name: value for name, value in asdict(scene).items() if name in fields}
        assert replace(scene, **{name: getattr(SceneSpec(), name) for name in fields}) == SceneSpec()
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]

    names = select_tasks(skills=["pick"])
    drawn = [digest(sample_scene(draw_task(names, seed), seed)) for seed in (0, 7, 2_000_003)]
    assert drawn == ["55492e45b1e52c94", "49d47127e786a0c4", "221aaab7c41dfd28"]
    picks = [find_task(name) for name in names]
    together = "".join(digest(sample_scene(task, seed)) for task in picks for seed in range(20))
    assert hashlib.sha256(together.encode()).hexdigest()[:16] == "c483275fe2800d09"


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
    assert set(drawn) == set(default_tasks())
    assert max(drawn.count(name) for name in set(drawn)) < 45


@pytest.mark.parametrize("seed", range(40))
def test_scenes_keep_the_rules(seed: int) -> None:
    rules = load_task_file().rules.scene
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
    rules = load_task_file().rules.scene
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


def test_unknown_task_and_negative_seed_are_refused() -> None:
    with pytest.raises(ValueError, match="pick_moon"):
        find_task("pick_moon")
    with pytest.raises(ValueError, match="-1"):
        sample_scene(None, -1)


def test_too_many_objects_for_the_area_are_refused() -> None:
    rules = replace(load_task_file().rules.scene, spacing=0.5)
    with pytest.raises(ValueError, match="do not fit"):
        sample_scene(None, 0, rules=rules)


def test_every_pick_lies_inside_the_workspace_of_the_contract() -> None:
    limits, rules = load_contract("mobile_manipulator").limits, load_task_file().rules.scene
    assert limits.workspace_low[0] <= rules.area_x[0] and rules.area_x[1] <= limits.workspace_high[0]
    assert limits.workspace_low[1] <= rules.area_y[0] and rules.area_y[1] <= limits.workspace_high[1]
    assert limits.workspace_low[2] <= rules.surface + 0.02
