"""Behaviour of the segment sampler."""

from __future__ import annotations

import numpy as np
import pytest

from qt_ros.learning.sampling import SegmentSampler


def sampler(share=None, seed=0, lengths=(3, 1, 5), success=(True, False, False)) -> SegmentSampler:
    return SegmentSampler(
        np.array(lengths), np.array(success), batch=64, steps=2, ahead=1, history=2, success_share=share, seed=seed
    )


def test_the_same_seed_and_step_give_the_same_batch() -> None:
    for step in (0, 17):
        a, b = sampler().batch_at(step), sampler().batch_at(step)
        assert (a.frames == b.frames).all() and (a.frame_mask == b.frame_mask).all()
    assert (sampler().batch_at(0).frames != sampler().batch_at(1).frames).any()
    assert (sampler(seed=1).batch_at(0).frames != sampler().batch_at(0).frames).any()


def test_a_segment_never_leaves_its_episode_and_masks_what_would() -> None:
    batch = sampler().batch_at(0)
    assert batch.frames.shape == (64, 4)
    bounds = {0: (0, 2), 1: (0, 2), 2: (0, 2), 3: (3, 3), 4: (4, 8), 5: (4, 8), 6: (4, 8), 7: (4, 8), 8: (4, 8)}
    for frames, mask in zip(batch.frames, batch.frame_mask, strict=True):
        start = frames[1]
        first, last = bounds[int(start)]
        wanted = start + np.arange(-1, 3)
        assert (mask == ((wanted >= first) & (wanted <= last))).all()
        assert (frames == np.clip(wanted, first, last)).all()


def test_a_share_of_successes_is_drawn_as_asked() -> None:
    all_success = sampler(share=1.0).batch_at(3)
    assert (all_success.frames[:, 1] <= 2).all()
    half = np.concatenate([sampler(share=0.5).batch_at(i).frames[:, 1] for i in range(40)])
    assert 0.45 < (half <= 2).mean() < 0.55


def test_a_share_that_the_data_cannot_give_is_refused() -> None:
    with pytest.raises(ValueError, match="successful"):
        sampler(share=0.5, success=(False, False, False))
    with pytest.raises(ValueError, match="no steps"):
        sampler(lengths=(), success=())
