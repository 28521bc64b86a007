"""A stop holds a gripper that travels where it is, and leaves one that stands (on an object, at its goal) as it is."""

from __future__ import annotations

import math

import pytest

from qt_ros.contract.robot import RobotContract
from qt_ros.control.gripper_hold import BEGINS, KNOWN, RESTS, GripperHold

OPEN, CLOSED = 0.05, 0.0
PERIOD = 0.02


class Gripper:
    """A gripper that moves at ``speed`` m/s to where it is sent, as far as ``obstacle`` lets it, seen at 50 Hz."""

    def __init__(self, contract: RobotContract, obstacle: float = -math.inf, delay: float = 0.0) -> None:
        self.wall = 0.0
        self.hold = GripperHold(contract, lambda: self.wall)
        self.now, self.place, self.goal, self.obstacle, self.delay = 10.0, OPEN, OPEN, obstacle, delay
        self.begins = self.now
        self.run(0.5)

    def send(self, goal: float) -> None:
        self.goal, self.begins = goal, self.now + self.delay
        self.hold.sent(goal, self.now)

    def run(self, duration: float, speed: float = 0.05) -> None:
        for _ in range(round(duration / PERIOD)):
            self.now += PERIOD
            self.wall += PERIOD
            if self.now > self.begins:
                step = min(max(self.goal - self.place, -speed * PERIOD), speed * PERIOD)
                self.place = max(self.place + step, min(self.place, self.obstacle))
            self.hold.measured(self.place, self.now)

    def stop(self) -> float | None:
        return self.hold.stop(self.now)


def test_a_gripper_that_travels_is_sent_to_where_it_is_and_only_once(contract: RobotContract) -> None:
    gripper = Gripper(contract)
    gripper.send(CLOSED)
    gripper.run(0.4)
    assert gripper.stop() == pytest.approx(0.03)
    assert gripper.stop() is None, "it is where it was sent now"


def test_opening_is_held_as_well(contract: RobotContract) -> None:
    gripper = Gripper(contract)
    gripper.send(CLOSED)
    gripper.run(2.0)
    gripper.send(OPEN)
    gripper.run(0.4)
    assert gripper.stop() == pytest.approx(0.02)


def test_one_that_presses_on_an_object_keeps_its_command(contract: RobotContract) -> None:
    gripper = Gripper(contract, obstacle=0.02)
    gripper.send(CLOSED)
    gripper.run(0.6 + RESTS + 0.06)
    assert gripper.place == 0.02 and gripper.stop() is None


def test_the_same_command_again_changes_nothing_for_one_that_presses(contract: RobotContract) -> None:
    gripper = Gripper(contract, obstacle=0.02)
    for _ in range(5):
        gripper.send(CLOSED)
        gripper.run(0.2)
    gripper.send(0.001)
    assert gripper.stop() is None


def test_one_at_its_goal_or_never_sent_anywhere_is_left_alone(contract: RobotContract) -> None:
    assert Gripper(contract).stop() is None
    gripper = Gripper(contract)
    gripper.send(CLOSED)
    gripper.run(1.5)
    assert gripper.stop() is None


def test_one_that_has_not_begun_to_move_yet_stays_where_it_is(contract: RobotContract) -> None:
    gripper = Gripper(contract, delay=0.3)
    gripper.send(CLOSED)
    gripper.run(0.2)
    assert gripper.stop() == pytest.approx(OPEN)


def test_one_that_never_begins_to_move_stands(contract: RobotContract) -> None:
    gripper = Gripper(contract, obstacle=OPEN)
    gripper.send(CLOSED)
    gripper.run(BEGINS + 0.04)
    assert gripper.stop() is None


def test_nothing_is_sent_to_one_that_is_not_measured_or_no_longer(contract: RobotContract) -> None:
    hold = GripperHold(contract)
    hold.sent(CLOSED, 10.0)
    assert not hold.known and hold.stop(10.1) is None
    gripper = Gripper(contract)
    gripper.send(CLOSED)
    gripper.run(0.4)
    gripper.wall += KNOWN + 0.1
    assert gripper.hold.stop(gripper.now + KNOWN + 0.1) is None
    assert gripper.hold.stop(gripper.now + 0.3) == pytest.approx(0.03), "joint states that fell silent are the stop"


def test_a_clock_that_leaps_forward_makes_no_measurement_old(contract: RobotContract) -> None:
    gripper = Gripper(contract)
    gripper.send(CLOSED)
    gripper.run(0.4)
    assert gripper.hold.stop(gripper.now + 60.0) == pytest.approx(0.03)


def test_overtaken_measurements_are_dropped_and_a_new_run_of_the_clock_begins_anew(contract: RobotContract) -> None:
    gripper = Gripper(contract)
    gripper.send(CLOSED)
    gripper.run(0.4)
    gripper.hold.measured(OPEN, gripper.now - 0.1)
    assert gripper.stop() == pytest.approx(0.03)
    gripper.send(CLOSED)
    gripper.now = 2.0
    gripper.run(0.1)
    assert gripper.stop() == pytest.approx(gripper.place)


def test_one_that_presses_keeps_its_command_through_a_new_run_of_the_clock(contract: RobotContract) -> None:
    gripper = Gripper(contract, obstacle=0.02)
    gripper.send(CLOSED)
    gripper.run(1.0)
    gripper.hold.forget()
    gripper.now = gripper.begins = 1.0
    gripper.run(RESTS + 0.06)
    assert gripper.stop() is None
