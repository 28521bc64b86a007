"""What keeps a store sound: scenes of the training range, one process at a time, episodes of one kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from qt_ros.episodes.files import locked, write_atomically
from qt_ros.sim.seeds import TRAINING_SEEDS

SETTINGS = "collect.json"  # in the store's folder: with what the store was collected


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
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, wait=False))
        except BlockingIOError:
            raise CollectError(
                f"{lock.parent}: another process collects into this store; wait for it, or collect into another store "
                f"and train on both"
            ) from None
        yield


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
        different = [key for key in {**settings, **kept} if kept.get(key) != settings.get(key)]
    except (ValueError, AttributeError, TypeError) as error:
        raise CollectError(f"{path}: cannot be read ({error}); collect into another store") from error
    if different:
        told = "; ".join(f"{key} is {kept.get(key)!r} there, not {settings.get(key)!r}" for key in different)
        raise CollectError(f"{store}: collected with other settings: {told}. Use another store and train on both")
