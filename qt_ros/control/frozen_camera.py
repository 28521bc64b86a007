"""A camera that shows the same picture again and again under fresh stamps, as drivers do whose device hangs.

Two pictures of a real camera are never the same, byte for byte: its sensor has noise. So one that stays the same while
the robot moves is from before. While the robot stands nothing is said, for some drivers compress noise away. A
simulated camera has no noise, and an arm out of its sight changes nothing in its pictures: do not use it there.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract

MOVED = 0.03  # m of the tool as measured, or of the base as commanded: no standing robot
LEVER = 0.5  # m: how far what is looked at is from the axis about which the base turns


class FrozenCamera:
    """Looks at the pictures that the policy uses, with the joints measured at their stamps."""

    def __init__(self, contract: RobotContract) -> None:
        spec, names = contract.kinematics, contract.action_space.names
        self._camera = contract.observation("image")
        self._base = [(names.index(n), by) for n, by in (("base_forward", 1.0), ("base_turn", LEVER)) if n in names]
        self._home, self._joints = spec.home, (*spec.arm_joints, *spec.carriers)
        self._kinematics = Kinematics.of(contract, self._joints) if self._camera.on_stale == "stop" else None
        self.forget()

    def forget(self) -> None:
        """A new episode."""
        self._driven = 0.0  # m of the base since that picture came first
        self._seen: tuple[int, float, NDArray[np.float64]] | None = None

    def look(self, image: NDArray[np.uint8], positions: Mapping[str, float], stamp: float) -> str:
        """What is wrong with ``image`` (H, W, 3), stamped ``stamp`` s; '' when nothing is. ``positions``: rad or m."""
        if self._kinematics is None:
            return ""
        content = zlib.crc32(np.ascontiguousarray(image).data)
        tool = self._kinematics.fk([positions.get(j, self._home[j]) for j in self._joints])[0]
        if self._seen is None or content != self._seen[0]:
            self._seen, self._driven = (content, stamp, tool), 0.0
            return ""
        age, moved = stamp - self._seen[1], max(float(np.linalg.norm(tool - self._seen[2])), self._driven)
        if age <= self._camera.max_age or moved <= MOVED:
            return ""
        return f"the same picture for {age:.2f} s under new stamps while the robot moved {moved:.2f} m; is it frozen?"

    def drive(self, values: NDArray[np.float64]) -> None:
        """The base was sent where the action ``values`` (D,) says; call it only where commands are executed."""
        self._driven += sum(by * abs(float(values[i])) for i, by in self._base)
