"""A stop holds a gripper that travels where it is, and leaves one that stands (on an object, at its goal) as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.control.gripper_hold import BEGINS, KNOWN, RESTS, GripperHold

OPEN, CLOSED = 0.05, 0.0
PERIOD = 0.02
COUNT = OPEN / 230  # of an encoder of few counts
SEEDS = st.integers(0, 2**32 - 1)


class Gripper:
    """A gripper that moves at ``speed`` m/s to where it is sent, as far as ``obstacle`` lets it, seen at 50 Hz."""

    def __init__(self, contract: RobotContract, obstacle: float = -math.inf, delay: float = 0.0) -> None:
        self.wall = 0.0
        self.error: Callable[[], float] = lambda: 0.0  # of a measurement, m
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
            self.hold.measured(self.place + self.error(), self.now)

    def travels(self, duration: float, speed: float = 0.05) -> Iterator[bool]:
        """Whether a stop would hold it, after every measurement of ``duration`` s."""
        for _ in range(round(duration / PERIOD)):
            self.run(PERIOD, speed)
            yield self.hold.travels(self.now)

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
    gripper.now = gripper.begins = 2.0
    gripper.run(0.1)
    assert gripper.place < 0.029 and gripper.stop() == pytest.approx(gripper.place)


def test_one_that_presses_keeps_its_command_through_a_new_run_of_the_clock(contract: RobotContract) -> None:
    gripper = Gripper(contract, obstacle=0.02)
    gripper.send(CLOSED)
    gripper.run(1.0)
    gripper.hold.forget()
    gripper.now = gripper.begins = 1.0
    gripper.run(RESTS + 0.06)
    assert gripper.stop() is None


@given(SEEDS, st.floats(0.0, 0.005), st.floats(0.015, 0.05))
def test_with_a_noisy_encoder_one_on_its_way_travels_and_one_that_presses_does_not(
    seed: int, sigma: float, speed: float
) -> None:
    gripper, random = Gripper(load_contract("mobile_manipulator"), obstacle=0.02), np.random.default_rng(seed)
    gripper.error = lambda: float(np.clip(random.normal(), -3.0, 3.0)) * sigma * OPEN
    gripper.send(CLOSED)
    way = 0.03 / speed
    assert all(gripper.travels(way - PERIOD, speed)), "on its way"
    gripper.run(RESTS + 0.5, speed)
    assert gripper.place == 0.02
    assert sum(gripper.travels(8.0)) <= 8, "0.15 s at most, once, where the noise surpasses itself by 1%"


def test_noise_of_one_percent_seldom_looks_like_motion(contract: RobotContract) -> None:
    random, counted = np.random.default_rng(1), []
    for _ in range(10):
        gripper = Gripper(contract, obstacle=0.02)
        gripper.error = lambda: float(random.normal()) * 0.01 * OPEN
        gripper.send(CLOSED)
        assert all(gripper.travels(0.58)), "on its way"
        gripper.run(1.0)
        counted += list(gripper.travels(10.0))
    assert sum(counted) < 0.01 * len(counted)


@pytest.mark.parametrize("goal", [OPEN, CLOSED])
@given(seed=SEEDS)
def test_a_flickering_encoder_of_few_counts_is_no_motion(goal: float, seed: int) -> None:
    gripper, random = Gripper(load_contract("mobile_manipulator"), obstacle=0.02), np.random.default_rng(seed)
    gripper.place = gripper.obstacle if goal == CLOSED else 0.02
    gripper.error = lambda: COUNT * float(random.integers(0, 5))
    gripper.send(goal)
    speed = 0.05 if goal == CLOSED else 0.0
    gripper.run(BEGINS + RESTS + 0.5, speed)
    assert not any(gripper.travels(3.0, speed))


@pytest.mark.parametrize("period", [1.0, 4.0, 30.0])
def test_an_encoder_that_drifts_to_and_fro_is_no_motion(contract: RobotContract, period: float) -> None:
    gripper = Gripper(contract, obstacle=0.02)
    gripper.send(CLOSED)
    gripper.run(1.0)
    gripper.error = lambda: 0.01 * OPEN * math.sin(2.0 * math.pi * gripper.now / period)
    gripper.run(period)
    assert not any(gripper.travels(2.0 * period))


def test_creep_towards_the_goal_is_no_motion(contract: RobotContract) -> None:
    gripper = Gripper(contract, obstacle=0.02)
    gripper.send(CLOSED)
    gripper.run(1.0)
    gripper.obstacle = CLOSED  # soft: it gives way by 2% of the stroke per second
    assert not any(gripper.travels(5.0, 0.02 * OPEN)) and gripper.place < 0.016


def test_one_that_turns_round_travels_whatever_it_did_before(contract: RobotContract) -> None:
    gripper = Gripper(contract)
    gripper.send(CLOSED)
    gripper.run(0.6)
    gripper.send(OPEN)
    assert all(gripper.travels(0.5))
    gripper.send(CLOSED)
    assert all(gripper.travels(0.8))


def test_after_the_clock_was_set_back_one_that_presses_never_counts_as_on_its_way(contract: RobotContract) -> None:
    gripper = Gripper(contract, obstacle=0.02)
    gripper.send(CLOSED)
    gripper.run(1.0)
    gripper.hold.forget()
    gripper.now = gripper.begins = 1.0
    assert not any(gripper.travels(12.0))


@pytest.mark.parametrize("between", [0.02, 0.0198, 0.03, OPEN])
def test_a_goal_that_passes_by_does_not_let_go_of_what_is_held(contract: RobotContract, between: float) -> None:
    gripper = Gripper(contract, obstacle=0.02, delay=0.1)
    gripper.send(CLOSED)
    gripper.run(1.5)
    gripper.send(between)
    gripper.run(0.04)
    gripper.send(CLOSED)
    assert gripper.place == 0.02, "it had no time to move"
    assert not any(gripper.travels(1.0))


def test_one_that_arrived_and_is_sent_on_to_the_same_side_may_be_about_to_begin(contract: RobotContract) -> None:
    gripper = Gripper(contract, delay=0.2)
    gripper.send(0.03)
    gripper.run(1.5)
    gripper.send(CLOSED)
    assert all(gripper.travels(0.7))


def test_one_that_was_held_by_a_stop_may_be_about_to_begin_in_the_next_episode(contract: RobotContract) -> None:
    gripper, random = Gripper(contract, delay=0.2), np.random.default_rng(1)
    gripper.error = lambda: float(random.normal()) * 0.005 * OPEN
    gripper.send(CLOSED)
    gripper.run(0.6)
    held = gripper.stop()
    assert held is not None
    gripper.goal = held
    gripper.run(3.0)
    gripper.send(CLOSED)
    assert all(gripper.travels(0.15))


def test_one_that_opened_for_good_and_closes_again_may_be_about_to_begin(contract: RobotContract) -> None:
    gripper = Gripper(contract, obstacle=0.02, delay=0.1)
    gripper.send(CLOSED)
    gripper.run(1.5)
    gripper.send(0.03)
    gripper.run(0.5)
    gripper.send(CLOSED)
    assert all(gripper.travels(0.25))


def test_one_that_somebody_else_opened_travels_when_it_closes_again_however_far_it_was_before(
    contract: RobotContract,
) -> None:
    gripper = Gripper(contract)
    gripper.send(CLOSED)
    gripper.run(0.6)
    held = gripper.stop()
    assert held == pytest.approx(0.02)
    gripper.goal = OPEN  # by hand, or by another node
    gripper.run(1.0)
    assert gripper.place == OPEN
    gripper.send(CLOSED)
    gripper.run(0.04)
    assert all(gripper.travels(0.8))
