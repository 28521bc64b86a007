"""Nothing is learned, counted or published of stores that were copied incompletely."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from tiny_experiment import BUDGET, as_yaml, experiment

from qt_ros.cli.experiment import encode
from qt_ros.contract.robot import load_contract
from qt_ros.episodes.store import EpisodeStore, StoreWriter
from qt_ros.experiments.cells import all_cells
from qt_ros.experiments.collector import train_collector
from qt_ros.experiments.data import data_is_made, describe, make_data
from qt_ros.experiments.data_page import data_page
from qt_ros.experiments.recipes import data_recipe
from qt_ros.experiments.run import run_cell
from qt_ros.experiments.warm_up import warm_up
from qt_ros.experiments.work import DataError, Work, read_json, write_json

NAMED = r"demos is not complete, without shards/shard-00001.parquet \(file is missing; 1 episodes\): .*Copy the"
SHARD = "shard-00001.parquet"


@pytest.fixture
def torn(work: Work) -> Work:
    """The data of the tiny experiment, with one of three shards of the demonstrations missing; it lies beside them."""
    root = work.root / "data" / "few" / "demos"
    store = EpisodeStore(root)
    episodes, names = list(store), store.manifest.privileged_names
    shutil.rmtree(root)
    contract = load_contract(work.robot)
    with StoreWriter(root, contract, store.image_size, shard_episodes=1, privileged_names=names) as writer:
        for episode in episodes:
            writer.add(episode)
    (root / "shards" / SHARD).rename(root / SHARD)
    return work


def mend(work: Work) -> None:
    root = work.root / "data" / "few" / "demos"
    (root / SHARD).rename(root / "shards" / SHARD)


def test_a_cell_stops_and_runs_when_the_store_is_whole_again(tmp_path: Path, torn: Work) -> None:
    cell = all_cells(experiment(tmp_path))[0]
    with pytest.raises(DataError, match=NAMED):
        run_cell(cell, torn)
    mend(torn)
    assert run_cell(cell, torn)


def test_a_warm_up_stops(tmp_path: Path, torn: Work) -> None:
    recipe = experiment(tmp_path, images=True).warm_up
    assert recipe is not None
    with pytest.raises(DataError, match=NAMED):
        warm_up(recipe, torn)


def test_frames_are_not_encoded(tmp_path: Path, torn: Work) -> None:
    with pytest.raises(DataError, match=NAMED):
        encode(experiment(tmp_path, images=True), torn, Console(stderr=True), lambda: False)


def test_a_collecting_policy_stops(tmp_path: Path, torn: Work) -> None:
    experiment(tmp_path)
    part = {"store": "fails", "source": "policy", "first_seed": 50, "episodes": 1, "keep": "failures"}
    policy = {"config": "picking/rt1_bc", "stores": ["demos"], "set": BUDGET}
    (tmp_path / "data" / "more.yaml").write_text(as_yaml({"base": "few", "parts": [part], "policy": policy}))
    with pytest.raises(DataError, match=NAMED):
        train_collector(data_recipe("more", tmp_path), torn)


@pytest.mark.parametrize("stop", [describe, lambda recipe, work: make_data(recipe, work, 0)])
def test_data_are_described_only_when_they_are_whole(tmp_path: Path, torn: Work, stop: Callable[..., object]) -> None:
    recipe = experiment(tmp_path).data
    torn.description(recipe).unlink()
    with pytest.raises(DataError, match=NAMED):
        stop(recipe, torn)
    assert not data_is_made(recipe, torn)
    mend(torn)
    assert make_data(recipe, torn, 0) and data_is_made(recipe, torn)


def test_what_was_described_when_shards_were_missing_is_described_anew_and_not_shown(
    tmp_path: Path, work: Work
) -> None:
    recipe = experiment(tmp_path).data
    whole = read_json(work.description(recipe))
    torn = json.loads(json.dumps(whole))
    torn["parts"]["noise"]["skipped_shards"] = 2
    write_json(work.description(recipe), torn)
    with pytest.raises(DataError, match="described without 2 shards of noise; qt-ros experiment few --data"):
        data_page(torn)
    assert not data_is_made(recipe, work)
    assert make_data(recipe, work, 0) and read_json(work.description(recipe)) == whole
