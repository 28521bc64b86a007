"""95% intervals of a success rate that several training seeds gave.

Two things are uncertain: which scenes were drawn (binomial) and which seed was trained. The Wilson interval of the
pooled count knows the first only. Student's t over the seeds' rates knows both, but with three seeds by chance may come
out far too narrow. What is reported reaches from the lower of the two lower ends to the higher of the two upper ends:
at least as wide as either, so it covers at least as often.

An average over skills counts every skill alike, however many scenes it had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qt_ros.sim.evaluation import wilson

T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, 0.975 quantile, for 1 to 30 degrees of freedom."""


@dataclass(frozen=True)
class Pooled:
    """Successes of all seeds. ``rate``: their share, or where there are skills the mean of the skills' shares. ``low``
    .. ``high``: what is reported; ``wilson``: the binomial one; ``seeds``: of Student's t over the seeds' rates (None
    with one seed); ``worst``, ``best``: the seeds' rates."""

    successes: int
    episodes: int
    low: float
    high: float
    wilson: tuple[float, float]
    seeds: tuple[float, float] | None
    worst: float
    best: float
    rate: float


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
    return _hull(good, total, good / total, wilson(good, total), [g / n for g, n in counts])


def averaged(seeds: Sequence[Mapping[str, tuple[int, int]]]) -> Pooled:
    """Of {skill: (successes, episodes)} per seed: the mean over skills. ValueError where a skill has no episode at all.

    The binomial interval is Wilson's of that mean, of as many episodes as make its variance that of a mean over skills
    which all succeed alike; where they do not, it is wider than need be (exactly so with as many scenes of each skill).
    """
    skills = list(dict.fromkeys(skill for counts in seeds for skill in counts))
    sums = {s: (sum(c[s][0] for c in seeds if s in c), sum(c[s][1] for c in seeds if s in c)) for s in skills}
    if not sums or not all(total for _, total in sums.values()):
        raise ValueError("no episodes of some skill to make an interval of")
    rate = sum(good / total for good, total in sums.values()) / len(sums)
    worth = len(sums) ** 2 / sum(1 / total for _, total in sums.values())
    rates = [
        sum(good / total for good, total in counts.values() if total) / sum(total > 0 for _, total in counts.values())
        for counts in seeds
        if any(total for _, total in counts.values())
    ]
    good, total = sum(good for good, _ in sums.values()), sum(total for _, total in sums.values())
    return _hull(good, total, rate, wilson(rate * worth, worth), rates)


def _hull(good: int, total: int, rate: float, binomial: tuple[float, float], rates: Sequence[float]) -> Pooled:
    between = seed_interval(rates)
    low, high = binomial if between is None else (min(binomial[0], between[0]), max(binomial[1], between[1]))
    low, high = min(low, rate), max(high, rate)  # a mean over skills is rounded otherwise than a count's share
    return Pooled(good, total, low, high, binomial, between, min(rates), max(rates), rate)
