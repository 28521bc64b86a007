"""Joint trajectories and velocity commands behave as the controllers of a real robot do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.sim.controllers import CommandRejected, TrajectoryFollower, VelocityCommand, Waypoint


def follower() -> TrajectoryFollower:
    arm = TrajectoryFollower(["a", "b"])
    arm.hold({"a": 0.0, "b": 1.0}, now=0.0)
    return arm


def test_positions_are_reached_linearly_and_then_held() -> None:
    arm = follower()
    arm.accept(["a", "b"], [Waypoint(1.0, [2.0, 1.0])], now=10.0)
    assert arm.sample(10.0) == {"a": 0.0, "b": 1.0}
    assert arm.sample(10.5)["a"] == pytest.approx(1.0)
    assert arm.sample(11.0)["a"] == pytest.approx(2.0)
    assert arm.sample(99.0) == {"a": 2.0, "b": 1.0}


def test_joints_may_come_in_any_order_and_the_others_hold() -> None:
    arm = follower()
    arm.accept(["b"], [Waypoint(1.0, [3.0])], now=0.0)
    assert arm.sample(1.0) == {"a": 0.0, "b": 3.0}
    arm.accept(["b", "a"], [Waypoint(1.0, [5.0, 4.0])], now=1.0)
    assert arm.sample(2.0) == {"a": 4.0, "b": 5.0}


def test_a_new_trajectory_starts_where_the_old_one_was() -> None:
    arm = follower()
    arm.accept(["a"], [Waypoint(1.0, [1.0])], now=0.0)
    arm.accept(["a"], [Waypoint(1.0, [0.0])], now=0.5)
    assert arm.sample(0.5)["a"] == pytest.approx(0.5)
    assert arm.sample(1.0)["a"] == pytest.approx(0.25)


def test_velocities_give_a_smooth_cubic() -> None:
    arm = follower()
    arm.accept(["a", "b"], [Waypoint(1.0, [1.0, 1.0], [0.0, 0.0])], now=0.0)
    assert arm.sample(0.5)["a"] == pytest.approx(0.5)
    assert arm.sample(0.01)["a"] < 0.001  # starts at rest, not with a jump of velocity
    assert arm.sample(2.0)["a"] == 1.0


def test_a_trajectory_stamped_in_the_future_waits() -> None:
    arm = follower()
    arm.accept(["a"], [Waypoint(0.0, [0.0]), Waypoint(1.0, [1.0])], now=0.0, start=5.0)
    assert arm.sample(4.9)["a"] == 0.0
    assert arm.sample(5.5)["a"] == pytest.approx(0.5)


def test_an_empty_trajectory_holds_the_present_position() -> None:
    arm = follower()
    arm.accept(["a"], [Waypoint(1.0, [1.0])], now=0.0)
    arm.accept([], [], now=0.5)
    assert arm.sample(3.0)["a"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("names", "points", "start", "words"),
    [
        (["x"], [Waypoint(1.0, [0.0])], None, "unknown joint"),
        (["a", "a"], [Waypoint(1.0, [0.0, 0.0])], None, "repeated"),
        (["a"], [Waypoint(1.0, [0.0, 1.0])], None, "has 2 positions for 1"),
        (["a"], [Waypoint(1.0, [math.nan])], None, "not all finite"),
        (["a"], [Waypoint(1.0, [0.0]), Waypoint(1.0, [1.0])], None, "increasing"),
        (["a"], [Waypoint(-1.0, [0.0])], None, "not negative"),
        (["a"], [Waypoint(1.0, [0.0])], 0.5, "ended"),
    ],
)
def test_what_is_refused_is_named_and_changes_nothing(
    names: list[str], points: list[Waypoint], start: float | None, words: str
) -> None:
    arm = follower()
    with pytest.raises(CommandRejected, match=words):
        arm.accept(names, points, now=10.0, start=start)
    assert arm.sample(20.0) == {"a": 0.0, "b": 1.0}


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=5), st.floats(0, 6))
def test_positions_never_leave_the_range_of_the_points(goals: list[float], time: float) -> None:
    arm = follower()
    arm.accept(["a"], [Waypoint(float(i + 1), [g]) for i, g in enumerate(goals)], now=0.0)
    assert min(0.0, *goals) - 1e-12 <= arm.sample(time)["a"] <= max(0.0, *goals) + 1e-12


def test_a_velocity_command_dies_after_its_timeout() -> None:
    base = VelocityCommand(timeout=0.5)
    assert base.sample(0.0) == (0.0, 0.0)
    base.accept(0.2, -0.1, stamp=10.0, now=10.1)
    assert base.sample(10.4) == (0.2, -0.1)
    assert base.sample(10.6) == (0.0, 0.0)


def test_a_zero_stamp_means_now_and_an_old_stamp_is_refused() -> None:
    base = VelocityCommand(timeout=0.5)
    base.accept(0.2, 0.0, stamp=0.0, now=10.0)
    assert base.sample(10.4) == (0.2, 0.0)
    with pytest.raises(CommandRejected, match="old"):
        base.accept(0.3, 0.0, stamp=9.0, now=10.0)
    with pytest.raises(CommandRejected, match="finite"):
        base.accept(math.nan, 0.0, stamp=0.0, now=10.0)
    base.stop()
    assert base.sample(10.0) == (0.0, 0.0)
