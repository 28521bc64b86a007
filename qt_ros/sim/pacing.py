"""Keeping simulated time in step with the clock on the wall, and doing things at fixed rates of simulated time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class Pacer:
    """Says how long to wait so that simulated time runs at ``factor`` times real time (0: as fast as possible).

    After a delay the simulation may run faster to catch up, but never for more than ``max_lag`` wall seconds:
    beyond that the lag is forgotten, so that a long pause is not followed by a frantic burst. ``clock`` gives wall
    seconds.
    """

    def __init__(self, factor: float, max_lag: float = 0.1, clock: Callable[[], float] = time.monotonic) -> None:
        if factor < 0:
            raise ValueError(f"real-time factor must be 0 (as fast as possible) or positive, got {factor}")
        self.factor, self.max_lag = factor, max_lag
        self.slipped = 0.0  # wall s given up in total because the machine was too slow
        self._clock = clock
        self._wall = self._sim = 0.0
        self._history: deque[tuple[float, float]] = deque()
        self.restart(0.0)

    def restart(self, sim_time: float) -> None:
        """Take ``sim_time`` (s) as being exactly on time now."""
        self._wall, self._sim = self._clock(), sim_time

    def delay(self, sim_time: float) -> float:
        """Wall seconds to wait before going past ``sim_time``; 0 when late or unpaced."""
        now = self._clock()
        self._history.append((now, sim_time))
        while now - self._history[0][0] > 5.0:
            self._history.popleft()
        if self.factor == 0:
            return 0.0
        ahead = (sim_time - self._sim) / self.factor - (now - self._wall)
        if ahead < -self.max_lag:
            self.slipped -= ahead
            self.restart(sim_time)
        return max(0.0, ahead)

    @property
    def measured(self) -> float:
        """Real-time factor over the last five wall seconds; 0 before there is anything to measure."""
        if len(self._history) < 2:
            return 0.0
        (wall_0, sim_0), (wall_1, sim_1) = self._history[0], self._history[-1]
        return (sim_1 - sim_0) / (wall_1 - wall_0) if wall_1 > wall_0 else 0.0


class Periodic:
    """Due once per ``1 / rate`` seconds on a fixed grid, without drift;

    A late caller is served once, not many times.
    """

    def __init__(self, rate: float) -> None:
        self.period = 1.0 / rate
        self._next = 0

    def due(self, now: float) -> bool:
        """True once for every grid time reached; ``now`` in s, never decreasing."""
        index = int(now / self.period + 1e-6)
        if index < self._next:
            return False
        self._next = index + 1
        return True
