"""Many episodes as contiguous arrays: the form training and evaluation index into."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qt_ros.episodes.manifest import EpisodeMeta, Manifest, StoreError
from qt_ros.episodes.rows import ARRAYS, OPTIONAL, array_shape, decode_png
from qt_ros.episodes.store_labels import last_reward

COLUMNS = ("images", *ARRAYS)


@dataclass
class EpisodeArrays:
    """E episodes with N steps in all; episode e owns rows ``offsets[e]:offsets[e + 1]`` of every array.

    Arrays that were not asked for are None. ``q_values``, ``keypoints`` and ``privileged`` are NaN in episodes that
    have none; in a store that names no privileged numbers the last has no columns.
    """

    meta: list[EpisodeMeta]
    offsets: NDArray[np.int64]
    """(E + 1,) int64."""
    images: NDArray[np.uint8] | None = field(default=None, repr=False)
    """(N, H, W, 3) uint8 RGB."""
    proprio: NDArray[np.float32] | None = field(default=None, repr=False)
    """(N, P) float32."""
    actions: NDArray[np.float32] | None = field(default=None, repr=False)
    """(N, D) float32, SI."""
    bins: NDArray[np.int16] | None = field(default=None, repr=False)
    """(N, D) int16."""
    rewards: NDArray[np.float32] | None = field(default=None, repr=False)
    """(N,) float32."""
    stamps: NDArray[np.float64] | None = field(default=None, repr=False)
    """(N,) float64 s."""
    q_values: NDArray[np.float32] | None = field(default=None, repr=False)
    """(N, D) float32."""
    keypoints: NDArray[np.float32] | None = field(default=None, repr=False)
    """(N, 2, 3) float32."""
    privileged: NDArray[np.float32] | None = field(default=None, repr=False)
    """(N, S) float32."""

    def __len__(self) -> int:
        return len(self.meta)

    @property
    def steps(self) -> int:
        """N, the number of steps."""
        return int(self.offsets[-1])

    @property
    def terminated(self) -> NDArray[np.bool_]:
        """(E,) bool: the MDP ended at the episode's last step."""
        return np.array([m.terminated for m in self.meta], dtype=bool)

    @property
    def instructions(self) -> list[str]:
        """Instruction of each episode."""
        return [m.instruction for m in self.meta]

    @property
    def episode_of_step(self) -> NDArray[np.int64]:
        """(N,) int64: which episode each step belongs to."""
        return np.repeat(np.arange(len(self.meta)), np.diff(self.offsets))

    @classmethod
    def concatenate(cls, parts: Sequence[EpisodeArrays]) -> EpisodeArrays:
        """Join several (the same columns and widths are needed). Copies; frees nothing."""
        if not parts:
            raise ValueError("nothing to concatenate")
        starts = np.cumsum([0, *(p.steps for p in parts)])
        offsets = np.concatenate([[0], *(p.offsets[1:] + start for p, start in zip(parts, starts, strict=False))])
        columns: dict[str, Any] = {}
        for name in COLUMNS:
            arrays = [getattr(p, name) for p in parts]
            if any(a is None for a in arrays) and not all(a is None for a in arrays):
                raise ValueError(f"column {name!r} is loaded in some parts only")
            columns[name] = None if arrays[0] is None else np.concatenate(arrays)
        return cls([m for p in parts for m in p.meta], offsets.astype(np.int64), **columns)


def load_arrays(
    manifest: Manifest,
    places: Sequence[tuple[Path, int, EpisodeMeta]],
    columns: Sequence[str] | None,
    threads: int,
    progress: Callable[[int], None] | None = None,
) -> EpisodeArrays:
    """Read the episodes at ``places`` (shard file, row, metadata) into preallocated arrays, in that order.

    Raises StoreError when a shard does not hold what its manifest says, ValueError for an unknown column.
    """
    names = tuple(COLUMNS if columns is None else columns)
    if unknown := sorted(set(names) - set(COLUMNS)):
        raise ValueError(f"unknown column(s) {', '.join(unknown)}; known: {', '.join(COLUMNS)}")
    widths = (len(manifest.action_space), len(manifest.proprio_names), len(manifest.privileged_names))
    offsets = np.concatenate([[0], np.cumsum([m.length for _, _, m in places], dtype=np.int64)]).astype(np.int64)
    total = int(offsets[-1])
    footers = _footers(places)
    out: dict[str, NDArray[Any]] = {}
    for name in names:
        if name == "images":
            out[name] = np.empty((total, manifest.image_height, manifest.image_width, 3), np.uint8)
        else:
            dtype = ARRAYS[name][0]
            fill = np.nan if name in OPTIONAL else 0
            out[name] = np.full(array_shape(name, total, *widths), fill, dtype)

    stored = [n for n in names if n != "privileged" or manifest.privileged_names]

    # One job per row group and file, so that no frame is read twice and all threads stay busy to the end.
    jobs: dict[tuple[Path, int], list[tuple[int, int]]] = defaultdict(list)
    groups: dict[Path, list[int]] = {}
    for position, (path, row, _) in enumerate(places):
        if path not in groups:
            metadata = footers[path]
            groups[path] = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        group = 0
        while group < len(groups[path]) and row >= groups[path][group]:
            row -= groups[path][group]
            group += 1
        jobs[path, group].append((row, position))

    def work(path: Path, group: int, rows: list[tuple[int, int]]) -> int:
        with damaged(path):
            with pq.ParquetFile(path, metadata=footers[path]) as file:
                table = file.read_row_group(group, columns=["episode_id", "length", "outcome", *stored])
            return take(path, group, rows, table)

    def take(path: Path, group: int, rows: list[tuple[int, int]], table: Any) -> int:
        done = 0
        for row, position in rows:
            meta, start, stop = places[position][2], int(offsets[position]), int(offsets[position + 1])
            if table.column("episode_id")[row].as_py() != meta.id or table.column("length")[row].as_py() != meta.length:
                raise StoreError(
                    f"{path}: row {row} of group {group} is not episode {meta.id} of the manifest; rebuild the store"
                )
            for name in stored:
                scalar = table.column(name)[row]
                if not scalar.is_valid and name in OPTIONAL:
                    continue
                if not scalar.is_valid or scalar.values.null_count:
                    raise StoreError(f"{path}: episode {meta.id} has gaps in its {name}; rebuild the store")
                if name == "images":
                    _decode_frames(scalar.values, out[name][start:stop], path, meta)
                else:
                    out[name][start:stop] = scalar.values.to_numpy(zero_copy_only=False).reshape(
                        out[name][start:stop].shape
                    )
            if "rewards" in out and table.column("outcome")[row].as_py() != meta.outcome:
                out["rewards"][stop - 1] = last_reward(meta)
            done += stop - start
        return done

    finished = 0
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        futures = [pool.submit(work, path, group, rows) for (path, group), rows in jobs.items()]
        try:
            for future in as_completed(futures):
                finished += future.result()
                if progress is not None:
                    progress(finished)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return EpisodeArrays([m for _, _, m in places], offsets, **out)  # type: ignore[arg-type]


@contextlib.contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside is the shard's fault: StoreError naming it."""
    try:
        yield
    except StoreError:
        raise
    except (
        pa.ArrowException, ArithmeticError, AttributeError, LookupError, MemoryError, OSError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise StoreError(f"{path}: damaged, or not made here ({error!r:.300}); rebuild the store") from error


def _footers(places: Sequence[tuple[Path, int, EpisodeMeta]]) -> dict[Path, Any]:
    """Parquet footers of all shards, once they proved to hold as many frames as the manifest says.

    Memory is taken by what the manifest says, so it must not be believed alone.
    """
    claimed: dict[Path, int] = defaultdict(int)
    for path, _, meta in places:
        claimed[path] += meta.length
    footers = {}
    for path, steps in claimed.items():
        with damaged(path):
            footer = pq.read_metadata(path)
            frames = 0
            for group in (footer.row_group(g) for g in range(footer.num_row_groups)):
                columns = [group.column(c) for c in range(group.num_columns)]
                frames += sum(c.num_values for c in columns if c.path_in_schema.startswith("images."))
        if frames < steps:
            raise StoreError(f"{path}: {frames} frames, the manifest says {steps} and more; rebuild the store")
        footers[path] = footer
    return footers


def _decode_frames(frames: Any, out: NDArray[np.uint8], path: Path, meta: EpisodeMeta) -> None:
    """PNG column values (an Arrow BinaryArray of T frames) -> ``out`` (T, H, W, 3), without copying the bytes first."""
    if len(frames) != len(out):
        raise StoreError(f"{path}: episode {meta.id} has {len(frames)} frames for {len(out)} steps; rebuild the store")
    for step in range(len(frames)):
        try:
            image = decode_png(np.frombuffer(frames[step].as_buffer(), np.uint8))
        except ValueError as error:
            raise StoreError(f"{path}: episode {meta.id}, frame {step}: {error}") from error
        if image.shape != out.shape[1:]:
            raise StoreError(f"{path}: episode {meta.id}, frame {step} is {image.shape}, the store has {out.shape[1:]}")
        out[step] = image
