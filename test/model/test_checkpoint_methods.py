"""A checkpoint says by which method its network decides; checkpoints from before that are Q-Transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.model.acting import VALUE_HEADS, Acting, Network
from qt_ros.model.cem import CemSettings
from qt_ros.model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from qt_ros.model.config import ADDED_IN_FORMAT_2, ModelConfig
from qt_ros.model.q_transformer import QTransformer


@pytest.fixture(scope="module")
def contract() -> RobotContract:
    return load_contract("mobile_manipulator")


def make(contract: RobotContract, **changes: Any) -> QTransformer:
    fields = {"width": 16, "heads": 2, "head_dim": 8, "layers": 1, "vision_channels": 8, "vision_blocks": 1}
    return QTransformer(ModelConfig.from_preset("small", **(fields | changes)))


@pytest.fixture
def saved(contract: RobotContract, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "c", make(contract), contract=contract, text_encoder="minilm", provenance={})
    return tmp_path / "c"


def alter(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "checkpoint.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_checkpoint_of_format_1_is_a_q_transformer(contract: RobotContract, saved: Path) -> None:
    model, info = load_checkpoint(saved)

    def downgrade(record: dict[str, Any]) -> None:
        record["format_version"] = 1
        del record["method"]
        for key in ADDED_IN_FORMAT_2:
            del record["model"][key]

    alter(saved, downgrade)
    old, old_info = load_checkpoint(saved, contract=contract)
    assert old_info == info and info.acting == Acting("q_transformer")
    states = (model.state_dict().values(), old.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    alter(saved, lambda r: r["model"].update(return_token=True))
    with pytest.raises(CheckpointError, match="missing keys"):
        load_checkpoint(saved)


@pytest.mark.parametrize("method", VALUE_HEADS)
def test_the_way_of_acting_travels_with_the_weights(contract: RobotContract, tmp_path: Path, method: str) -> None:
    acting = Acting(method, CemSettings(samples=12, elites=3) if method == "qt_opt" else None)
    fields = {"value_head": VALUE_HEADS[method][0], "return_token": method == "decision_transformer"}
    network = acting.make_network(make(contract, **fields).config)
    save_checkpoint(tmp_path / "c", network, contract=contract, text_encoder="minilm", provenance={}, acting=acting)
    loaded, info = load_checkpoint(tmp_path / "c", contract=contract)
    assert info.acting == acting and type(loaded) is type(network)
    states = (network.state_dict().values(), loaded.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_a_network_that_cannot_act_by_its_method_is_not_saved(contract: RobotContract, tmp_path: Path) -> None:
    def save(network: Network, acting: Acting) -> None:
        save_checkpoint(tmp_path / "c", network, contract=contract, text_encoder="minilm", provenance={}, acting=acting)

    with pytest.raises(CheckpointError, match="iql needs value_head softmax"):
        save(make(contract), Acting("iql"))
    with pytest.raises(CheckpointError, match="qt_opt does not act with a QTransformer"):
        save(make(contract), Acting("qt_opt", CemSettings()))
