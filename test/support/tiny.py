"""A tiny data set and model for tests of the training loop. The data is made here, from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.losses import LossConfig
from qt_ros.learning.methods import model_fields
from qt_ros.learning.options import OPTIONS
from qt_ros.learning.targets import Backup, monte_carlo_returns
from qt_ros.learning.trainer import Trainer
from qt_ros.model.acting import Network, network_class
from qt_ros.model.config import ModelConfig

DIMS, BINS, TEXT = 2, 5, 8


def tiny_data(episodes: int = 12, seed: int = 0, gamma: float = 0.9) -> TrainingData:
    """Episodes of 2..6 steps; the even ones succeed and always take bins (1, 3), the others random bins."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 7, episodes)
    success = np.arange(episodes) % 2 == 0
    rewards = [np.r_[np.zeros(n - 1), float(s)].astype(np.float32) for n, s in zip(lengths, success, strict=True)]
    count = int(lengths.sum())
    good = np.repeat(success, lengths)
    bins = rng.integers(0, BINS, (count, DIMS))
    bins[good] = (1, 3)
    return TrainingData(
        images=rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
        proprio=rng.normal(size=(count, 3)).astype(np.float32),
        bins=bins.astype(np.int64),
        rewards=np.concatenate(rewards),
        returns=np.concatenate([monte_carlo_returns(r, gamma) for r in rewards]),
        remaining=np.concatenate([np.arange(n)[::-1] for n in lengths]).astype(np.int64),
        terminated=np.ones(count, np.bool_),
        text=rng.integers(0, 2, count),
        keypoints=np.concatenate([rng.uniform(0.2, 0.8, (count, 2, 2)), np.ones((count, 2, 1))], -1).astype(np.float32),
        lengths=lengths.astype(np.int64),
        success=success,
        instructions=["a", "b"],
    )


METHODS = ("q_transformer", "hl_gauss", "rt1_bc", "decision_transformer", "cql", "iql", "qt_opt", "aw_opt")
"""Every method, and the Q-Transformer with HL-Gauss."""


def tiny_model(seed: int = 0, method: str = "q_transformer", **changes: object) -> Network:
    """A small network of the kind that ``method`` trains."""
    torch.manual_seed(seed)
    name = "q_transformer" if method == "hl_gauss" else method
    fields = {
        "image_height": 16, "image_width": 16, "vision_channels": 8, "vision_blocks": 1, "tokens_per_frame": 2,
        "width": 16, "heads": 2, "head_dim": 8, "layers": 1, "action_dims": DIMS, "bins": BINS, "proprio_size": 3,
        "text_size": TEXT, "history": 2, **model_fields(name), **changes,
    }  # fmt: skip
    if method == "hl_gauss":
        fields |= {"value_head": "hl_gauss", "value_atoms": 21}
    return network_class(name)(ModelConfig.from_preset("small", **fields))


def tiny_config(method: str = "q_transformer", **changes: object) -> TrainConfig:
    """Settings of a very short run by ``method``."""
    fields: dict[str, object] = {
        "model": {}, "gradient_steps": 10, "batch": 8, "learning_rate": 3e-3, "warmup_steps": 1, "log_every": 5,
        "save_every": 5, "threads": 1, "method": "q_transformer" if method == "hl_gauss" else method,
    }  # fmt: skip
    if method in ("q_transformer", "hl_gauss"):
        fields["loss"] = LossConfig("cross_entropy" if method == "q_transformer" else "hl_gauss", 1.0)
    if method not in ("rt1_bc", "decision_transformer"):
        fields["backup"] = Backup(gamma=0.9)
    if method in ("qt_opt", "aw_opt"):
        fields["options"] = OPTIONS[method](samples=8, elites=3, second_target_every=4)
    return TrainConfig(**(fields | changes))  # type: ignore[arg-type]


def tiny_trainer(
    folder: Path, method: str = "q_transformer", data: TrainingData | None = None, **changes: object
) -> Trainer:
    """A trainer of tiny everything; ``changes`` of the settings."""
    data = tiny_data() if data is None else data
    return Trainer(tiny_model(method=method), data, tiny_text(), tiny_config(method, **changes), folder)


def tiny_text() -> torch.Tensor:
    return torch.randn(2, TEXT, generator=torch.Generator().manual_seed(0))
