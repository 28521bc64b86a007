"""Training stores: many episodes in Parquet shards, written by any number of processes, read as contiguous arrays."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qt_ros.contract.observations import PROPRIOCEPTION_NAMES
from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.arrays import EpisodeArrays, damaged, load_arrays
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.files import replacing, sha256_file
from qt_ros.episodes.manifest import (
    MANIFEST,
    PARTS,
    SHARDS,
    EpisodeMeta,
    Manifest,
    Shard,
    StoreError,
    read_manifest,
    read_manifest_file,
    require_contract,
)
from qt_ros.episodes.parts import PartLog, merge_manifests, part_lock, writing
from qt_ros.episodes.rows import from_row, to_row, to_table
from qt_ros.episodes.skipped import SkippedShard, told
from qt_ros.episodes.store_labels import as_labelled, labelled_manifest

__all__ = [
    "EpisodeMeta",
    "EpisodeStore",
    "SkippedShard",
    "StoreError",
    "StoreWriter",
    "merge_manifests",
    "read_manifest",
]

ROW_GROUP_EPISODES = 4
"""Small row groups: one episode can be read without decoding a whole shard."""


class StoreWriter:
    """Adds episodes to the store at ``root``; several processes may write at once, each with its own ``prefix``: it is
    locked until ``close`` or the end of the process, and StoreError for whoever opens it meanwhile.

    A shard is on disk (fsynced, hashed, listed in the part manifest of this writer) after every ``shard_episodes``
    episodes and at ``close``; a killed writer loses only what it had not flushed. With ``merge`` (the default)
    ``close`` also makes ``store.json``; parallel writers pass ``merge=False`` and the parent calls
    ``merge_manifests(root)`` once. Opening an existing prefix continues it. Use as a context manager: on an exception
    the finished episodes are kept.

    ``image_size`` is (height, width) of every frame; ``proprio_names`` names the P columns of ``Episode.proprio``,
    ``privileged_names`` the S of ``Episode.privileged`` (none: the store keeps none).
    """

    def __init__(
        self,
        root: str | Path,
        contract: RobotContract,
        image_size: tuple[int, int] = (96, 128),
        *,
        shard_episodes: int = 64,
        prefix: str = "shard",
        merge: bool = True,
        proprio_names: Sequence[str] = PROPRIOCEPTION_NAMES,
        privileged_names: Sequence[str] = (),
        allow_other_contract: bool = False,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", prefix):
            raise StoreError(f"shard prefix {prefix!r}: use letters, digits, _ and -")
        if shard_episodes < 1:
            raise StoreError(f"shard_episodes must be at least 1, found {shard_episodes}")
        self.root = Path(root)
        self._prefix, self._merge, self._shard_episodes = prefix, merge, shard_episodes
        self._allow_other_contract = allow_other_contract
        (self.root / PARTS).mkdir(parents=True, exist_ok=True)
        (self.root / SHARDS).mkdir(exist_ok=True)
        manifest = Manifest.of(contract, image_size, proprio_names, privileged_names)
        part = self.root / PARTS / f"{prefix}.json"
        with ExitStack() as stack:
            stack.enter_context(part_lock(self.root, prefix))
            if (self.root / MANIFEST).exists():
                _require_same(manifest, read_manifest(self.root), str(self.root / MANIFEST))
            if part.exists():
                _require_same(manifest, read_manifest_file(part), str(part))
            self._empty, self._part = manifest, PartLog(part, manifest)
            self._lock = stack.pop_all()
        self._bins = contract.action_space.bins
        self._dims = contract.action_space.size
        self._rows: list[dict[str, Any]] = []
        self._metas: list[EpisodeMeta] = []
        self.episode_ids: set[str] = {e.id for e in self.manifest.episodes}
        self._closed = False

    @property
    def manifest(self) -> Manifest:
        """This writer's part: what it put on disk so far."""
        return self._part.manifest

    def add(self, episode: Episode) -> None:
        """Validate and add one episode. Raises InvalidEpisode or StoreError; a refused episode changes nothing."""
        if self._closed:
            raise StoreError(f"{self.root}: the writer is closed")
        episode.validate()
        self._require_fit(episode)
        self._rows.append(to_row(episode))
        self._metas.append(
            EpisodeMeta(
                id=episode.episode_id,
                instruction=episode.instruction,
                task=episode.task,
                outcome=episode.outcome,
                reason=episode.reason,
                source=episode.source,
                length=len(episode),
                terminated=bool(episode.terminated),
                seed=None if episode.seed is None else int(episode.seed),
                checkpoint=episode.checkpoint,
            )
        )
        self.episode_ids.add(episode.episode_id)
        if len(self._rows) >= self._shard_episodes:
            self.flush()

    def flush(self) -> None:
        """Put the episodes added so far on disk as one shard. StoreError where the disk is full: they are kept for the
        next time."""
        if not self._rows:
            return
        last = self._part.last
        number = 0 if last is None else 1 + int(Path(last.file).stem.rpartition("-")[2])
        name = f"{self._prefix}-{number:05d}.parquet"
        path = self.root / SHARDS / name
        compression = {"images.list.element": "NONE"}
        table = to_table(self._rows, bool(self._empty.privileged_names))
        columns = {c: compression.get(c, "ZSTD") for c in leaf_columns(table.schema)}
        with writing(path), replacing(path) as stream:
            pq.write_table(table, stream, row_group_size=ROW_GROUP_EPISODES, compression=columns, use_dictionary=False)
        shard = Shard(f"{SHARDS}/{name}", sha256_file(path), path.stat().st_size, tuple(self._metas))
        with writing(self._part.path):
            self._part.append(shard)
        self._rows, self._metas = [], []

    def close(self) -> None:
        """Flush, write the part manifest and (unless ``merge=False``) the store's manifest. Idempotent."""
        if self._closed:
            return
        self.flush()
        with writing(self._part.path):
            self._part.close()
        self._closed = True
        self._lock.close()
        if self._merge:
            merge_manifests(self.root)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        finally:  # also where closing failed, as on a full disk: without the lock nothing may be written
            self._closed = True
            self._lock.close()

    def _require_fit(self, episode: Episode) -> None:
        m = self._empty
        where = f"episode {episode.episode_id}"
        if episode.episode_id in self.episode_ids:
            raise StoreError(f"{where} is already in this store (part {self._prefix}); episode ids must be unique")
        if episode.action_space_sha256 != m.action_space_sha256:
            raise StoreError(
                f"{where}: action space {episode.action_space_sha256[:12]}, the store has {m.action_space_sha256[:12]}"
            )
        if episode.contract_sha256 != m.contract_sha256 and not self._allow_other_contract:
            raise StoreError(
                f"{where}: contract {episode.contract_sha256[:12]}, the store has {m.contract_sha256[:12]}"
            )
        if episode.images.shape[1:3] != (m.image_height, m.image_width):
            raise StoreError(
                f"{where}: frames are {episode.images.shape[1:3]}, the store has {(m.image_height, m.image_width)}"
            )
        if episode.proprio.shape[1] != len(m.proprio_names):
            raise StoreError(
                f"{where}: {episode.proprio.shape[1]} proprioceptive values, the store has {len(m.proprio_names)}"
            )
        if episode.privileged is not None and episode.privileged.shape[1] != len(m.privileged_names):
            raise StoreError(
                f"{where}: {episode.privileged.shape[1]} privileged values, the store has {len(m.privileged_names)}"
            )
        if episode.actions.shape[1] != self._dims or episode.bins.max() >= self._bins:
            raise StoreError(f"{where}: needs {self._dims} action dimensions with bins below {self._bins}")


class EpisodeStore:
    """Read access to a finished store, with the outcomes that its labels say (see ``episodes.store_labels``).

    ``contract`` (optional) is compared with the store's: another action space always raises StoreError, another
    contract text raises unless ``allow_other_contract``. Every shard is checked against its hash at opening
    (``verify=False`` checks sizes and Parquet footers only); damaged ones are listed in ``skipped``, logged with their
    episodes' ids and left out. When nothing is left, StoreError.
    """

    def __init__(
        self,
        root: str | Path,
        contract: RobotContract | None = None,
        *,
        allow_other_contract: bool = False,
        verify: bool = True,
    ) -> None:
        self.root = Path(root)
        self.manifest = labelled_manifest(self.root)
        if contract is not None:
            require_contract(self.manifest, self.root, contract, allow_other_contract)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            problems = list(pool.map(lambda s: self._problem(s, verify), self.manifest.shards))
        self.skipped: list[SkippedShard] = []
        self.shards: list[Shard] = []
        for shard, problem in zip(self.manifest.shards, problems, strict=True):
            if problem is None:
                self.shards.append(shard)
                continue
            self.skipped.append(SkippedShard.of(shard, problem))
        told(str(self.root), self.skipped)
        if self.skipped and not self.shards:
            raise StoreError(
                f"{self.root}: all {len(self.skipped)} shards are damaged; first: {self.skipped[0].problem}"
            )
        self.meta: list[EpisodeMeta] = [e for s in self.shards for e in s.episodes]
        self._rows = [(s, row) for s in self.shards for row in range(len(s.episodes))]

    def __len__(self) -> int:
        return len(self.meta)

    def __iter__(self) -> Iterator[Episode]:
        for shard in self.shards:
            path, metas = self.root / shard.file, iter(shard.episodes)
            with damaged(path), pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    for row in range(table.num_rows):
                        yield as_labelled(self._episode(table, row), next(metas))

    @property
    def steps(self) -> int:
        """Frames in all readable episodes."""
        return sum(e.length for e in self.meta)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of every frame."""
        return self.manifest.image_height, self.manifest.image_width

    def episode(self, index: int) -> Episode:
        """Episode ``index`` in 0..len-1. Raises IndexError."""
        if not 0 <= index < len(self._rows):
            raise IndexError(f"{self.root}: episode {index} of {len(self)}")
        shard, row = self._rows[index]
        with damaged(self.root / shard.file), pq.ParquetFile(self.root / shard.file) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if row < rows:
                    return as_labelled(self._episode(file.read_row_group(group), row), self.meta[index])
                row -= rows
        raise StoreError(f"{self.root / shard.file}: fewer rows than its manifest says; rebuild the store")

    def index(self, episode_id: str) -> int:
        """Position of the episode with this id. Raises KeyError."""
        for i, meta in enumerate(self.meta):
            if meta.id == episode_id:
                return i
        raise KeyError(f"{self.root}: no episode {episode_id!r}")

    def load_all(
        self,
        columns: Sequence[str] | None = None,
        *,
        indices: Sequence[int] | None = None,
        threads: int | None = None,
        progress: Any = None,
    ) -> EpisodeArrays:
        """Decode everything (or the episodes ``indices``, in that order) into contiguous arrays with a thread pool.

        ``columns`` names the arrays wanted (default: images and all others; see ``EpisodeArrays``); leaving out
        "images" makes it cheap. ``progress(steps_done)`` is called from time to time.
        """
        wanted = range(len(self)) if indices is None else indices
        places = [(self.root / self._rows[i][0].file, self._rows[i][1], self.meta[i]) for i in wanted]
        return load_arrays(self.manifest, places, columns, threads or os.cpu_count() or 1, progress)

    def _episode(self, table: pa.Table, row: int) -> Episode:
        m = self.manifest
        return from_row(table, row, len(m.action_space), len(m.proprio_names), len(m.privileged_names))

    def _problem(self, shard: Shard, verify: bool) -> str | None:
        path = self.root / shard.file
        try:
            size = path.stat().st_size
            if size != shard.bytes:
                return f"{size} bytes, the manifest says {shard.bytes}"
            if verify and sha256_file(path) != shard.sha256:
                return "content does not match its SHA-256"
            rows = pq.read_metadata(path).num_rows
        except FileNotFoundError:
            return "file is missing"
        except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
            return f"cannot be parsed ({error})"
        return None if rows == len(shard.episodes) else f"{rows} rows, the manifest says {len(shard.episodes)}"


def leaf_columns(schema: pa.Schema) -> list[str]:
    """The names that Parquet has for the columns of ``schema``: what is in a list is called its element."""
    return [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in schema]


def _require_same(mine: Manifest, theirs: Manifest, where: str) -> None:
    for key, value in mine.identity.items():
        if theirs.identity[key] != value:
            raise StoreError(
                f"{where}: its {key} differs from what is to be written; use another folder for this contract"
            )
