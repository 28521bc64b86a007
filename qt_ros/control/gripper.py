"""Bounds on the gripper: how far it may open and close, and how hard it may press."""

from __future__ import annotations

import math

from qt_ros.contract.robot import ConfigError, RobotContract

_CLOSING = 1e-6  # of the way from open to closed: less than that is not closing


class GripperLimits:
    """Turns a closedness into a gripper joint position (m or rad) within the contract's width and force.

    Width: between ``gripper_open`` and ``gripper_closed``, narrowed by the limits ``gripper_low`` and ``gripper_high``.
    Force: where the contract has ``gripper_force``, closing ends at the measured position once the measured effort is
    that large; a robot that does not measure it is not closed at all (ValueError).
    """

    def __init__(self, contract: RobotContract) -> None:
        spec, bound = contract.kinematics, contract.limits
        self._spec, self.force = spec, bound.gripper_force
        low, high = sorted((spec.gripper_open, spec.gripper_closed))
        self.low = low if bound.gripper_low is None else max(low, bound.gripper_low)
        self.high = high if bound.gripper_high is None else min(high, bound.gripper_high)
        if self.low > self.high:
            raise ConfigError(
                f"limits: gripper_low and gripper_high leave nothing between {low} and {high}; widen them"
            )
        self.joint = spec.gripper_joint
        self._position = self._effort = math.nan
        self._held: float | None = None

    def measure(self, position: float | None, effort: float | None) -> None:
        """The newest measurement of the gripper joint; None: not reported."""
        self._position = math.nan if position is None else position
        self._effort = math.nan if effort is None else effort

    def release(self) -> None:
        """Forget where closing ended: a new episode."""
        self._held = None

    def clip(self, position: float) -> float:
        """``position`` (m or rad) within the width. ValueError for NaN and infinity: they mean nothing."""
        if not math.isfinite(position):
            raise ValueError(f"position of {self.joint} is {position}; nothing is sent to the gripper")
        return self._bounded(position)

    def position(self, closedness: float) -> float:
        """Where to send the gripper joint for ``closedness`` (0 open .. 1 closed).

        ValueError when closing needs a force that the robot does not report.
        """
        wanted = self._bounded(self._spec.gripper_position(closedness))
        if self.force is None:
            return wanted
        if math.isnan(self._position):
            raise ValueError(f"joint states carry no position of {self.joint}, which the limit gripper_force needs")
        if self._closer(wanted, self._position) and math.isnan(self._effort):
            raise ValueError(f"joint states carry no effort of {self.joint}, which the limit gripper_force needs")
        if self._held is None and abs(self._effort) >= self.force:
            self._held = self._bounded(self._position)
        if self._held is None or not self._closer(wanted, self._held):
            self._held = None  # it opens, or may close
            return wanted
        return self._held

    def _bounded(self, position: float) -> float:
        return min(max(position, self.low), self.high)

    def _closer(self, a: float, b: float) -> bool:
        return self._spec.closedness(a) > self._spec.closedness(b) + _CLOSING
