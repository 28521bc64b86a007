"""Making the index of a store: one pass over its shards, each checked against its SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qt_ros.contract.files import locked, replacing, write_atomically
from qt_ros.contract.untrusted import load_json
from qt_ros.episodes.index import (
    EPISODE,
    FOLDER,
    FORMAT,
    KEYPOINTS,
    PRIVILEGED,
    RECORD,
    SUCCESS,
    TERMINATED,
    UNJUDGED,
    VERSION,
    StoreIndex,
    origin,
    parse_table,
    read_index,
    step_dtype,
)
from qt_ros.episodes.manifest import MAX_MANIFEST, Manifest, Shard, StoreError
from qt_ros.episodes.roots import LocalRoot, Root, StoreUnreachable, read_optional, root_manifest
from qt_ros.episodes.skipped import SkippedShard, told, unreadable, wrong_content
from qt_ros.episodes.store_labels import last_reward


@dataclass
class _Part:
    """What one shard adds to an index; ``problem`` when it cannot be used."""

    steps: bytes = b""
    crcs: tuple[int, ...] = ()
    flags: tuple[int, ...] = ()
    rewards: tuple[float, float] = (0.0, 0.0)
    problem: str = ""
    whole: bool = False
    """Whatever the problem, the content is what the manifest says."""


def make_index(root: Root, cache: Path, progress: Callable[[int, int], None] | None = None) -> StoreIndex:
    """Make the index of the store at ``root`` beside it, or in ``cache`` where that cannot be written, and open it.

    Also where the one that is there leaves out a shard that can be used again (see `StoreIndex.outdated`). Shards that
    an older index knows are not read again. Damaged ones are listed in ``skipped`` and left out.
    Processes that ask at the same time wait for the first. Raises StoreError when no shard is sound.
    """
    home = cache
    if isinstance(root, LocalRoot):
        beside = root.path / FOLDER
        try:
            beside.mkdir(exist_ok=True)
            home = beside if os.access(beside, os.W_OK) else cache
        except OSError:
            pass
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / ".lock"):
        found = read_index(root, LocalRoot(home), "")
        if found is None or found.outdated():
            _build(root, home, progress)
            found = read_index(root, LocalRoot(home), "")
    if found is None:
        raise StoreError(f"{root.url}: the store changed while its index was made; wait for its writers and try again")
    return found


def _build(root: Root, home: Path, progress: Callable[[int, int], None] | None) -> None:
    held = root_manifest(root)
    manifest, made_from = held.manifest, origin(held.data, held.labels)
    # Names that no index had before: who reads that one must not find the files of this one under its names.
    before = read_optional(LocalRoot(home), RECORD)
    key = hashlib.sha256(json.dumps(made_from).encode() + before).hexdigest()[:16]
    names = {"episodes": f"episodes-{key}.npy", "steps": f"steps-{key}.bin", "ids": f"ids-{key}.txt"}
    dtype = step_dtype(len(manifest.action_space), len(manifest.proprio_names), len(manifest.privileged_names))
    texts: dict[str, int] = {}
    table: list[tuple[int, int, int, int, int]] = []
    shards: list[tuple[str, str, int]] = []
    skipped: list[SkippedShard] = []
    low, high = np.inf, -np.inf
    older = _Older(home, manifest, held.labelled)
    with replacing(home / names["steps"]) as steps, replacing(home / names["ids"]) as ids:
        for done, (shard, part) in enumerate(_parts(root, manifest, dtype, older), 1):
            if part.problem:
                skipped.append(SkippedShard.of(shard, part.problem, part.whole))
            elif shard.episodes:
                for meta, crc, flags in zip(shard.episodes, part.crcs, part.flags, strict=True):
                    text = texts.setdefault(meta.instruction, len(texts))
                    flags |= SUCCESS * (meta.outcome == "success") | TERMINATED * meta.terminated
                    flags |= UNJUDGED * (not meta.judged)
                    table.append((meta.length, len(shards), text, crc, flags))
                    ids.write(meta.id.encode() + b"\n")
                steps.write(part.steps)
                shards.append((shard.file, shard.sha256, shard.bytes))
                low, high = min(low, part.rewards[0]), max(high, part.rewards[1])
            if progress is not None:
                progress(done, len(manifest.shards))
    if skipped and not shards:
        told(root.url, skipped)
        raise StoreError(f"{root.url}: all {len(skipped)} shards are damaged; first: {skipped[0].problem}")
    with replacing(home / names["episodes"]) as stream:
        np.save(stream, np.array(table, EPISODE), allow_pickle=False)
    sums = {"sha256": hashlib.sha256((home / names["episodes"]).read_bytes()).hexdigest()}
    still_read = _still_read(before, made_from)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "made_from": made_from,
        "manifest_sha256": hashlib.sha256(manifest.to_json()).hexdigest(),
        "labelled": held.labelled,
        "store": manifest.identity,
        "instructions": list(texts),
        "reward_range": [float(low), float(high)] if table else [0.0, 0.0],
        "files": {kind: {"file": name, **(sums if kind == "episodes" else {})} for kind, name in names.items()},
        "skipped": [asdict(shard) for shard in skipped],
        "shards": shards,
        "still_read": sorted(still_read),
    }
    write_atomically(home / RECORD, json.dumps(document).encode())
    needed = {*names.values(), *still_read}
    for path in home.iterdir():  # of the store as it was before
        if path.suffix in (".npy", ".bin", ".txt") and path.name not in needed:
            path.unlink(missing_ok=True)


def _still_read(record: bytes, made_from: dict[str, Any]) -> set[str]:
    """Files of all indexes before, when the store is the same and only more of it is sound: runs that began without the
    rest go on as they began, however often that happens."""
    try:
        document = load_json(record, MAX_MANIFEST)
        if document["made_from"] != made_from:
            return set()
        return {str(name) for name in document.get("still_read", ())} | {f["file"] for f in document["files"].values()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return set()


class _Older:
    """What an index of the store as it was before says of shards that it still has."""

    def __init__(self, home: Path, manifest: Manifest, labelled: dict[str, str]) -> None:
        self._places: dict[tuple[str, str], tuple[int, int]] = {}
        try:
            document = load_json((home / RECORD).read_bytes(), MAX_MANIFEST)
            same = document["format"] == FORMAT and document["version"] == VERSION
            if not same or Manifest.from_identity(document["store"], "") != replace(manifest, shards=()):
                return
            self._labelled, self._labelled_before = labelled, dict(document["labelled"])
            self._steps = home / document["files"]["steps"]["file"]
            self._table = parse_table((home / document["files"]["episodes"]["file"]).read_bytes())
            if (self._table["length"] < 1).any():
                return
            counts = np.bincount(self._table["shard"], minlength=len(document["shards"]))
            first = np.cumsum(counts) - counts
            self._starts = np.cumsum(self._table["length"], dtype=np.int64) - self._table["length"]
            self._places = {
                (file, sha256): (int(first[number]), int(first[number] + counts[number]))
                for number, (file, sha256, _) in enumerate(document["shards"])
            }
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, MemoryError):
            return  # nothing to begin with

    def part(self, root: Root, shard: Shard, dtype: np.dtype[Any]) -> _Part | None:
        """What it says of ``shard``; None when that must be read."""
        first, last = self._places.get((shard.file, shard.sha256), (0, 0))
        if last <= first:
            return None
        rows = self._table[first:last]
        if len(rows) != len(shard.episodes) or any(r["length"] != e.length for r, e in zip(rows, shard.episodes)):
            return None
        if any(self._labelled.get(e.id) != self._labelled_before.get(e.id) for e in shard.episodes):
            return None  # the last reward of an episode follows its label
        size = sum(e.length for e in shard.episodes) * dtype.itemsize
        try:
            if root.size(shard.file) != shard.bytes:
                return None
            data = LocalRoot(self._steps.parent).read_range(
                self._steps.name, int(self._starts[first]) * dtype.itemsize, size
            )
        except (OSError, EOFError):
            return None
        rewards = np.frombuffer(data, dtype)["reward"]
        at, crcs = 0, []
        for row in rows:
            end = at + int(row["length"]) * dtype.itemsize
            crcs.append(zlib.crc32(data[at:end]))
            at = end
        if crcs != [int(row["crc"]) for row in rows]:
            return None
        kept = tuple(int(row["flags"]) & (KEYPOINTS | PRIVILEGED) for row in rows)
        return _Part(data, tuple(crcs), kept, (float(rewards.min()), float(rewards.max())))


def _parts(root: Root, manifest: Manifest, dtype: np.dtype[Any], older: _Older) -> Iterator[tuple[Shard, _Part]]:
    """Every shard with what it adds, in order; a few are read ahead."""
    workers = min(4, os.cpu_count() or 1)
    waiting: deque[tuple[Shard, Future[_Part]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for shard in manifest.shards:
                waiting.append((shard, pool.submit(_part, root, shard, dtype, older)))
                if len(waiting) > workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _part(root: Root, shard: Shard, dtype: np.dtype[Any], older: _Older) -> _Part:
    known = older.part(root, shard, dtype)
    if known is not None:
        return known
    try:
        data = root.read(shard.file)
    except OSError as error:
        return _Part(problem=unreadable(error))
    if problem := wrong_content(data, shard.bytes, shard.sha256):
        return _Part(problem=problem)
    try:
        return _records(data, shard, dtype)
    except StoreUnreachable:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        return _Part(problem=f"cannot be parsed ({error})", whole=not isinstance(error, MemoryError))


def _records(data: bytes, shard: Shard, dtype: np.dtype[Any]) -> _Part:
    """Step records of all episodes of a shard. ValueError when it does not hold what the manifest says."""
    columns = ["episode_id", "length", "outcome", "images", "proprio", "bins", "rewards", "keypoints"]
    if dtype["privileged"].shape[0]:
        columns.append("privileged")
    steps: list[bytes] = []
    crcs: list[int] = []
    flags: list[int] = []
    low, high = np.inf, -np.inf
    at, number = 0, 0
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        if file.metadata.num_rows != len(shard.episodes):
            raise ValueError(f"{file.metadata.num_rows} rows, the manifest says {len(shard.episodes)}")
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns)
            for row in range(table.num_rows):
                meta = shard.episodes[number]
                if table.column("episode_id")[row].as_py() != meta.id:
                    raise ValueError(f"row {number} is not episode {meta.id} of the manifest")
                for name in ("images", "proprio", "bins", "rewards"):
                    scalar = table.column(name)[row]
                    if not scalar.is_valid or scalar.values.null_count:
                        raise ValueError(f"episode {meta.id} has gaps in its {name}")
                frames = table.column("images")[row].values
                if len(frames) != meta.length:
                    raise ValueError(f"episode {meta.id} has {len(frames)} frames for {meta.length} steps")
                records = np.zeros(meta.length, dtype)
                at = _place_frames(data, at, frames, records, meta.id)
                bits = 0
                for name, bit in (("proprio", 0), ("bins", 0), ("keypoints", KEYPOINTS), ("privileged", PRIVILEGED)):
                    scalar = table.column(name)[row] if name in columns else None
                    if scalar is None or not scalar.is_valid:  # optional ones
                        records[name] = np.nan
                        continue
                    records[name] = _flat(scalar).reshape(records[name].shape)
                    bits |= bit if np.isfinite(records[name]).all() else 0
                records["reward"] = _flat(table.column("rewards")[row])
                if np.isnan(records["reward"]).any():  # which no range would show
                    raise ValueError(f"episode {meta.id} has rewards that are no numbers")
                if table.column("outcome")[row].as_py() != meta.outcome:
                    records["reward"][-1] = last_reward(meta)
                low, high = min(low, float(records["reward"].min())), max(high, float(records["reward"].max()))
                steps.append(records.tobytes())
                crcs.append(zlib.crc32(steps[-1]))
                flags.append(bits)
                number += 1
    return _Part(b"".join(steps), tuple(crcs), tuple(flags), (low, high))


def _flat(scalar: Any) -> NDArray[Any]:
    values: NDArray[Any] = scalar.values.to_numpy(zero_copy_only=False)
    return values


def _place_frames(data: bytes, at: int, frames: Any, records: NDArray[Any], name: str) -> int:
    """Find the frames of one episode in the shard's bytes from ``at`` on; where to look for the next.

    `StoreWriter` neither compresses nor deduplicates frames, so each lies there as it is, in order.
    """
    pictures: list[bytes] = frames.to_pylist()
    places = []
    for png in pictures:
        place = data.find(png, at)
        if place < 0:
            raise ValueError(f"the frames of episode {name} are not stored plainly; build the store anew")
        places.append(place)
        at = place + len(png)
    records["at"], records["bytes"] = places, [len(png) for png in pictures]
    records["frame_crc"] = [zlib.crc32(png) for png in pictures]
    return at
