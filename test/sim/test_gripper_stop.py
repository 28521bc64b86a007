"""Stops and the gripper of the simulated robot: mid-way it stays open as it is, and what it carries it keeps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.control.commander import Commander
from qt_ros.sim.demonstrator import CLEAN, Demonstrator
from qt_ros.sim.rollout import Rollout
from qt_ros.sim.tasks import Scorer, find_task, sample_scene
from qt_ros.sim.world import World

CONTRACT = load_contract("mobile_manipulator")
SPEC = CONTRACT.kinematics
TICK = 0.02


class Watched(World):
    """A world whose gripper is commanded through a `Commander`, which sees its joints at 50 Hz."""

    def __init__(self) -> None:
        self.commander, self.now, self._seen = Commander(CONTRACT), 1.0, 0.0
        self.commander.activate(self.now)
        self.commander.begin("episode", self.now)
        super().__init__(CONTRACT)

    def step(self, dt: float) -> None:
        super().step(dt)
        self.now += dt  # goes on through every reset
        if self.now - self._seen > TICK - 1e-6:
            self._seen = self.now
            self.commander.observe_joints(self.joint_positions(), self.now)

    def set_gripper(self, closedness: float) -> None:
        super().set_gripper(SPEC.closedness(self.commander.close_to(closedness, self.now)))

    def stop(self, how: Callable[[Commander, float], object]) -> float | None:
        """What a stop sends the gripper, and the second after it."""
        how(self.commander, self.now)
        position = self.commander.take_grip_stop()
        if position is not None:
            super().set_gripper(SPEC.closedness(position))
        for _ in range(50):
            self.step(TICK)
        return position

    @property
    def finger(self) -> float:
        return self.joint_positions()[SPEC.gripper_joint]


STOPS: dict[str, Callable[[Commander, float], object]] = {
    "estop": lambda c, now: c.press_estop(True, now),
    "fault": lambda c, now: c.stop("fault", "something", now),
    "deactivated": lambda c, now: c.deactivate(now),
}


@pytest.mark.parametrize("how", STOPS)
def test_a_stop_while_it_closes_leaves_it_open_at_about_where_it_was(how: str) -> None:
    world = Watched()
    world.reset(sample_scene(find_task("pick_red_cube"), 11))
    world.step(0.2)
    world.set_gripper(1.0)
    for _ in range(7):
        world.step(TICK)
    before = world.finger
    assert 0.015 < before < 0.045, "it is on its way"
    assert world.stop(STOPS[how]) is not None
    assert world.finger == pytest.approx(before, abs=0.005)


def carrying(task: str) -> Watched:
    """A world in which the scripted demonstrator has just picked the object of ``task``."""
    world = Watched()
    scene = sample_scene(find_task(task), 11)
    world.reset(scene)
    script = Demonstrator(world, scene, CLEAN, np.random.default_rng(3))
    rollout = Rollout(world, CONTRACT, render=False)
    episode = rollout.run(find_task(task), scene, lambda image, joints: script.act(), reset=False)
    assert episode.outcome == "success" and world.finger_contacts(scene.target) == (True, True)
    return world


@pytest.mark.parametrize("how", STOPS)
@pytest.mark.parametrize("task", ["pick_red_cube", "pick_green_cylinder"])
def test_a_stop_while_it_carries_keeps_the_object(task: str, how: str) -> None:
    world = carrying(task)
    assert world.stop(STOPS[how]) is None, "its last command stays in force"
    assert world.finger_contacts(world.scene.target) == (True, True)
    assert Scorer(find_task(task)).success(world)
