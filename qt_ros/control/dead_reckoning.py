"""Where the tool may be by now: measured a moment ago, and commanded since."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class DeadReckoning:
    """Adds up commanded velocities, to ask how far the tool was sent since some time.

    Times are seconds of one clock; ``obeyed_for`` s is how long a velocity counts when no newer one follows (the
    watchdog of whoever obeys it).
    """

    def __init__(self, horizon: float = 1.0, obeyed_for: float = 0.1) -> None:
        self._horizon, self._obeyed_for = horizon, obeyed_for
        self._past: deque[tuple[float, Array]] = deque()
        self._velocity: Array = np.zeros(3)

    def advance(self, now: float) -> None:
        """Time has come to ``now``. Where the clock was set back the past goes back with it."""
        if self._past and now < (newest := self._past[-1][0]):
            self._past = deque((t + now - newest, place) for t, place in self._past)
        if not self._past:
            self._past.append((now, np.zeros(3)))
            return
        before, place = self._past[-1]
        self._past.append((now, place + self._velocity * min(now - before, self._obeyed_for)))
        while len(self._past) > 2 and self._past[1][0] < now - self._horizon:
            self._past.popleft()

    def command(self, velocity: ArrayLike) -> None:
        """``velocity`` (3,) m/s holds from the last `advance` on."""
        self._velocity = np.array(velocity, dtype=np.float64)

    def since(self, stamp: float) -> Array:
        """Displacement (3,) m commanded from ``stamp`` to the last `advance`."""
        if not self._past:
            return np.zeros(3)
        times = [t for t, _ in self._past]
        places = np.array([p for _, p in self._past])
        then = np.array([np.interp(stamp, times, places[:, axis]) for axis in range(3)])
        return np.asarray(places[-1] - then)
