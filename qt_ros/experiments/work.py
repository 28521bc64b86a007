"""The work folder: where data, warm-ups, tokens and cells lie, and how a run is told where and how to compute."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qt_ros.episodes.files import locked_or, write_atomically
from qt_ros.experiments.recipes import DataRecipe, WarmUpRecipe

RESULT = "result.json"
HOW = ("log_every", "save_every", "threads", "autocast")
"""Settings of a training run that say how it is computed, not what."""


class DataError(ValueError):
    """Data in the work folder are not those asked for, or cannot be made."""


@dataclass(frozen=True)
class Work:
    """``root`` and how to compute in it. ``workers``: processes of an evaluation, 0 for that of the cell. ``autocast``:
    mixed precision for the policy that collects (cells have it in their settings)."""

    root: Path
    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    jobs: int = 1
    command: str = ""
    robot: str = "mobile_manipulator"
    autocast: bool = False

    def stores(self, recipe: DataRecipe) -> list[Path]:
        """Stores of a data recipe, in the order of its ``all_parts``."""
        own = [self.root / "data" / recipe.name / part.store for part in recipe.parts]
        return (self.stores(recipe.base) if recipe.base else []) + own

    def collector(self, recipe: DataRecipe) -> Path:
        """Folder of the policy that the recipe itself trains to collect with."""
        return self.root / "data" / recipe.name / "policy"

    def description(self, recipe: DataRecipe) -> Path:
        """What a data set holds, written when it is complete."""
        return self.root / "data" / recipe.name / "data.json"

    def warm_up(self, recipe: WarmUpRecipe) -> Path:
        """Folder of a warm-up."""
        return self.root / "warm-up" / recipe.name

    @property
    def tokens(self) -> Path:
        """Folder of what frozen vision sides make of the stores."""
        return self.root / "tokens"


def digest(value: Any) -> str:
    """SHA-256 (hex) of JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is no file, ValueError for anything else."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return found


def finished_checkpoint(folder: Path, note: str, recipe: str, other: str) -> Path | None:
    """The checkpoint in ``folder`` of a training that is noted in its file ``note``, or None while it is not finished.

    DataError, with ``other`` for what to do, when it was made by another recipe than that of the digest ``recipe``.
    """
    found = read_json(folder / note)
    if found and found["recipe"] != recipe:
        raise DataError(f"{folder}: {other}")
    return folder / "checkpoint" if found.get("finished") else None


@contextmanager
def training_alone(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of ``folder``, in which ``what`` is trained; DataError at once when another process does, since two
    would write over each other's states there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    busy = DataError(
        f"{folder}: another process trains {what}; wait until it has ended and run the same command again, which then "
        "takes what is there, or choose another --work folder"
    )
    with locked_or(folder.with_name(f".{folder.name}.lock"), busy):
        yield


def write_json(path: Path, value: Any) -> None:
    """Atomically, two spaces deep, with a newline at the end; NaN and infinities raise ValueError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False).encode() + b"\n")
