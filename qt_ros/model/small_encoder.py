"""A FiLM-conditioned convolutional encoder cheap enough to train on two CPU cores."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qt_ros.model.film import FiLM

OCTAVES = 3


def position_features(height: int, width: int) -> Tensor:
    """(2 + 4 * OCTAVES, height, width) float32: x and y of each cell centre in [-1, 1], then sines and cosines.

    A spatial softmax turns them into the expected position of what it looks at (a soft key point); the waves give the
    same position at finer scales.
    """
    y = (torch.arange(height, dtype=torch.float32) + 0.5) / height * 2.0 - 1.0
    x = (torch.arange(width, dtype=torch.float32) + 0.5) / width * 2.0 - 1.0
    grid = torch.stack((x[None, :].expand(height, width), y[:, None].expand(height, width)))
    waves = [wave(math.pi * 2.0**k * grid) for k in range(OCTAVES) for wave in (torch.sin, torch.cos)]
    return torch.cat((grid, *waves))


class SmallEncoder(nn.Module):
    """Stride-4 stem, then residual 3x3 convolutions with FiLM, all at a quarter of the image's resolution.

    The stride is in the first layer because full-resolution layers dominate the cost of a small net. ReLU and no
    batch statistics: cheap, and the function does not depend on the batch. Position features are appended to the map so
    that TokenLearner's tokens say where as well as what. The channels are normalised at each cell before that:
    TokenLearner itself does not feel their scale, and unchecked it grew until positions were a five-hundredth of a
    token.
    """

    position: Tensor
    MEAN, STD = 127.5, 64.0

    def __init__(self, image_height: int, image_width: int, channels: int, blocks: int, text_size: int) -> None:
        super().__init__()
        self.grid = (image_height // 4, image_width // 4)
        self.register_buffer("position", position_features(*self.grid).permute(1, 2, 0).contiguous(), persistent=False)
        self.out_channels = channels + self.position.shape[-1]
        self.stem = nn.Conv2d(3, channels, 4, stride=4)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks))
        self.films = nn.ModuleList(FiLM(text_size, channels, text_scale=math.sqrt(text_size)) for _ in range(blocks))
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        for conv in (self.stem, *self.convs):
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """images (N, 3, H, W) uint8 RGB, text (N, E) -> (N, out_channels, H/4, W/4)."""
        x = (images.float() - self.MEAN) / self.STD
        x = torch.relu(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for conv, film in zip(self.convs, self.films, strict=True):
            x = x + torch.relu(film(conv(x), text))
        x = self.norm(x.permute(0, 2, 3, 1))  # channels stay last, so that TokenLearner reads the map without a copy
        position = self.position.to(x.dtype).expand(x.shape[0], -1, -1, -1)
        return torch.cat((x, position), dim=-1).permute(0, 3, 1, 2)
