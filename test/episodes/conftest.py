"""Shared fixtures: the shipped contract and small, real episodes for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from episode_factory import make_episode
from fast_folder import fast_folder

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.episode import Episode


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def contract() -> RobotContract:
    return load_contract("mobile_manipulator")


@pytest.fixture(scope="session")
def new_episode(contract: RobotContract) -> Callable[..., Episode]:
    return lambda *args, **kwargs: make_episode(contract, *args, **kwargs)
