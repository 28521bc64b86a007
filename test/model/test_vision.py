from __future__ import annotations

import pytest
import torch

from qt_ros.model.config import VISION, ModelConfig
from qt_ros.model.vision import make_vision


@pytest.mark.parametrize("name", [name for name in VISION if name != "state"])
def test_every_image_encoder_honours_the_same_interface(name: str) -> None:
    config = ModelConfig.from_preset(
        "small", vision=name, image_height=64, image_width=96, vision_channels=16, text_size=4
    )
    net = make_vision(config).eval()
    with torch.no_grad():
        out = net(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8), torch.randn(2, 4))
    assert out.shape == (2, net.out_channels, *net.grid)
    assert out.dtype == torch.float32
    assert bool(out.isfinite().all())


def test_the_state_encoder_gives_tokens_at_once_and_hears_no_text() -> None:
    config = ModelConfig.from_preset("small", vision="state", state_size=5, text_size=4)
    net = make_vision(config)
    states = torch.randn(2, 5)
    out = net(states, torch.randn(2, 4))
    assert out.shape == (2, config.tokens_per_frame, config.width)
    assert torch.equal(out, net(states, torch.randn(2, 4)))
    assert not torch.allclose(out, net(states + 0.01, torch.randn(2, 4)), atol=1e-4)
