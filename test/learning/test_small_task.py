"""Where cloning mixed data must fail and Q-learning must succeed: see `lucky_task`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lucky_task import GAMMA, LUCKY, SKILL, chance_of_success, lucky_data
from tiny import tiny_config, tiny_model

from qt_ros.learning.losses import LossConfig
from qt_ros.learning.options import AwOptOptions, CqlOptions, IqlOptions
from qt_ros.learning.targets import Backup
from qt_ros.learning.trainer import Trainer

STEPS = 300


def trained(folder: Path, method: str, **changes: object) -> Trainer:
    settings = {
        "gradient_steps": STEPS, "batch": 64, "learning_rate": 5e-3, "ema_decay": 0.95, "log_every": STEPS,
        "save_every": STEPS, "weight_decay": 0.0, **changes,
    }  # fmt: skip
    model = tiny_model(method=method, vision="state", state_size=3, history=1)
    trainer = Trainer(model, lucky_data(), torch.zeros(1, 8), tiny_config(method, **settings), folder)
    trainer.run(lambda _: None)
    return trainer


@pytest.mark.parametrize("method", ["rt1_bc", "decision_transformer"])
def test_cloning_trusts_to_luck(tmp_path: Path, method: str) -> None:
    assert chance_of_success(trained(tmp_path, method)) == LUCKY


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("q_transformer", {"loss": LossConfig("cross_entropy", 0.05)}),
        ("q_transformer", {"loss": LossConfig("mse", 0.05)}),
        ("q_transformer", {"loss": LossConfig("cross_entropy", 0.05), "backup": Backup(GAMMA, to_next_step=True)}),
        ("hl_gauss", {"loss": LossConfig("hl_gauss", 0.05), "backup": Backup(GAMMA, to_next_step=True)}),
        ("cql", {"options": CqlOptions(alpha=0.05)}),
        ("iql", {"options": IqlOptions(expectile=0.8, beta=20.0), "backup": Backup(GAMMA, monte_carlo=False)}),
        (
            "aw_opt",
            {"options": AwOptOptions(beta=20.0, second_target_every=50), "backup": Backup(GAMMA, monte_carlo=False)},
        ),
    ],
    ids=["cross_entropy", "mse", "to_next_step", "hl_gauss", "cql", "iql", "aw_opt"],
)
def test_q_learning_finds_the_skill(tmp_path: Path, method: str, changes: dict[str, object]) -> None:
    assert chance_of_success(trained(tmp_path, method, **changes)) == 1.0


def test_most_successes_are_luck() -> None:
    data = lucky_data()
    second = data.privileged.argmax(1)[1::2]
    assert 0.1 < np.mean(second[data.success] == SKILL) < 0.25
    assert 0.3 < data.success.mean() < 0.4
