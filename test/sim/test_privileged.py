"""The privileged state says where the target is, in numbers of order 1, as seen from the hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.sim.privileged import PRIVILEGED_NAMES, SKILL_STATE_NAMES, privileged_state, skill_state
from qt_ros.sim.task_file import SKILLS, draw_task, select_tasks
from qt_ros.sim.tasks import find_task, sample_scene
from qt_ros.sim.world import Placement, SceneSpec, World

TASK = find_task("pick_red_cube")


@pytest.fixture(scope="module")
def world() -> World:
    return World(load_contract("mobile_manipulator"))


def state(world: World, x: float, y: float, yaw: float = 0.0) -> dict[str, float]:
    world.reset(SceneSpec(target=TASK.target, objects={TASK.target: Placement(x, y, 0.70, yaw)}))
    return dict(zip(PRIVILEGED_NAMES, privileged_state(world, TASK.target).tolist(), strict=True))


def test_positions_are_from_the_tool_in_tenths_of_a_metre(world: World) -> None:
    near, far = state(world, 0.55, 0.0), state(world, 0.65, -0.05)
    assert far["target_x"] - near["target_x"] == pytest.approx(1.0, abs=0.02)
    assert far["target_y"] - near["target_y"] == pytest.approx(-0.5, abs=0.02)
    tool = world.tool_pose("base_link")[:3]
    cube = world.object_pose(TASK.target, "base_link")[:3]
    assert [far[k] for k in PRIVILEGED_NAMES[:3]] == pytest.approx((10 * (cube - tool)).tolist(), abs=1e-5)


def test_half_a_turn_of_the_object_is_no_change_and_a_quarter_is(world: World) -> None:
    base, quarter, half = (state(world, 0.6, 0.0, yaw) for yaw in (0.2, 0.2 + math.pi / 2, 0.2 + math.pi))
    assert (half["turn_cos"], half["turn_sin"]) == pytest.approx((base["turn_cos"], base["turn_sin"]), abs=1e-3)
    assert (quarter["turn_cos"], quarter["turn_sin"]) == pytest.approx((-base["turn_cos"], -base["turn_sin"]), abs=1e-3)


def test_an_object_at_rest_is_not_lifted_nor_touched(world: World) -> None:
    found = state(world, 0.6, 0.1)
    assert abs(found["lifted"]) < 0.02 and found["contact_left"] == found["contact_right"] == 0.0


def test_numbers_are_of_order_one_in_every_scene(world: World) -> None:
    found = []
    for seed in range(10):
        scene = sample_scene(None, seed)
        world.reset(scene)
        found.append(privileged_state(world, scene.target))
    assert np.isfinite(found).all() and np.abs(found).max() < 8.0
    assert found[0].dtype == np.float32


@pytest.mark.parametrize("skill", SKILLS)
def test_the_state_of_a_skill_is_that_of_its_target_and_what_it_needs_besides(world: World, skill: str) -> None:
    for seed in range(5):
        task = draw_task(select_tasks(skills=[skill]), seed)
        scene = sample_scene(task, seed)
        world.reset(scene)
        vector = skill_state(world, task)
        assert vector.shape == (len(SKILL_STATE_NAMES),) and vector.dtype == np.float32
        assert np.isfinite(vector).all() and np.abs(vector).max() < 15.0
        assert np.array_equal(vector[: len(PRIVILEGED_NAMES)], privileged_state(world, task.target))
        found = dict(zip(SKILL_STATE_NAMES, vector.tolist(), strict=True))
        assert [name for name in SKILLS if found[f"is_{name}"] == 1.0] == [skill]
        assert found["drawer"] == pytest.approx(10.0 * world.drawer_opening(), abs=1e-5)
        assert math.atan2(-found["base_sin"], found["base_cos"]) == pytest.approx(scene.base[2], abs=2e-3)
        away = math.hypot(found["goal_x"], found["goal_y"])
        assert (away > 0.5) == (skill in ("move_near", "open_drawer", "close_drawer", "place_in_drawer"))
