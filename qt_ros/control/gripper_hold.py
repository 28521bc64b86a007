"""What a stop does to a gripper: one that travels is held where it is, one that stands keeps its last command.

A gripper under position control presses on an object because it is told to go further than the object lets it. The
position where it stands, as a command, would let the object go; the last command while it still travels would close it
on whatever comes between. So a stop needs to know which of the two it is. Nothing but positions is asked of the robot.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from qt_ros.contract.robot import RobotContract

ARRIVED = 0.01  # of the way from open to closed: as close to its goal as that, a gripper has arrived
RESTS = 0.15  # s in which a gripper that stands moves less than `ARRIVED`
BEGINS = 0.5  # s that may pass from a command to the first motion (of a gripper behind a slow bus)
KNOWN = 1.0  # s: where a gripper was measured longer ago, by the clock and by the wall, says nothing about where it is


class GripperHold:
    """Follows what the gripper joint is sent and where it is measured (m or rad, s of one clock, all passed in).

    ``wall``: seconds of a clock that never jumps. A clock that leaps forward makes no measurement old.
    """

    def __init__(self, contract: RobotContract, wall: Callable[[], float] = time.monotonic) -> None:
        spec = contract.kinematics
        self._near = ARRIVED * abs(spec.gripper_closed - spec.gripper_open)
        self._goal, self._wall, self._received = math.nan, wall, -math.inf
        self.forget()

    def forget(self) -> None:
        """Where it was measured belongs to another run of the clock."""
        self._position = self._anchor = math.nan
        self._stamp = self._moved_at = -math.inf
        self._asked_at = -math.inf  # when it was first asked to go to this side of where it is

    def sent(self, position: float, now: float) -> None:
        """The gripper was told to go to ``position``."""
        if math.isnan(self._goal) or self._side(position) != self._side(self._goal):
            self._asked_at = now
        self._goal = position

    def measured(self, position: float, stamp: float) -> None:
        """The gripper was at ``position`` at ``stamp``. Overtaken measurements are dropped; a clock set back starts
        anew."""
        if stamp < self._stamp - KNOWN:
            self.forget()
        if stamp < self._stamp:
            return
        self._position, self._stamp, self._received = position, stamp, self._wall()
        if not abs(position - self._anchor) <= self._near:
            self._anchor, self._moved_at = position, stamp

    @property
    def known(self) -> bool:
        """Whether it was measured at all."""
        return not math.isnan(self._position)

    def travels(self, now: float) -> bool:
        """Whether it is on its way, or may be about to begin, to where it was sent; False where nobody knows."""
        old = min(now - self._stamp, self._wall() - self._received) > KNOWN
        if not self.known or math.isnan(self._goal) or old:
            return False
        if abs(self._goal - self._position) <= self._near:
            return False
        rests = RESTS if self._moved_at >= self._asked_at else BEGINS
        return self._stamp - max(self._moved_at, self._asked_at) < rests

    def stop(self, now: float) -> float | None:
        """Where to send the gripper at a stop: the position where it was measured; None: leave it as it is."""
        if not self.travels(now):
            return None
        self._goal = self._position
        return self._position

    def _side(self, goal: float) -> int:
        """To which side of where it is ``goal`` lies; 0: where it is, or nobody knows."""
        away = goal - self._position
        return 0 if not abs(away) > self._near else int(math.copysign(1.0, away))
