"""Position arrays for controllers that take no names: which number stands where, and what unmoved joints get.

A message to such a controller has a number for every joint that the controller owns. Joints of the arm follow the
servo, the gripper the last thing it was told, all others stay where they were first measured; entries that are no joint
are 0.0. Until every held joint has been measured there is no array: a made-up position would move the robot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.commands import NO_JOINT
from qt_ros.control import limits


class JointVector:
    """Arrays in the order ``layout`` (names, '-' for no joint) around the moving ``arm`` joints."""

    def __init__(self, layout: Sequence[str], arm: Sequence[str]) -> None:
        self.layout, self.arm = tuple(layout), tuple(arm)
        missing = [j for j in self.arm if j not in self.layout]
        if missing:
            raise ValueError(f"the array has no entry for {', '.join(missing)}; correct the contract's arm_joints")
        self.others = tuple(j for j in self.layout if j != NO_JOINT and j not in self.arm)
        self._held: dict[str, float] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        """Held joints whose position is not known yet."""
        return tuple(j for j in self.others if j not in self._held)

    def measure(self, positions: Mapping[str, float]) -> None:
        """Hold the joints that are no part of the arm where they are measured first."""
        for joint in self.missing:
            if joint in positions and math.isfinite(positions[joint]):
                self._held[joint] = float(positions[joint])

    def set(self, joint: str, position: float) -> None:
        """Hold ``joint`` (the gripper) at ``position`` from now on. NonFiniteError for NaN, KeyError for another."""
        if joint not in self.others:
            raise KeyError(f"the array has no entry for {joint!r} beside the arm; it has {', '.join(self.others)}")
        self._held[joint] = float(limits.finite(f"position of {joint}", position))

    def forget(self) -> None:
        """Measure anew: somebody else may have moved the joints."""
        self._held.clear()

    def array(self, arm_positions: ArrayLike) -> list[float] | None:
        """The whole array for arm joints (n,); None while a held joint is unknown. NonFiniteError for NaN."""
        if self.missing:
            return None
        moving: NDArray = limits.finite("joint targets", arm_positions, len(self.arm))
        known = {**self._held, **dict(zip(self.arm, moving.tolist(), strict=True)), NO_JOINT: 0.0}
        return [known[joint] for joint in self.layout]
