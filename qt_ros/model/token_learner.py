"""TokenLearner: a few weighted sums over positions stand for a whole feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TokenLearner(nn.Module):
    """TokenLearner v1.1 as RT-1 codes it (arXiv 2106.11297; robotics_transformer, token_learner.py).

    LayerNorm, MLP with tanh-GELU, softmax over the positions, then the weighted sum of the inputs as they came in
    (not of the normalised ones).
    """

    def __init__(self, channels: int, tokens: int, hidden: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, hidden)
        self.act = nn.GELU(approximate="tanh")
        self.select = nn.Linear(hidden, tokens)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, h, w) -> tokens (N, K, C) float32 and attention (N, K, h, w) float32, which sums to 1 over h, w."""
        height, width = x.shape[-2:]
        flat = x.flatten(2).transpose(1, 2)  # (N, h*w, C); no copy when x is channels_last
        scores = self.select(self.act(self.expand(self.norm(flat))))
        # In float32 whatever the autocast: neither softmax nor sums over hundreds of positions lose bits here, and the
        # attention maps stay exact. That protects no more than this: under autocast the scores come in bfloat16, and
        # the linear maps that read the tokens round them to its 8 significant bits again.
        with torch.autocast(x.device.type, enabled=False):
            attention = scores.float().transpose(1, 2).softmax(dim=-1)
            tokens = torch.bmm(attention, flat.float())
        return tokens, attention.unflatten(-1, (height, width))


def expected_position(attention: Tensor) -> Tensor:
    """Centre of mass of each attention map: (..., h, w) -> (..., 2) as (u, v) image fractions in (0, 1).

    u grows to the right, v downwards. Differentiable: supervise it to make a token a key point.
    """
    height, width = attention.shape[-2:]
    v = (torch.arange(height, device=attention.device, dtype=attention.dtype) + 0.5) / height
    u = (torch.arange(width, device=attention.device, dtype=attention.dtype) + 0.5) / width
    return torch.stack(((attention.sum(-2) * u).sum(-1), (attention.sum(-1) * v).sum(-1)), dim=-1)
