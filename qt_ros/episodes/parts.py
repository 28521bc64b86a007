"""The part of one writer of a store: a manifest, and a log with one line for every shard finished since.

A flush appends one line, whatever the store holds already; closing folds the log into the manifest. A line counts once
its newline is on disk: what a kill or a full disk left of a line is cut off by the next writer and ignored by readers.
So that no writer cuts off what another one has just written, a part is locked while it is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from qt_ros.contract.files import NO_SPACE, fsync_directory, locked, locked_or, write_atomically
from qt_ros.contract.untrusted import load_json
from qt_ros.episodes.manifest import (
    MANIFEST,
    MAX_MANIFEST,
    PARTS,
    Manifest,
    Shard,
    StoreError,
    read_manifest_file,
    read_store_file,
    shard_from_dict,
)

LOG_SUFFIX = ".jsonl"
LOCK_SUFFIX = ".lock"  # such files stay: to delete one would free a lock that is held


def part_lock(root: Path, prefix: str) -> AbstractContextManager[None]:
    """Hold the part ``prefix`` of the store at ``root``, where its folder of parts must be. StoreError when another
    writer does; the lock of a process that is killed is free."""
    return locked_or(
        root / PARTS / f"{prefix}{LOCK_SUFFIX}",
        StoreError(
            f"{root}: another process writes the part {prefix} of this store; wait until it has ended and run this "
            "again, or write into another store"
        ),
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """StoreError with what to do where there is no room for ``path``, a file of a store.

    Whoever writes a store can be run again, because a refused write leaves what was finished before as it was.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free some space there (or lift a quota, or `ulimit -f`) "
            "and run the same command again: it keeps what is finished and goes on from there"
        ) from error


def held_parts(root: Path, pattern: str) -> list[str]:
    """Prefixes like ``pattern`` (as of files) of the parts of the store at ``root`` that are being written now, sorted.

    A writer that opens one of them at this very moment may be refused, so ask for no others than are yours to open.
    """
    held = []
    for path in sorted((root / PARTS).glob(pattern + LOCK_SUFFIX)):
        try:
            with locked(path, wait=False):
                pass
        except BlockingIOError:
            held.append(path.stem)
    return held


def part_files(root: Path) -> list[Path]:
    """The manifests of all writers of the store at ``root``, sorted; [] when there is none."""
    return sorted((root / PARTS).glob("*.json"))


def read_part(path: Path) -> Manifest:
    """The manifest at ``path`` with what its log adds. Raises StoreError when one of the two is damaged."""
    # The log first: its writer may fold it in meanwhile, and then the manifest repeats what the log said.
    logged, _ = _read_log(path.with_suffix(LOG_SUFFIX))
    manifest = read_manifest_file(path)
    known = {shard.file for shard in manifest.shards}
    added = [shard for shard in logged if shard.file not in known]
    return replace(manifest, shards=(*manifest.shards, *added)) if added else manifest


def _read_log(path: Path) -> tuple[list[Shard], int]:
    """The shards of all complete lines, and how many bytes those lines have."""
    try:
        data = read_store_file(path, MAX_MANIFEST)
    except FileNotFoundError:
        return [], 0
    size = data.rfind(b"\n") + 1
    shards = []
    for number, line in enumerate(data[:size].splitlines(), 1):
        where = f"{path}:{number}"
        try:
            shards.append(shard_from_dict(load_json(line), where))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{where}: no readable shard ({error!r}); the file was altered. Delete this line: the shard is then "
                "left out, and its episodes are made again by whoever continues the store"
            ) from error
    return shards, size


class PartLog:
    """What one writer keeps of its part: open, `append` for each shard, `close`."""

    def __init__(self, path: Path, empty: Manifest) -> None:
        """``path`` of the part's manifest; ``empty``: what a part without shards would say. StoreError when damaged."""
        self.path, self._empty = path, empty
        self._log = path.with_suffix(LOG_SUFFIX)
        self._shards = list(read_part(path).shards) if path.exists() else []
        self._size = _read_log(self._log)[1]

    @property
    def manifest(self) -> Manifest:
        """All that was appended so far."""
        return replace(self._empty, shards=tuple(self._shards))

    @property
    def last(self) -> Shard | None:
        """The shard appended last."""
        return self._shards[-1] if self._shards else None

    def append(self, shard: Shard) -> None:
        """Add a finished shard, durably. On an error (a full disk) the part is what it was."""
        if not self.path.exists():
            write_atomically(self.path, self._empty.to_json())
        line = json.dumps(asdict(shard)).encode() + b"\n"
        new = not self._log.exists()
        with open(self._log, "ab") as stream:
            stream.truncate(self._size)  # what an earlier attempt may have left of a line
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            fsync_directory(self._log.parent)
        self._size += len(line)
        self._shards.append(shard)

    def close(self) -> None:
        """Fold the log into the manifest."""
        write_atomically(self.path, self.manifest.to_json())
        self._log.unlink(missing_ok=True)
        self._size = 0


def merge_manifests(root: Path) -> Manifest:
    """Make ``store.json`` out of every writer's part, and return it. Safe to call again and from several processes.

    Raises StoreError when there is no part, when parts disagree (contract, action space, image size), or when one
    episode id stands in two shards.
    """
    root = Path(root)
    if not (root / PARTS).is_dir():
        raise StoreError(f"{root}: no {PARTS} folder, so nothing was written here; check the path")
    with locked(root / ".lock"):
        parts = part_files(root)
        if not parts:
            raise StoreError(f"{root / PARTS}: no writer has finished a shard yet")
        manifests = [read_part(p) for p in parts]
        first = manifests[0]
        for path, manifest in zip(parts, manifests, strict=True):
            for key, value in manifest.identity.items():
                if value != first.identity[key]:
                    raise StoreError(
                        f"{path}: {key} differs from {parts[0].name}; one store holds one contract and image size"
                    )
        owner: dict[str, str] = {}
        for shard in (s for m in manifests for s in m.shards):
            for episode in shard.episodes:
                if episode.id in owner:
                    raise StoreError(
                        f"{root}: episode {episode.id} is in {owner[episode.id]} and in {shard.file}; "
                        f"remove one of the two parts and merge again"
                    )
                owner[episode.id] = shard.file
        merged = Manifest(**first.identity, shards=tuple(s for m in manifests for s in m.shards))
        with writing(root / MANIFEST):
            write_atomically(root / MANIFEST, merged.to_json())
    return merged
