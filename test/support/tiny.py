"""A tiny data set and model for tests of the training loop. The data is made here, from a seed."""

from __future__ import annotations

import numpy as np
import torch

from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.targets import monte_carlo_returns
from qt_ros.model.config import ModelConfig
from qt_ros.model.q_transformer import QTransformer

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


def tiny_model(seed: int = 0, **changes: object) -> QTransformer:
    torch.manual_seed(seed)
    fields = {
        "image_height": 16, "image_width": 16, "vision_channels": 8, "vision_blocks": 1, "tokens_per_frame": 2,
        "width": 16, "heads": 2, "head_dim": 8, "layers": 1, "action_dims": DIMS, "bins": BINS, "proprio_size": 3,
        "text_size": TEXT, "history": 2, **changes,
    }  # fmt: skip
    return QTransformer(ModelConfig.from_preset("small", **fields))


def tiny_text() -> torch.Tensor:
    return torch.randn(2, TEXT, generator=torch.Generator().manual_seed(0))
