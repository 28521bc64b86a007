"""What a stop does to a gripper: one that travels is held where it is, one that stands keeps its last command.

A gripper under position control presses on an object because it is told to go further than the object lets it. The
position where it stands, as a command, would let the object go; the last command while it still travels would close it
on whatever comes between. So a stop needs to know which of the two it is. Nothing but positions is asked of the robot.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from qt_ros.contract.robot import RobotContract

ARRIVED = 0.01  # of the way from open to closed: as close to its goal as that, a gripper has arrived
RESTS = 0.15  # s in which a gripper that stands comes less than `ARRIVED` closer to its goal
BEGINS = 0.5  # s that may pass from a command to the first motion (of a gripper behind a slow bus)
SURE = 0.05  # of the way: short of its goal by more than that, one that stands is stopped by something
AWAY = 0.1  # of the way: so far back is no noise; somebody opened it
KNOWN = 1.0  # s: where a gripper was measured longer ago, by the clock and by the wall, says nothing about where it is


class GripperHold:
    """Follows what the gripper joint is sent and where it is measured (m or rad, s of one clock, all passed in).

    ``wall``: seconds of a clock that never jumps. A clock that leaps forward makes no measurement old.
    """

    def __init__(self, contract: RobotContract, wall: Callable[[], float] = time.monotonic) -> None:
        spec = contract.kinematics
        way = abs(spec.gripper_closed - spec.gripper_open)
        self._near, self._sure, self._away = ARRIVED * way, SURE * way, AWAY * way
        self._goal, self._wall, self._received = math.nan, wall, -math.inf
        self.forget()

    def forget(self) -> None:
        """Where it was measured belongs to another run of the clock."""
        self._position, self._stamp = math.nan, -math.inf
        self._stopped = (0, math.nan)  # to which side it could not go on, and where
        self._begin(-math.inf)

    def _begin(self, asked_at: float) -> None:
        """It was first asked to go to this side of where it is at ``asked_at``; nothing is known of its motion."""
        self._asked_at, self._moves, self._moved = asked_at, False, False
        # Since when it has been how far on its way, the furthest ever: the last of `RESTS`, and what was before it.
        self._furthest: deque[tuple[float, float]] = deque()
        if self.known:
            self._furthest.append((self._stamp, self._position))

    def sent(self, position: float, now: float) -> None:
        """The gripper was told to go to ``position``."""
        side = self._side(position)
        if math.isnan(self._goal) or side != self._side(self._goal):
            stands = side != 0 and side == self._stopped[0]  # as it did before a goal that passed by: nothing begins
            self._begin(-math.inf if stands else now)
        self._goal = position

    def measured(self, position: float, stamp: float) -> None:
        """The gripper was at ``position`` at ``stamp``. Overtaken measurements are dropped; a clock set back starts
        anew.

        Only what brings it closer to its goal than it ever was is motion: a noisy encoder, or one that drifts to and
        fro, comes to an end of that, a gripper on its way does not. One that was moved away by `AWAY` begins there.
        """
        if stamp < self._stamp - KNOWN:
            self.forget()
        if stamp < self._stamp:
            return
        self._position, self._stamp, self._received = position, stamp, self._wall()
        way = self._furthest
        if way and abs(position - way[-1][1]) > self._away and not self._closer(position, way[-1][1]):
            way.clear()
        if not way or self._closer(position, way[-1][1]):
            way.append((stamp, position))
        while len(way) > 1 and way[1][0] <= stamp - RESTS:
            way.popleft()
        self._moves = abs(way[-1][1] - way[0][1]) > self._near
        self._moved |= self._moves
        if abs(self._goal - position) > self._sure and not self.travels(stamp):
            self._stopped = (self._side(self._goal), position)
        elif abs(position - self._stopped[1]) > self._sure:
            self._stopped = (0, math.nan)

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
        return self._moves or (not self._moved and self._stamp - self._asked_at < BEGINS)

    def stop(self, now: float) -> float | None:
        """Where to send the gripper at a stop: the position where it was measured; None: leave it as it is."""
        if not self.travels(now):
            return None
        self._goal = self._position
        return self._position

    def _closer(self, position: float, than: float) -> bool:
        """Whether ``position`` lies between ``than`` and the goal."""
        return (position - than) * (self._goal - position) > 0.0

    def _side(self, goal: float) -> int:
        """To which side of where it is ``goal`` lies; 0: where it is, or nobody knows."""
        away = goal - self._position
        return 0 if not abs(away) > self._near else int(math.copysign(1.0, away))
