"""Success rates of a policy in the simulator, with the uncertainty that the number of episodes leaves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary
from qt_ros.sim.seeds import TEST_SEEDS
from qt_ros.sim.tasks import SKILLS, find_task


def wilson(successes: float, total: float, z: float = 1.96) -> tuple[float, float]:
    """Score interval of a rate (Wilson, JASA 22, 1927); ``z`` = 1.96 for 95%. (0, 1) when there is nothing to count."""
    if total == 0:
        return 0.0, 1.0
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} successes of {total} episodes")
    rate = successes / total
    scale = 1.0 + z * z / total
    centre = (rate + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(rate * (1.0 - rate) / total + z * z / (4.0 * total * total))
    # Rounding must not leave the rate itself outside, as it would at 0 and at 1.
    return min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half))


@dataclass(frozen=True)
class Rate:
    """Successes of some episodes, with a 95% Wilson interval."""

    success: int
    episodes: int

    @property
    def rate(self) -> float:
        return self.success / self.episodes if self.episodes else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.success, self.episodes)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "success": self.success,
            "episodes": self.episodes,
            "rate": round(self.rate, 4) if self.episodes else None,
            "low": round(low, 4),
            "high": round(high, 4),
        }


@dataclass
class Evaluation:
    """What came of it; episodes whose physics failed count in neither number and stand in ``unstable``."""

    results: list[EpisodeResult] = field(default_factory=list)
    unstable: int = 0

    @classmethod
    def of(cls, results: Sequence[EpisodeResult]) -> Evaluation:
        """Sorted by seed, so that the number of workers does not show."""
        stable = sorted((r for r in results if r.outcome != "unstable"), key=lambda r: r.seed)
        return cls(stable, len(results) - len(stable))

    @property
    def overall(self) -> Rate:
        return _rate(self.results)

    def by_task(self) -> dict[str, Rate]:
        """Rate of every task that was asked for, by name."""
        names = sorted({r.task for r in self.results})
        return {name: _rate([r for r in self.results if r.task == name]) for name in names}

    def by_skill(self) -> dict[str, Rate]:
        """Rate of every skill that was asked for, in the order of SKILLS."""
        skills = [(find_task(r.task).skill, r) for r in self.results]
        asked = {skill for skill, _ in skills}
        return {name: _rate([r for skill, r in skills if skill == name]) for name in SKILLS if name in asked}

    def to_dict(self) -> dict[str, Any]:
        """For JSON: overall, per skill and task, reasons of ending, mean steps, and every episode."""
        steps = [r.steps for r in self.results]
        return {
            **self.overall.to_dict(),
            "unstable": self.unstable,
            "mean_steps": round(sum(steps) / len(steps), 2) if steps else None,
            "reasons": dict(sorted(Counter(f"{r.outcome}/{r.reason}" for r in self.results).items())),
            "by_skill": {name: rate.to_dict() for name, rate in self.by_skill().items()},
            "by_task": {name: rate.to_dict() for name, rate in self.by_task().items()},
            "results": [
                {
                    "seed": r.seed,
                    "task": r.task,
                    "instruction": r.instruction,
                    "outcome": r.outcome,
                    "reason": r.reason,
                    "steps": r.steps,
                    "value": None if math.isnan(r.value) else round(r.value, 4),
                }
                for r in self.results
            ],
        }


def evaluate(
    checkpoint: Path,
    episodes: int,
    *,
    seed: int = TEST_SEEDS.start,
    tasks: Sequence[str] = (),
    robot: str = "mobile_manipulator",
    wrong_instruction: bool = False,
    held_out: bool = False,
    workers: int = 1,
    on_result: Callable[[EpisodeResult, Summary], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Run the checkpoint's greedy policy in scenes ``seed`` .. ``seed + episodes - 1`` and count its successes.

    ``tasks``: names to draw from (none: the default ones). With ``wrong_instruction`` the policy is told to do
    something else in the scene than what is scored: what is left is what it reaches without listening. Same arguments,
    same numbers, for any number of ``workers``.
    """
    plan = Plan(
        source="policy",
        seeds=tuple(range(seed, seed + episodes)),
        checkpoint=checkpoint,
        tasks=tuple(tasks),
        robot=robot,
        wrong_instruction=wrong_instruction,
        held_out=held_out,
    )
    return Evaluation.of(collect(plan, workers, on_result, stopped).results)


def _rate(results: Sequence[EpisodeResult]) -> Rate:
    return Rate(sum(r.outcome == "success" for r in results), len(results))
