"""The sampling benchmark reads real stores in processes of their own, and its stores are as any writer's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fast_folder import fast_folder

from benchmarks.sampling import main
from benchmarks.synthetic_store import make_store
from qt_ros.contract.robot import load_contract
from qt_ros.episodes.index import open_index
from qt_ros.episodes.roots import open_root
from qt_ros.episodes.store import EpisodeStore


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


def test_a_synthetic_store_holds_valid_episodes_of_its_own_names(folder: Path) -> None:
    contract = load_contract("mobile_manipulator")
    make_store(folder / "store", contract, 22, steps=3, shard_episodes=8)
    store = EpisodeStore(folder / "store", contract)
    assert [m.id for m in store.meta] == [f"synthetic-{i:07d}" for i in range(22)] and not store.skipped
    for meta, episode in zip(store.meta, store, strict=True):
        episode.validate()
        told = (episode.episode_id, episode.instruction, episode.outcome, episode.seed, len(episode))
        assert told == (meta.id, meta.instruction, meta.outcome, meta.seed, meta.length)
    index = open_index(open_root(folder / "store"), folder / "cache")
    assert index.steps == 66
    assert np.array_equal(index.frames(9, index.records(9))[2], store.episode(9).images[2])


def test_stores_take_turns_and_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--episodes",
        "8",
        "24",
        "--steps",
        "3",
        "--rounds",
        "3",
        "--batches",
        "2",
        "--keep",
        str(folder),
        "--json",
    ]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    stores = result["sampling"]["stores"]
    assert [(s["episodes"], s["steps"]) for s in stores] == [(8, 24), (24, 72)]
    assert all(s["wall_ms"]["p50"] > 0 and s["rss_mb"] > 0 for s in stores)
    assert set(result["sampling"]["last_over_first"]) == {"wall_s", "cpu_s", "rss_mb", "uss_mb"}
