"""From settings to a model and from a model to a checkpoint that says where it came from."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_data

from qt_ros.contract.robot import load_contract
from qt_ros.learning.config import load_train_config
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.run import build_model, save_run
from qt_ros.model.checkpoint import load_checkpoint

CONTRACT = load_contract("mobile_manipulator")
FIELDS = {
    "preset": "small", "vision_channels": 8, "vision_blocks": 1, "tokens_per_frame": 2, "token_learner_hidden": 8,
    "layers": 1, "width": 32, "heads": 2, "head_dim": 16,
}  # fmt: skip


def data(**changes: object) -> TrainingData:
    """Tiny data as if recorded under the contract."""
    made = tiny_data()
    made.proprio = np.zeros((len(made.rewards), 10), np.float32)
    made.action_space_sha256 = CONTRACT.action_space.sha256
    return dataclasses.replace(made, **changes)


def test_the_model_takes_its_sizes_from_contract_and_data() -> None:
    model, _ = build_model(FIELDS, CONTRACT, data(), None, "cpu")
    config = model.config
    assert (config.action_dims, config.bins, config.proprio_size) == (10, 256, 10)
    assert (config.image_height, config.image_width, config.width) == (16, 16, 32)


def test_data_of_another_action_space_are_refused() -> None:
    with pytest.raises(TrainingError, match="recorded in action space 0123456789ab"):
        build_model(FIELDS, CONTRACT, data(action_space_sha256="0123456789abcdef"), None, "cpu")


def test_a_wrong_model_field_is_named() -> None:
    with pytest.raises(TrainingError, match="layerz"):
        build_model({**FIELDS, "layerz": 2}, CONTRACT, data(), None, "cpu")


def test_a_checkpoint_says_what_it_was_made_of_and_can_be_started_from(tmp_path: Path) -> None:
    model, encoder = build_model(FIELDS, CONTRACT, data(), None, "cpu")
    settings = load_train_config("small")
    save_run(tmp_path / "first", model, CONTRACT, encoder, settings, data(), 5, None)
    first = load_checkpoint(tmp_path / "first", contract=CONTRACT)[1]
    assert first.provenance["settings"] == settings.to_dict() and first.provenance["gradient_steps"] == 5
    assert (first.provenance["episodes"], first.provenance["successes"]) == (12, 6)
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", first.provenance["commit"])

    again, encoder = build_model(FIELDS, CONTRACT, data(), tmp_path / "first", "cpu")
    states = (model.state_dict().values(), again.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    save_run(tmp_path / "second", again, CONTRACT, encoder, settings, data(), 9, tmp_path / "first")
    assert load_checkpoint(tmp_path / "second")[1].provenance["init"] == first.id
    with pytest.raises(TrainingError, match="layers"):
        build_model({**FIELDS, "layers": 2}, CONTRACT, data(), tmp_path / "first", "cpu")
