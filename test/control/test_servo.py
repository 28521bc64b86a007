from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.control.limits import NonFiniteError
from qt_ros.control.servo import Servo, rotation_exp, rotation_log

TICK = 0.02
CONTRACT = load_contract("mobile_manipulator")
SERVO = Servo(CONTRACT)


def as_joints(q: np.ndarray) -> dict[str, float]:
    return dict(zip(CONTRACT.kinematics.arm_joints, q.tolist(), strict=True))


def at_home() -> Servo:
    SERVO.reset(CONTRACT.kinematics.home)
    return SERVO


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(rotation_log(a @ b.T)))


def step(servo: Servo, direction: np.ndarray, ticks: int = 10) -> None:
    for _ in range(ticks):
        servo.tick(np.append(direction / 0.2, np.zeros(3)), TICK)


def test_before_reset_it_refuses_to_move(contract: RobotContract) -> None:
    with pytest.raises(RuntimeError, match="reset"):
        Servo(contract).tick(np.zeros(6), TICK)


def test_zero_twist_changes_nothing_at_all() -> None:
    servo = at_home()
    step(servo, np.array([0.02, 0.01, -0.03]))
    before = servo.positions
    for _ in range(50):
        assert (servo.tick(np.zeros(6), TICK) == before).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_repeated_five_centimetre_steps_arrive_within_two_millimetres(axis: int, sign: float) -> None:
    servo = at_home()
    start, upright = servo.pose()
    direction = np.zeros(3)
    direction[axis] = 0.05 * sign
    goal = np.clip(start + 2 * direction, CONTRACT.limits.workspace_low, CONTRACT.limits.workspace_high)
    for _ in range(2):
        step(servo, direction)
    position, rotation = servo.pose()
    assert position == pytest.approx(goal, abs=2e-3)
    assert np.degrees(angle_between(rotation, upright)) < 0.5


def test_a_tour_of_the_workspace_comes_back_where_it_began() -> None:
    servo = at_home()
    start, upright = servo.pose()
    d = 0.05
    for _ in range(5):
        for direction in ([d, 0, 0], [0, d, 0], [0, 0, -d], [-d, 0, 0], [0, -d, 0], [0, 0, d]):
            step(servo, np.array(direction, dtype=float))
    position, rotation = servo.pose()
    assert position == pytest.approx(start, abs=2e-3)
    assert np.degrees(angle_between(rotation, upright)) < 0.5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_turning_moves_the_tool_frame_but_not_the_tool_point(axis: int) -> None:
    servo = at_home()
    start, upright = servo.pose()
    omega = np.zeros(6)
    omega[3 + axis] = 0.5
    for _ in range(25):
        servo.tick(omega, TICK)
    position, rotation = servo.pose()
    assert position == pytest.approx(start, abs=2e-3)
    assert rotation == pytest.approx(rotation_exp(omega[3:] * 0.5) @ upright, abs=0.01)


twists = st.lists(st.floats(-2.0, 2.0), min_size=6, max_size=6)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(twists, st.integers(1, 30)), min_size=1, max_size=4))
def test_random_twists_never_leave_any_limit(sequence: list[tuple[list[float], int]]) -> None:
    servo = at_home()
    low, high = np.array(CONTRACT.limits.workspace_low), np.array(CONTRACT.limits.workspace_high)
    before = servo.positions
    for twist, ticks in sequence:
        for _ in range(ticks):
            q = servo.tick(twist, TICK)
            assert np.isfinite(q).all()
            assert (q >= servo.kinematics.lower).all() and (q <= servo.kinematics.upper).all()
            assert (np.abs(q - before) <= servo.max_speed * TICK + 1e-9).all()
            before = q
        position, _ = servo.pose()
        assert (position >= low - 1.1e-3).all() and (position <= high + 1.1e-3).all()


def test_motion_against_a_joint_limit_is_not_stored_up() -> None:
    servo = at_home()
    for _ in range(500):
        servo.tick([0, 0, 0, 0, 0, 1.0], TICK)  # turns until joints end
    _, stuck = servo.pose()
    for _ in range(25):
        servo.tick([0, 0, 0, 0, 0, -1.0], TICK)
    assert angle_between(servo.pose()[1], stuck) > 0.4


def test_a_blocked_arm_does_not_wind_up() -> None:
    servo = at_home()
    measured = dict(CONTRACT.kinematics.home)
    fixed, _ = servo.pose()
    seen = []
    for _ in range(200):  # 4 s at 0.2 m/s down, the arm stands on a table
        servo.tick([0, 0, -0.2, 0, 0, 0], TICK, measured)
        seen.append(servo.blocked)
    lead = fixed[2] - servo.pose()[0][2]
    assert seen[-1] and not seen[0]
    assert lead <= servo.settings.max_lead + servo.settings.max_follow + 0.2 * TICK
    for _ in range(30):
        servo.tick([0, 0, 0.2, 0, 0, 0], TICK, measured)
    assert servo.pose()[0][2] > fixed[2]  # lifts at once, nothing to unwind first


def test_an_arm_that_lags_as_usual_is_not_called_blocked() -> None:
    servo = at_home()
    history = [servo.positions] * 5
    for _ in range(20):
        servo.tick([0.2, 0, -0.1, 0, 0, 0], TICK, as_joints(history[-5]))
        history.append(servo.positions)
        assert not servo.blocked


def test_a_tool_outside_the_box_may_come_back_but_not_go_further() -> None:
    servo = at_home()
    p, r = servo.pose()
    outside = np.array([p[0], CONTRACT.limits.workspace_high[1] + 0.05, p[2]])
    q = servo.positions
    for _ in range(300):
        position, rotation = servo.kinematics.fk(q)
        error = np.append(outside - position, rotation_log(r @ rotation.T))
        j = servo.kinematics.jacobian(q)
        q = q + 0.3 * j.T @ np.linalg.solve(j @ j.T + 1e-4 * np.eye(6), error)
    servo.reset(as_joints(q))
    step(servo, np.array([0.0, 0.05, 0.0]))
    assert servo.pose()[0][1] == pytest.approx(outside[1], abs=1e-3)
    step(servo, np.array([0.0, -0.05, 0.0]))
    assert servo.pose()[0][1] == pytest.approx(outside[1] - 0.05, abs=3e-3)


def test_a_non_finite_twist_or_joint_is_refused() -> None:
    servo = at_home()
    with pytest.raises(NonFiniteError, match="arm twist"):
        servo.tick([np.nan, 0, 0, 0, 0, 0], TICK)
    with pytest.raises(NonFiniteError, match="joint positions"):
        servo.reset({**CONTRACT.kinematics.home, "arm_joint_3": np.nan})
    with pytest.raises(ValueError, match="arm_joint_1"):
        servo.reset({"arm_joint_2": 0.0})


@given(st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3).map(np.array))
def test_rotation_log_inverts_rotation_exp(vector: np.ndarray) -> None:
    assert rotation_log(rotation_exp(vector)) == pytest.approx(vector, abs=1e-6)
