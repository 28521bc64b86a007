"""Two policies in the same scenes, and several training runs alike: how they differ, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qt_ros.sim.evaluation import Rate, wilson

_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, 0.975 quantile, for 1 to 9 degrees of freedom; the last one for more, which is wider than need be."""


@dataclass(frozen=True)
class Paired:
    """Counts of scenes by what the two policies achieved in them."""

    both: int
    only_old: int
    only_new: int
    neither: int

    @classmethod
    def of(cls, old: Mapping[int, bool], new: Mapping[int, bool]) -> Paired:
        """From success by scene; scenes that only one of them has are left out."""
        pairs = [(old[seed], new[seed]) for seed in sorted(old.keys() & new.keys())]
        return cls(*(pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def scenes(self) -> int:
        return self.both + self.only_old + self.only_new + self.neither

    @property
    def old(self) -> Rate:
        return Rate(self.both + self.only_old, self.scenes)

    @property
    def new(self) -> Rate:
        return Rate(self.both + self.only_new, self.scenes)

    @property
    def difference(self) -> float:
        """Success rate of the new one less that of the old one; NaN without scenes."""
        return (self.only_new - self.only_old) / self.scenes if self.scenes else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the difference: Wald's with half a scene added to each of the four counts (Agresti and Min,
        Statistics in Medicine 24, 2005). (-1, 1) without scenes."""
        if not self.scenes:
            return -1.0, 1.0
        count, lost, won = self.scenes + 2.0, self.only_old + 0.5, self.only_new + 0.5
        middle = (won - lost) / count
        half = 1.96 * math.sqrt((won + lost) - (won - lost) ** 2 / count) / count
        return max(-1.0, middle - half), min(1.0, middle + half)

    @property
    def p_value(self) -> float:
        """Two-sided exact McNemar test: chance of a difference as large between equally good policies."""
        lost, won = self.only_old, self.only_new
        tail = sum(math.comb(lost + won, k) for k in range(min(lost, won) + 1)) / 2 ** (lost + won)
        return min(1.0, 2.0 * tail)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        low, high = self.interval
        return {
            "scenes": self.scenes,
            "both": self.both,
            "only_old": self.only_old,
            "only_new": self.only_new,
            "neither": self.neither,
            "old": self.old.to_dict(),
            "new": self.new.to_dict(),
            "difference": round(self.difference, 4) if self.scenes else None,
            "low": round(low, 4),
            "high": round(high, 4),
            "p_value": float(f"{self.p_value:.4g}"),
        }


def over_runs(values: Sequence[float]) -> tuple[float, float] | None:
    """95% interval of the mean of what several training runs gave (Student's t); None for fewer than two."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = _T_QUANTILES[min(count - 1, len(_T_QUANTILES)) - 1] * math.sqrt(variance / count)
    return mean - half, mean + half


def pooled_rate(counts: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Of (successes, episodes) per run, for JSON: as a Rate's, with ``runs``, how many there are.

    The interval reaches over Wilson's, which knows that other scenes could have been drawn (the runs share theirs, so
    that more runs make it no narrower), and Student's t over the runs, which knows how runs differ; of one run it is
    Wilson's.
    """
    rate = Rate(sum(good for good, _ in counts), sum(total for _, total in counts))
    low, high = wilson(rate.success / len(counts), rate.episodes / len(counts))
    if (between := over_runs([good / total for good, total in counts])) is not None:
        low, high = max(0.0, min(low, between[0])), min(1.0, max(high, between[1]))
    return {**rate.to_dict(), "low": round(low, 4), "high": round(high, 4), "runs": len(counts)}


def mean_difference(runs: Sequence[Paired]) -> dict[str, Any]:
    """Mean of the differences of several runs, for JSON; ``low`` and ``high`` are None for fewer than two. Runs without
    scenes do not count.

    The interval reaches over the mean of the runs' own, which know that other scenes could have been drawn (the runs
    share theirs, so that more runs make it no narrower), and Student's t over the runs.
    """
    known = [paired for paired in runs if paired.scenes]
    differences = [paired.difference for paired in known]
    ends: tuple[float, float] | None = None
    if (between := over_runs(differences)) is not None:
        low, high = (math.fsum(end) / len(known) for end in zip(*(paired.interval for paired in known), strict=True))
        ends = max(-1.0, min(low, between[0])), min(1.0, max(high, between[1]))
    return {
        "runs": len(known),
        "difference": round(math.fsum(differences) / len(known), 4) if known else None,
        "low": None if ends is None else round(ends[0], 4),
        "high": None if ends is None else round(ends[1], 4),
    }
