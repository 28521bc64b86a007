from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from episode_factory import make_episode
from small_checkpoint import make_checkpoint

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.manifest import read_manifest
from qt_ros.episodes.store import StoreWriter
from qt_ros.improvement.settings import ImprovementError
from qt_ros.improvement.training import drawn_from, train_settings
from qt_ros.learning.config import TrainConfig, load_train_config


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


def test_the_share_of_successes_in_a_batch_is_that_of_their_steps_unless_it_is_set(
    tmp_path: Path, contract: RobotContract
) -> None:
    with StoreWriter(tmp_path / "store", contract, (24, 32)) as writer:
        for number, steps in enumerate((6, 2, 2)):  # the second is a success
            writer.add(make_episode(contract, number, steps=steps))
    episodes = read_manifest(tmp_path / "store").episodes
    assert [e.outcome for e in episodes].count("success") == 1
    good = next(e.length for e in episodes if e.outcome == "success")
    assert drawn_from(episodes, {}) == {"steps": 10, "success_steps": good, "success_share": good / 10}
    assert drawn_from(episodes, {"success_share": 0.7})["success_share"] == 0.7
    assert drawn_from(episodes, {"method": "rt1_bc", "options": {"episodes": "successes"}})["success_share"] == 1.0
    assert drawn_from([], {})["success_share"] is None
