from __future__ import annotations

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.control.servo_loop import ServoLoop, Setpoint

CONTRACT = load_contract("mobile_manipulator")
HOME = CONTRACT.kinematics.home
TICK = 0.02
FORWARD = (0.1, 0.0, 0.0, 0.0, 0.0, 0.0)
ZERO = (0.0,) * 6


class Arm:
    """A loop around an arm that does at once what it is told."""

    def __init__(self) -> None:
        self.now = 5.0
        self.loop = ServoLoop(CONTRACT)
        self.joints = {j: HOME[j] for j in self.loop.joints}
        self.loop.offer_joints(self.joints, self.now)

    def tick(self, twist: tuple[float, ...] | None = None, joints: bool = True) -> Setpoint | None:
        self.now += TICK
        if joints:
            self.loop.offer_joints(self.joints, self.now)
        if twist is not None:
            self.loop.offer_twist("base_link", twist, self.now, self.now)
        setpoint = self.loop.tick(self.now)
        if setpoint is not None:
            self.joints = dict(zip(self.loop.joints, setpoint.positions.tolist(), strict=True))
        return setpoint

    @property
    def tool(self) -> np.ndarray:
        return self.loop.servo.kinematics.fk([self.joints[j] for j in self.loop.joints])[0]


@pytest.fixture
def arm() -> Arm:
    return Arm()


def test_without_a_twist_nothing_is_sent(arm: Arm) -> None:
    assert [arm.tick() for _ in range(50)] == [None] * 50 and not arm.loop.moving


def test_a_stream_of_twists_moves_the_tool(arm: Arm) -> None:
    start = arm.tool
    for _ in range(50):
        setpoint = arm.tick(FORWARD)
        assert setpoint is not None and setpoint.positions.shape == (7,)
    assert arm.tool - start == pytest.approx([0.1, 0.0, 0.0], abs=2e-3)


def test_velocities_are_those_of_the_positions(arm: Arm) -> None:
    arm.tick(FORWARD)
    before = np.array(list(arm.joints.values()))
    setpoint = arm.tick(FORWARD)
    assert setpoint is not None and setpoint.velocities == pytest.approx((setpoint.positions - before) / TICK)


def test_when_the_twist_is_zero_the_arm_is_held_once_and_then_left_alone(arm: Arm) -> None:
    for _ in range(5):
        last = arm.tick(FORWARD)
    hold = arm.tick(ZERO)
    assert last is not None and hold is not None
    assert (hold.positions == last.positions).all() and not hold.velocities.any()
    assert [arm.tick(ZERO) for _ in range(20)] == [None] * 20


def test_a_twist_stream_that_breaks_off_holds_after_the_time_out(arm: Arm) -> None:
    arm.tick(FORWARD)
    seen = [arm.tick() for _ in range(20)]
    moving = sum(s is not None for s in seen)
    assert 4 <= moving <= 6 and not arm.loop.moving
    last = seen[moving - 1]
    assert last is not None and not last.velocities.any()


@pytest.mark.parametrize(
    ("frame", "twist", "age", "told"),
    [
        ("map", FORWARD, 0.0, "'map'"),
        ("", FORWARD, 0.0, "expected 'base_link'"),
        ("base_link", FORWARD, 0.15, "0.150 s old"),
        ("base_link", FORWARD, -0.5, "old"),
        ("base_link", (float("nan"), 0, 0, 0, 0, 0), 0.0, "not finite"),
    ],
)
def test_a_bad_twist_is_refused_and_the_arm_holds(
    arm: Arm, frame: str, twist: tuple[float, ...], age: float, told: str
) -> None:
    arm.tick(FORWARD)
    with pytest.raises(ValueError, match=told):
        arm.loop.offer_twist(frame, twist, arm.now - age, arm.now)
    hold = arm.tick()
    assert hold is not None and not hold.velocities.any() and arm.tick() is None


def test_a_twist_that_was_overtaken_does_not_count(arm: Arm) -> None:
    arm.tick(ZERO)
    arm.loop.offer_twist("base_link", FORWARD, arm.now - 0.05, arm.now)
    assert arm.tick() is None


def test_joints_that_fall_silent_stop_the_arm_and_are_told(arm: Arm) -> None:
    arm.tick(FORWARD)
    for _ in range(15):
        last = arm.tick(FORWARD, joints=False)
    assert last is None and not arm.loop.moving and "joint_states" in arm.loop.problem
    assert arm.tick(FORWARD) is not None and arm.loop.problem == ""


def test_without_any_joint_state_nothing_is_sent() -> None:
    loop = ServoLoop(CONTRACT)
    loop.offer_twist("base_link", FORWARD, 1.0, 1.0)
    assert loop.tick(1.0) is None and "nothing yet" in loop.problem


def test_after_a_pause_motion_starts_from_where_the_arm_is(arm: Arm) -> None:
    """A scene reset or another controller may have moved the arm; it must not be pulled back."""
    for _ in range(10):
        arm.tick(FORWARD)
    for _ in range(30):
        arm.tick()
    arm.joints["arm_joint_1"] += 0.8
    moved = arm.joints["arm_joint_1"]
    assert arm.tick() is None
    setpoint = arm.tick(FORWARD)
    assert setpoint is not None and setpoint.positions[0] == pytest.approx(moved, abs=0.03)


def test_an_arm_moved_by_others_while_it_holds_is_not_pulled_back(arm: Arm) -> None:
    for _ in range(10):
        arm.tick(FORWARD)
    arm.tick(ZERO)
    arm.joints["arm_joint_1"] += 0.8
    moved = arm.joints["arm_joint_1"]
    assert arm.tick(ZERO) is None
    setpoint = arm.tick(FORWARD)
    assert setpoint is not None and setpoint.positions[0] == pytest.approx(moved, abs=0.03)


def test_small_sag_while_holding_does_not_creep(arm: Arm) -> None:
    """The targets are kept over a hold, not the sagging measurement: starts and stops do not add up."""
    for _ in range(10):
        arm.tick(FORWARD)
    held = arm.loop.servo.positions
    for _ in range(10):
        arm.tick(ZERO)
        arm.joints = {j: v - 0.003 for j, v in zip(arm.joints, held.tolist(), strict=True)}
    tiny = arm.tick((1e-6, 0, 0, 0, 0, 0))
    assert tiny is not None and tiny.positions == pytest.approx(held, abs=1e-3)


def sag(arm: Arm, target: Setpoint | None) -> Setpoint:
    """The arm follows ``target`` as an arm with weight does: it ends a little below."""
    assert target is not None
    arm.joints = {j: v - 0.003 for j, v in zip(arm.loop.joints, target.positions.tolist(), strict=True)}
    arm.loop.offer_joints(arm.joints, arm.now)
    return target


@pytest.mark.parametrize("twist", [ZERO, None])
def test_an_arm_that_is_sent_its_rest_again_and_again_does_not_creep(arm: Arm, twist: tuple[float, ...] | None) -> None:
    """As for every gripper command, where one array holds the arm and the gripper."""
    first = sag(arm, arm.loop.resting(arm.now))
    for _ in range(20):
        for _ in range(15):
            assert arm.tick(twist) is None
        assert sag(arm, arm.loop.resting(arm.now)).positions == pytest.approx(first.positions, abs=1e-12)
    moving = arm.tick((1e-6, 0, 0, 0, 0, 0))
    assert moving is not None and moving.positions == pytest.approx(first.positions, abs=1e-3)


@pytest.mark.parametrize(("pause", "distance"), [(0, 0.8), (30, 0.01)])
def test_a_rest_is_measured_anew_once_somebody_else_moved_the_arm(arm: Arm, pause: int, distance: float) -> None:
    arm.loop.resting(arm.now)
    for _ in range(pause):
        arm.tick()
    arm.joints["arm_joint_1"] += distance
    arm.loop.offer_joints(arm.joints, arm.now)
    rest = arm.loop.resting(arm.now)
    assert rest is not None and rest.positions[0] == arm.joints["arm_joint_1"]


def test_a_clock_that_starts_anew_forgets_everything(arm: Arm) -> None:
    arm.tick(FORWARD)
    assert arm.loop.tick(0.5) is None and not arm.loop.moving
    assert arm.loop.tick(0.52) is None and "nothing yet" in arm.loop.problem


def test_a_joint_state_without_the_arm_is_an_error(arm: Arm) -> None:
    with pytest.raises(ValueError, match="arm_joint_7"):
        arm.loop.offer_joints({j: 0.0 for j in arm.loop.joints[:-1]}, 6.0)


def test_joint_states_of_another_driver_are_passed_over(arm: Arm) -> None:
    arm.tick(FORWARD)
    arm.loop.offer_joints({"left_finger_joint": 0.05}, arm.now + 10 * TICK)
    assert arm.tick(FORWARD, joints=False) is not None
    with pytest.raises(ValueError, match="arm_joint_2"):
        arm.loop.offer_joints({"arm_joint_1": 0.0}, arm.now)
