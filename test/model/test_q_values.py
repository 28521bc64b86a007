"""What comes out of a Q-Transformer, on both presets, and what it refuses to take in."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_q import BINS, WIDTH, D, E, K, P, W, differ, inputs, make, pictures, some_bins
from torch import Tensor

from qt_ros.model.config import PRESETS, ModelConfig
from qt_ros.model.q_transformer import QTransformer

HEADS = pytest.mark.parametrize("bin_head", ["linear", "tied"])


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
    assert differ(before[:, D - 1], after[:, D - 1])


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
    assert differ(base, model(images[1], texts[0], *rest))
    assert differ(base, model(images[0], texts[1], *rest))


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
