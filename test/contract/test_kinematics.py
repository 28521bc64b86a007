"""Behaviour of the arm kinematics (agreement with MuJoCo is tested beside the simulator)."""

from __future__ import annotations

import numpy as np
import pytest

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import load_contract


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    contract = load_contract("mobile_manipulator")
    spec = contract.kinematics
    return Kinematics(contract.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=spec.home)


def test_the_jacobian_is_the_derivative_of_forward_kinematics(kinematics: Kinematics) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        q = rng.uniform(kinematics.lower, kinematics.upper)
        jacobian = kinematics.jacobian(q)
        p0, r0 = kinematics.fk(q)
        step = 1e-6
        for i in range(len(q)):
            dq = np.zeros_like(q)
            dq[i] = step
            p1, r1 = kinematics.fk(q + dq)
            spin = (r1 @ r0.T - r0 @ r1.T) / (2 * step)
            angular = np.array([spin[2, 1], spin[0, 2], spin[1, 0]])
            np.testing.assert_allclose(jacobian[:3, i], (p1 - p0) / step, atol=1e-4)
            np.testing.assert_allclose(jacobian[3:, i], angular, atol=1e-4)


def test_an_unknown_joint_or_frame_is_named() -> None:
    contract = load_contract("mobile_manipulator")
    with pytest.raises(ValueError, match="elbow"):
        Kinematics(contract.urdf, "base_link", "tool0", ["elbow"])
    with pytest.raises(ValueError, match="nowhere"):
        Kinematics(contract.urdf, "base_link", "nowhere", ["arm_joint_1"])


def test_a_wrong_number_of_positions_is_refused(kinematics: Kinematics) -> None:
    with pytest.raises(ValueError, match="joint positions"):
        kinematics.fk([0.0, 0.0])
