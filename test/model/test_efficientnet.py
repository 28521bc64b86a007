from __future__ import annotations

import hashlib
import math

import pytest
import torch
from torch import Tensor, nn

from qt_ros.model.efficientnet import FilmEfficientNet, PaddedConv

OWN = ("films.", "projection.", "projection_film.")
# Read from timm 1.0.31 (efficientnet_b*, tf_efficientnet_b*: the same names and shapes): number of tensors without the
# classifier, number of parameters, SHA-256 (first 16 digits) of the sorted lines "name:shape".
TIMM = {
    "efficientnet_b0": (358, 4_007_548, "c46bcf69abccd177", 16),
    "efficientnet_b1": (506, 6_513_184, "feeacf6b5d942c24", 23),
    "efficientnet_b2": (506, 7_700_994, "834f18aa87a29123", 23),
    "efficientnet_b3": (572, 10_696_232, "aeda7c84bee68e81", 26),
}


def shared_with_timm(net: FilmEfficientNet) -> dict[str, Tensor]:
    return {name: value for name, value in net.state_dict().items() if not name.startswith(OWN)}


def fill(net: FilmEfficientNet) -> None:
    """Weights given by a formula, so that two programs can have the same ones without a file."""
    state = net.state_dict()
    for name, value in shared_with_timm(net).items():
        if not value.is_floating_point():
            continue
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + len(name)).reshape(value.shape)
        if name.endswith("running_var"):
            wave = 1 + 0.5 * wave
        elif value.ndim == 1 and name.endswith("weight"):
            wave = 1 + 0.3 * wave
        elif value.ndim == 4:
            wave = wave * math.sqrt(4.0 / value[0].numel())
        else:
            wave = 0.1 * wave
        state[name].copy_(wave)


def picture(height: int, width: int) -> Tensor:
    return (torch.arange(3 * height * width) * 7919 % 256).to(torch.uint8).view(1, 3, height, width)


@pytest.mark.parametrize("name", TIMM)
def test_names_and_shapes_are_those_of_timm(name: str) -> None:
    tensors, parameters, digest, blocks = TIMM[name]
    net = FilmEfficientNet(name, 64, 64, 8, 4, "symmetric", "frozen")
    shared = shared_with_timm(net)
    lines = sorted(f"{key}:{','.join(map(str, value.shape))}" for key, value in shared.items())
    assert len(lines) == tensors
    assert sum(p.numel() for key, p in net.named_parameters() if not key.startswith(OWN)) == parameters
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digest
    assert len(net.films) == blocks == sum(len(stage) for stage in net.blocks)  # type: ignore[arg-type, misc]


def test_some_shapes_of_b3_are_what_timm_documents() -> None:
    shapes = {
        k: tuple(v.shape)
        for k, v in FilmEfficientNet("efficientnet_b3", 64, 64, 8, 4, "same", "frozen").state_dict().items()
    }
    assert shapes["conv_stem.weight"] == (40, 3, 3, 3)
    assert shapes["blocks.0.1.se.conv_reduce.weight"] == (6, 24, 1, 1)
    assert shapes["blocks.1.0.conv_pwl.weight"] == (32, 144, 1, 1)
    assert shapes["blocks.6.1.bn3.running_var"] == (384,)
    assert shapes["conv_head.weight"] == (1536, 384, 1, 1)


@pytest.mark.parametrize(
    ("name", "padding", "mean", "deviation", "one", "other"),
    [
        ("efficientnet_b0", "symmetric", 0.9354420, 1.4494340, 2.6642585, -0.0554006),
        ("efficientnet_b0", "same", 0.9314086, 1.4438423, 2.6552911, -0.0509608),
        ("efficientnet_b3", "symmetric", 2.3790898, 3.5890448, 0.9043571, -0.0509611),
        ("efficientnet_b3", "same", 2.4951043, 3.6600885, -0.2783205, -0.0441169),
    ],
)
def test_features_are_those_of_timm(
    name: str, padding: str, mean: float, deviation: float, one: float, other: float
) -> None:
    """The numbers are timm's own output for these weights and this picture, whose odd size tells paddings apart."""
    net = FilmEfficientNet(name, 75, 110, 8, 4, padding, "frozen")
    fill(net)
    with torch.no_grad():
        features = net.features(picture(75, 110), torch.zeros(1, 4))
    found = [float(v) for v in (features.mean(), features.std(), features[0, 5, 1, 2], features[0, 700, 2, 3])]
    assert found == pytest.approx([mean, deviation, one, other], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("padding", "grid"), [("symmetric", (10, 10)), ("same", (10, 10)), ("rt1", (9, 9))])
def test_the_grid_of_b3_at_300_pixels_is_chosen_on_purpose(padding: str, grid: tuple[int, int]) -> None:
    """Stock padding gives 100 positions, the padding of the released RT-1 gives 81."""
    net = FilmEfficientNet("efficientnet_b3", 300, 300, 8, 4, padding, "frozen")
    with torch.no_grad():
        out = net(torch.zeros(1, 3, 300, 300, dtype=torch.uint8), torch.zeros(1, 4))
    assert net.grid == grid
    assert out.shape == (1, 8, *grid)


@pytest.mark.parametrize("padding", ["symmetric", "same", "rt1"])
def test_the_grid_is_right_for_sizes_that_do_not_divide(padding: str) -> None:
    net = FilmEfficientNet("efficientnet_b0", 97, 141, 8, 4, padding, "frozen")
    with torch.no_grad():
        out = net(torch.zeros(1, 3, 97, 141, dtype=torch.uint8), torch.zeros(1, 4))
    assert out.shape[2:] == net.grid


def test_same_padding_puts_the_odd_pixel_at_the_end() -> None:
    conv = PaddedConv(1, 1, 3, 2, 1, "same")
    nn.init.ones_(conv.weight)
    line = torch.tensor([1.0, 2.0, 4.0, 8.0])
    # Four wide, so one pixel of padding, at the end: sums of (1, 2, 4) and of (4, 8, -). The middle row sees rows 0..2.
    assert conv(line.repeat(4, 1)[None, None])[0, 0, 0].tolist() == [21.0, 36.0]


def test_the_instruction_has_no_effect_before_training_and_some_after() -> None:
    net = FilmEfficientNet("efficientnet_b0", 64, 64, 8, 4, "symmetric", "frozen")
    fill(net)
    texts = torch.randn(2, 4)
    image = picture(64, 64)
    with torch.no_grad():
        assert torch.equal(net(image, texts[:1]), net(image, texts[1:]))
        nn.init.normal_(net.films[3].linear.weight)  # type: ignore[union-attr, arg-type]
        assert not torch.allclose(net(image, texts[:1]), net(image, texts[1:]))


def test_frozen_statistics_make_training_and_acting_the_same_function() -> None:
    net = FilmEfficientNet("efficientnet_b0", 64, 64, 8, 4, "symmetric", "frozen")
    images, text = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8), torch.randn(3, 4)
    with torch.no_grad():
        acting = net.eval()(images, text)
        before = net.bn1.running_mean.clone()  # type: ignore[union-attr]
        torch.testing.assert_close(net.train()(images, text), acting)
    assert torch.equal(net.bn1.running_mean, before)  # type: ignore[arg-type]


def test_batch_statistics_are_there_for_training_from_scratch() -> None:
    net = FilmEfficientNet("efficientnet_b0", 64, 64, 8, 4, "symmetric", "batch").train()
    before = net.bn1.running_mean.clone()  # type: ignore[union-attr]
    net(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.randn(2, 4))
    assert not torch.equal(net.bn1.running_mean, before)  # type: ignore[arg-type]


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="no variant 'efficientnet_b9'"):
        FilmEfficientNet("efficientnet_b9", 64, 64, 8, 4, "same", "frozen")
