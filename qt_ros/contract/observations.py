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
HELD_TOLERANCE = 0.02
"""How far (rad or m) a joint that is taken to stay at home may be away from it."""


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

    P = 10: tool position in the base frame scaled so that the workspace box of the contract is [-1, 1], the first two columns
    of the tool's rotation (the continuous 6D representation, Zhou et al. 2019), and the gripper's closedness (0 open, 1
    closed; negative or above 1 possible where the hardware overshoots).
    """

    names = PROPRIOCEPTION_NAMES
    size = len(PROPRIOCEPTION_NAMES)

    def __init__(self, contract: RobotContract) -> None:
        spec = contract.kinematics
        self._spec = spec
        self.kinematics = Kinematics(contract.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=spec.home)
        self._held = [j for j in spec.home if j not in spec.arm_joints and j != spec.gripper_joint]
        low, high = np.array(contract.limits.workspace_low), np.array(contract.limits.workspace_high)
        self._centre, self._half = (low + high) / 2, (high - low) / 2

    def encode(self, joint_positions: Mapping[str, float]) -> NDArray[np.float32]:
        """{joint: rad or m} -> (P,) float32.

        Raises ValueError naming a joint that is missing or not finite, or one outside the arm (a lift, say) that is reported
        away from the home position it is taken to keep: the tool position would be wrong without a sign of it.
        """
        needed = (*self._spec.arm_joints, self._spec.gripper_joint)
        missing = [j for j in needed if j not in joint_positions]
        if missing:
            raise ValueError(f"joint state lacks {', '.join(missing)}; check the joint names in the contract")
        bad = [j for j in needed if not math.isfinite(joint_positions[j])]
        if bad:
            raise ValueError(f"joint position is not finite for {', '.join(bad)}")
        moved = [j for j in self._held if abs(joint_positions.get(j, self._spec.home[j]) - self._spec.home[j]) > HELD_TOLERANCE]
        if moved:
            raise ValueError(f"{', '.join(moved)} left the home position of the contract; bring it back or make it an arm joint")
        position, rotation = self.kinematics.fk([joint_positions[j] for j in self._spec.arm_joints])
        closedness = self._spec.closedness(joint_positions[self._spec.gripper_joint])
        scaled = (position - self._centre) / self._half
        return np.concatenate([scaled, rotation[:, 0], rotation[:, 1], [closedness]]).astype(np.float32)
