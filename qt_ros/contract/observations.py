"""What the policy sees: the one image resize, and the proprioception vector, the same live and from bags."""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract

PROPRIOCEPTION_NAMES = (
    "tool_x", "tool_y", "tool_z", "rot_00", "rot_10", "rot_20", "rot_01", "rot_11", "rot_21", "gripper_closedness",
)  # fmt: skip


def resize_rgb(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (height, width, 3) uint8 by area averaging; the aspect ratio is stretched if it differs.

    Every image the policy sees, live or offline, passes here exactly once. Raises ValueError on another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 RGB image, found shape {image.shape} dtype {image.dtype}")
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


class Proprioception:
    """Joint positions -> the state vector that goes with every frame.

    P = 10: tool position in the base frame scaled so that the workspace box of the contract is [-1, 1], the first two
    columns of the tool's rotation (the continuous 6D representation, Zhou et al. 2019), and the gripper's closedness (0
    open, 1 closed; negative or above 1 possible where the hardware overshoots).
    """

    names = PROPRIOCEPTION_NAMES
    size = len(PROPRIOCEPTION_NAMES)

    def __init__(self, contract: RobotContract) -> None:
        spec = contract.kinematics
        self._spec = spec
        self._held = [j for j in spec.home if j not in spec.arm_joints and j != spec.gripper_joint]
        joints = (*spec.arm_joints, *self._held)
        self.kinematics = Kinematics(contract.urdf, spec.base_frame, spec.tool_frame, joints, fixed=spec.home)
        low, high = np.array(contract.limits.workspace_low), np.array(contract.limits.workspace_high)
        self._centre, self._half = (low + high) / 2, (high - low) / 2

    def encode(self, joint_positions: Mapping[str, float]) -> NDArray[np.float32]:
        """{joint: rad or m} -> (P,) float32.

        Other joints of the contract's home (a lift, say) enter where they are reported and are taken to be at home
        where not. Raises ValueError naming a joint that is missing or not finite.
        """
        needed = (*self._spec.arm_joints, self._spec.gripper_joint)
        missing = [j for j in needed if j not in joint_positions]
        if missing:
            raise ValueError(f"joint state lacks {', '.join(missing)}; check the joint names in the contract")
        held = [joint_positions.get(j, self._spec.home[j]) for j in self._held]
        bad = [j for j in needed if not math.isfinite(joint_positions[j])]
        bad += [j for j, position in zip(self._held, held, strict=True) if not math.isfinite(position)]
        if bad:
            raise ValueError(f"joint position is not finite for {', '.join(bad)}")
        position, rotation = self.kinematics.fk([*(joint_positions[j] for j in self._spec.arm_joints), *held])
        closedness = self._spec.closedness(joint_positions[self._spec.gripper_joint])
        scaled = (position - self._centre) / self._half
        return np.concatenate([scaled, rotation[:, 0], rotation[:, 1], [closedness]]).astype(np.float32)
