"""Image augmentation for training; acting never uses it."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor


@overload
def random_shift(
    images: Tensor, pad: int, *, generator: torch.Generator | None = None, return_shift: Literal[False] = False
) -> Tensor: ...


@overload
def random_shift(
    images: Tensor, pad: int, *, generator: torch.Generator | None = None, return_shift: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def random_shift(
    images: Tensor, pad: int, *, generator: torch.Generator | None = None, return_shift: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Shift each sample by up to `pad` pixels in x and y: zero-pad, then crop at random (RT-1's preprocessor).

    images (B, ..., 3, H, W) uint8 -> the same shape; all frames of a sample shift together, since between them only
    motion should change. With return_shift also (B, 2) int64, the pixels (right, down) by which the content moved, for
    labels that live in the image. pad 0 returns the images as they are.
    """
    if images.ndim < 4 or pad < 0:
        raise ValueError(f"random_shift: need images (B, ..., 3, H, W) and pad >= 0, got {tuple(images.shape)}, {pad}")
    batch, (height, width) = images.shape[0], images.shape[-2:]
    where = images.device if generator is None else generator.device
    shift = torch.randint(-pad, pad + 1, (batch, 2), generator=generator, device=where).to(images.device)
    if pad:
        rows = torch.arange(height, device=images.device) - shift[:, 1:]  # (B, H): where each output row comes from
        columns = torch.arange(width, device=images.device) - shift[:, :1]
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        index = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
        flat = images.reshape(batch, -1, height * width)
        moved = flat.gather(2, index.view(batch, 1, -1).expand(-1, flat.shape[1], -1))
        images = (moved * inside.view(batch, 1, -1)).view(images.shape)
    return (images, shift) if return_shift else images
