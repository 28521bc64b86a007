"""The behaviours a faithful Q-Transformer must have, among them those that other implementations got wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from qt_ros.model.config import PRESETS, ModelConfig
from qt_ros.model.q_transformer import QTransformer

D, BINS, W, K, P, E, WIDTH = 5, 16, 3, 2, 4, 8, 32
HEADS = pytest.mark.parametrize("bin_head", ["linear", "tied"])


def make(seed: int = 0, noise: float = 0.3, **changes: Any) -> QTransformer:
    """A small model whose every parameter was moved, so that nothing agrees only because it is zero or equal."""
    fields: dict[str, Any] = {
        "image_height": 16,
        "image_width": 24,
        "vision_channels": 8,
        "vision_blocks": 2,
        "token_learner_hidden": 8,
        "history": W,
        "tokens_per_frame": K,
        "width": WIDTH,
        "heads": 2,
        "head_dim": 12,
        "layers": 2,
        "action_dims": D,
        "bins": BINS,
        "proprio_size": P,
        "text_size": E,
        "initial_q": 0.3,
    }
    torch.manual_seed(seed)
    model = QTransformer(ModelConfig.from_preset("small", **(fields | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.eval()


def inputs(batch: int = 4, seed: int = 1) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, W, dtype=torch.bool)
    mask[1:, 0] = False
    mask[2:, 1] = False
    return {
        "tokens": torch.randn(batch, W, K, WIDTH, generator=g),
        "proprio": torch.randn(batch, W, P, generator=g),
        "frame_mask": mask,
    }


def some_bins(batch: int = 4, seed: int = 2) -> Tensor:
    return torch.randint(0, BINS, (batch, D), generator=torch.Generator().manual_seed(seed))


def pictures(count: int, seed: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, 3, 16, 24), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


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
        assert not torch.allclose(before[:, later], after[:, later])


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
    assert not torch.allclose(base[:, (W - 1) * per_frame :], changed[:, (W - 1) * per_frame :])
    other_bins = hidden(seen["tokens"], (some_bins(2) + 1) % BINS)
    assert torch.equal(base[:, : W * per_frame], other_bins[:, : W * per_frame])


@HEADS
def test_the_order_of_the_frames_matters(bin_head: str) -> None:
    model, seen = make(bin_head=bin_head), inputs() | {"frame_mask": torch.ones(4, W, dtype=torch.bool)}
    flipped = seen | {"tokens": seen["tokens"].flip(1), "proprio": seen["proprio"].flip(1)}
    assert not torch.allclose(model.q_logits(bins=some_bins(), **seen), model.q_logits(bins=some_bins(), **flipped))


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


# ---- values


@pytest.mark.parametrize("preset", ["small", "paper"])
@HEADS
def test_values_start_low_and_lie_between_zero_and_one(preset: str, bin_head: str) -> None:
    torch.manual_seed(0)
    changes = {} if preset == "small" else {"vision": "small", "image_width": 300, "layers": 2}
    config = ModelConfig.from_preset(preset, bin_head=bin_head, **changes)
    model = QTransformer(config).eval()
    tokens = torch.randn(8, config.history, config.tokens_per_frame, config.width)
    proprio = torch.randn(8, config.history, config.proprio_size) if config.proprio_size else None
    q = model.value(model.q_logits(tokens, torch.randint(0, 256, (8, 10)), proprio))
    assert q.shape == (8, 10, 256)
    assert 0.0 < q.min().item() < q.max().item() < 0.5
    assert q.mean().item() == pytest.approx(config.initial_q, rel=0.7)


def test_the_initial_value_is_a_setting() -> None:
    model = make(noise=0.0, initial_q=0.4)
    assert model.head_bias.detach().unique().tolist() == pytest.approx([math.log(0.4 / 0.6)])


def test_q_is_the_sigmoid_of_the_output_in_float32() -> None:
    logits = torch.tensor([-3.0, 0.0, 2.0], dtype=torch.bfloat16)
    q = make().value(logits)
    assert q.dtype == torch.float32
    torch.testing.assert_close(q, torch.tensor([-3.0, 0.0, 2.0]).sigmoid())


def test_bfloat16_autocast_keeps_outputs_in_float32_and_close() -> None:
    model, seen, bins = make(noise=0.05), inputs(), some_bins()
    images, text = pictures(2), torch.randn(2, E)
    exact_tokens, exact = model.encode_frames(images, text), model.q_logits(bins=bins, **seen)
    with torch.autocast("cpu", torch.bfloat16):
        tokens, logits = model.encode_frames(images, text), model.q_logits(bins=bins, **seen)
        decoded, q = model.decode(**seen)
        uncached, slow = model.decode(**seen, use_cache=False)
    assert logits.dtype == q.dtype == torch.float32
    torch.testing.assert_close(logits, exact, atol=0.1, rtol=0.1)
    torch.testing.assert_close(tokens.float(), exact_tokens, atol=0.1, rtol=0.1)
    torch.testing.assert_close(q, slow, atol=0.02, rtol=0)


def test_tied_outputs_use_the_embedding_table_of_their_own_dimension() -> None:
    model, seen, bins = make(bin_head="tied"), inputs(), some_bins()
    assert model.head_weight is None
    before = model.q_logits(bins=bins, **seen)
    with torch.no_grad():
        model.bin_embedding[D - 1] += 1.0
    after = model.q_logits(bins=bins, **seen)
    assert torch.equal(before[:, : D - 1], after[:, : D - 1])
    assert not torch.allclose(before[:, D - 1], after[:, D - 1])


@HEADS
def test_training_fits_a_table_of_values(bin_head: str) -> None:
    """Q of each dimension as an arbitrary function of the bins before it can be learnt."""
    model = make(noise=0.0, bin_head=bin_head, action_dims=2, bins=4, initial_q=0.02)
    g = torch.Generator().manual_seed(6)
    first, second = torch.rand(4, generator=g), torch.rand(4, 4, generator=g)
    bins = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    seen = {k: v[:1].expand(16, *v.shape[1:]) for k, v in inputs(1).items()}
    wanted = torch.stack((first.expand(16, 4), second[bins[:, 0]]), dim=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = (model.value(model.q_logits(bins=bins, **seen)) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1e-3
    decoded, q = model.decode(**{k: v[:1] for k, v in seen.items()})
    assert decoded[0].tolist() == [int(first.argmax()), int(second[first.argmax()].argmax())]
    torch.testing.assert_close(q[0, 1], second[first.argmax()], atol=0.1, rtol=0)


# ---- images


def test_attention_maps_come_with_the_tokens_on_request() -> None:
    model, images, text = make(), pictures(3), torch.randn(3, E)
    tokens, attention = model.encode_frames(images, text, return_attention=True)
    assert tokens.shape == (3, K, WIDTH)
    assert attention.shape == (3, K, 4, 6)
    torch.testing.assert_close(attention.sum((-2, -1)), torch.ones(3, K))
    assert torch.equal(tokens, model.encode_frames(images, text))


def test_the_instruction_and_the_picture_reach_the_values() -> None:
    model, bins, seen = make(), some_bins(1), inputs(1)
    images, texts = pictures(2 * W).unflatten(0, (2, 1, W)), torch.randn(2, 1, E)
    rest = (bins, seen["proprio"], seen["frame_mask"])
    base = model(images[0], texts[0], *rest)
    assert not torch.allclose(base, model(images[1], texts[0], *rest))
    assert not torch.allclose(base, model(images[0], texts[1], *rest))


# ---- the paper preset


def test_the_paper_preset_runs_from_pixels_to_an_action() -> None:
    torch.manual_seed(0)
    config = PRESETS["paper"]
    model = QTransformer(config).eval()
    images = torch.randint(0, 256, (1, 6, 3, 300, 300), dtype=torch.uint8)
    with torch.no_grad():
        tokens = model.encode_frames(images[0], torch.randn(1, 384).expand(6, -1))[None]
        assert tokens.shape == (1, 6, 8, 512)
        bins, q = model.decode(tokens)
        logits = model.q_logits(tokens, bins)
    assert logits.shape == (1, 10, 256)
    assert torch.equal(logits.argmax(-1), bins)
    torch.testing.assert_close(model.value(logits), q, atol=1e-5, rtol=0)


# ---- compilation


def test_the_model_compiles_into_one_graph() -> None:
    torch._dynamo.reset()
    model, seen, bins = make(), inputs(), some_bins()
    compiled = torch.compile(model.q_logits, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(bins=bins, **seen), model.q_logits(bins=bins, **seen))
    images, text = pictures(2), torch.randn(2, E)
    encode = torch.compile(model.encode_frames, fullgraph=True, backend="eager")
    torch.testing.assert_close(encode(images, text), model.encode_frames(images, text))


# ---- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": torch.zeros(4, W + 1, K, WIDTH)}, r"tokens must be \(B, w, K, width\) = \(4, 3, 2, 32\)"),
        ({"proprio": torch.zeros(4, W, P + 1)}, r"proprio must be \(B, w, P\)"),
        ({"proprio": None}, r"proprio must be \(B, w, P\)"),
        ({"frame_mask": torch.ones(4, W)}, "frame_mask must be bool"),
        ({"bins": torch.zeros(4, D)}, "bins must be integers"),
        ({"bins": torch.zeros(4, D - 1, dtype=torch.long)}, "bins must be integers"),
        ({"bins": torch.full((4, D), BINS)}, r"bins must lie in 0\.\.15, got 16\.\.16"),
        ({"bins": torch.full((4, D), -1)}, r"bins must lie in 0\.\.15"),
        ({"dimensions": 0}, r"dimensions must lie in 1\.\.5"),
    ],
)
def test_wrong_inputs_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().q_logits(**({"bins": some_bins()} | inputs() | change))


@pytest.mark.parametrize(
    ("images", "text", "message"),
    [
        (torch.zeros(1, 3, 24, 16, dtype=torch.uint8), torch.zeros(1, E), r"images must be \(N, 3, 16, 24\)"),
        (torch.zeros(1, 16, 24, 3, dtype=torch.uint8), torch.zeros(1, E), r"images must be \(N, 3, 16, 24\)"),
        (torch.zeros(1, 3, 16, 24), torch.zeros(1, E), "images must be uint8 RGB"),
        (torch.zeros(2, 3, 16, 24, dtype=torch.uint8), torch.zeros(1, E), r"text must be \(2, 8\)"),
    ],
)
def test_wrong_images_are_refused_by_name(images: Tensor, text: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().encode_frames(images, text)


def test_proprioception_for_a_model_without_is_refused() -> None:
    with pytest.raises(ValueError, match="proprio given, but this model has proprio_size 0"):
        make(proprio_size=0).q_logits(bins=some_bins(), **inputs())
