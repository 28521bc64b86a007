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


def test_segments_of_several_steps_hold_the_first_steps_of_an_episode_less_often() -> None:
    """Step t is in the segments that begin at it or up to S - 1 steps before it, as far as there are such steps."""
    lengths = np.array((6, 2))
    some = SegmentSampler(
        lengths, np.array((True, False)), batch=8, steps=3, ahead=2, history=1, success_share=None, seed=0
    )
    every = some.segments(np.repeat([0, 1], lengths), np.concatenate([np.arange(n) for n in lengths]))
    learnt = every.frames[:, :3][every.frame_mask[:, :3]]
    assert np.bincount(learnt).tolist() == [1, 2, 3, 3, 3, 3, 1, 2]


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


def test_a_step_is_drawn_as_often_as_any_other_and_each_by_its_number_alone() -> None:
    """What batches always were: the drawn numbers count the steps of the pool, in storage order."""
    lengths, success = np.array((3, 1, 5)), np.array((True, False, True))
    for share, pools in ((None, [np.arange(9)]), (0.5, [np.array([0, 1, 2, 4, 5, 6, 7, 8]), np.array([3])])):
        rng = np.random.default_rng((0, 7))
        count = 64 if share is None else rng.binomial(64, 0.5)
        wanted = [pools[0][rng.integers(0, len(pools[0]), count)]]
        if share is not None:
            wanted.append(pools[1][rng.integers(0, 1, 64 - count)])
        batch = sampler(share=share, lengths=lengths, success=success).batch_at(7)
        assert batch.frames[:, 1].tolist() == np.concatenate(wanted).tolist()
        assert batch.episodes.tolist() == np.repeat([0, 1, 2], lengths)[batch.frames[:, 1]].tolist()


def mixed(weights, share=None, success=(True, False, True, False), stores=(0, 0, 1, 1)) -> SegmentSampler:
    return SegmentSampler(
        np.array((5, 5, 50, 50)), np.array(success), batch=64, steps=2, ahead=1, history=2, success_share=share, seed=0,
        stores=np.array(stores), weights=weights,
    )  # fmt: skip


def test_weights_say_how_often_each_store_is_drawn_from() -> None:
    drawn = np.concatenate([mixed((1.0, 1.0)).batch_at(i).episodes for i in range(40)])
    assert 0.45 < (drawn < 2).mean() < 0.55
    drawn = np.concatenate([mixed((9.0, 1.0), share=0.25).batch_at(i).episodes for i in range(40)])
    assert 0.85 < (drawn < 2).mean() < 0.95 and 0.2 < np.isin(drawn, (0, 2)).mean() < 0.3


def test_a_kind_that_one_store_lacks_comes_from_the_others() -> None:
    some = mixed((1.0, 1.0), share=0.5, success=(False, False, True, False))
    drawn = np.concatenate([some.batch_at(i).episodes for i in range(40)])
    assert 0.45 < (drawn == 2).mean() < 0.55 and 0.2 < (drawn < 2).mean() < 0.3


def test_weights_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        mixed((1.0, 0.0))


def test_what_replaces_a_segment_is_a_function_of_its_place_and_of_the_same_kind() -> None:
    some = sampler(share=0.5)
    one, again = some.replacement(3, 5, 0, False), sampler(share=0.5).replacement(3, 5, 0, False)
    assert (one.frames == again.frames).all() and one.frames.shape == (1, 4)
    others = [some.replacement(3, 5, attempt, False) for attempt in range(30)]
    assert {int(o.episodes[0]) for o in others} == {1, 2}
    assert {int(some.replacement(3, n, 0, True).episodes[0]) for n in range(10)} == {0}


def test_what_replaces_the_first_segment_of_a_batch_is_a_draw_of_its_own() -> None:
    some = sampler(lengths=(50, 50, 50))
    drawn = [some.batch_at(step).part([0]).frames for step in range(20)]
    instead = [some.replacement(step, 0, 0, None).frames for step in range(20)]
    assert sum(bool((one == other).all()) for one, other in zip(drawn, instead, strict=True)) < 3
