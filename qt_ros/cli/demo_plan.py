"""Which tasks and scenes a demo run shows, drawn from one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """What to run: one (task, scene seed) per episode, made from one seed; ``scenes`` is their range."""

    seed: int
    episodes: tuple[tuple[str, int], ...]
    scenes: str = "test"


def make_plan(seed: int, episodes: int, tasks: Sequence[str], training_scenes: bool = False) -> Plan:
    """Go round ``tasks`` in an order drawn by ``seed``, each time in a scene drawn by it too.

    Tasks of several skills come one skill after the other, so that a few episodes show all of them.
    Scenes are of the test range, which is never trained on, or else of the training range.
    """
    from qt_ros.sim.seeds import TEST_SEEDS, TRAINING_SEEDS
    from qt_ros.sim.tasks import load_tasks  # slow to import: not for --help

    seeds = TRAINING_SEEDS if training_scenes else TEST_SEEDS
    rng = np.random.default_rng(seed)
    order = [tasks[i] for i in rng.permutation(len(tasks))]
    scenes = rng.integers(seeds.start, seeds.stop, episodes)
    known = load_tasks()
    by_skill: dict[str, list[str]] = {}
    for task in order:
        by_skill.setdefault(known[task].skill if task in known else "", []).append(task)
    groups = list(by_skill.values())
    longest = max(map(len, groups))
    order = [group[i % len(group)] for i in range(longest) for group in groups]
    drawn = tuple((order[i % len(order)], int(s)) for i, s in enumerate(scenes))
    return Plan(seed, drawn, "training" if training_scenes else "test")
