"""Runs one cell: trains, evaluates in the simulator, and writes its result."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.files import write_atomically
from qt_ros.experiments.cells import Cell
from qt_ros.experiments.origin import commit, machine, source
from qt_ros.experiments.stores import load_whole
from qt_ros.experiments.warm_up import warmed_up
from qt_ros.experiments.work import RESULT, Work, read_json, write_json
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.session import marked, train
from qt_ros.learning.tokens import Stopped, frozen_tokens
from qt_ros.learning.trainer import StepReport
from qt_ros.model.checkpoint import read_info
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary
from qt_ros.sim.tasks import SKILLS, draw_task, find_task

KEEP_EVERY = 25  # episodes between two writes of an evaluation that is under way
SIDE_BY_SIDE = 8  # episodes under way at once in an evaluation
NOTE_EVERY = 30.0  # seconds between two notes of how long a cell has trained


class CellError(RuntimeError):
    """A cell cannot be run; the message says what is missing."""


def result_of(cell: Cell, work: Work) -> dict[str, Any] | None:
    """The result of a finished cell, None when there is none or it is of other settings."""
    found = read_json(work.root / cell.directory / RESULT)
    return found if found.get("identity") == cell.identity else None


def run_cell(
    cell: Cell,
    work: Work,
    report: Callable[[str, dict[str, float]], None] = lambda text, metrics: None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Run ``cell`` from where it was left; True when its result is there, False when stopped before.

    ``report(text, metrics)`` tells how far it is. What lies in its folder and was made with other settings is moved
    aside. The same run in another experiment counts. Data and warm-up must be there (CellError), and whole (DataError).
    """
    if result_of(cell, work) is not None:
        return True
    folder = work.root / cell.directory
    _move_others_aside(folder, cell)
    if (same := _same_run(cell, work)) is not None:
        write_json(folder / RESULT, {**same, **_names(cell)})
        report(f"taken from {same['experiment']}, where it is {same['method']}/{same['variant']}", {})
        return True
    origin = {"commit": commit(), "source": source()}  # of the code that is loaded now; files may change later
    progress = read_json(folder / "cell.json") or {"training": cell.training, "seconds": {}, "metrics": {}}
    earlier = [{k: v for k, v in progress["origin"].items() if k in origin}] if "origin" in progress else []
    by = progress.setdefault("trained_by", earlier)  # an earlier version noted the last one only
    write_json(folder / "cell.json", progress)
    begin = time.monotonic()
    contract, robot = robot_of(cell, work)
    try:
        data, init = _data(cell, work, contract, report, stopped)
    except Stopped:
        return False
    seconds = progress["seconds"]
    noted = time.monotonic()
    loading = noted - begin

    before, training, begun = seconds.get("train", 0.0), time.monotonic(), step_on_disk(folder)

    def log(entry: StepReport) -> None:
        nonlocal noted
        seconds["train"] = before + time.monotonic() - training
        new = [origin] if origin not in by and step_on_disk(folder) > begun else []
        if new or time.monotonic() - noted > NOTE_EVERY:  # so that a cell that is killed does not lose count
            noted, by[:] = time.monotonic(), by + new
            write_json(folder / "cell.json", progress)
        progress["metrics"] = {key: _number(value) for key, value in sorted(entry.metrics.items())}
        report(f"step {entry.step}/{cell.settings.gradient_steps}", entry.metrics)

    session = train(
        cell.settings,
        contract,
        data,
        folder,
        init=init,
        device=work.device,
        marks=[step for step in cell.marks if step != cell.settings.gradient_steps],
        report=log,
        stopped=stopped,
    )
    if session.seconds:
        seconds["train"] = before + session.seconds
        seconds["load"] = loading
        progress["origin"] = {**origin, "machine": machine(work.device, work.threads, work.jobs)}
        by += [] if origin in by else [origin]
        write_json(folder / "cell.json", progress)
    if not session.finished:
        return False
    provenance = read_info(folder / "checkpoint").provenance
    del data
    rows = []
    for step in cell.marks:
        last = step == cell.settings.gradient_steps
        found = _evaluate(
            cell, work, folder / "checkpoint" if last else marked(folder, step), step, robot, report, stopped
        )
        if found is None:
            return False
        rows.append(found)
    taken = seconds.get("train", math.nan)
    samples = cell.settings.gradient_steps * cell.settings.batch * cell.settings.segment_steps / taken
    write_json(
        folder / RESULT,
        {
            "schema": 1,
            **_names(cell),
            "identity": cell.identity,
            "training": cell.training,
            "bins": contract.action_space.bins,
            "rows": rows,
            "train_seconds": _number(round(taken, 1)),
            "load_seconds": round(seconds.get("load", 0.0), 1),
            "samples_per_second": _number(round(samples, 1)),
            **(progress.get("origin") or {**origin, "machine": machine(work.device, work.threads, work.jobs)}),
            "trained_by": by or [origin],
            "evaluated_by": origin,
            "command": work.command,
            "metrics": progress["metrics"],
            "data": provenance["stores"],
            "episodes_in_data": provenance["episodes"],
            "successes_in_data": provenance["successes"],
            "steps_in_data": provenance["steps"],
            "init": provenance.get("init", ""),
            "settings": cell.settings.to_dict(),
        },
    )
    return True


def _names(cell: Cell) -> dict[str, Any]:
    """What the cell is called and how its experiment says it; all else follows from its identity."""
    return {
        "experiment": cell.experiment.name,
        "method": cell.spec.method,
        "variant": cell.spec.variant,
        "seed": cell.seed,
        "trial": cell.trial,
        "changes": cell.changes,
    }


def _same_run(cell: Cell, work: Work) -> dict[str, Any] | None:
    """The result of the very same run (settings, data, seed, scenes) under another name in this work folder."""
    if cell.tuning:
        return None
    for path in sorted(work.root.glob(f"*/*/{RESULT}")):
        if (found := read_json(path)).get("identity") == cell.identity:
            return found
    return None


def robot_of(cell: Cell, work: Work) -> tuple[RobotContract, str]:
    """The contract that the cell's policy acts under, and its name or path: the robot's own, or one with other bins."""
    if cell.spec.bins is None:
        return load_contract(work.robot), work.robot
    path = work.root / "robots" / f"{Path(work.robot).stem}-{cell.spec.bins}-bins.yaml"
    own = load_contract(work.robot)
    text = yaml.safe_load(own.text)
    for dimension in text["action_space"]:
        dimension["bins"] = cell.spec.bins
    content = yaml.safe_dump(text, sort_keys=False).encode()
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return load_contract(path), str(path)


def recode(data: TrainingData, recorded: RobotContract, wanted: RobotContract) -> None:
    """Put the recorded actions into the bins of another contract, as if they had been chosen there."""
    space = wanted.action_space
    if space.sha256 == recorded.action_space.sha256:
        return
    if space.names != recorded.action_space.names:
        raise CellError(f"the action dimensions differ: {', '.join(space.names)}")
    data.bins = space.encode(recorded.action_space.decode(data.bins))
    data.action_space_sha256 = space.sha256


def _data(
    cell: Cell,
    work: Work,
    contract: RobotContract,
    report: Callable[[str, dict[str, float]], None],
    stopped: Callable[[], bool],
) -> tuple[TrainingData, Path | None]:
    """What the cell learns from, and the checkpoint whose vision side it starts from."""
    experiment, recorded = cell.experiment, load_contract(work.robot)
    every = zip(experiment.data.all_parts, work.stores(experiment.data), strict=True)
    stores = [store for part, store in every if part.store in cell.spec.stores or not cell.spec.stores]
    missing = [store for store in stores if not (store / "store.json").exists()]
    if missing:
        raise CellError(f"{missing[0]} is missing; make the data first (qt-ros experiment {experiment.name} --data)")
    state = experiment.observations == "state"
    data = load_whole(stores, cell.settings.backup.gamma, recorded, privileged=state, images=False)
    recode(data, recorded, contract)
    if experiment.warm_up is None:
        return data, None
    init = warmed_up(experiment.warm_up, work)
    if init is None:
        raise CellError(f"{work.warm_up(experiment.warm_up)} is not finished; run qt-ros experiment {experiment.name}")
    data.tokens = frozen_tokens(
        stores,
        init,
        work.tokens,
        device=work.device,
        progress=lambda done, total: report(f"encoded {done}/{total} frames", {}),
        stopped=stopped,
    )
    return data, init


def _evaluate(
    cell: Cell,
    work: Work,
    checkpoint: Path,
    step: int,
    robot: str,
    report: Callable[[str, dict[str, float]], None],
    stopped: Callable[[], bool],
) -> dict[str, Any] | None:
    """One row, or None when stopped; episodes that are finished are kept and not run again."""
    path = work.root / cell.directory / f"evaluation-{step}.json"
    info = read_info(checkpoint)
    kept = read_json(path)
    same = kept.get("checkpoint") == info.id and kept.get("scenes") == [cell.scenes.start, cell.scenes.stop]
    tasks = cell.experiment.tasks  # others may have been asked for in the same scenes
    same = same and all(e["task"] == draw_task(tasks, e["seed"]).name for e in kept["results"])
    episodes: list[dict[str, Any]] = kept["results"] if same else []
    seconds = float(kept["seconds"]) if same else 0.0
    remaining = tuple(sorted(set(cell.scenes) - {e["seed"] for e in episodes}))
    begin = time.monotonic()

    def keep() -> None:
        spent = seconds + time.monotonic() - begin
        head = {"checkpoint": info.id, "scenes": [cell.scenes.start, cell.scenes.stop], "seconds": round(spent, 1)}
        write_json(path, {**head, "results": sorted(episodes, key=lambda e: e["seed"])})

    def take(result: EpisodeResult, summary: Summary) -> None:
        episodes.append(
            {
                "seed": result.seed,
                "task": result.task,
                "outcome": result.outcome,
                "reason": result.reason,
                "steps": result.steps,
                "value": _number(round(result.value, 4)),
            }
        )
        if len(episodes) % KEEP_EVERY == 0:
            keep()
            good = sum(e["outcome"] == "success" for e in episodes)
            report(f"evaluated {len(episodes)}/{len(cell.scenes)} at step {step}", {"successes": float(good)})

    if remaining:
        plan = Plan(
            "policy",
            remaining,
            checkpoint=checkpoint,
            tasks=tasks,
            robot=robot,
            side_by_side=SIDE_BY_SIDE,
        )
        collect(plan, work.workers, take, stopped)
        keep()
    if len(episodes) < len(cell.scenes):
        return None
    stable = [e for e in episodes if e["outcome"] != "unstable"]
    values = [e["value"] for e in stable if e["value"] is not None]
    skills = {"skills": _by_skill(stable)} if cell.experiment.skills else {}
    return {
        "gradient_steps": step,
        "episodes": len(stable),
        "successes": sum(e["outcome"] == "success" for e in stable),
        "unstable": len(episodes) - len(stable),
        "first_scene": cell.scenes.start,
        **skills,
        "mean_steps": round(float(np.mean([e["steps"] for e in stable])), 2) if stable else None,
        "first_value": round(float(np.mean(values)), 4) if values else None,
        "reasons": dict(sorted(Counter(f"{e['outcome']}/{e['reason']}" for e in stable).items())),
        "evaluate_seconds": read_json(path)["seconds"],
        "checkpoint": info.id,
    }


def _by_skill(episodes: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Episodes and successes of every skill that was asked for, in the order of SKILLS."""
    found = {skill: {"episodes": 0, "successes": 0} for skill in SKILLS}
    for episode in episodes:
        counts = found[find_task(episode["task"]).skill]
        counts["episodes"] += 1
        counts["successes"] += int(episode["outcome"] == "success")
    return {skill: counts for skill, counts in found.items() if counts["episodes"]}


def step_on_disk(folder: Path) -> int:
    """Gradient steps of the training state in a cell's folder; 0 where there is none."""
    try:
        with safe_open(folder / "state" / "state.safetensors", framework="np") as file:
            return int((file.metadata() or {})["step"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return 0


def _move_others_aside(folder: Path, cell: Cell) -> None:
    """What was trained with other settings, or is past a mark whose checkpoint it lacks, keeps its files under another
    name; so does a result of other scenes."""
    found = read_json(folder / "cell.json").get("training")
    past = [m for m in cell.marks[:-1] if m < step_on_disk(folder) and not marked(folder, m).exists()]
    if found is not None and (found != cell.training or past):
        folder.rename(_free(folder.with_name(f"{folder.name}.{found[:8]}")))
    elif (folder / RESULT).exists():
        identity = str(read_json(folder / RESULT).get("identity", ""))
        (folder / RESULT).rename(_free(folder / f"result-{identity[:8]}.json"))


def _free(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return float(value) if math.isfinite(value) else None
