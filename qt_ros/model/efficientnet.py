"""FiLM-EfficientNet: EfficientNet b0 to b3 with the instruction mixed in after every block (RT-1's image tower).

Written from the papers (EfficientNet arXiv 1905.11946, FiLM 1709.07871, RT-1 2212.06817). Parameters carry the names of
timm's EfficientNets, so that the ImageNet weights published for those load strictly (`timm_weights.py`); what timm
does not have stands under `films`, `projection` and `projection_film`.

Drop-connect (rate 0.2 in Keras' EfficientNet) is left out: values and their lagged copy must not be noisy.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qt_ros.model.film import FiLM

# (blocks, kernel, stride, expansion, channels) of b0's stages; the first stage is depthwise-separable.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280
SCALES = {  # (width multiplier, depth multiplier)
    "efficientnet_b0": (1.0, 1.0),
    "efficientnet_b1": (1.0, 1.1),
    "efficientnet_b2": (1.1, 1.2),
    "efficientnet_b3": (1.2, 1.4),
}


def scale_channels(channels: int, multiplier: float) -> int:
    """Channels times the width multiplier, rounded to a multiple of 8 and never more than 10% down."""
    scaled = channels * multiplier
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class PaddedConv(nn.Conv2d):
    """Convolution without bias whose padding at stride 2 follows one of three customs.

    'symmetric': k // 2 on each side. 'same': TensorFlow's SAME, as little as needed and the odd pixel at the end.
    'rt1': (k // 2 - 1, k // 2) whatever the input size. That is what the released RT-1 does, because its padding
    helper is built with an unknown input size; on odd sizes it loses a row and a column against 'same'.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, padding: str) -> None:
        self.custom = padding if stride > 1 else "symmetric"
        size = kernel // 2 if self.custom == "symmetric" else 0
        super().__init__(inputs, outputs, kernel, stride=stride, padding=size, groups=groups, bias=False)
        fan_out = kernel * kernel * outputs // groups
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / fan_out))

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if self.custom == "rt1":
            before, after = kernel // 2 - 1, kernel // 2
            x = F.pad(x, (before, after, before, after))
        elif self.custom == "same":
            height, width = x.shape[-2:]
            up = max((-(-height // stride) - 1) * stride + kernel - height, 0)
            left = max((-(-width // stride) - 1) * stride + kernel - width, 0)
            x = F.pad(x, (left // 2, left - left // 2, up // 2, up - up // 2))
        return super().forward(x)


def padded_size(size: int, kernel: int, stride: int, padding: str) -> int:
    """Output pixels of a `PaddedConv` along one axis."""
    if padding == "rt1" and stride > 1:
        return (size + 2 * (kernel // 2) - 1 - kernel) // stride + 1
    return -(-size // stride)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.conv_expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv_expand(F.silu(self.conv_reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class MBConv(nn.Module):
    """Inverted residual block; with expansion 1 the depthwise-separable block of the first stage."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, padding: str, eps: float
    ) -> None:
        super().__init__()
        middle = inputs * expansion
        self.expanding = expansion > 1
        self.residual = inputs == outputs and stride == 1
        depthwise = PaddedConv(middle, middle, kernel, stride, middle, padding)
        pointwise = PaddedConv(middle, outputs, 1, 1, 1, padding)
        if self.expanding:
            self.conv_pw = PaddedConv(inputs, middle, 1, 1, 1, padding)
            self.bn1 = nn.BatchNorm2d(middle, eps=eps)
            self.conv_dw = depthwise
            self.bn2 = nn.BatchNorm2d(middle, eps=eps)
            self.se = SqueezeExcite(middle, round(inputs * 0.25))
            self.conv_pwl = pointwise
            self.bn3 = nn.BatchNorm2d(outputs, eps=eps)
        else:
            self.conv_dw = depthwise
            self.bn1 = nn.BatchNorm2d(middle, eps=eps)
            self.se = SqueezeExcite(middle, round(inputs * 0.25))
            self.conv_pw = pointwise
            self.bn2 = nn.BatchNorm2d(outputs, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        if self.expanding:
            y = F.silu(self.bn1(self.conv_pw(x)))
            y = self.se(F.silu(self.bn2(self.conv_dw(y))))
            y = self.bn3(self.conv_pwl(y))
        else:
            y = self.se(F.silu(self.bn1(self.conv_dw(x))))
            y = self.bn2(self.conv_pw(y))
        return x + y if self.residual else y


class FilmEfficientNet(nn.Module):
    """EfficientNet whose every block is followed by FiLM, then a 1x1 convolution to `channels` and one more FiLM.

    Before training the FiLM layers are identities: `features` of a freshly loaded net are exactly those of the
    published one. batch_norm 'frozen': stored statistics in training mode too.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        image_height: int,
        image_width: int,
        channels: int,
        text_size: int,
        padding: str,
        batch_norm: str,
    ) -> None:
        super().__init__()
        if name not in SCALES:
            raise ValueError(f"efficientnet: no variant {name!r}; there are {', '.join(SCALES)}")
        wide, deep = SCALES[name]
        self.name, self.frozen = name, batch_norm == "frozen"
        # timm's own variants use PyTorch's epsilon; those ported from TensorFlow (SAME padding) keep TensorFlow's.
        eps = 1e-5 if padding == "symmetric" else 1e-3
        inputs = scale_channels(STEM, wide)
        self.conv_stem = PaddedConv(3, inputs, 3, 2, 1, padding)
        self.bn1 = nn.BatchNorm2d(inputs, eps=eps)
        height, width = (padded_size(size, 3, 2, padding) for size in (image_height, image_width))
        stages: list[nn.Module] = []
        films: list[nn.Module] = []
        for repeats, kernel, stride, expansion, base in STAGES:
            outputs = scale_channels(base, wide)
            blocks: list[nn.Module] = []
            for index in range(math.ceil(repeats * deep)):
                step = stride if index == 0 else 1
                blocks.append(MBConv(inputs, outputs, kernel, step, expansion, padding, eps))
                films.append(FiLM(text_size, outputs))
                inputs = outputs
            height, width = (padded_size(size, kernel, stride, padding) for size in (height, width))
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.films = nn.ModuleList(films)
        head = scale_channels(HEAD, wide)
        self.conv_head = PaddedConv(inputs, head, 1, 1, 1, padding)
        self.bn2 = nn.BatchNorm2d(head, eps=eps)
        self.projection = nn.Conv2d(head, channels, 1, bias=False)
        self.projection_film = FiLM(text_size, channels)
        self.out_channels = channels
        self.grid = (height, width)
        # Statistics of ImageNet, on the 0..255 scale.
        self.register_buffer("mean", torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1), persistent=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> FilmEfficientNet:
        super().train(mode)
        if self.frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def features(self, images: Tensor, text: Tensor) -> Tensor:
        """The map before the projection: (N, 3, H, W) uint8, (N, E) -> (N, 1280 * width multiplier, h, w)."""
        x = (images.float() - self.mean) / self.std
        x = F.silu(self.bn1(self.conv_stem(x.contiguous(memory_format=torch.channels_last))))
        blocks = [block for stage in self.blocks for block in stage]  # type: ignore[attr-defined]
        for block, film in zip(blocks, self.films):
            x = film(block(x), text)
        return F.silu(self.bn2(self.conv_head(x)))

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """images (N, 3, H, W) uint8 RGB, text (N, E) -> (N, out_channels, h, w)."""
        return self.projection_film(self.projection(self.features(images, text)), text)
