"""Whether a robot moves although no policy acts any more: motion held against the stamps of the actions behind it.

Everything is told by its own stamp, so neither a slow machine nor a message that overtakes another one changes the
verdict. Plain numbers in, sentences out; no ROS.
"""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

AHEAD = 0.05  # s by which an action may be stamped later than a motion that it caused: the clocks of two nodes
ABOUT = 0.25  # s: a step of the stamps so close to the one that was ordered is it
LATE = 2.0  # s on the wall for an action to be heard that was overtaken by its effect
NEW_RUN = 5.0  # s: an action so much older than the last one is from a simulation that began anew
HELD = 200  # actions and motions that are remembered
SAID = 0.5  # s: what is said again within that went on in between


class MotionJudge:
    """Motion is allowed for ``allowed`` s after the stamp of an action; ``brakes`` s after a jump of the clock.

    Feed it every message of one stream of commands or measurements with `saw`, and every action that was heard with
    `acted`. ``longest`` is the longest time in s between an action and motion that was explained by nothing newer. A
    clock that goes back is a new run of time: what was before says nothing any more, and what moves may brake. So it
    is with one that leaps forward as ``ordered`` (s) says; any other gap is just a gap.

    Commands are held against what their node says of itself too, where `stopped` and `freed` tell it, again and again:
    whoever is stopped, and says so later still, stands soon, however young the last action is.
    """

    def __init__(self, what: str, allowed: float, brakes: float) -> None:
        self.what, self.allowed, self.brakes = what, allowed, brakes
        self.ordered = 0.0
        self.longest = 0.0
        self.heard = 0  # messages: a stream that was not heard is not judged
        self._actions: deque[float] = deque(maxlen=HELD)  # in this run of time
        self.states_heard = 0
        self._stop: tuple[float, float] | None = None  # since when it says that it is stopped, and said so last
        self._moved: deque[float] = deque(maxlen=HELD)  # motion since it was heard of last
        self._late: list[float] = []  # s by which motion was later than a stop allows
        self._last: float | None = None
        self._excused = float("-inf")  # braking after a jump: until then
        self._how = ""  # of the newest motion not explained
        self._open: list[tuple[float, float, bool]] = []  # (stamp, heard on the wall at, passive), not explained yet
        self._passive: list[str] = []

    def acted(self, observed: float) -> None:
        """An action, computed from what was seen at ``observed`` s, was heard by whoever commands the robot."""
        if self._actions and observed < self._actions[-1] - NEW_RUN:
            self._actions.clear()
        self._actions.append(observed)
        self._settle()  # now: what it explains may have been heard just before, and a jump forgets it

    def stopped(self, stamp: float, within: float) -> None:
        """Whoever commands this says at ``stamp`` s that it is stopped; it may brake for ``within`` s."""
        self.states_heard += 1
        began = stamp if self._stop is None or not 0.0 <= stamp - self._stop[1] <= SAID else self._stop[0]
        self._stop = (began, stamp)
        self._late += [m - began - within for m in self._moved if began + within < m <= stamp]
        self._moved = deque((m for m in self._moved if m > stamp), HELD)

    def freed(self) -> None:
        """Whoever commands this says that it is not stopped."""
        self.states_heard += 1
        self._forget_stop()

    def saw(self, stamp: float, moving: bool, how: str = "", passive: bool = False) -> None:
        """A command or measurement of ``stamp`` s, of something that moves or stands; ``how`` it moves, in words.

        ``passive``: no controller was told anything new for so long that what moves there gives way to a load.
        """
        self.heard += 1
        last, self._last = self._last, stamp
        if last is not None and self._jumped(stamp - last):
            self._actions.clear()
            self._excused = stamp + self.brakes
            self._forget_stop()
        if moving:
            self._moved.append(stamp)
        if moving and stamp > self._excused and not self._explained(stamp):
            self._open.append((stamp, time.monotonic(), passive))
            self._how = how

    def excuse(self, stamp: float) -> None:
        """Whoever commands it noticed at ``stamp`` only that time began anew, and brakes from there."""
        self._excused = max(self._excused, stamp + self.brakes)

    def settled(self) -> bool:
        """Whether every motion is explained, or will not be any more."""
        self._settle()
        return all(time.monotonic() - heard > LATE for _, heard, _ in self._open)

    def problems(self) -> list[str]:
        """What nobody explained, in one sentence; call it when `settled`. Forgets it."""
        self.settled()
        wrong = [s for s, _, passive in self._open if not passive]
        if gives_way := len(self._open) - len(wrong):
            self._passive.append(f"{self.what}: {gives_way} times; the newest: {self._how}")
        self._open = []
        late, self._late = self._late, []
        told = []
        if late:
            told = [f"{self.what}: still moves though its commander says stopped, {max(late):.2f} s later than allowed"]
        if not wrong:
            return told
        before = [a for a in self._actions if a <= wrong[-1] + AHEAD]
        since = f"{wrong[-1] - max(before):.2f} s after the last action" if before else "without any action"
        if before:
            self.longest = max(self.longest, wrong[-1] - max(before))
        how = f"; the newest: {self._how}" if self._how else ""
        return [*told, f"{self.what}: still moves {since} (limit {self.allowed:.2f} s), {len(wrong)} times{how}"]

    def passive(self) -> list[str]:
        """Motion that nobody commanded, in one sentence; call it after `problems`. Forgets it."""
        told, self._passive = self._passive, []
        return told

    def _jumped(self, step: float) -> bool:
        return step < 0.0 or (self.ordered > ABOUT and abs(step - self.ordered) < ABOUT)

    def _settle(self) -> None:
        self._open = [motion for motion in self._open if not self._explained(motion[0])]

    def _forget_stop(self) -> None:
        self._stop = None
        self._moved.clear()

    def _explained(self, stamp: float) -> bool:
        newest = max((a for a in self._actions if a <= stamp + AHEAD), default=None)
        if newest is None or stamp - newest > self.allowed:
            return False
        self.longest = max(self.longest, stamp - newest)
        return True


def too_sudden(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    elapsed: float,
    speed: float,
    acceleration: float,
    brake_time: float,
) -> str:
    """What is wrong with a change of velocity (n,), m/s or rad/s, within ``elapsed`` s; '' when nothing is.

    Whatever gets slower may brake, from ``speed`` to standing within ``brake_time`` s, and may stand at once (an
    emergency stop); all else keeps to ``acceleration``.
    """
    change = float(np.linalg.norm(after - before))
    slower = bool(np.linalg.norm(after) <= np.linalg.norm(before))
    hardest = max(acceleration, speed / brake_time) if slower else acceleration
    if not after.any() or change <= hardest * elapsed * 1.001 + 1e-6:
        return ""
    return f"changed by {change:.3f} in {elapsed:.3f} s, limit {hardest:.2f} per s"
