"""Every detector on states made by hand: just inside and just outside. (Episodes never move anything by hand.)"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from qt_ros.sim.scoring import LIFT_HEIGHT, NEAR, OPEN, RESTING, SHUT, STAYED, STILL, Scorer, drawer_interior
from qt_ros.sim.task_file import SKILLS, find_task, load_tasks
from qt_ros.sim.tasks import sample_scene
from qt_ros.sim.world import World

HAIR = 0.001
PICKS = ("pick_red_cube", "fetch_red_cube", "pick_red_cube_from_drawer")
MOVE = find_task("move_red_cube_near_yellow_box")
PLACE = find_task("place_red_cube_in_drawer")
AXES = {"x": 0, "y": 1, "z": 2}


@pytest.fixture(scope="module")
def one_world() -> World:
    return World()


@pytest.fixture
def world(one_world: World) -> Iterator[World]:
    """A world in which nothing falls asleep, so that what is put somewhere is noticed."""
    option = one_world.model.opt
    gravity, flags = option.gravity.copy(), option.enableflags
    option.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    yield one_world
    option.gravity[:], option.enableflags = gravity, flags


def put(world: World, name: str, place: np.ndarray, speed: float = 0.0) -> None:
    """The object at ``place`` (3,) m, world, moving along x."""
    joint = world.data.joint(f"{name}_joint")
    joint.qpos[:3], joint.qvel[:] = place, 0.0
    joint.qvel[0] = speed
    mujoco.mj_forward(world.model, world.data)


def into_the_fingers(world: World, name: str) -> None:
    """The object between the closed fingers, without gravity."""
    world.model.opt.gravity[:] = 0.0
    world.data.joint(f"{name}_joint").qpos[3:] = (1.0, 0.0, 0.0, 0.0)  # flat sides to the fingers
    put(world, name, world.tool_pose("world")[:3])
    world.set_gripper(1.0)
    world.step(0.6)
    assert all(world.finger_contacts(name))


def test_every_skill_has_a_detector_and_a_description() -> None:
    for skill in SKILLS:
        task = next(t for t in load_tasks().values() if t.skill == skill)
        world = World()
        world.reset(sample_scene(task, 5))
        scorer = Scorer(task)
        assert not scorer.success(world), skill
        assert any(word in scorer.describe(world) for word in (" m", "inside"))


def test_a_skill_without_a_detector_is_refused() -> None:
    with pytest.raises(ValueError, match="juggle"):
        Scorer(replace(MOVE, skill="juggle"))


@pytest.mark.parametrize("name", PICKS)
@pytest.mark.parametrize(("above", "success"), [(HAIR, True), (-HAIR, False)])
def test_picked_is_lifted_high_enough_between_both_fingers(
    world: World, name: str, above: float, success: bool
) -> None:
    task = find_task(name)
    world.reset(sample_scene(task, 4))
    into_the_fingers(world, task.target)
    world._rest[task.target][2] = world.object_pose(task.target)[2] - LIFT_HEIGHT - above
    assert Scorer(task).success(world) is success


@pytest.mark.parametrize("name", PICKS)
def test_high_up_and_touched_by_no_finger_is_not_picked(world: World, name: str) -> None:
    task = find_task(name)
    world.reset(sample_scene(task, 4))
    put(world, task.target, world.object_pose(task.target)[:3] + (0.0, 0.0, 2 * LIFT_HEIGHT))
    assert Scorer(task).lift(world) > LIFT_HEIGHT
    assert not Scorer(task).success(world)


def beside(world: World, distance: float, lifted: float = 0.0, speed: float = 0.0) -> None:
    """The target of MOVE that far from the other object."""
    world.reset(sample_scene(MOVE, 1))
    other, height = world.object_pose(MOVE.near)[:2], world.rest_height(MOVE.target)
    put(world, MOVE.target, np.array([other[0], other[1] - distance, height + lifted]), speed)


@pytest.mark.parametrize(
    ("distance", "lifted", "speed", "success"),
    [
        (NEAR - HAIR, 0.0, 0.0, True),
        (NEAR + HAIR, 0.0, 0.0, False),
        (NEAR - HAIR, RESTING - HAIR, 0.0, True),
        (NEAR - HAIR, RESTING + HAIR, 0.0, False),
        (NEAR - HAIR, 0.0, STILL - 0.01, True),
        (NEAR - HAIR, 0.0, STILL + 0.01, False),
    ],
)
def test_moved_near_is_close_by_standing_and_still(
    world: World, distance: float, lifted: float, speed: float, success: bool
) -> None:
    beside(world, distance, lifted, speed)
    assert Scorer(MOVE).success(world) is success


@pytest.mark.parametrize(("pushed", "success"), [(STAYED - HAIR, True), (STAYED + HAIR, False)])
def test_pushing_the_other_object_to_the_target_is_not_moving_near(world: World, pushed: float, success: bool) -> None:
    beside(world, NEAR + 0.02)
    put(world, MOVE.near, world.object_pose(MOVE.near)[:3] - (0.0, pushed, 0.0))
    assert Scorer(MOVE).success(world) is success


def test_near_and_still_in_the_hand_is_not_moved_yet(world: World) -> None:
    world.reset(sample_scene(MOVE, 1))
    into_the_fingers(world, MOVE.target)
    place = world.object_pose(MOVE.target)[:3]
    world._rest[MOVE.target] = place.copy()
    put(world, MOVE.near, place - (0.09, 0.0, 0.0))
    world._rest[MOVE.near] = world.object_pose(MOVE.near)[:3]
    assert not Scorer(MOVE).success(world)
    world.set_gripper(0.0)
    world.step(0.6)
    assert Scorer(MOVE).success(world)


@pytest.mark.parametrize(
    ("name", "opening", "success"),
    [
        ("open_drawer", OPEN + HAIR, True),
        ("open_drawer", OPEN - HAIR, False),
        ("close_drawer", SHUT - HAIR, True),
        ("close_drawer", SHUT + HAIR, False),
    ],
)
def test_the_drawer_is_open_from_one_opening_on_and_shut_up_to_another(
    world: World, name: str, opening: float, success: bool
) -> None:
    world.reset(replace(sample_scene(find_task(name), 1), drawer=opening))
    assert world.drawer_opening() == pytest.approx(opening, abs=HAIR / 2)
    assert Scorer(find_task(name)).success(world) is success


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("axis", AXES)
def test_placed_is_within_the_walls_the_bottom_and_the_top(world: World, axis: str, side: float) -> None:
    world.reset(sample_scene(PLACE, 1))
    drawer = world.body_pose("drawer")[:3]
    low, high = drawer_interior(world)
    middle, i = 0.5 * (low + high), AXES[axis]
    edge = (high if side > 0 else low)[i]
    for by, success in ((-HAIR, True), (HAIR, False)):
        place = middle.copy()
        place[i] = edge + side * by
        put(world, PLACE.target, drawer + place)
        assert Scorer(PLACE).success(world) is success, (axis, side, by)


def test_in_the_drawer_and_rolling_is_not_placed_yet(world: World) -> None:
    world.reset(sample_scene(PLACE, 1))
    low, high = drawer_interior(world)
    put(world, PLACE.target, world.body_pose("drawer")[:3] + 0.5 * (low + high), speed=STILL + 0.01)
    assert not Scorer(PLACE).success(world)


def test_in_the_drawer_and_in_the_hand_is_not_placed_yet(world: World) -> None:
    world.reset(sample_scene(PLACE, 1))
    into_the_fingers(world, PLACE.target)
    low, high = drawer_interior(world)
    drawer = world.body_pose("drawer")[:3]
    inside = world.object_pose(PLACE.target)[:3] - drawer
    # The drawer is where the hand is, as far as the detector can tell.
    world.model.geom("drawer_bottom_collision").pos[2] += inside[2] - 0.5 * (low[2] + high[2])
    world.model.geom("drawer_left_collision").pos[2] += inside[2] - 0.5 * (low[2] + high[2])
    try:
        assert "not inside" not in Scorer(PLACE).describe(world)
        assert not Scorer(PLACE).success(world)
    finally:
        world.model.geom("drawer_bottom_collision").pos[2] -= inside[2] - 0.5 * (low[2] + high[2])
        world.model.geom("drawer_left_collision").pos[2] -= inside[2] - 0.5 * (low[2] + high[2])
