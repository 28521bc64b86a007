"""What the graph tests share: one checkpoint, and DDS set up for camera images in this process too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_checkpoint import make_checkpoint

from qt_ros.nodes.transport import image_transport

for _name, _value in image_transport().items():
    os.environ.setdefault(_name, _value)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint that moves arm and base and never terminates."""
    folder = tmp_path_factory.mktemp("checkpoints") / "moving"
    make_checkpoint(folder)
    return folder
