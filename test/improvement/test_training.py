from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from episode_factory import make_episode
from small_checkpoint import make_checkpoint

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.store import StoreWriter
from qt_ros.episodes.store_labels import labelled_manifest
from qt_ros.improvement.settings import ImprovementError
from qt_ros.improvement.training import drawn_from, success_share_for, train_settings
from qt_ros.learning.config import TrainConfig, load_train_config
from qt_ros.learning.dataset import load_training_data
from qt_ros.learning.run import summary_of


def test_training_goes_on_with_the_checkpoints_own_settings(start: Path, tmp_path: Path) -> None:
    data = train_settings(start, 70, ["learning_rate=0.01", "loss.alpha=2"])
    assert (data["gradient_steps"], data["batch"], data["learning_rate"]) == (70, 2, 0.01)
    assert data["loss"] == {"alpha": 2} and data["model"]["width"] == 64
    for change, told in (("alpha", "key=value"), ("batch.size=1", "no group"), ("luck=1", "luck")):
        with pytest.raises(ImprovementError, match=told):
            train_settings(start, 70, [change])


def test_a_policy_of_the_picking_experiment_keeps_its_loss_and_rates_from_round_to_round(tmp_path: Path) -> None:
    config = load_train_config("picking/q_transformer")
    assert (config.loss.td, config.model["value_head"]) == ("hl_gauss", "hl_gauss")
    make_checkpoint(tmp_path / "c", None, {"kind": config.method, "settings": config.to_dict()})
    again = TrainConfig.from_dict(train_settings(tmp_path / "c", 70, []))
    assert again == replace(config, gradient_steps=70)


@pytest.fixture
def trained_on(tmp_path: Path, contract: RobotContract) -> dict[str, Any]:
    """What a checkpoint notes of two stores of which training leaves an unjudged episode and a damaged shard out."""
    with StoreWriter(tmp_path / "store", contract, (24, 32)) as writer:
        for number, steps in enumerate((6, 2, 2)):  # the second is a success
            writer.add(make_episode(contract, number, steps=steps))
        nobody_knows = {"outcome": "unknown", "terminated": False, "rewards": np.zeros(12, np.float32)}
        writer.add(make_episode(contract, 4, steps=12, **nobody_knows))
    with StoreWriter(tmp_path / "torn", contract, (24, 32), shard_episodes=1) as writer:
        for number in (5, 6):
            writer.add(make_episode(contract, number, steps=4))
    (tmp_path / "torn" / "shards" / "shard-00000.parquet").unlink()
    data = load_training_data([tmp_path / "store", tmp_path / "torn"], 0.9)
    return summary_of(data)


def test_the_share_of_successes_in_a_batch_is_that_of_the_steps_trained_on_unless_it_is_set(
    trained_on: dict[str, Any],
) -> None:
    assert (trained_on["episodes"], trained_on["successes"]) == (4, 1)
    assert drawn_from(trained_on, {}) == {"steps": 14, "success_steps": 2, "success_share": round(2 / 14, 4)}
    assert drawn_from(trained_on, {"success_share": 0.7})["success_share"] == 0.7
    assert drawn_from(trained_on, {"method": "rt1_bc", "options": {"episodes": "successes"}})["success_share"] == 1.0
    assert drawn_from({"steps": 0, "steps_of_successes": 0}, {})["success_share"] is None


def test_a_checkpoint_of_before_says_nothing_of_the_share(trained_on: dict[str, Any]) -> None:
    del trained_on["steps_of_successes"]
    assert drawn_from(trained_on, {}) == {"steps": 14, "success_steps": None, "success_share": None}


def test_a_share_of_successes_that_the_data_reach_by_themselves_plays_no_part(
    tmp_path: Path, contract: RobotContract
) -> None:
    for name, lengths in (("good", {1: 6}), ("bad", {2: 2})):  # number 1 is a success, 2 a failure
        with StoreWriter(tmp_path / name, contract, (24, 32)) as writer:
            for number, steps in lengths.items():
                writer.add(make_episode(contract, number, steps=steps))
            nobody_knows = {"outcome": "unknown", "terminated": False, "rewards": np.zeros(12, np.float32)}
            writer.add(make_episode(contract, 4, steps=12, **nobody_knows))
    both = [labelled_manifest(tmp_path / name) for name in ("good", "bad")]
    for share, known, kept in ((0.5, both, False), (0.75, both, False), (0.8, both, True), (0.8, both[:1], False)):
        assert success_share_for(share, known) == (share if kept else None)
    assert success_share_for(None, both) is None
