"""The behaviours a faithful Q-Transformer must have, among them those that other implementations got wrong."""

from __future__ import annotations

import pytest
import torch
from small_q import BINS, WIDTH, D, E, K, P, W, differ, inputs, make, pictures, some_bins
from torch import Tensor

HEADS = pytest.mark.parametrize("bin_head", ["linear", "tied"])


# ---- greedy decoding


@HEADS
@pytest.mark.parametrize("use_cache", [True, False])
def test_decoding_takes_the_best_bin_of_the_training_time_q_dimension_by_dimension(
    bin_head: str, use_cache: bool
) -> None:
    model, seen = make(bin_head=bin_head), inputs()
    bins, q = model.decode(**seen, use_cache=use_cache)
    assert bins.shape == (4, D)
    assert bins.dtype == torch.int64
    chosen = torch.zeros(4, D, dtype=torch.long)
    for i in range(D):
        logits = model.q_logits(bins=chosen, **seen)
        chosen[:, i] = logits[:, i].argmax(-1)
        torch.testing.assert_close(model.value(logits[:, i]), q[:, i], atol=1e-5, rtol=0)
    assert torch.equal(bins, chosen)
    assert len({tuple(row) for row in bins.tolist()}) > 1, "the samples must differ for this to mean anything"


@HEADS
def test_decoding_agrees_with_teacher_forcing_on_the_decoded_bins(bin_head: str) -> None:
    model, seen = make(bin_head=bin_head), inputs()
    bins, q = model.decode(**seen)
    forced = model.value(model.q_logits(bins=bins, **seen))
    torch.testing.assert_close(forced, q, atol=1e-5, rtol=0)
    assert torch.equal(forced.argmax(-1), bins)


@HEADS
@pytest.mark.parametrize("feedforward", ["linear", "gelu"])
def test_the_cache_changes_nothing(bin_head: str, feedforward: str) -> None:
    model, seen = make(bin_head=bin_head, feedforward=feedforward), inputs()
    with_cache, without = model.decode(**seen), model.decode(**seen, use_cache=False)
    assert torch.equal(with_cache[0], without[0])
    torch.testing.assert_close(with_cache[1], without[1], atol=1e-5, rtol=0)


def test_decoding_is_deterministic_even_in_training_mode() -> None:
    model, seen = make(dropout=0.5), inputs()
    quiet = model.decode(**seen)
    model.train()
    noisy = model.q_logits(bins=some_bins(), **seen)
    assert not torch.equal(noisy, model.q_logits(bins=some_bins(), **seen)), "dropout must be at work here"
    for _ in range(3):
        again = model.decode(**seen)
        assert torch.equal(again[0], quiet[0])
        assert torch.equal(again[1], quiet[1])
    assert model.training
    assert model.transformer.training


def test_one_dimension_is_enough() -> None:
    model, seen = make(action_dims=1), inputs()
    bins, q = model.decode(**seen)
    assert bins.shape == (4, 1)
    torch.testing.assert_close(model.value(model.q_logits(bins=bins, **seen)), q)


# ---- who may know what


@HEADS
@pytest.mark.parametrize("changed", range(D))
def test_a_bin_is_known_to_later_dimensions_and_to_no_other(bin_head: str, changed: int) -> None:
    model, seen, bins = make(bin_head=bin_head), inputs(), some_bins()
    other = bins.clone()
    other[:, changed] = (other[:, changed] + 1) % BINS
    before, after = model.q_logits(bins=bins, **seen), model.q_logits(bins=other, **seen)
    assert torch.equal(before[:, : changed + 1], after[:, : changed + 1])
    for later in range(changed + 1, D):
        assert differ(before[:, later], after[:, later])


def test_no_gradient_flows_from_a_dimension_to_the_bins_of_later_ones() -> None:
    model = make()
    for i in range(D):
        model.zero_grad()
        model.q_logits(bins=some_bins(), **inputs())[:, i].sum().backward()
        assert model.bin_embedding.grad is not None
        touched = model.bin_embedding.grad.abs().sum((1, 2)) > 0
        assert touched.tolist() == [j < i for j in range(D - 1)]


def test_observations_see_the_frames_up_to_their_own_and_no_actions() -> None:
    model, seen = make(), inputs(2) | {"frame_mask": torch.ones(2, W, dtype=torch.bool)}
    per_frame = K + 1

    def hidden(tokens: Tensor, bins: Tensor) -> Tensor:
        x = model._observe(tokens, seen["proprio"], None)
        x = torch.cat((x, model._actions(bins, D)), dim=1)
        return model.transformer(x, model._mask(None, 0, x.shape[1]))[0]

    base = hidden(seen["tokens"], some_bins(2))
    newest = seen["tokens"].clone()
    newest[:, -1] += 1.0
    changed = hidden(newest, some_bins(2))
    assert torch.equal(base[:, : (W - 1) * per_frame], changed[:, : (W - 1) * per_frame])
    assert differ(base[:, (W - 1) * per_frame :], changed[:, (W - 1) * per_frame :])
    other_bins = hidden(seen["tokens"], (some_bins(2) + 1) % BINS)
    assert torch.equal(base[:, : W * per_frame], other_bins[:, : W * per_frame])


@HEADS
def test_the_order_of_the_frames_matters(bin_head: str) -> None:
    model, seen = make(bin_head=bin_head), inputs() | {"frame_mask": torch.ones(4, W, dtype=torch.bool)}
    flipped = seen | {"tokens": seen["tokens"].flip(1), "proprio": seen["proprio"].flip(1)}
    assert differ(model.q_logits(bins=some_bins(), **seen), model.q_logits(bins=some_bins(), **flipped))


@HEADS
def test_each_token_of_a_frame_has_its_own_place(bin_head: str) -> None:
    """The first token may stand for the target and the second for the tool: exchanged, they mean something else."""
    model, seen = make(bin_head=bin_head), inputs()
    swapped = seen | {"tokens": seen["tokens"].flip(2)}
    assert differ(model.q_logits(bins=some_bins(), **seen), model.q_logits(bins=some_bins(), **swapped))


# ---- unfilled frames


@pytest.mark.parametrize("rubbish", [1e6, float("nan"), float("inf")])
def test_what_stands_in_an_unfilled_slot_has_no_influence_at_all(rubbish: float) -> None:
    model, seen, bins = make(), inputs(), some_bins()
    dirty = {k: v.clone() for k, v in seen.items()}
    dirty["tokens"][~seen["frame_mask"]] = rubbish
    dirty["proprio"][~seen["frame_mask"]] = rubbish
    assert torch.equal(model.q_logits(bins=bins, **seen), model.q_logits(bins=bins, **dirty))
    for use_cache in (True, False):
        clean, other = model.decode(**seen, use_cache=use_cache), model.decode(**dirty, use_cache=use_cache)
        assert torch.equal(clean[0], other[0])
        assert torch.equal(clean[1], other[1])


def test_no_gradient_flows_into_an_unfilled_slot() -> None:
    model, seen = make(), inputs()
    tokens = seen["tokens"].clone()
    tokens[~seen["frame_mask"]] = float("nan")
    tokens.requires_grad_()
    model.q_logits(bins=some_bins(), **(seen | {"tokens": tokens})).sum().backward()
    assert tokens.grad is not None
    assert bool((tokens.grad[~seen["frame_mask"]] == 0).all())
    assert bool((tokens.grad[seen["frame_mask"]] != 0).any())
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_a_window_of_filled_frames_is_the_same_with_a_mask_and_without() -> None:
    model, seen = make(), inputs() | {"frame_mask": torch.ones(4, W, dtype=torch.bool)}
    bare = {k: v for k, v in seen.items() if k != "frame_mask"}
    a, b = model.q_logits(bins=some_bins(), **seen), model.q_logits(bins=some_bins(), **bare)
    torch.testing.assert_close(a, b)


# ---- batches and windows


def test_a_sample_does_not_depend_on_the_others_in_its_batch() -> None:
    model, seen, bins = make(), inputs(), some_bins()
    together = model.q_logits(bins=bins, **seen)
    for i in range(4):
        alone = model.q_logits(bins=bins[i : i + 1], **{k: v[i : i + 1] for k, v in seen.items()})
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)
    poisoned = seen | {"tokens": seen["tokens"].index_fill(0, torch.tensor([3]), float("nan"))}
    assert torch.equal(model.q_logits(bins=bins, **poisoned)[:3], together[:3])


def test_the_leading_dimensions_alone_are_the_same_and_need_no_later_bins() -> None:
    model, seen, bins = make(), inputs(), some_bins()
    whole = model.q_logits(bins=bins, **seen)
    for count in range(1, D + 1):
        part = model.q_logits(bins=bins[:, : count - 1], dimensions=count, **seen)
        torch.testing.assert_close(part, whole[:, :count], atol=1e-5, rtol=0)


def test_a_rolling_window_of_tokens_encodes_each_frame_once() -> None:
    """The cost of a step must not grow with the history: old frames come from the ring buffer."""
    model, images, text = make(), pictures(6), torch.randn(1, E, generator=torch.Generator().manual_seed(4))
    proprio = torch.randn(6, P, generator=torch.Generator().manual_seed(5))
    encoded: list[int] = []
    hook = model.vision.register_forward_hook(lambda module, args, output: encoded.append(len(args[0])))
    ring = torch.zeros(1, W, K, WIDTH)
    rolled: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for t in range(6):
            ring = torch.cat((ring[:, 1:], model.encode_frames(images[t : t + 1], text)[:, None]), dim=1)
            first = max(0, t + 1 - W)
            seen = torch.zeros(1, W, P)
            seen[0, W - (t + 1 - first) :] = proprio[first : t + 1]
            mask = torch.arange(W)[None] >= W - (t + 1)
            rolled.append(model.decode(ring, seen, mask))
        assert encoded == [1] * 6
        hook.remove()
        for t in range(W - 1, 6):
            window = model.encode_frames(images[t + 1 - W : t + 1], text.expand(W, -1))[None]
            bins, q = model.decode(window, proprio[None, t + 1 - W : t + 1], torch.ones(1, W, dtype=torch.bool))
            assert torch.equal(rolled[t][0], bins)
            torch.testing.assert_close(rolled[t][1], q, atol=1e-5, rtol=0)


def test_forward_is_encoding_and_q_in_one() -> None:
    model, images, text = make(), pictures(2 * W).unflatten(0, (2, W)), torch.randn(2, E)
    seen, bins = inputs(2), some_bins(2)
    tokens = model.encode_frames(images.flatten(0, 1), text.repeat_interleave(W, dim=0)).unflatten(0, (2, W))
    wanted = model.q_logits(tokens, bins, seen["proprio"], seen["frame_mask"])
    torch.testing.assert_close(model(images, text, bins, seen["proprio"], seen["frame_mask"]), wanted)
