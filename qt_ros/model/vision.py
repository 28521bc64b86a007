"""Image encoders behind one interface, chosen by the model config."""

from __future__ import annotations

from qt_ros.model.config import ModelConfig
from qt_ros.model.efficientnet import FilmEfficientNet
from qt_ros.model.small_encoder import SmallEncoder
from qt_ros.model.state_encoder import StateEncoder

VisionEncoder = SmallEncoder | FilmEfficientNet | StateEncoder


def make_vision(config: ModelConfig) -> VisionEncoder:
    """The encoder that `config.vision` names, with random weights.

    Every image encoder has `out_channels`, `grid` (h, w) and forward(images (N, 3, H, W) uint8 RGB, text (N, E) float)
    -> (N, out_channels, h, w); images are normalised inside. Published ImageNet weights for an EfficientNet:
    `timm_weights.load_timm_weights`. 'state' takes state vectors and gives tokens at once.
    """
    if config.vision == "state":
        return StateEncoder(config.state_size, config.tokens_per_frame, config.width)
    height, width = config.image_height, config.image_width
    if config.vision == "small":
        return SmallEncoder(height, width, config.vision_channels, config.vision_blocks, config.text_size)
    return FilmEfficientNet(
        config.vision,
        height,
        width,
        config.vision_channels,
        config.text_size,
        config.vision_padding,
        config.batch_norm,
    )
