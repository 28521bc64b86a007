"""A policy that ends every episode at once, and a store it can be trained on: rounds without waiting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from episode_factory import make_episode
from small_checkpoint import FIELDS, make_checkpoint

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.store import StoreWriter
from qt_ros.improvement.settings import Settings
from qt_ros.model.checkpoint import read_info

SETTINGS = {
    "model": {"preset": "small", **FIELDS}, "gradient_steps": 1, "batch": 2, "learning_rate": 1e-4, "threads": 1,
    "log_every": 1,
}  # fmt: skip


@pytest.fixture(scope="session")
def contract() -> RobotContract:
    return load_contract("mobile_manipulator")


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that terminates in its first step and says how it was trained."""
    folder = tmp_path_factory.mktemp("start") / "checkpoint"
    make_checkpoint(folder, {"terminate": 1.0}, {"kind": "q_transformer", "settings": SETTINGS})
    return folder


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory, contract: RobotContract) -> Path:
    """A store of two episodes, one of them a success, with frames of the policy's size."""
    root = tmp_path_factory.mktemp("known") / "store"
    with StoreWriter(root, contract) as writer:
        for number in range(2):
            writer.add(make_episode(contract, number, steps=3, size=(96, 128)))
    return root


@pytest.fixture
def settings(start: Path, known: Path) -> Callable[..., Settings]:
    """Settings of the smallest run; keyword arguments change them."""

    def make(**changes: object) -> Settings:
        fields: dict[str, object] = {
            "checkpoint": str(start), "checkpoint_id": read_info(start).id, "stores": (str(known),), "episodes": 2,
            "steps": 1, "choice_episodes": 2, "test_episodes": 2,
        }  # fmt: skip
        return Settings(**{**fields, **changes})  # type: ignore[arg-type]

    return make
