"""What the policy sees: the one image resize, and the proprioception vector, the same live and from bags."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

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


def newest_positions(
    newest_first: Iterable[tuple[float, Mapping[str, float]]], joints: Sequence[str], not_before: float
) -> dict[str, float]:
    """The alignment ``as_of``, live and offline: of every joint the newest position that is not too old.

    ``newest_first``: (stamp, positions) from the asked time backwards, each with any subset of the joints (arm and
    gripper may have drivers of their own). Joints with nothing at or after ``not_before`` are left out.
    """
    found: dict[str, float] = {}
    for stamp, positions in newest_first:
        if stamp < not_before:
            break
        for joint in joints:
            if joint in positions:
                found.setdefault(joint, positions[joint])
        if len(found) == len(joints):
            break
    return found


def observed_joints(contract: RobotContract) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The joints that a policy's state is made of: those that must be known, and those that are at home if unknown."""
    spec = contract.kinematics
    needed = (*spec.arm_joints, spec.gripper_joint) if spec.gripper_joint else spec.arm_joints
    return needed, tuple(j for j in spec.home if j not in needed)


class Proprioception:
    """Joint positions -> the state vector that goes with every frame.

    P = 10: tool position in the base frame scaled so that the workspace box of the contract is [-1, 1], the first two
    columns of the tool's rotation (the continuous 6D representation, Zhou et al. 2019), and the gripper's closedness (0
    open, 1 closed; negative or above 1 possible where the hardware overshoots; 0 of a robot without a gripper).

    ``joints`` must be given to it. ``optional_joints``, the others of the contract's home (a lift, say), enter where
    they are reported and are taken to be at home where not.
    """

    names = PROPRIOCEPTION_NAMES
    size = len(PROPRIOCEPTION_NAMES)

    def __init__(self, contract: RobotContract) -> None:
        spec = contract.kinematics
        self._spec = spec
        self.joints, self.optional_joints = observed_joints(contract)
        joints = (*spec.arm_joints, *self.optional_joints)
        self.kinematics = Kinematics.of(contract, joints)
        low, high = np.array(contract.limits.workspace_low), np.array(contract.limits.workspace_high)
        self._centre, self._half = (low + high) / 2, (high - low) / 2

    def encode(self, joint_positions: Mapping[str, float]) -> NDArray[np.float32]:
        """{joint: rad or m} -> (P,) float32.

        Raises ValueError naming a joint that is missing or not finite.
        """
        missing = [j for j in self.joints if j not in joint_positions]
        if missing:
            raise ValueError(f"joint state lacks {', '.join(missing)}; check the joint names in the contract")
        position, rotation = self.tool(joint_positions)
        scaled = (position - self._centre) / self._half
        closedness = 0.0
        if joint := self._spec.gripper_joint:
            if not math.isfinite(joint_positions[joint]):
                raise ValueError(f"joint position is not finite for {joint}")
            closedness = self._spec.closedness(joint_positions[joint])
        return np.concatenate([scaled, rotation[:, 0], rotation[:, 1], [closedness]]).astype(np.float32)

    def tool(self, joint_positions: Mapping[str, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """{joint: rad or m} -> tool position (3,) m and rotation (3, 3) in the base frame; errors as in `encode`."""
        held = {j: joint_positions.get(j, self._spec.home[j]) for j in self.optional_joints}
        moved = {j: joint_positions[j] for j in self._spec.arm_joints}
        bad = [j for j, position in (*moved.items(), *held.items()) if not math.isfinite(position)]
        if bad:
            raise ValueError(f"joint position is not finite for {', '.join(bad)}")
        return self.kinematics.fk([*moved.values(), *held.values()])
