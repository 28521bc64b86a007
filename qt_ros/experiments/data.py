"""The data of an experiment: made from fixed seeds, and described."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qt_ros.episodes.store import EpisodeStore
from qt_ros.experiments.collector import collector, collector_settings, train_collector
from qt_ros.experiments.recipes import DataPart, DataRecipe, facts
from qt_ros.experiments.searching import search, thrown_away
from qt_ros.experiments.stores import require_whole
from qt_ros.experiments.warm_up import warm_up, warmed_up
from qt_ros.experiments.work import DataError, Work, digest, read_json, write_json
from qt_ros.model.checkpoint import read_info
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary
from qt_ros.sim.store_guard import require_training_seeds
from qt_ros.sim.tasks import draw_task, find_task

SIDE_BY_SIDE = 8
"""Scenes that the collecting policy is in at once, in each process."""


def data_is_made(recipe: DataRecipe, work: Work) -> bool:
    """Whether this data set was made to its end, and described when it was whole. DataError when one of that name was
    made by another recipe."""
    path = work.description(recipe)
    found = read_json(path)
    if found and found["recipe"] != digest(facts(recipe)):
        raise DataError(
            f"{path.parent}: made by another version of the data recipe {recipe.name}; use another --work folder, or "
            "delete that one"
        )
    return bool(found) and not any(part.get("skipped_shards") for part in found["parts"].values())


def make_data(
    recipe: DataRecipe,
    work: Work,
    jobs: int,
    on_result: Callable[[DataPart, EpisodeResult, Summary], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
    on_training: Callable[[int, int, dict[str, float]], None] = lambda step, steps, metrics: None,
) -> bool:
    """Collect what is missing in ``jobs`` processes (0: in this one); False when stopped before the end.

    The policy that collects is trained before, and the vision side that it acts with warmed up; ``on_training(step,
    steps, metrics)`` tells how far that is. A scene whose physics fails gives no episode. At the end `describe` is
    written into the data's folder.
    """
    for part in recipe.all_parts:
        require_training_seeds(part.seeds)
    if recipe.policy is not None:
        collector_settings(recipe)  # wrong ones are told now and not after the demonstrations
    if recipe.base is not None and not data_is_made(recipe.base, work):
        if not make_data(recipe.base, work, jobs, on_result, stopped, on_training):
            return False
    warm = None if recipe.policy is None else recipe.policy.warm_up
    if warm is not None and warmed_up(warm, work) is None:
        if not data_is_made(warm.data, work) and not make_data(warm.data, work, jobs, on_result, stopped, on_training):
            return False
        if not warm_up(warm, work, lambda step, metrics: on_training(step, warm.gradient_steps, metrics), stopped):
            return False
    own = work.stores(recipe)[-len(recipe.parts) :]
    for part, store in zip(recipe.parts, own, strict=True):
        if part.source == "policy":
            assert recipe.collector is not None
            if not train_collector(recipe.collector, work, on_training, stopped):
                return False
        if not _collect_part(recipe, part, store, work, jobs, on_result, stopped):
            return False
    write_json(work.description(recipe), {"recipe": digest(facts(recipe)), **describe(recipe, work)})
    return True


def _collect_part(
    recipe: DataRecipe,
    part: DataPart,
    store: Path,
    work: Work,
    jobs: int,
    on_result: Callable[[DataPart, EpisodeResult, Summary], None] | None,
    stopped: Callable[[], bool],
) -> bool:
    """One store; False when stopped before its end."""
    policy = part.source == "policy" and recipe.collector is not None
    plan = Plan(
        part.source,
        tuple(part.seeds),
        store,
        checkpoint=collector(recipe.collector, work) if policy and recipe.collector else None,
        tasks=part.asked,
        robot=work.robot,
        flaws=part.flaws,
        side_by_side=SIDE_BY_SIDE if policy else 1,
        keep=part.keep,
    )

    def report(result: EpisodeResult, summary: Summary) -> None:
        if on_result is not None:
            on_result(part, result, summary)

    store.mkdir(parents=True, exist_ok=True)
    if part.keep != "all":
        return search(part, plan, jobs, report, stopped)
    collect(plan, jobs, report, stopped)
    return not stopped()


def describe(recipe: DataRecipe, work: Work) -> dict[str, Any]:
    """Counts, lengths and returns of a data set, per store and in all: the same for the same stores. DataError when one
    of them is not complete."""
    parts = {}
    stores = work.stores(recipe)
    for part, root in zip(recipe.all_parts, stores, strict=True):
        store = EpisodeStore(root)
        require_whole(store)
        parts[part.store] = {
            "recipe": facts(part),
            "manifest_sha256": hashlib.sha256(store.manifest.to_json()).hexdigest(),
            "image_size": list(store.image_size),
            "contract_sha256": store.manifest.contract_sha256,
            "skipped_shards": len(store.skipped),
            **_counts(store.meta),
            **_thrown(part, root),
            **({"last_scene": _last_scene(store, root)} if part.balanced else {}),
        }
    everything = [meta for root in stores for meta in EpisodeStore(root, verify=False).meta]
    policy = {"policy": _described(recipe.collector, work)} if recipe.collector else {}
    return {"data": recipe.name, "parts": parts, "all": _counts(everything), **policy}


def _described(recipe: DataRecipe, work: Work) -> dict[str, Any]:
    """The policy that collects."""
    assert recipe.policy is not None
    settings, checkpoint = collector_settings(recipe), collector(recipe, work)
    steps = {"method": settings.method, "gradient_steps": settings.gradient_steps, "batch": settings.batch}
    info = None if checkpoint is None else read_info(checkpoint)
    # With mixed precision it becomes another policy, which fails in other scenes.
    autocast = info is not None and bool(info.provenance["settings"]["autocast"])
    return {**facts(recipe.policy), **steps, "autocast": autocast, "checkpoint": "" if info is None else info.id}


def _thrown(part: DataPart, store: Path) -> dict[str, Any]:
    """What was run and thrown away, in all and by skill; nothing for a store that keeps everything."""
    if part.keep == "all":
        return {}
    outcomes = thrown_away(store)
    skills = Counter(draw_task(part.asked, seed).skill for seed in outcomes)
    return {
        "thrown_away": dict(sorted(Counter(outcomes.values()).items())),
        "thrown_skills": dict(sorted(skills.items())),
    }


def _last_scene(store: EpisodeStore, root: Path) -> int:
    """The last scene that was run."""
    return max([*(meta.seed for meta in store.meta if meta.seed is not None), *thrown_away(root)])


def _counts(metas: list[Any]) -> dict[str, Any]:
    lengths = np.array([m.length for m in metas])
    good = np.array([m.outcome == "success" for m in metas])
    tasks: dict[str, list[int]] = {}
    for meta, won in zip(metas, good, strict=True):
        count = tasks.setdefault(meta.task, [0, 0])
        count[0] += int(won)
        count[1] += 1
    skills: dict[str, list[int]] = {}
    for name, (won, total) in tasks.items():
        counted = skills.setdefault(find_task(name).skill, [0, 0])
        counted[0] += won
        counted[1] += total
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
        "skills": {name: {"success": g, "episodes": n} for name, (g, n) in sorted(skills.items())},
        "instructions": len({m.instruction for m in metas}),
        "most_of_one_instruction": max(Counter(m.instruction for m in metas).values(), default=0),
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
