"""A person's wish becomes an action of the policy's own space: on its bins, in its range, neutral without dead-man."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.contract.robot import load_contract
from qt_ros.control.joystick import InputError, load_joystick
from qt_ros.control.limits import NonFiniteError
from qt_ros.control.teleop import Teleoperator

CONTRACT = load_contract("mobile_manipulator")
SPACE = CONTRACT.action_space
MAPPING = load_joystick("teleop_xbox", CONTRACT)
HOME = CONTRACT.kinematics.home
IMAGE = np.zeros((4, 4, 3), np.uint8)
AXES = 8


def buttons(*roles: str) -> list[int]:
    result = [0] * 11
    for role in roles:
        result[MAPPING.buttons[role]] = 1
    return result


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def teleop(clock: Clock) -> Teleoperator:
    made = Teleoperator(CONTRACT, MAPPING, timeout=0.5, clock=clock)
    made.reset("pick up the red cube")
    return made


def act(teleop: Teleoperator, gripper: float = HOME["left_finger_joint"]) -> dict[str, float]:
    joints = {**HOME, CONTRACT.kinematics.gripper_joint: gripper}
    return SPACE.as_dict(teleop.step(IMAGE, joints).values)


def moving(action: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in action.items() if v and k not in ("gripper", "terminate")}


axes = st.lists(st.floats(-2.0, 2.0), min_size=AXES, max_size=AXES)
presses = st.lists(st.integers(0, 1), min_size=11, max_size=11)


@given(messages=st.lists(st.tuples(axes, presses, st.floats(0.0, 1.0)), max_size=12), finish=st.booleans())
def test_any_input_gives_an_action_on_the_bins_of_the_contract(
    messages: list[tuple[list[float], list[int], float]], finish: bool
) -> None:
    clock = Clock()
    teleop = Teleoperator(CONTRACT, MAPPING, timeout=0.5, clock=clock)
    teleop.reset("x")
    if finish:
        teleop.finish()
    for values, pressed, pause in messages:
        teleop.offer(values, pressed)
        clock.now += pause
        decision = teleop.step(IMAGE, HOME)
        assert np.array_equal(SPACE.decode(SPACE.encode(decision.values)), decision.values)
        assert np.array_equal(SPACE.encode(decision.values), decision.bins)
        assert ((decision.values >= SPACE.low) & (decision.values <= SPACE.high)).all()
        assert decision.terminate == (decision.values[SPACE.index("terminate")] >= 0.5) == finish
        free = pressed[MAPPING.buttons["deadman"]] and pause <= 0.5 and not finish
        assert free or not moving(SPACE.as_dict(decision.values))
        assert decision.q.shape == (0,)


def test_full_deflection_moves_the_mapped_speed_for_one_policy_step(teleop: Teleoperator) -> None:
    stick = [0.0] * AXES
    stick[1] = 1.0
    teleop.offer(stick, buttons("deadman"))
    width = (SPACE.high - SPACE.low)[SPACE.index("dx")] / SPACE.bins
    assert moving(act(teleop)) == {"dx": pytest.approx(0.2 * CONTRACT.policy_period, abs=width / 2)}


def test_nothing_moves_without_the_dead_man_button_or_with_an_old_input(teleop: Teleoperator, clock: Clock) -> None:
    assert moving(act(teleop)) == {} and teleop.lost and not teleop.driving
    teleop.offer([1.0] * AXES, buttons())
    assert moving(act(teleop)) == {} and not teleop.lost and not teleop.driving
    teleop.offer([1.0] * AXES, buttons("deadman"))
    assert moving(act(teleop)) != {} and teleop.driving
    clock.now += 0.6
    assert moving(act(teleop)) == {} and teleop.lost and not teleop.driving


def test_a_bad_message_takes_the_input_away_until_a_good_one_comes(teleop: Teleoperator) -> None:
    teleop.offer([1.0] * AXES, buttons("deadman"))
    with pytest.raises(NonFiniteError):
        teleop.offer([float("nan")] * AXES, buttons("deadman"))
    assert teleop.lost and moving(act(teleop)) == {}
    with pytest.raises(InputError):
        teleop.offer([], [])
    teleop.offer([1.0] * AXES, buttons("deadman"))
    assert not teleop.lost and moving(act(teleop)) != {}


def test_the_gripper_stays_where_it_is_until_it_is_told_and_then_keeps_what_it_was_told(teleop: Teleoperator) -> None:
    half = CONTRACT.kinematics.gripper_position(0.5)
    teleop.offer([0.0] * AXES, buttons())
    assert act(teleop, half)["gripper"] == pytest.approx(0.5, abs=1 / SPACE.bins)
    teleop.offer([0.0] * AXES, buttons("close"))  # without the dead-man button
    assert act(teleop, half)["gripper"] == pytest.approx(0.5, abs=1 / SPACE.bins)
    teleop.offer([0.0] * AXES, buttons("close", "deadman"))
    assert act(teleop, half)["gripper"] > 0.99
    teleop.offer([0.0] * AXES, buttons())
    assert act(teleop, half)["gripper"] > 0.99
    teleop.offer([0.0] * AXES, buttons("open", "deadman"))
    assert act(teleop, half)["gripper"] < 0.01
    teleop.reset("another")
    assert act(teleop, half)["gripper"] == pytest.approx(0.5, abs=1 / SPACE.bins)


def test_finishing_terminates_without_motion_and_only_this_episode(teleop: Teleoperator) -> None:
    teleop.offer([1.0] * AXES, buttons("deadman"))
    teleop.finish()
    decision = teleop.step(IMAGE, HOME)
    assert decision.terminate and moving(SPACE.as_dict(decision.values)) == {}
    teleop.reset("another")
    assert not teleop.step(IMAGE, HOME).terminate


def test_a_button_counts_once_and_not_when_it_was_down_before(teleop: Teleoperator) -> None:
    assert teleop.offer([0.0] * AXES, buttons("success")) == frozenset()
    assert teleop.offer([0.0] * AXES, buttons("success", "deadman")) == {"deadman"}
    assert teleop.offer([0.0] * AXES, buttons()) == frozenset()
    assert teleop.offer([0.0] * AXES, buttons("success")) == {"success"}
