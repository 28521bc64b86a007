"""Every choice that shapes the network, as one frozen, strictly checked record, and the two presets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VISION = ("small", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "state")
PADDING = ("symmetric", "same", "rt1")
BATCH_NORM = ("frozen", "batch")
FEEDFORWARD = ("linear", "gelu")
BIN_HEAD = ("linear", "tied")
VALUE_HEAD = ("sigmoid", "linear", "hl_gauss", "softmax")
ADDED_IN_FORMAT_2: dict[str, Any] = {"value_atoms": 51, "value_rank": 8, "return_token": False, "state_size": 0}
"""Fields that checkpoints of format 1 do not have, with the values that mean what those checkpoints are."""


VISION_FIELDS = (
    "vision", "vision_channels", "vision_blocks", "vision_padding", "batch_norm", "image_height", "image_width",
    "tokens_per_frame", "token_learner_hidden", "width", "text_size",
)  # fmt: skip
"""Fields that shape everything between an image and its tokens."""


MOST = 65536  # of any size in a model: a made-up one must not take the machine's memory


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a `QTransformer`. All fields are checked on construction; a wrong one raises ValueError naming it.

    preset: label only; which preset these values started from.
    vision: 'small' (cheap on a CPU) or 'efficientnet_b0'..'efficientnet_b3' with FiLM after every block (RT-1); 'state'
        takes the simulator's privileged state vector in place of the image (experiments only, drives no robot).
    vision_channels: channels of the feature map that TokenLearner reads ('small' appends position features to them).
    vision_blocks: 3x3 convolution blocks of 'small'; not used by the EfficientNets, whose depth is fixed.
    vision_padding: EfficientNets only. 'symmetric' = timm's efficientnet_b*, 'same' = timm's tf_efficientnet_b*
        (both give 10x10 for B3 at 300 px), 'rt1' = the released RT-1's padding (9x9 for B3 at 300 px).
    batch_norm: EfficientNets only. 'frozen' always uses the stored statistics, so that the function that acts, the one
        that is trained and its lagged copy are the same; 'batch' is for training from scratch.
    image_height, image_width: pixels of the images given to `encode_frames`.
    history: frames in the window (w). tokens_per_frame: image tokens per frame (K).
    token_learner_hidden: hidden width of TokenLearner's MLP.
    layers, width, heads, head_dim: Transformer; heads * head_dim need not equal width (RT-1: 8 * 128 over 512).
    feedforward: 'linear' = one width->width map without activation, as RT-1 is coded; 'gelu' = 4x wide, GELU.
    final_norm: LayerNorm before the output head (RT-1 has none).
    action_dims (D), bins: the action space. proprio_size: numbers in a proprioception vector, 0 = none.
    text_size: size of a sentence embedding (384 for all-MiniLM-L6-v2).
    bin_head: 'linear' = own width->bins map per dimension; 'tied' = the dimension's input embedding table reused.
    value_head: how outputs become the numbers that `value` gives. Q-values: 'sigmoid' squashes each bin's output into
        (0, 1); 'linear' takes it as it is; 'hl_gauss' makes a histogram over [0, 1] per bin and takes its mean. A
        policy's probabilities: 'softmax' over the bins of a dimension.
    initial_q: Q of every bin before training (set through the output bias; 'softmax' starts uniform).
    value_atoms, value_rank: 'hl_gauss' only: atoms of a histogram, and free numbers per bin that shape it
        (see `value_histogram`).
    return_token: each frame also has a token that says whether the episode succeeds (Decision Transformer).
    state_size: numbers in the privileged state vector; 0 unless vision is 'state'.
    """

    preset: str
    vision: str
    vision_channels: int
    vision_blocks: int
    vision_padding: str
    batch_norm: str
    image_height: int
    image_width: int
    history: int
    tokens_per_frame: int
    token_learner_hidden: int
    layers: int
    width: int
    heads: int
    head_dim: int
    feedforward: str
    final_norm: bool
    dropout: float
    action_dims: int
    bins: int
    proprio_size: int
    text_size: int
    bin_head: str
    value_head: str
    initial_q: float
    value_atoms: int
    value_rank: int
    return_token: bool
    state_size: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kinds = {"int": (int,), "float": (float, int), "str": (str,), "bool": (bool,)}[str(field.type)]
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ValueError(f"model config: {field.name} must be {field.type}, got {value!r}")
            if field.type == "int":
                least = 0 if field.name in ("proprio_size", "state_size") else 1
                if not least <= int(value) <= MOST:
                    raise ValueError(
                        f"model config: {field.name} must be at least {least} and at most {MOST}, got {value}"
                    )
        choices = {"vision": VISION, "vision_padding": PADDING, "batch_norm": BATCH_NORM, "feedforward": FEEDFORWARD}
        choices |= {"bin_head": BIN_HEAD, "value_head": VALUE_HEAD}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"model config: {name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}"
                )
        if max(self.layers, self.vision_blocks, self.history, self.tokens_per_frame, self.heads) > 1024:
            raise ValueError("model config: at most 1024 layers, blocks, frames of history, tokens and heads")
        if self.bins < 2:
            raise ValueError(f"model config: bins must be at least 2, got {self.bins}")
        if not (math.isfinite(self.dropout) and 0.0 <= self.dropout < 1.0):
            raise ValueError(f"model config: dropout must lie in [0, 1), got {self.dropout}")
        if not (math.isfinite(self.initial_q) and 0.0 < self.initial_q < 1.0):
            raise ValueError(f"model config: initial_q must lie strictly between 0 and 1, got {self.initial_q}")
        if self.vision == "small" and (self.image_height % 4 or self.image_width % 4):
            raise ValueError(
                "model config: vision 'small' needs image_height and image_width divisible by 4, "
                f"got {self.image_height} x {self.image_width}"
            )
        if (self.vision == "state") != (self.state_size > 0):
            raise ValueError(
                f"model config: state_size goes with vision 'state' and only with it, "
                f"got vision {self.vision!r} and state_size {self.state_size}"
            )
        if self.value_head == "hl_gauss":
            if not 1 <= self.value_rank < self.value_atoms:
                raise ValueError(
                    f"model config: value_rank must lie in 1..value_atoms-1, got {self.value_rank} for "
                    f"{self.value_atoms} atoms"
                )
            if self.bin_head == "tied":
                raise ValueError(
                    "model config: bin_head 'tied' has one output per bin; value_head 'hl_gauss' needs more"
                )

    @property
    def tokens_per_step(self) -> int:
        """Sequence positions one frame takes: K image tokens, one for proprioception and one for the return, if any."""
        return self.tokens_per_frame + (1 if self.proprio_size else 0) + (1 if self.return_token else 0)

    @property
    def outputs_per_bin(self) -> int:
        """Numbers the output head gives per bin: 1, or ``value_rank`` for a histogram."""
        return self.value_rank if self.value_head == "hl_gauss" else 1

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values; `from_dict` is the exact inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Strict: every field must be there and nothing else; ValueError names what is missing or unknown."""
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(data) - set(names))
        missing = [name for name in names if name not in data]
        if unknown or missing:
            raise ValueError(
                f"model config: unknown keys {unknown}, missing keys {missing}; "
                "start from ModelConfig.from_preset to change only some fields"
            )
        return cls(**data)

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> ModelConfig:
        """A preset with some fields changed, e.g. `from_preset("small", action_dims=space.size, bins=space.bins)`."""
        if name not in PRESETS:
            raise ValueError(f"model config: no preset {name!r}; there are {', '.join(PRESETS)}")
        unknown = sorted(set(changes) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"model config: unknown keys {unknown} for preset {name!r}")
        return dataclasses.replace(PRESETS[name], **changes)


PRESETS: dict[str, ModelConfig] = {
    # Widths of the released RT-1 (history, TokenLearner, Transformer), which the Q-Transformer paper builds on. The
    # grid is the stock 10x10, not RT-1's 9x9: the published ImageNet weights were trained with the stock padding.
    "paper": ModelConfig(
        preset="paper",
        vision="efficientnet_b3",
        vision_channels=512,
        vision_blocks=1,
        vision_padding="symmetric",
        batch_norm="frozen",
        image_height=300,
        image_width=300,
        history=6,
        tokens_per_frame=8,
        token_learner_hidden=64,
        layers=8,
        width=512,
        heads=8,
        head_dim=128,
        feedforward="linear",
        final_norm=False,
        dropout=0.1,
        action_dims=10,
        bins=256,
        proprio_size=0,
        text_size=384,
        bin_head="linear",
        value_head="sigmoid",
        initial_q=0.02,
        **ADDED_IN_FORMAT_2,
    ),
    # Sized for two CPU cores: most of the cost of a sample is the feature map, so it is small and made early.
    "small": ModelConfig(
        preset="small",
        vision="small",
        vision_channels=48,
        vision_blocks=3,
        vision_padding="symmetric",
        batch_norm="frozen",
        image_height=96,
        image_width=128,
        history=2,
        tokens_per_frame=6,
        token_learner_hidden=32,
        layers=3,
        width=128,
        heads=4,
        head_dim=32,
        feedforward="gelu",
        final_norm=True,
        dropout=0.0,
        action_dims=10,
        bins=256,
        proprio_size=10,
        text_size=384,
        bin_head="linear",
        value_head="sigmoid",
        initial_q=0.02,
        **ADDED_IN_FORMAT_2,
    ),
}
