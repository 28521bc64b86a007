"""Stores of any number of episodes, made fast: real files in the real format, with frames drawn from a small pool."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qt_ros.contract.observations import PROPRIOCEPTION_NAMES
from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.files import replacing
from qt_ros.episodes.manifest import PARTS, SHARDS, EpisodeMeta, Manifest, Shard
from qt_ros.episodes.parts import PartLog, merge_manifests
from qt_ros.episodes.rows import ARRAYS, SCHEMA, encode_png
from qt_ros.episodes.store import ROW_GROUP_EPISODES, leaf_columns

POOL = 64
INSTRUCTIONS = 20
_ID = re.compile(rb"synthetic-(\d{7})")


def make_store(
    root: Path,
    contract: RobotContract,
    episodes: int,
    *,
    steps: int = 12,
    size: tuple[int, int] = (16, 16),
    shard_episodes: int = 64,
    progress: Callable[[int], None] = lambda _: None,
) -> Path:
    """A store of ``episodes`` episodes of ``steps`` steps at ``root``; every other one a success.

    All shards are copies of the first but for the ids, which Parquet keeps as they are (plain, uncompressed): what is
    sampled from them costs what any store of this size would. ``progress(episodes_done)``.
    """
    (root / PARTS).mkdir(parents=True)
    (root / SHARDS).mkdir()
    rng = np.random.default_rng(0)
    height, width = size
    waves = np.linspace(0, 6, width)[None, :, None] + np.arange(height)[:, None, None] / 5 + np.arange(3)
    pictures = [
        encode_png((127 + 90 * np.sin(waves + k) + rng.integers(0, 30, (height, width, 3))).astype(np.uint8))
        for k in range(POOL)
    ]
    log = PartLog(root / PARTS / "synthetic.json", Manifest.of(contract, size, PROPRIOCEPTION_NAMES))
    pattern = _shard([_meta(i, i, steps) for i in range(shard_episodes)], contract, pictures, steps)
    for number, first in enumerate(range(0, episodes, shard_episodes)):
        metas = [_meta(first + row, row, steps) for row in range(min(shard_episodes, episodes - first))]
        data = pattern if len(metas) == shard_episodes else _shard(metas, contract, pictures, steps)
        if data is pattern:
            data = _numbered_from(first, data)
        name = f"{SHARDS}/synthetic-{number:05d}.parquet"
        with replacing(root / name) as stream:
            stream.write(data)
        log.append(Shard(name, hashlib.sha256(data).hexdigest(), len(data), tuple(metas)))
        progress(first + len(metas))
    log.close()
    merge_manifests(root)
    return root


def _meta(number: int, row: int, steps: int) -> EpisodeMeta:
    outcome = ("failure", "success")[row % 2]
    return EpisodeMeta(
        f"synthetic-{number:07d}", f"do thing {row % INSTRUCTIONS}", "synthetic", outcome, "terminate", "noise", steps,
        True, row,
    )  # fmt: skip


def _numbered_from(first: int, data: bytes) -> bytes:
    """A shard whose episodes are numbered from 0 on, with others."""
    return _ID.sub(lambda found: b"synthetic-%07d" % (first + int(found[1])), data)


def _shard(metas: list[EpisodeMeta], contract: RobotContract, pictures: list[bytes], steps: int) -> bytes:
    """The bytes of one Parquet file."""
    table = _table(metas, contract, pictures, steps)
    plain = ("images", "episode_id")
    compression = {leaf: "NONE" if leaf.startswith(plain) else "ZSTD" for leaf in leaf_columns(table.schema)}
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROW_GROUP_EPISODES, use_dictionary=False, compression=compression)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _table(metas: list[EpisodeMeta], contract: RobotContract, pictures: list[bytes], steps: int) -> pa.Table:
    count, space = len(metas), contract.action_space
    rng = np.random.default_rng(1)
    widths = {"proprio": len(PROPRIOCEPTION_NAMES), "actions": space.size, "bins": space.size}
    bins = rng.integers(0, space.bins, (count * steps, space.size)).astype(np.int16)
    rewards = np.zeros((count, steps), np.float32)
    rewards[:, -1] = [m.outcome == "success" for m in metas]
    arrays: dict[str, Any] = {
        "proprio": rng.random(count * steps * widths["proprio"], np.float32),
        "actions": space.decode(bins).astype(np.float32).ravel(),
        "bins": bins.ravel(),
        "rewards": rewards.ravel(),
        "stamps": np.tile(0.2 * np.arange(steps), count),
    }
    columns: dict[str, pa.Array] = {
        "episode_id": pa.array([m.id for m in metas]),
        "length": pa.array([steps] * count, pa.int32()),
        "terminated": pa.array([True] * count),
        "seed": pa.array([m.seed for m in metas], pa.int64()),
        "contract_sha256": pa.array([contract.sha256] * count),
        "action_space_sha256": pa.array([space.sha256] * count),
        "checkpoint": pa.array([""] * count),
    }
    for name in ("instruction", "task", "outcome", "reason", "source"):
        columns[name] = pa.array([getattr(m, name) for m in metas])
    drawn = rng.integers(0, len(pictures), count * steps)
    frames = pa.array([pictures[i] for i in drawn], pa.binary())
    columns["images"] = pa.ListArray.from_arrays(np.arange(0, count * steps + 1, steps, np.int32), frames)
    for name, (_, kind) in ARRAYS.items():
        if name not in arrays:
            columns[name] = pa.nulls(count, pa.list_(kind))
            continue
        offsets = np.arange(0, len(arrays[name]) + 1, steps * widths.get(name, 1), np.int32)
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(arrays[name], kind))
    schema = SCHEMA.remove(SCHEMA.get_field_index("privileged"))
    return pa.table([columns[f.name].cast(f.type) for f in schema], schema=schema)
