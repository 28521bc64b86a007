"""95% intervals of a success rate that several training seeds gave.

Two things are uncertain: which scenes were drawn (binomial) and which seed was trained. The Wilson interval of the
pooled count knows the first only. Student's t over the seeds' rates knows both, but with three seeds by chance may come
out far too narrow. What is reported reaches from the lower of the two lower ends to the higher of the two upper ends:
at least as wide as either, so it covers at least as often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qt_ros.sim.evaluation import wilson

T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, 0.975 quantile, for 1 to 30 degrees of freedom."""


@dataclass(frozen=True)
class Pooled:
    """Successes of all seeds. ``low`` .. ``high``: what is reported; ``wilson``: of the pooled count; ``seeds``: of
    Student's t over the seeds' rates (None with one seed); ``worst``, ``best``: the seeds' rates."""

    successes: int
    episodes: int
    low: float
    high: float
    wilson: tuple[float, float]
    seeds: tuple[float, float] | None
    worst: float
    best: float

    @property
    def rate(self) -> float:
        return self.successes / self.episodes


def seed_interval(rates: Sequence[float]) -> tuple[float, float] | None:
    """Mean of the seeds' rates plus and minus Student's t times its standard error, within [0, 1]; None for one."""
    count = len(rates)
    if count < 2:
        return None
    mean = sum(rates) / count
    variance = sum((rate - mean) ** 2 for rate in rates) / (count - 1)
    quantile = T_QUANTILES[min(count - 1, len(T_QUANTILES)) - 1]
    half = quantile * math.sqrt(variance / count)
    return max(0.0, mean - half), min(1.0, mean + half)


def pooled(counts: Sequence[tuple[int, int]]) -> Pooled:
    """Of (successes, episodes) per seed. ValueError without any episode."""
    counts = [(good, total) for good, total in counts if total]
    if not counts:
        raise ValueError("no episodes to make an interval of")
    good, total = sum(g for g, _ in counts), sum(n for _, n in counts)
    rates = [g / n for g, n in counts]
    binomial, between = wilson(good, total), seed_interval(rates)
    low, high = binomial if between is None else (min(binomial[0], between[0]), max(binomial[1], between[1]))
    return Pooled(good, total, low, high, binomial, between, min(rates), max(rates))
