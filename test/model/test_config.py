from __future__ import annotations

import dataclasses
import json

import pytest

from qt_ros.model.config import PRESETS, ModelConfig
from qt_ros.model.q_transformer import QTransformer, parameter_counts


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json(name: str) -> None:
    config = PRESETS[name]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown keys \['depth'\]"):
        ModelConfig.from_dict({**PRESETS["small"].to_dict(), "depth": 3})
    with pytest.raises(ValueError, match=r"unknown keys \['depth'\]"):
        ModelConfig.from_preset("small", depth=3)


def test_a_missing_key_is_named() -> None:
    data = PRESETS["small"].to_dict()
    del data["width"]
    with pytest.raises(ValueError, match=r"missing keys \['width'\]"):
        ModelConfig.from_dict(data)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no preset 'huge'; there are paper, small"):
        ModelConfig.from_preset("huge")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision": "resnet"}, "vision must be one of small, efficientnet_b0"),
        ({"bin_head": "shared"}, "bin_head must be one of linear, tied"),
        ({"value_head": "c51"}, "value_head must be one of sigmoid, linear, hl_gauss, softmax"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"layers": 2.0}, "layers must be int"),
        ({"layers": True}, "layers must be int"),
        ({"proprio_size": -1}, "proprio_size must be at least 0"),
        ({"bins": 1}, "bins must be at least 2"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"initial_q": 0.0}, "initial_q must lie strictly between 0 and 1"),
        ({"initial_q": float("nan")}, "initial_q must lie strictly between 0 and 1"),
        ({"image_width": 130}, "divisible by 4"),
    ],
)
def test_a_wrong_value_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_preset("small", **change)


def test_the_paper_preset_has_the_widths_of_rt1() -> None:
    c = PRESETS["paper"]
    assert (c.vision, c.image_height, c.image_width) == ("efficientnet_b3", 300, 300)
    assert (c.history, c.tokens_per_frame, c.token_learner_hidden) == (6, 8, 64)
    assert (c.layers, c.width, c.heads, c.head_dim, c.feedforward, c.final_norm) == (8, 512, 8, 128, "linear", False)
    assert (c.bins, c.dropout) == (256, 0.1)


def test_the_paper_preset_has_the_size_of_rt1() -> None:
    """RT-1 is reported with about 35 M parameters, 16 M of them in the image tower and 19 M in the Transformer."""
    counts = parameter_counts(QTransformer(PRESETS["paper"]))
    layer = (512 + 1) * 3 * 1024 + (1024 + 1) * 512 + (512 + 1) * 512 + 2 * 2 * 512
    assert counts["transformer"] == 8 * layer == 18_923_520
    film = 2_778_160 + (384 + 1) * 2 * 512  # after the 26 blocks and after the projection to 512 channels
    assert counts["vision"] == 10_696_232 + film + 1536 * 512
    assert counts["total"] == 36_398_752


def test_the_small_preset_stays_small() -> None:
    counts = parameter_counts(QTransformer(PRESETS["small"]))
    assert counts["vision"] == 175_680
    assert counts["transformer"] == 595_072
    assert counts["total"] == 1_427_426


def test_a_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["small"].width = 64  # type: ignore[misc]
