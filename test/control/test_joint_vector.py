"""Position arrays: the right number in the right place, and none at all before everything is known."""

from __future__ import annotations

import pytest

from qt_ros.control.joint_vector import JointVector
from qt_ros.control.limits import NonFiniteError

LAYOUT = ("arm_b", "gripper", "arm_a", "-", "head")


def test_numbers_stand_in_the_controller_s_order() -> None:
    vector = JointVector(LAYOUT, ("arm_a", "arm_b"))
    vector.measure({"gripper": 0.4, "head": -1.0, "arm_a": 9.0})
    assert vector.array([1.0, 2.0]) == [2.0, 0.4, 1.0, 0.0, -1.0]


def test_nothing_is_made_up_before_every_held_joint_was_measured() -> None:
    vector = JointVector(LAYOUT, ("arm_a", "arm_b"))
    vector.measure({"gripper": 0.4, "head": float("nan")})
    assert vector.array([1.0, 2.0]) is None and vector.missing == ("head",)
    vector.measure({"head": -1.0})
    assert vector.array([1.0, 2.0]) is not None
    vector.forget()
    assert vector.array([1.0, 2.0]) is None


def test_held_joints_stay_where_they_were_first_and_the_gripper_goes_where_it_is_told() -> None:
    vector = JointVector(LAYOUT, ("arm_a", "arm_b"))
    vector.measure({"gripper": 0.4, "head": -1.0})
    vector.measure({"gripper": 0.1, "head": -0.9})  # sagging does not become the target
    vector.set("gripper", 0.0)
    assert vector.array([1.0, 2.0]) == [2.0, 0.0, 1.0, 0.0, -1.0]


def test_what_would_move_the_wrong_joint_raises() -> None:
    with pytest.raises(ValueError, match="no entry for elbow"):
        JointVector(LAYOUT, ("elbow",))
    vector = JointVector(LAYOUT, ("arm_a", "arm_b"))
    vector.measure({"gripper": 0.4, "head": -1.0})
    with pytest.raises(KeyError, match="beside the arm; it has gripper, head"):
        vector.set("arm_a", 0.0)
    with pytest.raises(NonFiniteError):
        vector.set("gripper", float("inf"))
    with pytest.raises(NonFiniteError):
        vector.array([1.0, float("nan")])
    with pytest.raises(ValueError, match="expected 2 numbers"):
        vector.array([1.0])
