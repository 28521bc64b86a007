"""Collects until there are so many failures (or successes), and remembers what was thrown away.

Scenes are run in blocks of as many as are still missing, so that there are never too many. Which scenes are run, and
which are kept, follows from what each scene comes to alone: interruptions and the number of processes change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qt_ros.episodes.parts import part_files, read_part
from qt_ros.experiments.recipes import DataPart
from qt_ros.experiments.work import DataError, read_json, write_json
from qt_ros.model.checkpoint import read_info
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary

THROWN = "thrown-away.json"
WRITE_EVERY = 25  # episodes thrown away between two writes of that file


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
    kept = {meta.seed for path in part_files(store) for meta in read_part(path).episodes}
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

    first, found = part.seeds.start, 0
    while found < part.episodes:
        block = range(first, min(first + part.episodes - found, part.seeds.stop))
        if not block:
            raise DataError(
                f"{store}: {len(part.seeds)} scenes gave {found} {part.keep} and {part.episodes} are asked for; ask "
                "for fewer, or collect with a policy that is trained less"
            )
        if todo := tuple(seed for seed in block if seed not in kept and seed not in thrown):
            collect(replace(plan, seeds=todo), jobs, take, stopped)
            write()
        if any(seed not in kept and seed not in thrown for seed in block):
            return False
        found += sum(seed in kept for seed in block)
        first = block.stop
    return True


def thrown_away(store: Path, checkpoint: str | None = None) -> dict[int, str]:
    """Outcome of every scene that was run and not kept in ``store``; none when it was another ``checkpoint`` (its id)
    that ran them."""
    found = read_json(store / THROWN)
    if checkpoint is not None and found.get("checkpoint") != checkpoint:
        return {}
    return {int(seed): outcome for seed, outcome in found.get("outcomes", {}).items()}
