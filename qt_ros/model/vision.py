"""Image encoders behind one interface, chosen by the model config."""

from __future__ import annotations

from torch import nn

from qt_ros.model.config import ModelConfig
from qt_ros.model.small_encoder import SmallEncoder


def make_vision(config: ModelConfig) -> nn.Module:
    """The encoder that `config.vision` names.

    Every encoder has `out_channels`, `grid` (h, w) and forward(images (N, 3, H, W) uint8 RGB, text (N, E) float)
    -> (N, out_channels, h, w); images are normalised inside.
    """
    if config.vision == "small":
        return SmallEncoder(
            config.image_height, config.image_width, config.vision_channels, config.vision_blocks, config.text_size
        )
    raise NotImplementedError(config.vision)
