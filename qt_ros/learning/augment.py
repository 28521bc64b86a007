"""Image augmentation for training: zero-pad and crop, as RT-1 does before its encoder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def random_shift(images: Tensor, pad: int, *, group: int, seed: int, share: tuple[int, int] = (0, 1)) -> Tensor:
    """images (N, C, H, W) -> the same shape, each group of ``group`` consecutive images moved by up to ``pad`` pixels.

    Edges are filled with zeros. The frames of one window must move together, or motion would be seen where none is.
    ``share`` (r, n): these are part r of n equal parts of a batch, and move as they would in the whole of it.
    """
    count, _, height, width = images.shape
    if count % group:
        raise ValueError(f"{count} images cannot be split into groups of {group}")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, 2 * pad + 1, (share[1] * (count // group), 2), generator=generator)
    offsets = drawn.chunk(share[1])[share[0]].repeat_interleave(group, dim=0).to(images.device)
    padded = F.pad(images, (pad, pad, pad, pad))
    rows = offsets[:, :1] + torch.arange(height, device=images.device)
    columns = offsets[:, 1:] + torch.arange(width, device=images.device)
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
