"""Shared fixtures: the shipped contract and small, real episodes for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from episode_factory import make_episode

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.episode import Episode


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where possible: these tests close hundreds of files, each synced to its disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def contract() -> RobotContract:
    return load_contract("mobile_manipulator")


@pytest.fixture(scope="session")
def new_episode(contract: RobotContract) -> Callable[..., Episode]:
    return lambda *args, **kwargs: make_episode(contract, *args, **kwargs)
