"""Stores as they are named on the command line, and whether their data go into memory or are streamed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.index import FOLDER, read_index
from qt_ros.episodes.mirror import fetch_store
from qt_ros.episodes.roots import LocalRoot, Root, is_url, open_root, root_manifest
from qt_ros.learning.dataset import StepData, load_training_data
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.streaming import CACHE_BYTES, stream_training_data

STEP_BYTES = 300
"""Memory of a step beside its frame, about."""


@dataclass(frozen=True)
class NamedStore:
    """A folder or URL, and how often to draw from it (None: as often as it has steps)."""

    where: str
    weight: float | None = None


def parse_store(entry: str) -> NamedStore:
    """``PATH`` or ``PATH=WEIGHT``. TrainingError when the weight is not positive."""
    where, equals, last = entry.rpartition("=")
    if not equals or (not is_url(entry) and Path(entry).exists()):
        return NamedStore(entry)
    try:
        weight = float(last)
    except ValueError:
        return NamedStore(entry)
    if not (math.isfinite(weight) and weight > 0):
        raise TrainingError(f"--store {entry}: a weight must be positive; leave the store out to draw nothing from it")
    return NamedStore(where, weight)


def parse_stores(entries: Sequence[str]) -> tuple[list[str], list[float] | None]:
    """Places and, if there are any, weights of all. TrainingError when only some stores have one."""
    stores = [parse_store(entry) for entry in entries]
    weights = [s.weight for s in stores if s.weight is not None]
    if weights and len(weights) < len(stores):
        bare = ", ".join(s.where for s in stores if s.weight is None)
        raise TrainingError(f"some stores have a weight and others none ({bare}); give all of them one (PATH=WEIGHT)")
    return [s.where for s in stores], weights or None


def open_data(
    entries: Sequence[str],
    gamma: float,
    *,
    stream: bool | None = None,
    contract: RobotContract | None = None,
    allow_other_contract: bool = False,
    privileged: bool = False,
    cache: Path | None = None,
    cache_bytes: int = CACHE_BYTES,
    progress: Callable[[str], None] = lambda _: None,
) -> StepData:
    """Step data of the stores ``entries`` (see `parse_store`).

    ``stream``: leave them where they are, instead of reading all into memory; None: when they would take more than half
    of the memory that is free. Both give the same batches. A URL that is read into memory is copied to this machine
    first. ``cache``: see `cache_folder`. ``progress``: is told what is being done. Raises TrainingError, StoreError.
    """
    places, weights = parse_stores(entries)
    roots = [open_root(place) for place in places]
    if stream is None:
        stream = sum(_memory(root, privileged) for root in roots) > psutil.virtual_memory().available / 2
    if stream:
        return stream_training_data(
            places, gamma, contract=contract, allow_other_contract=allow_other_contract, privileged=privileged,
            weights=weights, cache=cache, cache_bytes=cache_bytes,
            progress=lambda done, of: progress(f"indexing stores, once: shard {done} of {of}"),
        )  # fmt: skip
    paths = [
        root.path
        if isinstance(root, LocalRoot)
        else fetch_store(root, cache, lambda done, of: progress(f"copying: shard {done} of {of}"))
        for root in roots
    ]
    return load_training_data(
        paths, gamma, contract=contract, allow_other_contract=allow_other_contract, privileged=privileged,
        weights=weights, progress=lambda steps: progress(f"reading stores: {steps} steps"),
    )  # fmt: skip


def _memory(root: Root, privileged: bool) -> int:
    """Bytes that the steps of a store would take."""
    found = read_index(root, root, f"{FOLDER}/")
    if found is not None:
        manifest, steps = found.manifest, found.steps
    else:
        manifest = root_manifest(root).manifest
        steps = sum(shard.steps for shard in manifest.shards)
    frame = 4 * len(manifest.privileged_names) if privileged else 3 * manifest.image_height * manifest.image_width
    return steps * (frame + STEP_BYTES)
