"""An arm with fewer joints than six: the axes it has are followed, the others are left to themselves."""

from __future__ import annotations

import numpy as np
import pytest
from robots import telescope_contract

from qt_ros.control.servo import Servo

CONTRACT = telescope_contract()
HOME = CONTRACT.kinematics.home
DT = 0.02


@pytest.fixture
def servo() -> Servo:
    made = Servo(CONTRACT)
    made.reset(HOME)
    return made


def drive(servo: Servo, twist: tuple[float, ...], ticks: int) -> np.ndarray:
    """How far the tool went (3,) m."""
    begin = servo.pose()[0]
    for _ in range(ticks):
        servo.tick(twist, DT)
    return servo.pose()[0] - begin


def test_the_axes_of_the_action_space_are_followed(servo: Servo) -> None:
    moved = drive(servo, (0.0, -0.05, 0.04, 0.0, 0.0, 0.0), 50)
    assert moved[1:] == pytest.approx([-0.05, 0.04], abs=2e-3)
    assert servo.positions[2] == pytest.approx(HOME["joint_wrist_yaw"], abs=1e-6), "yaw is held"


def test_turning_in_place_lets_the_free_axis_go(servo: Servo) -> None:
    """Yaw swings the tool sideways, which this arm cannot undo; along y and z the tool stays."""
    moved = drive(servo, (0.0, 0.0, 0.0, 0.0, 0.0, 0.3), 50)
    assert servo.positions[2] == pytest.approx(0.3, abs=5e-3)
    assert moved[1:] == pytest.approx([0.0, 0.0], abs=2e-3) and abs(moved[0]) > 0.02


def test_a_twist_along_a_missing_axis_moves_nothing(servo: Servo) -> None:
    before = servo.positions
    for axis in (0, 3, 4):
        twist = np.zeros(6)
        twist[axis] = 0.1
        assert (servo.tick(twist, DT) == before).all()


def test_speeds_of_single_joints_and_the_whole_telescope_are_limits(servo: Servo) -> None:
    speeds = CONTRACT.limits.joint_speeds
    last = servo.positions
    for _ in range(40):
        now = servo.tick((0.0, -0.15, 0.15, 0.0, 0.0, 0.0), DT)
        step = np.abs(now - last) / DT
        assert step[0] <= speeds["wrist_extension"] + 1e-9 and step[1] <= speeds["joint_lift"] + 1e-9
        last = now
    for _ in range(600):
        servo.tick((0.0, -0.15, 0.0, 0.0, 0.0, 0.0), DT)
    assert servo.positions[0] <= 4 * 0.13 - servo.settings.joint_margin + 1e-9, "all four stages together"
