"""Image augmentation for training: zero-pad and crop, as RT-1 does before its encoder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def random_shift(images: Tensor, pad: int, *, group: int, seed: int) -> Tensor:
    """images (N, C, H, W) -> the same shape, each group of ``group`` consecutive images moved by up to ``pad`` pixels.

    Edges are filled with zeros. The frames of one window must move together, or motion would be seen where none is.
    """
    count, _, height, width = images.shape
    if count % group:
        raise ValueError(f"{count} images cannot be split into groups of {group}")
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.randint(0, 2 * pad + 1, (count // group, 2), generator=generator).repeat_interleave(group, dim=0)
    offsets = offsets.to(images.device)
    padded = F.pad(images, (pad, pad, pad, pad))
    rows = offsets[:, :1] + torch.arange(height, device=images.device)
    columns = offsets[:, 1:] + torch.arange(width, device=images.device)
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
