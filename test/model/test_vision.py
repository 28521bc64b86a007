from __future__ import annotations

import pytest
import torch

from qt_ros.model.config import VISION, ModelConfig
from qt_ros.model.vision import make_vision


@pytest.mark.parametrize("name", VISION)
def test_every_encoder_honours_the_same_interface(name: str) -> None:
    config = ModelConfig.from_preset(
        "small", vision=name, image_height=64, image_width=96, vision_channels=16, text_size=4
    )
    net = make_vision(config).eval()
    with torch.no_grad():
        out = net(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8), torch.randn(2, 4))
    assert out.shape == (2, net.out_channels, *net.grid)
    assert out.dtype == torch.float32
    assert bool(out.isfinite().all())
