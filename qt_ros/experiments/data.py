"""The data of an experiment: made from fixed seeds, and described."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qt_ros.episodes.store import EpisodeStore
from qt_ros.experiments.spec import DataPart, DataRecipe
from qt_ros.experiments.work import Work, digest, read_json, write_json
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary
from qt_ros.sim.store_guard import require_training_seeds


class DataError(ValueError):
    """Data in the work folder are not those asked for."""


def data_is_made(recipe: DataRecipe, work: Work) -> bool:
    """Whether this data set was made to its end. ValueError when one of that name was made by another recipe."""
    path = work.description(recipe)
    found = read_json(path)
    if found and found["recipe"] != digest(asdict(recipe)):
        raise DataError(
            f"{path.parent}: made by another version of the data recipe {recipe.name}; use another --work folder, or "
            "delete that one"
        )
    return bool(found)


def make_data(
    recipe: DataRecipe,
    work: Work,
    jobs: int,
    on_result: Callable[[DataPart, EpisodeResult, Summary], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Collect what is missing in ``jobs`` processes (0: in this one); False when stopped before the end.

    A scene whose physics fails gives no episode. At the end `describe` is written into the data's folder.
    """
    for part, store in zip(recipe.parts, work.stores(recipe), strict=True):
        require_training_seeds(part.seeds)
        plan = Plan(part.source, tuple(part.seeds), store, tasks=part.tasks, robot=work.robot, flaws=part.flaws)

        def report(result: EpisodeResult, summary: Summary, part: DataPart = part) -> None:
            if on_result is not None:
                on_result(part, result, summary)

        store.parent.mkdir(parents=True, exist_ok=True)
        collect(plan, jobs, report, stopped)
        if stopped():
            return False
    write_json(work.description(recipe), {"recipe": digest(asdict(recipe)), **describe(recipe, work.stores(recipe))})
    return True


def describe(recipe: DataRecipe, stores: list[Path]) -> dict[str, Any]:
    """Counts, lengths and returns of a data set, per store and in all: the same for the same stores."""
    parts = {}
    for part, root in zip(recipe.parts, stores, strict=True):
        store = EpisodeStore(root)
        parts[part.store] = {
            "recipe": asdict(part),
            "manifest_sha256": hashlib.sha256(store.manifest.to_json()).hexdigest(),
            "image_size": list(store.image_size),
            "contract_sha256": store.manifest.contract_sha256,
            "skipped_shards": len(store.skipped),
            **_counts(store.meta),
        }
    everything = [meta for root in stores for meta in EpisodeStore(root, verify=False).meta]
    return {"data": recipe.name, "parts": parts, "all": _counts(everything)}


def _counts(metas: list[Any]) -> dict[str, Any]:
    lengths = np.array([m.length for m in metas])
    good = np.array([m.outcome == "success" for m in metas])
    tasks: dict[str, list[int]] = {}
    for meta, won in zip(metas, good, strict=True):
        count = tasks.setdefault(meta.task, [0, 0])
        count[0] += int(won)
        count[1] += 1
    return {
        "episodes": len(metas),
        "successes": int(good.sum()),
        "steps": int(lengths.sum()),
        "steps_of_successes": int(lengths[good].sum()),
        "length": _spread(lengths),
        "length_of_successes": _spread(lengths[good]),
        "length_of_failures": _spread(lengths[~good]),
        "reasons": dict(sorted(Counter(f"{m.outcome}/{m.reason}" for m in metas).items())),
        "tasks": {name: {"success": g, "episodes": n} for name, (g, n) in sorted(tasks.items())},
        "instructions": len({m.instruction for m in metas}),
    }


def _spread(lengths: Any) -> dict[str, float] | None:
    if not len(lengths):
        return None
    low, middle, high = np.percentile(lengths, (10, 50, 90))
    return {
        "mean": round(float(lengths.mean()), 2),
        "p10": round(float(low), 1),
        "median": round(float(middle), 1),
        "p90": round(float(high), 1),
        "largest": int(lengths.max()),
    }
