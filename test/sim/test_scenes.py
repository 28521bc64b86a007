"""Scenes of every skill: as the rules say, possible to do, and another with every seed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.sim.scoring import NEAR, OPEN, SHUT, drawer_interior
from qt_ros.sim.task_file import SKILLS, Task, draw_task, load_task_file, select_tasks
from qt_ros.sim.tasks import sample_scene
from qt_ros.sim.world import HANDLE, SceneSpec, World

RULES = load_task_file().rules
DRAWER = ("open_drawer", "close_drawer", "place_in_drawer", "pick_from_drawer")


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def scenes(skill: str, count: int = 30) -> list[tuple[Task, SceneSpec]]:
    drawn = [draw_task(select_tasks(skills=[skill]), seed) for seed in range(count)]
    return [(task, sample_scene(task, seed)) for seed, task in enumerate(drawn)]


@pytest.mark.parametrize("skill", SKILLS)
def test_a_scene_depends_on_task_and_seed_alone_and_varies_with_the_seed(skill: str) -> None:
    drawn = scenes(skill)
    for task, scene in drawn[:5]:
        assert sample_scene(task, scene.seed) == scene
        assert (scene.task, scene.target, scene.near) == (task.name, task.target, task.near)
        assert scene.instruction in task.instructions
    for values in (
        [scene.camera_offset for _, scene in drawn],
        [scene.light_direction for _, scene in drawn],
        [tuple(sorted((k, v.x, v.y) for k, v in scene.objects.items())) for _, scene in drawn],
        [scene.base for _, scene in drawn] if skill not in ("pick", "move_near") else range(30),
        [scene.drawer for _, scene in drawn] if skill in DRAWER else range(30),
    ):
        assert len(set(values)) == 30


@pytest.mark.parametrize("skill", SKILLS)
def test_what_the_hand_needs_is_within_reach_and_nothing_is_done_yet(world: World, skill: str) -> None:
    limits = load_contract("mobile_manipulator").limits
    for task, scene in scenes(skill, 10):
        world.reset(scene)
        target = world.object_pose(task.target, "base_link")[:3]
        assert target[1] >= limits.workspace_low[1] and target[1] <= limits.workspace_high[1] or skill == "fetch"
        if skill == "fetch":
            assert target[0] > limits.workspace_high[0], "it has to drive"
        else:
            assert limits.workspace_low[0] <= target[0] <= limits.workspace_high[0]
        assert world.object_pose(task.target)[2] > limits.workspace_low[2]


@pytest.mark.parametrize("skill", SKILLS)
def test_objects_stand_where_they_were_put(world: World, skill: str) -> None:
    for _, scene in scenes(skill, 6):
        world.reset(scene)
        world.step(0.4)
        for name, place in scene.objects.items():
            assert world.object_pose(name)[:2] == pytest.approx([place.x, place.y], abs=2e-3), (scene.task, name)
            assert world.object_pose(name)[2] == pytest.approx(place.z + world.half_size(name)[2], abs=2e-3)
        assert world.drawer_opening() == pytest.approx(scene.drawer, abs=2e-3)


def test_fetching_begins_out_of_reach_but_for_the_few_scenes_that_the_documentation_counts() -> None:
    limits = load_contract("mobile_manipulator").limits
    low, high = np.array(limits.workspace_low[:2]), np.array(limits.workspace_high[:2])
    tasks, within = select_tasks(skills=["fetch"]), 0
    for seed in range(2_000_000, 2_003_000):
        scene = sample_scene(draw_task(tasks, seed), seed)
        x, y, yaw = scene.base
        away = np.array([scene.objects[scene.target].x - x, scene.objects[scene.target].y - y])
        turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])  # world to base_link
        within += bool(np.all(turn @ away >= low) and np.all(turn @ away <= high))
    assert within == 48


def test_two_objects_that_shall_come_together_stand_apart_with_room_between() -> None:
    for task, scene in scenes("move_near"):
        spots = {name: np.array([place.x, place.y]) for name, place in scene.objects.items()}
        assert np.linalg.norm(spots[task.target] - spots[task.near]) >= RULES.move.away > NEAR
        for one, other in combinations(spots.values(), 2):
            assert np.linalg.norm(one - other) >= RULES.scene.spacing
        alternatives = [t.near for t in load_task_file().tasks.values() if t.target == task.target and t.near]
        assert {near for near in alternatives if near != HANDLE} <= set(spots), "what it goes to must be understood"


def test_openings_leave_something_to_do() -> None:
    assert all(scene.drawer < OPEN for _, scene in scenes("open_drawer"))
    assert all(scene.drawer > SHUT for _, scene in scenes("close_drawer"))


def test_what_lies_in_the_drawer_lies_inside_it_and_before_the_cabinet(world: World) -> None:
    seen = 0
    front = min(RULES.cabinet.top_x)
    for skill in ("close_drawer", "place_in_drawer", "pick_from_drawer"):
        for task, scene in scenes(skill, 15):
            world.reset(scene)
            low, high = drawer_interior(world)
            drawer = world.body_pose("drawer")[:3]
            for name, place in scene.objects.items():
                if place.z == RULES.cabinet.inside:
                    seen += 1
                    where = world.object_pose(name)[:3] - drawer
                    assert np.all(where > low) and np.all(where < high)
                    assert skill == "close_drawer" or place.x < front - 0.06
            if skill == "pick_from_drawer":
                assert scene.objects[task.target].z == RULES.cabinet.inside
    assert seen > 20


def test_the_robot_starts_where_the_scene_says_and_its_odometry_at_zero(world: World) -> None:
    for skill in ("fetch", "open_drawer"):
        _, scene = scenes(skill, 2)[1]
        world.reset(scene)
        base = world.body_pose("base_link")
        assert base[:2] == pytest.approx(scene.base[:2], abs=1e-3)
        assert 2.0 * np.arctan2(base[5], base[6]) == pytest.approx(scene.base[2], abs=1e-3)
        odom = world.odom()
        assert (odom.x, odom.y, odom.yaw) == pytest.approx((0.0, 0.0, 0.0), abs=1e-3)
        assert world.tool_pose("base_link")[:3] == pytest.approx([0.6, 0.0, 0.91], abs=0.04)
        world.set_base(-0.2, 0.0)
        world.step(1.0)
        assert world.odom().x == pytest.approx(-0.2, abs=0.02) and abs(world.odom().y) < 5e-3
