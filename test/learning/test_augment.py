"""Behaviour of image augmentation."""

from __future__ import annotations

import torch

from qt_ros.learning.augment import random_shift


def test_images_move_by_whole_pixels_within_the_bound_and_groups_move_together() -> None:
    images = torch.zeros(6, 3, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4] = 255
    moved = random_shift(images, 2, group=2, seed=0)
    assert moved.shape == images.shape and moved.dtype == torch.uint8
    spots = [tuple(int(i) for i in torch.nonzero(m[0])[0]) for m in moved]
    assert all(abs(r - 4) <= 2 and abs(c - 4) <= 2 for r, c in spots)
    assert spots[0] == spots[1] and spots[2] == spots[3]
    assert len(set(spots)) > 1


def test_no_padding_leaves_images_alone() -> None:
    images = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    assert torch.equal(random_shift(images, 0, group=1, seed=1), images)
