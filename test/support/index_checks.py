"""Stores of a few shards, their indexes, and whether an index says what the store does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
