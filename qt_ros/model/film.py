"""Feature-wise linear modulation: the instruction scales and shifts the channels of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FiLM(nn.Module):
    """(1 + gamma) x + beta with gamma and beta linear in the text; zero-initialised, so it starts as the identity.

    As RT-1 codes it: a pretrained encoder is undisturbed before training.
    text_scale multiplies the text first: unit-norm embeddings have entries near 1/sqrt(E), which makes a net that is
    trained from scratch slow to listen.
    """

    def __init__(self, text_size: int, channels: int, text_scale: float = 1.0) -> None:
        super().__init__()
        self.text_scale = text_scale
        self.linear = nn.Linear(text_size, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x (N, C, h, w), text (N, E) -> (N, C, h, w)."""
        gamma, beta = self.linear(text * self.text_scale)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(beta.to(x.dtype), x, (1.0 + gamma).to(x.dtype))
