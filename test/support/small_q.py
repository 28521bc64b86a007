"""A small Q-Transformer and made-up inputs for the tests of its behaviour."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qt_ros.model.config import ModelConfig
from qt_ros.model.q_transformer import QTransformer

D, BINS, W, K, P, E, WIDTH = 5, 16, 3, 2, 4, 8, 32


def make(seed: int = 0, noise: float = 0.3, **changes: Any) -> QTransformer:
    """A small model whose every parameter was moved, so that nothing agrees only because it is zero or equal."""
    fields: dict[str, Any] = {
        "image_height": 16,
        "image_width": 24,
        "vision_channels": 8,
        "vision_blocks": 2,
        "token_learner_hidden": 8,
        "history": W,
        "tokens_per_frame": K,
        "width": WIDTH,
        "heads": 2,
        "head_dim": 12,
        "layers": 2,
        "action_dims": D,
        "bins": BINS,
        "proprio_size": P,
        "text_size": E,
        "initial_q": 0.3,
    }
    torch.manual_seed(seed)
    model = QTransformer(ModelConfig.from_preset("small", **(fields | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.eval()


def inputs(batch: int = 4, seed: int = 1) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, W, dtype=torch.bool)
    mask[1:, 0] = False
    mask[2:, 1] = False
    return {
        "tokens": torch.randn(batch, W, K, WIDTH, generator=g),
        "proprio": torch.randn(batch, W, P, generator=g),
        "frame_mask": mask,
    }


def some_bins(batch: int = 4, seed: int = 2) -> Tensor:
    return torch.randint(0, BINS, (batch, D), generator=torch.Generator().manual_seed(seed))


def pictures(count: int, seed: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, 3, 16, 24), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def differ(a: Tensor, b: Tensor) -> bool:
    """Whether two results are different by more than rounding."""
    return (a - b).abs().max().item() > 1e-3
