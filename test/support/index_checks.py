"""Stores of a few shards, their indexes, and whether an index says what the store does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.index import KEYPOINTS, SUCCESS, TERMINATED, UNJUDGED, StoreIndex, open_index
from qt_ros.episodes.roots import open_root
from qt_ros.episodes.store import EpisodeStore, StoreWriter

SIZE = (24, 32)


def add(root: Path, contract: RobotContract, episodes: list[Episode]) -> None:
    with StoreWriter(root, contract, SIZE, shard_episodes=3) as writer:
        for episode in episodes:
            writer.add(episode)


def index_of(store: Path | str) -> StoreIndex:
    return open_index(open_root(store), Path(str(store).replace("://", "")).parent / "cache")


def check_same(index: StoreIndex, store: EpisodeStore) -> None:
    arrays = store.load_all()
    assert index.steps == arrays.steps and index.lengths.tolist() == np.diff(arrays.offsets).tolist()
    for number, meta in enumerate(store.meta):
        rows = slice(arrays.offsets[number], arrays.offsets[number + 1])
        records = index.records(number)
        for name, column in (
            ("reward", "rewards"),
            ("proprio", "proprio"),
            ("bins", "bins"),
            ("keypoints", "keypoints"),
        ):
            assert np.array_equal(records[name], getattr(arrays, column)[rows], equal_nan=name == "keypoints")
        assert np.array_equal(index.frames(number, records[1:3]), arrays.images[rows][1:3])
        assert index.episode_id(number) == meta.id
        assert index.instructions[index.episodes["text"][number]] == meta.instruction
        assert index.flag(SUCCESS)[number] == (meta.outcome == "success")
        assert index.flag(TERMINATED)[number] == meta.terminated
        assert index.flag(UNJUDGED)[number] == (meta.outcome == "unknown")
        assert index.flag(KEYPOINTS)[number] == np.isfinite(arrays.keypoints[rows]).all()


def rewrite(store: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    """What somebody else's writer might make of the first shard: ``column`` of its rows changed, the hashes right."""
    path = store / "shards" / "shard-00000.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    kind = table.schema.field(at).type
    table = table.set_column(at, pa.field(column, kind), pa.array(change(table.column(column).to_pylist()), kind))
    pq.write_table(table, path, compression="NONE", use_dictionary=False)
    manifest = json.loads((store / "store.json").read_text())
    (shard,) = (s for s in manifest["shards"] if s["file"].endswith(path.name))
    shard |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    (store / "store.json").write_text(json.dumps(manifest))
