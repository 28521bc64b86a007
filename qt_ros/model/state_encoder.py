"""Tokens from the simulator's privileged state: the same network without the burden of seeing."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

OCTAVES = 4


class StateEncoder(nn.Module):
    """Privileged state vector -> tokens, in the place of image encoder and TokenLearner.

    It tells a method's failures from perception's. The vector already is about the object that the sentence names, so
    the text is not used. Entries are expected to be of order 1; sines and cosines of each (as `position_features` has
    for pixels) let a small network react to fine differences.
    """

    def __init__(self, state_size: int, tokens: int, width: int) -> None:
        super().__init__()
        self.state_size, self.tokens = state_size, tokens
        self.out_channels = width
        self.expand = nn.Linear(state_size * (1 + 2 * OCTAVES), 4 * width)
        self.select = nn.Linear(4 * width, tokens * width)

    def forward(self, states: Tensor, text: Tensor) -> Tensor:
        """states (N, S) float, text ignored -> (N, K, width)."""
        waves = [wave(math.pi * 2.0**k * states) for k in range(-1, OCTAVES - 1) for wave in (torch.sin, torch.cos)]
        hidden = nn.functional.gelu(self.expand(torch.cat((states, *waves), dim=-1)))
        return self.select(hidden).unflatten(-1, (self.tokens, self.out_channels))
