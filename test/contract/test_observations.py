"""Behaviour of the observation encoding."""

from __future__ import annotations

import numpy as np
import pytest

from qt_ros.contract.observations import Proprioception, resize_rgb
from qt_ros.contract.robot import load_contract


def test_resizing_averages_areas() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2] = 100
    small = resize_rgb(image, 2, 2)
    assert small[0, 0, 0] == 100 and small[1, 1, 0] == 0
    assert resize_rgb(image, 1, 1)[0, 0, 0] == 25


def test_another_shape_or_dtype_is_refused() -> None:
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8 RGB"):
            resize_rgb(image, 2, 2)


def test_proprioception_scales_the_workspace_to_one_and_reports_the_gripper() -> None:
    contract = load_contract("mobile_manipulator")
    encoder = Proprioception(contract)
    home = dict(contract.kinematics.home)
    state = encoder.encode(home)
    assert state.shape == (Proprioception.size,) == (len(Proprioception.names),) and state.dtype == np.float32
    assert (np.abs(state[:3]) <= 1).all(), "the home pose must be inside the workspace box"
    assert np.linalg.norm(state[3:6]) == pytest.approx(1, abs=1e-5)
    assert state[-1] == 0
    home[contract.kinematics.gripper_joint] = contract.kinematics.gripper_closed
    assert encoder.encode(home)[-1] == 1


def test_it_says_which_joints_it_needs_and_which_it_can_do_without() -> None:
    contract = load_contract("mobile_manipulator")
    encoder = Proprioception(contract)
    assert encoder.joints == (*contract.kinematics.arm_joints, contract.kinematics.gripper_joint)
    assert encoder.optional_joints == ("lift_joint",)


def test_a_missing_or_non_finite_joint_is_named() -> None:
    contract = load_contract("mobile_manipulator")
    encoder = Proprioception(contract)
    home = dict(contract.kinematics.home)
    with pytest.raises(ValueError, match="arm_joint_3"):
        encoder.encode({k: v for k, v in home.items() if k != "arm_joint_3"})
    with pytest.raises(ValueError, match="not finite for arm_joint_2"):
        encoder.encode(home | {"arm_joint_2": float("nan")})


def test_a_lift_that_moves_moves_the_tool_and_one_not_reported_is_at_home() -> None:
    contract = load_contract("mobile_manipulator")
    encoder = Proprioception(contract)
    home = dict(contract.kinematics.home)
    half = (contract.limits.workspace_high[2] - contract.limits.workspace_low[2]) / 2
    raised = encoder.encode(home | {"lift_joint": home["lift_joint"] + 0.05})
    assert raised[2] - encoder.encode(home)[2] == pytest.approx(0.05 / half, abs=1e-5)
    assert (encoder.encode({k: v for k, v in home.items() if k != "lift_joint"}) == encoder.encode(home)).all()
    with pytest.raises(ValueError, match="lift_joint"):
        encoder.encode(home | {"lift_joint": float("nan")})
