"""Data of the tiny experiment, simulated once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_experiment import experiment, work_with_data

from qt_ros.experiments.work import Work


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with data; copy it, do not change it."""
    root = tmp_path_factory.mktemp("experiments")
    return work_with_data(root / "work", experiment(root / "spec")).root


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Work:
    """A work folder of this test alone, with data."""
    shutil.copytree(made, tmp_path / "work")
    return Work(tmp_path / "work", command="a test")
