"""Small real stores, and what trains on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from episode_factory import make_episode
from tiny import tiny_config, tiny_model

from qt_ros.contract.robot import load_contract
from qt_ros.episodes.store import StoreWriter
from qt_ros.learning.dataset import StepData
from qt_ros.learning.group import ALONE, Group
from qt_ros.learning.trainer import StepReport, Trainer

CONTRACT = load_contract("mobile_manipulator")
SIZE = (16, 16)
TEXT = 8


def make_store(root: Path, numbers: Sequence[int], steps: int | None = None) -> Path:
    """A store of episodes of 2 to 6 steps (or ``steps``), every other one a success, four to a shard."""
    with StoreWriter(root, CONTRACT, SIZE, shard_episodes=4) as writer:
        for i in numbers:
            words = f"pick up the {('cup', 'can')[i % 3 == 0]}"
            writer.add(make_episode(CONTRACT, i, steps=steps or 2 + i * 7 % 5, size=SIZE, instruction=words))
    return root


def trainer_on(
    data: StepData, folder: Path, method: str = "q_transformer", group: Group = ALONE, **changes: object
) -> Trainer:
    """A trainer of a tiny model on real stores."""
    shape = {"action_dims": CONTRACT.action_space.size, "bins": CONTRACT.action_space.bins}
    model = tiny_model(method=method, proprio_size=10, **shape)
    text = torch.randn(len(data.instructions), TEXT, generator=torch.Generator().manual_seed(0))
    return Trainer(model, data, text, tiny_config(method, **changes), folder, "cpu", group)


def losses(trainer: Trainer, **options: Any) -> list[float]:
    """Run to the end; the losses that were reported."""
    reports: list[StepReport] = []
    trainer.run(reports.append, **options)
    return [report.metrics["loss"] for report in reports]
