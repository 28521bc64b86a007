from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qt_ros.contract.actions import ActionSpace
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.control.limits import NonFiniteError
from qt_ros.control.shaper import Command, CommandShaper

TICK = 0.02
CONTRACT = load_contract("mobile_manipulator")


def action(contract: RobotContract, **values: float) -> np.ndarray:
    out = contract.action_space.neutral()
    for name, value in values.items():
        out[contract.action_space.index(name)] = value
    return out


def run(shaper: CommandShaper, start: float, seconds: float, **kwargs: object) -> list[Command]:
    return [shaper.tick(start + i * TICK, **kwargs) for i in range(round(seconds / TICK))]


def displacement(commands: list[Command]) -> np.ndarray:
    return np.sum([np.append(c.arm_twist, c.base) for c in commands], axis=0) * TICK


@pytest.fixture
def shaper(contract: RobotContract) -> CommandShaper:
    shaper = CommandShaper(contract)
    shaper.start("e1", 0.0)
    return shaper


def test_nothing_moves_before_an_episode_starts(contract: RobotContract) -> None:
    shaper = CommandShaper(contract)
    assert not shaper.submit(action(contract, dx=0.05), 1.0, 1.0)
    command = shaper.tick(1.02)
    assert not command.moving and command.gripper is None and command.reason is None


def test_nothing_moves_before_the_first_action(shaper: CommandShaper) -> None:
    for command in run(shaper, 0.0, 2.0):
        assert not command.moving and command.gripper is None and command.reason is None and command.action_age is None


@pytest.mark.parametrize(
    ("name", "value", "axis"),
    [("dx", 0.05, 0), ("dy", -0.05, 1), ("dz", 0.02, 2), ("droll", 0.25, 3), ("dpitch", -0.1, 4), ("dyaw", 0.25, 5),
     ("base_forward", 0.1, 6), ("base_turn", -0.25, 7)],
)  # fmt: skip
def test_a_lone_action_moves_its_displacement_and_then_stands(
    contract: RobotContract, shaper: CommandShaper, name: str, value: float, axis: int
) -> None:
    assert shaper.submit(action(contract, **{name: value}), 0.0, -0.1)
    commands = run(shaper, 0.0, 0.7)[:-1]
    expected = np.zeros(8)
    expected[axis] = value
    if axis >= 6:  # the base accelerates too gently to reach the step's mean velocity within the step
        assert 0.35 < displacement(commands)[axis] / value < 1.0
    else:
        assert displacement(commands) == pytest.approx(expected, abs=0.02 * abs(value))
    at = next(i for i, c in enumerate(commands) if i * TICK > 0.19 and not c.moving)
    assert at * TICK <= (0.42 if axis >= 6 else 0.32)
    assert (commands[at].arm_twist == 0.0).all() and commands[at].base == (0.0, 0.0)


@pytest.mark.parametrize("name", ["dx", "dz", "dyaw", "base_forward", "base_turn"])
@pytest.mark.parametrize("spacing", [0.2, 0.22, 0.24])
def test_a_repeated_action_moves_within_ten_percent_of_what_it_asks(
    contract: RobotContract, shaper: CommandShaper, name: str, spacing: float
) -> None:
    axis = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "base_forward", "base_turn").index(name)
    high = float(contract.action_space.high[contract.action_space.index(name)])
    total, steps = 0.0, 20
    for i in range(round((steps * spacing + 0.5) / TICK)):
        now = i * TICK
        if i % round(spacing / TICK) == 0 and i < steps * round(spacing / TICK):
            shaper.submit(action(contract, **{name: high}), now, now - 0.1)
        command = shaper.tick(now)
        total += np.append(command.arm_twist, command.base)[axis] * TICK
    most = 1.1 if axis < 6 else 1.1 * spacing / 0.2  # late actions: the heavy base rolls on meanwhile
    assert 0.9 <= total / (steps * high) <= most


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.lists(st.floats(-1, 1), min_size=10, max_size=10), st.integers(1, 20)), max_size=8))
def test_speed_and_acceleration_stay_within_limits(actions: list[tuple[list[float], int]]) -> None:
    shaper, bound = CommandShaper(CONTRACT), CONTRACT.limits
    shaper.start("e", 0.0)
    last, now = np.zeros(8), 0.0
    for values, ticks in actions:
        shaper.submit(values, now, now)
        for _ in range(ticks):
            now += TICK
            command = shaper.tick(now)
            v = np.append(command.arm_twist, command.base)
            for part, speed, acceleration in (
                (slice(0, 3), bound.linear_speed, bound.linear_acceleration),
                (slice(3, 6), bound.angular_speed, bound.angular_acceleration),
                (slice(6, 7), bound.base_linear_speed, bound.base_linear_acceleration),
                (slice(7, 8), bound.base_angular_speed, bound.base_angular_acceleration),
            ):
                assert np.linalg.norm(v[part]) <= speed + 1e-9
                assert np.linalg.norm(v[part] - last[part]) <= acceleration * TICK + 1e-9
            last = v


def test_an_action_too_old_stops_with_lost_policy(contract: RobotContract, shaper: CommandShaper) -> None:
    shaper.submit(action(contract, dx=0.05, gripper=1.0), 0.0, 0.0)
    reasons = [c.reason for c in run(shaper, 0.0, 1.0)]
    first = reasons.index("lost_policy")
    assert first * TICK == pytest.approx(contract.limits.max_action_age + TICK, abs=TICK)
    assert set(reasons[first:]) == {"lost_policy"}
    assert shaper.tick(1.0).gripper is None


def test_fresh_receipts_of_one_old_observation_do_not_hide_a_dead_camera(
    contract: RobotContract, shaper: CommandShaper
) -> None:
    now = 0.0
    while shaper.running and now < 2.0:
        shaper.submit(action(contract, dx=0.05), now, 0.0)
        shaper.tick(now)
        now += TICK
    assert shaper.reason == "lost_policy" and now < contract.limits.max_action_age + 0.1


def test_an_action_too_old_on_arrival_never_moves(contract: RobotContract, shaper: CommandShaper) -> None:
    assert not shaper.submit(action(contract, dx=0.05), 5.0, 5.0 - contract.limits.max_action_age - 0.01)
    assert shaper.tick(5.0).reason == "lost_policy"


def test_an_observation_from_another_clock_is_a_fault(contract: RobotContract, shaper: CommandShaper) -> None:
    assert not shaper.submit(action(contract, dx=0.05), 5.0, 1.7e9)
    assert shaper.tick(5.02).reason == "fault"


def test_a_clock_that_runs_backwards_is_a_fault(contract: RobotContract, shaper: CommandShaper) -> None:
    shaper.tick(1.0)
    shaper.submit(action(contract, dx=0.05), 1.0, 1.0)
    command = shaper.tick(0.5)
    assert command.reason == "fault" and not command.moving


def test_a_stop_is_zero_at_once_and_the_first_reason_stays(contract: RobotContract, shaper: CommandShaper) -> None:
    shaper.submit(action(contract, dx=0.05, base_turn=0.2, gripper=1.0), 0.0, 0.0)
    assert run(shaper, 0.0, 0.1)[-1].moving
    shaper.stop("estop", 0.1)
    shaper.stop("timeout", 0.1)
    command = shaper.tick(0.12)
    assert not command.moving and command.gripper is None and command.reason == "estop"
    assert not shaper.submit(action(contract, dx=0.05), 0.14, 0.14)
    assert not shaper.tick(0.16).moving


def test_a_new_episode_clears_the_stop_and_the_old_action(contract: RobotContract, shaper: CommandShaper) -> None:
    shaper.submit(action(contract, dx=0.05), 0.0, 0.0)
    shaper.tick(0.02)
    shaper.stop("done", 0.04)
    shaper.start("e2", 0.1)
    command = shaper.tick(0.12)
    assert command.reason is None and not command.moving and command.gripper is None
    assert shaper.submit(action(contract, dx=0.05), 0.14, 0.14)


def test_the_gripper_follows_every_action_and_keeps_its_last_between(
    contract: RobotContract, shaper: CommandShaper
) -> None:
    for i, closedness in enumerate((0.0, 0.4, 0.41, 1.0)):
        shaper.submit(action(contract, gripper=closedness), i * 0.2, i * 0.2)
        assert {c.gripper for c in run(shaper, i * 0.2, 0.2)} == {closedness}
    assert shaper.tick(0.9).gripper == 1.0


def test_terminate_is_checked_before_the_rest_of_the_action(contract: RobotContract, shaper: CommandShaper) -> None:
    shaper.submit(action(contract, terminate=0.9, dx=0.05, gripper=0.0, base_forward=0.1), 0.0, 0.0)
    for command in run(shaper, 0.0, 0.4):
        assert not command.moving and command.gripper is None


def test_what_nobody_decided_moves_nothing_and_holds_the_gripper_whatever_the_space(contract: RobotContract) -> None:
    """Without a terminate dimension nothing in the values of a neutral stop tells it from an action that opens."""
    space = contract.action_space
    robot = dataclasses.replace(
        contract, action_space=ActionSpace([d for d in space.dimensions if d.name != "terminate"])
    )
    shaper = CommandShaper(robot)
    shaper.start("e", 0.0)
    shaper.submit(action(robot, dx=0.05, gripper=1.0), 0.0, 0.0)
    assert run(shaper, 0.0, 0.1)[-1].gripper == 1.0
    assert shaper.submit(robot.action_space.neutral(), 0.1, 0.1, decided=False)
    commands = run(shaper, 0.1, 0.58)
    assert {c.gripper for c in commands} == {None} and not commands[-1].moving
    with pytest.raises(NonFiniteError):
        shaper.submit(action(robot, dx=np.nan), 0.7, 0.7, decided=False)


def test_values_beyond_the_action_space_are_clipped(contract: RobotContract, shaper: CommandShaper) -> None:
    shaper.submit(action(contract, dx=5.0, gripper=7.0), 0.0, 0.0)
    commands = run(shaper, 0.0, 0.58)
    assert displacement(commands)[0] == pytest.approx(0.05, abs=1e-3)
    assert commands[0].gripper == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["dx", "gripper", "terminate", "base_turn"])
def test_a_non_finite_action_is_refused(contract: RobotContract, shaper: CommandShaper, bad: float, name: str) -> None:
    with pytest.raises(NonFiniteError, match="policy action"):
        shaper.submit(action(contract, **{name: bad}), 0.0, 0.0)
    assert not shaper.tick(0.02).moving


def test_non_finite_times_and_positions_are_refused(contract: RobotContract, shaper: CommandShaper) -> None:
    with pytest.raises(NonFiniteError):
        shaper.submit(action(contract), 0.0, np.nan)
    with pytest.raises(NonFiniteError):
        shaper.tick(np.nan)
    with pytest.raises(NonFiniteError):
        shaper.tick(0.1, [np.nan, 0.0, 0.0])


def test_the_workspace_wall_is_approached_and_not_crossed(contract: RobotContract, shaper: CommandShaper) -> None:
    tool = np.array([contract.limits.workspace_high[0] - 0.08, 0.0, 0.9])
    for i in range(60):
        if i % 10 == 0:
            shaper.submit(action(contract, dx=0.05, dy=0.01), i * TICK, i * TICK)
        tool = tool + shaper.tick(i * TICK, tool).arm_twist[:3] * TICK
        assert tool[0] <= contract.limits.workspace_high[0]
    assert tool[0] == pytest.approx(contract.limits.workspace_high[0], abs=2e-3)
    assert tool[1] == pytest.approx(0.06, abs=0.005)  # along the wall it still moves


def test_a_robot_without_a_base_gets_no_base_motion(contract: RobotContract) -> None:
    arm_only = ActionSpace([d for d in contract.action_space.dimensions if d.target in ("arm", "episode")])
    robot = dataclasses.replace(contract, action_space=arm_only)
    shaper = CommandShaper(robot)
    shaper.start("e", 0.0)
    shaper.submit(action(robot, dx=0.05), 0.0, 0.0)
    commands = run(shaper, 0.0, 0.5)
    assert all(c.base == (0.0, 0.0) and c.gripper is None for c in commands)
    assert displacement(commands)[0] == pytest.approx(0.05, rel=0.02)


def test_the_order_of_dimensions_comes_from_the_contract(contract: RobotContract) -> None:
    robot = dataclasses.replace(contract, action_space=ActionSpace(contract.action_space.dimensions[::-1]))
    shaper = CommandShaper(robot)
    shaper.start("e", 0.0)
    shaper.submit(action(robot, dz=-0.03, base_turn=0.1), 0.0, 0.0)
    moved = displacement(run(shaper, 0.0, 0.5))
    assert moved[2] == pytest.approx(-0.03, rel=0.02) and moved[7] == pytest.approx(0.1, rel=0.02)
    assert moved[[0, 1, 3, 4, 5, 6]] == pytest.approx(0.0)


def test_a_machine_that_is_late_with_its_ticks_brakes_harder_not_longer(
    contract: RobotContract, shaper: CommandShaper
) -> None:
    def drive(start: float) -> float:
        for i in range(20):
            if i % 10 == 0:
                assert shaper.submit(action(contract, dx=0.05, base_forward=0.1), start + i * TICK, start + i * TICK)
            moving = shaper.tick(start + i * TICK)
        assert moving.arm_twist[0] > 0.2 and moving.base[0] > 0.3
        shaper.stop("fault", start + 0.4, brake=True)
        return start + 0.38

    last = drive(0.0)
    assert not shaper.tick(last + 0.2, elapsed=0.2).moving, "0.2 s have passed since the last command"
    shaper.start("e2", 1.0)
    last = drive(1.0)
    assert shaper.tick(last + 0.2, elapsed=0.02).moving, "the clock jumped: only 0.02 s have passed"
