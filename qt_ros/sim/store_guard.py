"""What keeps a store sound: scenes of the training range, one process at a time, episodes of one kind, and a note of
the simulator that made them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from qt_ros.contract.robot import package_root
from qt_ros.episodes.files import locked_or, write_atomically
from qt_ros.episodes.parts import held_parts
from qt_ros.sim.seeds import TRAINING_SEEDS

log = logging.getLogger(__name__)

SETTINGS = "collect.json"  # in the store's folder: with what the store was collected
SIMULATORS = "simulators"  # in that file: what made the episodes, in order
UNKNOWN = "unknown"  # made before that was noted


class CollectError(RuntimeError):
    """Collecting cannot begin, or a worker failed (the message then holds its traceback).

    Episodes that were finished are in the store.
    """


def require_training_seeds(seeds: Sequence[int]) -> None:
    """CollectError when a scene of the tuning or test range is among ``seeds``: data for training must not hold any."""
    outside = [s for s in seeds if s not in TRAINING_SEEDS]
    if outside:
        raise CollectError(
            f"scene {outside[0]} is outside the training range {TRAINING_SEEDS.start} to {TRAINING_SEEDS.stop - 1}; "
            f"scenes from there on are for tuning and for the numbers that are reported. Choose another seed, or say "
            f"--any-seed for a store that is not trained on"
        )


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold ``lock``; CollectError when another process does."""
    busy = CollectError(
        f"{lock.parent}: another process collects into this store; wait for it, or collect into another store and "
        f"train on both"
    )
    with locked_or(lock, busy):
        yield


def require_no_orphans(store: Path, sources: Sequence[str]) -> None:
    """CollectError while workers of ``sources`` still write: they outlive a parent that was killed, and what they will
    put on disk nobody sees there yet. To be called with the store's lock held, before its episodes are counted."""
    if held := [prefix for source in sources for prefix in held_parts(store, f"{source}-*")]:
        raise CollectError(
            f"{store}: another process collects into this store: one that was killed, whose workers still put their "
            f"last episodes on disk ({', '.join(held)}). They end by themselves; run this again in a minute"
        )


def require_settings(store: Path, settings: dict[str, Any], empty: bool = False) -> None:
    """Keep ``settings`` in the folder ``store``, or compare with those there: CollectError names what differs.

    A store that is ``empty``, or was collected before settings were kept, takes them on.
    """
    path = store / SETTINGS
    settings = json.loads(json.dumps(settings))
    if empty or not path.exists():
        write_atomically(path, json.dumps(settings, indent=2).encode() + b"\n")
        return
    try:
        kept = json.loads(path.read_bytes())
        kept.pop(SIMULATORS, None)
        different = [key for key in {**settings, **kept} if kept.get(key) != settings.get(key)]
    except (ValueError, AttributeError, TypeError) as error:
        raise CollectError(f"{path}: cannot be read ({error}); collect into another store") from error
    if different:
        told = "; ".join(f"{key} is {kept.get(key)!r} there, not {settings.get(key)!r}" for key in different)
        raise CollectError(f"{store}: collected with other settings: {told}. Use another store and train on both")


@lru_cache(maxsize=1)
def simulator_sha256() -> str:
    """SHA-256 (hex) of what scenes, physics, scripts and detectors are made of: names and contents of
    ``config/tasks.yaml`` and of all files of ``description/`` and ``qt_ros/sim/``. Any edit there changes it."""
    root, code = package_root(), Path(__file__).parent
    files = {"config/tasks.yaml": root / "config" / "tasks.yaml"}
    for name, folder in (("description", root / "description"), ("sim", code)):
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            if path.is_file() and "__pycache__" not in inside.parts and not path.name.startswith("."):
                files[f"{name}/{inside.as_posix()}"] = path
    each = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in sorted(files.items())]
    return hashlib.sha256("".join(each).encode()).hexdigest()


def note_simulator(store: Path, sha256: str, empty: bool = False) -> None:
    """Note beside the settings of ``store`` that the simulator ``sha256`` makes the episodes added from now on.

    Logs a warning when others made those that are there, or nobody knows which. To be called after `require_settings`.
    """
    path = store / SETTINGS
    document = json.loads(path.read_bytes())
    before = [] if empty else document.get(SIMULATORS, [UNKNOWN])
    if before and before[-1] == sha256:
        return
    if before[-1:] == [UNKNOWN]:
        log.warning("%s: does not say which simulator made its episodes; those added now are of %s", store, sha256[:12])
    elif before:
        log.warning(
            "%s: ITS EPISODES WERE MADE BY ANOTHER SIMULATOR (%s, now %s): config/tasks.yaml, description/ or "
            "qt_ros/sim were edited since. Both are noted in %s; to keep them apart, collect into another store",
            store, before[-1][:12], sha256[:12], SETTINGS,
        )  # fmt: skip
    write_atomically(path, json.dumps({**document, SIMULATORS: [*before, sha256]}, indent=2).encode() + b"\n")
