"""Success of a policy in given scenes, episode by episode in a file, so that an interruption costs one episode."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qt_ros.improvement.settings import ImprovementError, Interrupted
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary
from qt_ros.sim.evaluation import Rate
from qt_ros.sim.store_guard import simulator_sha256
from qt_ros.sim.task_file import SKILLS, draw_task

log = logging.getLogger(__name__)


def measure(
    checkpoint: Path,
    checkpoint_id: str,
    seeds: range,
    file: Path,
    *,
    tasks: Sequence[str] = (),
    robot: str = "mobile_manipulator",
    workers: int = 1,
    on_result: Callable[[EpisodeResult, Summary], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[int, bool]:
    """Success by scene of the greedy policy in ``seeds``; scenes whose physics failed are left out.

    ``file`` (JSON lines) keeps every episode; what stands there already is not run again. Raises ImprovementError when
    it belongs to another measurement, Interrupted when ``stopped()``. What another simulator measured (see
    `simulator_sha256`) is put aside and measured again: policies are compared in the same scenes.
    """
    head = {"checkpoint": checkpoint_id, "first": seeds.start, "episodes": len(seeds), "tasks": list(tasks)}
    head["simulator"] = simulator_sha256()
    rows = _read(file, head)
    left = tuple(seed for seed in seeds if seed not in rows)
    if left:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab") as stream:

            def write(row: dict[str, Any]) -> None:
                stream.write(json.dumps(row).encode() + b"\n")
                stream.flush()

            if not rows and not stream.tell():
                write(head)

            def take(result: EpisodeResult, summary: Summary) -> None:
                rows[result.seed] = result.outcome
                write({"seed": result.seed, "task": result.task, "outcome": result.outcome, "reason": result.reason,
                       "steps": result.steps})  # fmt: skip
                if on_result is not None:
                    on_result(result, summary)

            plan = Plan("policy", left, checkpoint=checkpoint, tasks=tuple(tasks), robot=robot)
            collect(plan, workers, take, stopped)
            os.fsync(stream.fileno())
        if any(seed not in rows for seed in seeds):
            raise Interrupted
    return {seed: rows[seed] == "success" for seed in seeds if rows[seed] != "unstable"}


def rate(success: Mapping[int, bool]) -> Rate:
    """Of all scenes."""
    return Rate(sum(success.values()), len(success))


def rates_by_skill(success: Mapping[int, bool], tasks: Sequence[str]) -> dict[str, Rate]:
    """Of the scenes of every skill that was asked for, in the order of SKILLS; which task a scene has, its seed says
    (see `draw_task`)."""
    skills = {seed: draw_task(tasks, seed).skill for seed in success}
    asked = set(skills.values())
    return {
        name: rate({seed: good for seed, good in success.items() if skills[seed] == name})
        for name in SKILLS
        if name in asked
    }


def mean_over_skills(rates: Mapping[str, Rate]) -> float | None:
    """Every skill counted alike, however many scenes it had; None without any."""
    return round(sum(r.rate for r in rates.values()) / len(rates), 4) if rates else None


def skills_document(success: Mapping[int, bool], tasks: Sequence[str]) -> dict[str, Any]:
    """For JSON: ``by_skill``, a Rate each, and ``skill_mean``."""
    rates = rates_by_skill(success, tasks)
    return {"by_skill": {name: r.to_dict() for name, r in rates.items()}, "skill_mean": mean_over_skills(rates)}


def _read(file: Path, head: dict[str, Any]) -> dict[int, str]:
    """Outcomes by scene, from whole lines; a line that was cut off is cut away."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return {}
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(file, whole)
    lines = data[:whole].splitlines()
    if not lines:
        return {}
    try:
        found, *rows = (json.loads(line) for line in lines)
        outcomes = {int(row["seed"]): str(row["outcome"]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise ImprovementError(f"{file}: cannot be read ({error!r}); delete it to measure again") from error
    known = found.get("simulator", head["simulator"])  # older files do not say
    if {**found, "simulator": head["simulator"]} != head:
        raise ImprovementError(f"{file} holds another measurement ({found}, not {head}); use another folder")
    if known != head["simulator"]:
        aside = file.with_name(f"{file.name}.{known[:12]}")
        log.warning("%s: measured in another simulator (%s); put aside as %s", file, known[:12], aside.name)
        file.replace(aside)
        return {}
    return outcomes
