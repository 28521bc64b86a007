"""Collects until there are so many failures (or successes), and remembers what was thrown away.

Scenes are run in blocks of as many as are still missing (of each skill, where a part is balanced), so that there are
never too many. Which scenes are run, and which are kept, follows from what each scene comes to alone: interruptions and
the number of processes change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from qt_ros.episodes.parts import part_files, read_part
from qt_ros.experiments.recipes import DataPart
from qt_ros.experiments.work import DataError, read_json, write_json
from qt_ros.model.checkpoint import read_info
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary

THROWN = "thrown-away.json"
WRITE_EVERY = 25  # episodes thrown away between two writes of that file


@dataclass
class _Queue:
    """Scenes to run, in order, until ``count`` of them are kept. ``skill``: of all of them, '' for any."""

    skill: str
    count: int
    scenes: list[int]
    begun: int = 0
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = self.count

    @property
    def run(self) -> list[int]:
        return self.scenes[: self.begun]

    def next(self, store: Path, keep: str) -> list[int]:
        """As many as are missing. DataError when there are none left."""
        if self.missing and self.begun == len(self.scenes):
            of = f" of {self.skill}" if self.skill else ""
            raise DataError(
                f"{store}: {self.begun} scenes{of} gave {self.count - self.missing} {keep} and {self.count} are asked "
                "for; ask for fewer, or collect with a policy that is trained less"
            )
        block = self.scenes[self.begun : self.begun + self.missing]
        self.begun += len(block)
        return block

    def count_in(self, kept: Collection[int]) -> None:
        """Count again what is missing, once all that were begun have run."""
        self.missing = self.count - sum(seed in kept for seed in self.run)


def search(
    part: DataPart,
    plan: Plan,
    jobs: int,
    on_result: Callable[[EpisodeResult, Summary], None],
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Run scenes of ``part`` from the first one on until it has its episodes; False when stopped before.

    ``plan``: of those scenes, with a store and ``keep``. ``on_result`` is called for each episode; the summary holds
    those that were kept. DataError when the scenes that it may take do not hold enough of them.
    """
    store = plan.out
    assert store is not None
    key = "" if plan.checkpoint is None else read_info(plan.checkpoint).id
    thrown = thrown_away(store, key)
    kept = {m.seed for path in part_files(store) for m in read_part(path).episodes if m.seed is not None}
    summary = Summary(skipped=len(kept), thrown=len(thrown))

    def write() -> None:
        write_json(store / THROWN, {"checkpoint": key, "outcomes": {str(s): thrown[s] for s in sorted(thrown)}})

    def take(result: EpisodeResult, _: Summary) -> None:
        if plan.keeps(result.outcome):
            kept.add(result.seed)
            summary.results.append(result)
        else:
            thrown[result.seed] = result.outcome
            summary.thrown += 1
            if len(thrown) % WRITE_EVERY == 0:
                write()
        on_result(result, summary)

    queues = [_Queue(skill, count, scenes) for skill, (count, scenes) in part.queues().items()]
    while block := sorted(seed for queue in queues for seed in queue.next(store, part.keep)):
        if todo := tuple(seed for seed in block if seed not in kept and seed not in thrown):
            collect(replace(plan, seeds=todo), jobs, take, stopped)
            write()
        if any(seed not in kept and seed not in thrown for seed in block):
            return False
        for queue in queues:
            queue.count_in(kept)
    if strange := kept.difference(*(queue.run for queue in queues)):
        raise DataError(
            f"{store}: there is an episode in it that its recipe does not take (scene {min(strange)}); delete the store"
        )
    return True


def thrown_away(store: Path, checkpoint: str | None = None) -> dict[int, str]:
    """Outcome of every scene that was run and not kept in ``store``; none when it was another ``checkpoint`` (its id)
    that ran them."""
    found = read_json(store / THROWN)
    if checkpoint is not None and found.get("checkpoint") != checkpoint:
        return {}
    return {int(seed): outcome for seed, outcome in found.get("outcomes", {}).items()}
