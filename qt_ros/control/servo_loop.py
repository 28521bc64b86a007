"""When the servo moves: a fresh twist in the right frame, fresh joints; otherwise the arm holds.

The rules of servo_node without ROS, around `Servo`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.robot import RobotContract
from qt_ros.control import limits
from qt_ros.control.servo import Servo

# s without any twist or rest: somebody else may move the arm now, so start from the measured joints again
_FORGET_AFTER = 0.5


@dataclass(frozen=True)
class Setpoint:
    """Joint targets (n,) in rad or m and their velocities (n,) per second, in the order of `ServoLoop.joints`."""

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


class ServoLoop:
    """Twists and joint states in as they come, a setpoint out per `tick`, or None when there is nothing to send.

    A twist counts for ``twist_timeout`` s from its stamp and from its receipt. When motion ends, one last setpoint
    holds the arm; after that the arm's controller holds by itself. ``problem`` tells why motion is refused, else ''.
    All times are seconds of one clock, passed in.
    """

    def __init__(self, contract: RobotContract, twist_timeout: float = 0.1) -> None:
        self.servo = Servo(contract)
        self.joints = self.servo.joints
        self.frame = contract.kinematics.base_frame
        self.twist_timeout = twist_timeout
        self.joint_max_age = contract.observation("joint_state").max_age
        self._joint_topic = contract.observation("joint_state").topic
        self._period = 1.0 / contract.command_rate
        self.problem = ""
        self.forget()

    def forget(self) -> None:
        """Start anew: no twist, no joints, not moving."""
        self._twist: NDArray[np.float64] = np.zeros(6)
        self._stamp = self._received = self._rested = -math.inf
        self._measured: dict[str, float] | None = None
        self._carried: dict[str, float] = {}
        self._measured_stamp = -math.inf
        self._last_tick: float | None = None
        self._engaged = self._moving = False
        self.problem = ""

    @property
    def moving(self) -> bool:
        """True while setpoints of a motion are given out."""
        return self._moving

    @property
    def blocked(self) -> bool:
        """True when the arm does not follow, pushing against something."""
        return self._moving and self.servo.blocked

    def offer_twist(self, frame: str, twist: ArrayLike, stamp: float, now: float) -> None:
        """Take a twist (6,) linear m/s, angular rad/s.

        Out of order ones are dropped. ValueError for another frame, a stamp that is too old or from the future, and
        NaN (`NonFiniteError`); the arm then holds.
        """
        try:
            if frame != self.frame:
                raise ValueError(f"twist in frame {frame!r}; expected {self.frame!r}")
            vector = limits.finite("twist", twist, 6)
            age = now - float(limits.finite("twist stamp", stamp))
            if abs(age) > self.twist_timeout:
                raise ValueError(f"twist is {age:.3f} s old, limit {self.twist_timeout:g} s; stamp it when it is sent")
        except ValueError:
            self._twist = np.zeros(6)
            raise
        if stamp >= self._stamp:
            self._twist, self._stamp, self._received = vector, stamp, now

    def offer_joints(self, positions: Mapping[str, float], stamp: float) -> None:
        """Take measured joint positions (rad or m); those overtaken are dropped. ValueError when one is missing.

        A message without any of them comes from another driver (gripper, wheels) and is passed over.
        """
        self._carried.update({j: positions[j] for j in self.servo.carriers if j in positions})
        if not any(j in positions for j in self.joints):
            return
        missing = [j for j in self.joints if j not in positions]
        if missing:
            raise ValueError(f"joint state lacks {', '.join(missing)}; check the joint names in the contract")
        if stamp >= self._measured_stamp:
            self._measured, self._measured_stamp = {j: positions[j] for j in self.joints}, stamp

    def stop(self) -> Setpoint | None:
        """Drop the twist in force; the setpoint that holds the arm, None when it was not moving."""
        self._twist = np.zeros(6)
        return self._hold()

    def resting(self, now: float) -> Setpoint | None:
        """The setpoint that keeps the arm where it is; None while nobody knows where that is.

        Measured once: a controller stands a little off its targets, and sent there again and again the arm would creep.
        """
        if self._measured is None or now - self._measured_stamp > self.joint_max_age:
            return None
        if not self._engaged or now - self._last_sign() > _FORGET_AFTER or self.servo.far_from(self._measured):
            self.servo.reset({**self._measured, **self._carried})
            self._engaged = True
        self._rested = now
        return Setpoint(self.servo.positions, np.zeros(len(self.joints)))

    def _last_sign(self) -> float:
        """When somebody last had the arm moved or held by us; s."""
        return max(min(self._received, self._stamp), self._rested)

    def tick(self, now: float) -> Setpoint | None:
        """The setpoint for ``now``; call it at the command rate."""
        dt = self._period if self._last_tick is None else min(now - self._last_tick, 2.0 * self._period)
        self._last_tick = now
        if dt < 0.0:  # a new run of a simulated clock
            self.forget()
            return None
        age = now - self._measured_stamp
        if self._measured is None or abs(age) > self.joint_max_age:
            known = "nothing yet" if self._measured is None else f"nothing for {age:.2f} s"
            if age < 0.0 and self._measured is not None:
                known = f"stamped {-age:.2f} s in the future"
            self.problem = f"{self._joint_topic}: {known}, limit {self.joint_max_age:g} s; published, by this clock?"
            self._measured, self._measured_stamp = None, -math.inf  # a stamp from the future must not hold others up
            self._engaged = self._moving = False  # where the arm is, nobody knows: its controller holds by itself
            return None
        self.problem = ""
        silence = now - min(self._received, self._stamp)
        twist = self._twist if silence <= self.twist_timeout else np.zeros(6)
        if not twist.any():
            if now - self._last_sign() > _FORGET_AFTER or (self._engaged and self.servo.far_from(self._measured)):
                self._engaged = False
            return self._hold()
        measured = {**self._measured, **self._carried}
        if not self._engaged:
            self.servo.reset(measured)
            self._engaged = True
        if dt == 0.0:
            return None
        before = self.servo.positions
        targets = self.servo.tick(twist, dt, measured)
        self._moving = True
        return Setpoint(targets, (targets - before) / dt)

    def _hold(self) -> Setpoint | None:
        was, self._moving = self._moving, False
        return Setpoint(self.servo.positions, np.zeros(len(self.joints))) if was else None
