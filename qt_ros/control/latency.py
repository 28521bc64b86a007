"""Latency of a repeated step as median and 95th percentile, warm-up left out."""

from __future__ import annotations

import math
from collections import deque

import numpy as np


class LatencyTracker:
    """The last `window` latencies in milliseconds, without the first `warm_up` after each `reset`.

    The first calls of a network pay for memory and code that later calls find ready; one such number would own the
    95th percentile of a whole episode.
    """

    def __init__(self, warm_up: int = 1, window: int = 1000) -> None:
        if warm_up < 0 or window < 1:
            raise ValueError(f"warm_up must be >= 0 and window >= 1, got {warm_up} and {window}")
        self.warm_up = warm_up
        self._samples: deque[float] = deque(maxlen=window)
        self._skip = warm_up

    def reset(self, warm_up: int | None = None) -> None:
        """Forget all samples; the next `warm_up` ones (default: as constructed) are not counted."""
        self._samples.clear()
        self._skip = self.warm_up if warm_up is None else warm_up

    def add(self, milliseconds: float) -> None:
        """Count one latency in ms; ValueError for a negative or non-finite one."""
        if not (math.isfinite(milliseconds) and milliseconds >= 0.0):
            raise ValueError(f"a latency must be a finite number of milliseconds >= 0, got {milliseconds}")
        if self._skip > 0:
            self._skip -= 1
            return
        self._samples.append(milliseconds)

    def __len__(self) -> int:
        return len(self._samples)

    def percentile(self, q: float) -> float:
        """The `q`-th percentile (0..100) in ms by linear interpolation; NaN while there is no sample."""
        return float(np.percentile(np.fromiter(self._samples, dtype=np.float64), q)) if self._samples else math.nan

    @property
    def p50(self) -> float:
        """Median in ms; NaN while there is no sample."""
        return self.percentile(50.0)

    @property
    def p95(self) -> float:
        """95th percentile in ms; NaN while there is no sample."""
        return self.percentile(95.0)
