#!/usr/bin/env python3
"""Do the rules that Gazebo's episodes are judged by agree with the embedded simulator's contacts? On the same ends.

    . ./env.sh
    python benchmarks/pose_rules.py                   200 episodes of each skill and source, a few minutes on one core
    python benchmarks/pose_rules.py --episodes 20 --json out.json

Scripted episodes run in the embedded simulator, without pictures: demonstrations (most succeed) and demonstrations with
flaws (most fail). The world as it stands at the end of each is judged twice: with contacts (qt_ros.sim.scoring) and
from poses and joint positions alone (qt_ros.sim.pose_scoring).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from benchmarks.report import add_json_option, context, emit
from qt_ros.sim.episode_maker import EpisodeMaker, Plan
from qt_ros.sim.pose_scoring import SKILLS, Body, PoseScorer
from qt_ros.sim.tasks import Scorer, find_task, load_tasks
from qt_ros.sim.world import SimulationError, World

SOURCES = ("demonstration", "noise")
FIRST_SEED = 1_700_000


def judged(world: World, scorer: PoseScorer, task_name: str) -> tuple[bool, bool]:
    """Success by contacts and by poses, as the world stands now."""
    task, base = find_task(task_name), world.data.body("base_link")
    named = [name for name in (task.target, task.near) if name]
    bodies = {n: Body(world.object_pose(n), world.rest_position(n), world.object_speed(n)) for n in named}
    robot = np.concatenate([base.xpos, base.xquat[1:], base.xquat[:1]])
    return Scorer(task).success(world), scorer.verdict(task, bodies, robot, world.joint_positions()).success


def compare(skill: str, source: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Counts over the episodes of ``seeds``; disagreements with their seeds."""
    names = tuple(task.name for task in load_tasks().values() if task.skill == skill)
    maker = EpisodeMaker(Plan(source=source, seeds=tuple(seeds), tasks=names))
    maker.rollout.render = False
    scorer, counts = PoseScorer(maker.contract), Counter[tuple[bool, bool]]()
    differ: list[int] = []
    unstable = 0
    for seed in seeds:
        try:
            _, result = maker.run(seed)
        except SimulationError:  # no end to judge
            unstable += 1
            continue
        both = judged(maker.world, scorer, result.task)
        counts[both] += 1
        if both[0] != both[1]:
            differ.append(seed)
    maker.world.close()
    return {
        "skill": skill,
        "source": source,
        "episodes": sum(counts.values()),
        "unstable": unstable,
        "success_by_contacts": counts[True, True] + counts[True, False],
        "success_by_poses": counts[True, True] + counts[False, True],
        "agree": counts[True, True] + counts[False, False],
        "only_contacts_say_success": counts[True, False],
        "only_poses_say_success": counts[False, True],
        "seeds_that_differ": differ,
    }


def rows(episodes: int, seed: int) -> Iterator[dict[str, Any]]:
    """One result per skill and source."""
    for skill in SKILLS:
        for source in SOURCES:
            yield compare(skill, source, range(seed, seed + episodes))
            print(f"{skill}, {source}: done", file=sys.stderr)


def table(results: Sequence[dict[str, Any]]) -> Table:
    """For people."""
    shown = Table(title="success by contacts and by poses, on the same ends of episodes")
    columns = ("skill", "source", "episodes", "success_by_contacts", "success_by_poses", "agree",
               "only_contacts_say_success", "only_poses_say_success")  # fmt: skip
    for name in columns:
        shown.add_column(name.replace("_", " "))
    for result in results:
        shown.add_row(*(str(result[name]) for name in columns))
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200, help="of each skill and source (default 200)")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help=f"the first one (default {FIRST_SEED})")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        parser.error("--episodes must be at least 1")
    head = context("pose_rules", {"episodes": options.episodes, "seed": options.seed})
    results = list(rows(options.episodes, options.seed))
    emit({**head, "results": results}, [table(results)], options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
