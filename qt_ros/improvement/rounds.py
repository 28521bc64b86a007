"""The loop around the phases: begins a run or goes on with one, and never does twice what is done."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qt_ros.contract.robot import load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.episodes.files import write_atomically
from qt_ros.episodes.store import EpisodeStore
from qt_ros.improvement import phases
from qt_ros.improvement.arms import other_rounds
from qt_ros.improvement.environment import environment
from qt_ros.improvement.phases import Context
from qt_ros.improvement.report import round_document, round_page, run_document, run_page
from qt_ros.improvement.settings import ImprovementError, Interrupted, Settings
from qt_ros.improvement.state import Round, State, load_state
from qt_ros.improvement.training import train_settings
from qt_ros.model.checkpoint import read_info
from qt_ros.sim.seeds import outside_training
from qt_ros.sim.store_guard import simulator_sha256
from qt_ros.sim.world import World

FUNCTIONS: dict[str, Callable[[Context, Round], dict[str, Any]]] = {
    "collect": phases.collect_episodes,
    "bags": phases.take_bags,
    "audit": phases.audit_round,
    "add": phases.add_round,
    "train": phases.train_round,
    "choose": phases.choose,
}


def begin(folder: Path, settings: Settings | None, rounds: int, twin: Path | None = None) -> State:
    """The run in ``folder``, begun with ``settings`` when there is none; it may have been begun with fewer rounds.

    ``settings`` None: those it was begun with. Raises ImprovementError when they differ from those, when there are
    none, when the start policy is not the one that it was begun with, when scenes leave their range, and when ``twin``
    is a run of other rounds.
    """
    state = load_state(folder)
    if state is None:
        if settings is None:
            raise ImprovementError(f"no run was begun in {folder}; give the start with --checkpoint and --store")
        folder.mkdir(parents=True, exist_ok=True)
        state = State(folder, settings, environment=environment())
    elif settings is not None and (different := state.settings.differences(settings)):
        told = "; ".join(f"{k} is {getattr(state.settings, k)!r} there" for k in different)
        raise ImprovementError(f"{folder}: a run with other settings was begun there: {told}. Use another folder")
    state.settings.require_ranges(rounds)
    if (found := read_info(Path(state.settings.checkpoint)).id) != state.settings.checkpoint_id:
        raise ImprovementError(
            f"{state.settings.checkpoint} holds checkpoint {found[:12]}, the run began with "
            f"{state.settings.checkpoint_id[:12]}; put that one back, or use another folder"
        )
    require_trainable(state.settings)
    now = environment()["commit"]
    if now not in (commits := state.environment.setdefault("commits", [state.environment.get("commit", "")])):
        commits.append(now)
    if twin is not None:
        _require_twin(state, twin)
    state.save()
    return state


def require_trainable(settings: Settings) -> None:
    """What would stop the first round or spoil its numbers, said before hours of collecting: ImprovementError,
    StoreError."""
    policy = Path(settings.checkpoint)
    train_settings(policy, settings.steps, settings.changes)
    config, contract = read_info(policy).config, load_contract(settings.robot)
    stores = [
        EpisodeStore(root, contract, allow_other_contract=settings.allow_other_contract, verify=False)
        for root in settings.stores
    ]
    for store in stores:
        if config.vision != "state" and store.image_size != (config.image_height, config.image_width):
            seen = f"{config.image_height} x {config.image_width}"
            raise ImprovementError(f"{store.root}: its frames are {store.image_size}, the policy sees {seen} pixels")
        if problem := next((told for meta in store.meta if (told := outside_training(meta.seed))), ""):
            raise ImprovementError(f"{store.root}: {problem}; a round chooses and reports in such scenes")
    if settings.simulated:
        try:
            World(contract)
        except ConfigError as error:
            raise ImprovementError(
                f"robot {settings.robot} cannot be simulated ({error}). To learn from its bags alone: --bags BAGS "
                f"--episodes 0 --choice-episodes 0 --test-episodes 0, and compare the policies on the robot"
            ) from error


def _require_twin(state: State, twin: Path) -> None:
    other = load_state(twin)
    if other is None:
        raise ImprovementError(f"{twin}: no run is there to take collections and measurements from")
    if different := other_rounds(state.settings, other.settings):
        raise ImprovementError(f"{twin} is a run of other rounds ({', '.join(different)}); leave out --twin")


def run(context: Context, rounds: int) -> State:
    """Run what is left of ``rounds`` rounds, then measure every policy that was kept; reports as they come.

    Raises Interrupted when asked to stop; what is done stays done.
    """
    state = context.state
    for number in range(1, rounds + 1):
        if number > len(state.rounds):
            path, identity = state.policies[-1]
            state.rounds.append(Round(number, path, identity))
        this = state.rounds[number - 1]
        if this.finished and (state.round_folder(number) / "report.md").exists():
            continue
        context.doing = f"round {number}: "
        for name, function in FUNCTIONS.items():
            if name in this.phases:
                continue
            if context.stopped():
                raise Interrupted
            with state.timed(this.seconds, name):
                this.phases[name] = function(context, this)
        folder = state.round_folder(number)
        write_json(folder / "report.json", round_document(state, this))
        write_atomically(folder / "report.md", round_page(state, this).encode())
    context.doing = ""
    for path, identity in dict.fromkeys(state.policies):
        known = state.tests.get(identity, {}).get("simulator", simulator_sha256())  # older runs do not say
        if state.settings.test_episodes and (identity not in state.tests or known != simulator_sha256()):
            if context.stopped():
                raise Interrupted
            with state.timed(state.seconds, "test"):
                state.tests[identity] = phases.measure_policy(context, path, identity)
    write_json(state.folder / "report.json", run_document(state))
    write_atomically(state.folder / "report.md", run_page(state).encode())
    return state


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Indented, atomically."""
    write_atomically(path, json.dumps(document, indent=1).encode() + b"\n")


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Nobody else works on the run in ``folder``; yields the descriptor of the lock, for processes to hold it too.

    ImprovementError when somebody does: another command, or what it had started and could not stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImprovementError(f"{folder}: another process works on this run; wait for it") from None
        yield stream.fileno()
