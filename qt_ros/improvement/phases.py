"""The phases of one round. Each takes the run's context and the round, may be repeated after an interruption without
doing anything twice, and returns what the report says of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.manifest import MANIFEST, PARTS, read_manifest
from qt_ros.episodes.parts import merge_manifests
from qt_ros.episodes.store_labels import labelled_manifest
from qt_ros.improvement.commands import run_command, told
from qt_ros.improvement.experience import add_episodes, audit_episodes, build_from_bags, judged_bags
from qt_ros.improvement.measuring import measure, skills_document
from qt_ros.improvement.settings import ImprovementError, Interrupted
from qt_ros.improvement.state import Round, State, load_state
from qt_ros.improvement.statistics import Paired
from qt_ros.improvement.training import drawn_from, success_share_for, train_settings
from qt_ros.model.checkpoint import read_info
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary
from qt_ros.sim.store_guard import simulator_sha256

SEEDS_APART = 1000  # training seeds of two rounds; those of runs that are compared are closer together
Progress = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, of how much)."""


@dataclass
class Context:
    """What phases need besides the round.

    bags: folders of recorded bags to take in. twin: another run whose collections and measurements are taken over where
    they are of the same policy in the same scenes. keep_open: file descriptors that processes we start hold open.
    doing: begins what ``progress`` is told.
    """

    state: State
    bags: Sequence[Path] = ()
    twin: Path | None = None
    workers: int = 1
    device: str = "cpu"
    progress: Progress = lambda what, done, total: None
    stopped: Callable[[], bool] = lambda: False
    keep_open: Sequence[int] = ()
    doing: str = ""
    contract: RobotContract = field(init=False)

    def __post_init__(self) -> None:
        self.contract = load_contract(self.state.settings.robot)

    def say(self, what: str, done: int, total: int) -> None:
        """Progress of one phase, with the round it belongs to."""
        self.progress(f"{self.doing}{what}", done, total)

    def counting(self, what: str, total: int) -> Callable[[EpisodeResult, Summary], None]:
        """Progress of episodes."""
        return lambda _, summary: self.say(what, summary.skipped + len(summary.results), total)


def collect_episodes(context: Context, this: Round) -> dict[str, Any]:
    """Let the current policy act in this round's training scenes; every outcome is the detector's."""
    settings = context.state.settings
    seeds = settings.training_seeds(this.number)
    if not seeds:
        return {"episodes": 0, "commands": []}
    if settings.backend == "ros":
        return _collect_by_nodes(context, this)
    out = _collected(context, this)
    _take_from_twin(context, out, collected_in=this)
    noise = settings.disturbance()
    plan = Plan("policy", tuple(seeds), out, Path(this.policy), settings.tasks, settings.robot, noise)
    summary = collect(plan, context.workers, context.counting("collect", len(seeds)), context.stopped)
    episodes = read_manifest(out).episodes if (out / MANIFEST).is_file() else []
    if summary.stopped and summary.skipped + len(summary.results) < len(seeds):
        raise Interrupted
    words = ["collect", "--out", str(out), "--source", "policy", "--checkpoint", this.policy, "--robot", settings.robot]
    words += ["--episodes", str(len(seeds)), "--seed", str(seeds.start), "--workers", str(context.workers)]
    words += [word for task in settings.tasks for word in ("--task", task)]
    words += [word for change in settings.noise for word in ("--noise", change)]
    return {
        "episodes": len(episodes),
        "unstable": len(seeds) - len(episodes),
        "successes": sum(e.outcome == "success" for e in episodes),
        "steps": sum(e.length for e in episodes),
        "first_scene": seeds.start,
        "commands": [told(words)],
    }


def _collect_by_nodes(context: Context, this: Round) -> dict[str, Any]:
    """The same through the ROS graph: one bag per episode, judged by the simulator's detector."""
    settings, folder = context.state.settings, context.state.round_folder(this.number)
    _take_from_twin(context, folder / "bags", collected_in=this)
    wanted, commands = settings.episodes, []
    done = judged_bags(folder / "bags")
    attempt = len(list(folder.glob("demo-*.log")))
    while done < wanted:
        # A seed of its own for every attempt, so that a run that was cut short goes on in other scenes.
        words = ["demo", "--checkpoint", this.policy, "--episodes", str(wanted - done), "--training-scenes"]
        words += ["--seed", str(settings.seed + 1000 * this.number + attempt), "--out", str(folder / "bags")]
        words += [word for task in settings.asked for word in ("--task", task)]
        commands.append(told(words))
        log = folder / f"demo-{attempt:02d}.log"
        run_command(
            words, log, on_line=lambda _: context.say("collect", judged_bags(folder / "bags"), wanted),
            stopped=context.stopped, keep_open=context.keep_open,
        )  # fmt: skip
        attempt += 1
        before, done = done, judged_bags(folder / "bags")
        if done <= before:
            raise ImprovementError(f"`{commands[-1]}` recorded no judged episode; {log} says what happened")
    return {"episodes": done, "commands": commands}


def take_bags(context: Context, this: Round) -> dict[str, Any]:
    """Bags of this round's nodes and of ``--bags``, with their labels, become a store of this round."""
    state = context.state
    folder = state.round_folder(this.number)
    folders = [*context.bags, *([folder / "bags"] if (folder / "bags").is_dir() else [])]
    if not folders:
        return {"bags": 0, "folders": []}
    context.say("bags", 0, 1)
    config = read_info(Path(this.policy)).config
    size = (config.image_height, config.image_width)
    found = build_from_bags(
        folders,
        folder / "recorded",
        state.store,
        context.contract,
        size,
        state.settings.allow_other_contract,
        [state.round_folder(number) / "recorded" for number in range(1, this.number)],
    )
    return {**found, "folders": [str(f) for f in folders]}


def audit_round(context: Context, this: Round) -> dict[str, Any]:
    """Is what was lived fit to be learnt from? See `audit_episodes`."""
    state = context.state
    context.say("audit", 0, 1)
    known: set[str] = set()
    if (state.store / PARTS).is_dir() and (state.store / MANIFEST).is_file():
        part = state.store / PARTS / f"round-{this.number:02d}.json"
        if part.exists():  # an add that was begun and then audited again
            raise ImprovementError(f"{part} is there, but this round was not audited; move {state.store} away")
        known = {e.id for e in read_manifest(state.store).episodes}
    return audit_episodes(
        _new_stores(context, this), context.contract, this.policy_id, known, state.settings.allow_other_contract
    )


def add_round(context: Context, this: Round) -> dict[str, Any]:
    """What passed the audit joins the store of all rounds; in a run without failures only its successes."""
    state = context.state
    context.say("add", 0, 1)
    counts = add_episodes(
        _new_stores(context, this), state.store, this.number, context.contract, this.phases["audit"]["refused"],
        with_failures=state.settings.with_failures, other=state.settings.allow_other_contract, stopped=context.stopped,
    )  # fmt: skip
    if counts.pop("left"):
        raise Interrupted
    if (state.store / PARTS).is_dir():
        merged = merge_manifests(state.store)
        counts |= {"episodes_in_store": len(merged.episodes), "steps_in_store": sum(e.length for e in merged.episodes)}
    return counts


def train_round(context: Context, this: Round) -> dict[str, Any]:
    """Train on from the current policy, by its own settings, on all that is known now."""
    state, settings = context.state, context.state.settings
    folder = state.round_folder(this.number)
    stores = [Path(s) for s in settings.stores]
    if (state.store / MANIFEST).is_file() and read_manifest(state.store).episodes:
        stores.append(state.store)
    wanted = train_settings(Path(this.policy), settings.steps, settings.changes)
    # Batches of its own for every round: a round that starts where the last one did, with nothing new to learn from,
    # would otherwise only train the same policy again.
    first = train_settings(Path(settings.checkpoint), settings.steps, settings.changes)
    wanted["seed"] = first.get("seed", 0) + SEEDS_APART * (this.number - 1)
    # An earlier round may have gone without the share of the start.
    known = [labelled_manifest(store) for store in stores]
    wanted["success_share"] = success_share_for(first.get("success_share"), known)
    text = yaml.safe_dump({key: value for key, value in wanted.items() if value is not None}, sort_keys=False)
    # Labels that change while the training is interrupted make it another training.
    contents = [hashlib.sha256(manifest.to_json()).hexdigest() for manifest in known]
    key = hashlib.sha256(json.dumps([this.policy_id, text, contents]).encode()).hexdigest()[:8]
    config, out = folder / f"train-{key}.yaml", folder / f"train-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(text)
    words = ["train", *(word for store in stores for word in ("--store", str(store))), "--out", str(out)]
    words += ["--config", str(config), "--robot", settings.robot, "--init", this.policy, "--device", context.device]
    words += ["--allow-other-contract"] if settings.allow_other_contract else []
    metrics: dict[str, Any] = {}

    def on_line(line: str) -> None:
        if line.startswith("{"):
            metrics.update(json.loads(line))
            context.say("train", int(metrics["step"]), settings.steps)

    context.say("train", 0, settings.steps)
    run_command(
        [*words, "--json"], folder / f"train-{key}.log", on_line=on_line, stopped=context.stopped,
        keep_open=context.keep_open,
    )  # fmt: skip
    info = read_info(out / "checkpoint")
    return {
        "checkpoint": str(out / "checkpoint"),
        "checkpoint_id": info.id,
        "gradient_steps": settings.steps,
        "episodes": info.provenance["episodes"],
        "successes": info.provenance["successes"],
        **drawn_from(info.provenance, wanted),
        "metrics": metrics,
        "commands": [told(words)],
    }


def choose(context: Context, this: Round) -> dict[str, Any]:
    """Old and new policy in the same tuning scenes: the one with more successes is kept, the old one when equal.

    Without tuning scenes nobody compares them here, and the next round goes on from the new one.
    """
    settings, trained = context.state.settings, this.phases["train"]
    seeds = settings.choice_seeds(this.number)
    policies = {"old": (this.policy, this.policy_id), "new": (trained["checkpoint"], trained["checkpoint_id"])}
    success = {
        name: _measured(context, f"compare {name}", path, identity, seeds, context.state.round_folder(this.number))
        for name, (path, identity) in policies.items()
    }
    paired = Paired.of(success["old"], success["new"])
    better = "new" if paired.only_new > paired.only_old or not seeds else "old"
    if seeds:
        why = (
            f"the new policy succeeds in {paired.new.success} and the old one in {paired.old.success} of the same "
            f"{paired.scenes} tuning scenes, {seeds.start} to {seeds.stop - 1}"
        )
    else:
        why = (
            "nothing was compared (--choice-episodes 0): measure both yourself before you rely on it. The old one is "
            f"{this.policy}"
        )
    if better == "old":
        why += "; without an advantage the old one stays"
    return {
        **paired.to_dict(),
        "skills": {name: skills_document(success[name], settings.asked) for name in policies},
        "kept": better,
        "why": why,
        "kept_checkpoint": policies[better][0],
        "kept_id": policies[better][1],
        "commands": [_evaluate_command(context, path, seeds) for path, _ in policies.values() if seeds],
    }


def measure_policy(context: Context, path: str, identity: str) -> dict[str, Any]:
    """Success of a policy in the test scenes, episode by episode."""
    seeds = context.state.settings.test_seeds
    success = _measured(context, "test", path, identity, seeds, context.state.folder / "tests")
    return {
        "checkpoint": path,
        "success": {str(seed): value for seed, value in success.items()},
        **skills_document(success, context.state.settings.asked),
        "first_scene": seeds.start,
        "simulator": simulator_sha256(),
        "commands": [_evaluate_command(context, path, seeds)],
    }


def _measured(context: Context, what: str, path: str, identity: str, seeds: range, folder: Path) -> dict[int, bool]:
    settings = context.state.settings
    file = folder / f"success-{identity[:12]}-{seeds.start}.jsonl"
    _take_from_twin(context, file)  # its first line says of what it is
    return measure(
        Path(path), identity, seeds, file, tasks=settings.tasks, robot=settings.robot, workers=context.workers,
        on_result=context.counting(what, len(seeds)), stopped=context.stopped,
    )  # fmt: skip


def _evaluate_command(context: Context, path: str, seeds: range) -> str:
    words = ["evaluate", path, "--episodes", str(len(seeds)), "--seed", str(seeds.start)]
    words += ["--robot", context.state.settings.robot]
    return told([*words, *(word for task in context.state.settings.tasks for word in ("--task", task))])


def _twin_collected(context: Context, this: Round) -> bool:
    """Whether the twin run has finished collecting in this round, with the same policy: before, what a copy holds of a
    store or of bags may not go together."""
    other = None if context.twin is None else load_state(context.twin)
    theirs = None if other is None else next((r for r in other.rounds if r.number == this.number), None)
    return theirs is not None and theirs.policy_id == this.policy_id and "collect" in theirs.phases


def _collected(context: Context, this: Round) -> Path:
    return context.state.round_folder(this.number) / "collected"


def _new_stores(context: Context, this: Round) -> list[Path]:
    """Stores of this round's own experience that hold something."""
    stores = (_collected(context, this), context.state.round_folder(this.number) / "recorded")
    return [s for s in stores if (s / MANIFEST).is_file() and read_manifest(s).episodes]


def _take_from_twin(context: Context, own: Path, collected_in: Round | None = None) -> None:
    """Copy what the twin run has at the same place if we have nothing there yet; what it collects in a round
    (``collected_in``), only once that is all there."""
    if context.twin is None or own.exists():
        return
    theirs = context.twin / own.relative_to(context.state.folder)
    if not theirs.exists() or (collected_in is not None and not _twin_collected(context, collected_in)):
        return
    own.parent.mkdir(parents=True, exist_ok=True)
    partial = own.with_name(f"{own.name}.partial")
    if theirs.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(theirs, partial)
    else:
        shutil.copyfile(theirs, partial)
    partial.rename(own)
