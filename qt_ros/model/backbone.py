"""What all networks share: vision, TokenLearner, the embedded observation window and the Transformer behind it.

Sequence of one sample, oldest frame first: [K image tokens, proprioception token, return token] per frame
(the last two if the model has them), then the action positions of whoever inherits. Observation tokens attend to the
frames up to their own, never to actions; an action position attends to every valid observation token and to the
action positions up to itself.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qt_ros.model.config import ModelConfig
from qt_ros.model.token_learner import TokenLearner
from qt_ros.model.transformer import Transformer
from qt_ros.model.vision import make_vision


class Backbone(nn.Module):
    """Observation side of a network. Shapes: B samples, w frames, K tokens per frame.

    ``actions``: number of action positions that follow. ``sees``: False leaves vision out; such a network works on the
    tokens of another one (a critic beside its actor), and `encode_frames` is not there.
    """

    allowed: Tensor

    def __init__(self, config: ModelConfig, actions: int, *, sees: bool = True) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.sees = sees
        if sees:
            self.vision = make_vision(config)
            channels = self.vision.out_channels
            if config.vision == "state":  # gives tokens at once
                self.token_learner: nn.Module = nn.Identity()
            else:
                self.token_learner = TokenLearner(channels, config.tokens_per_frame, config.token_learner_hidden)
            self.to_width: nn.Module = nn.Linear(channels, width) if channels != width else nn.Identity()
        self.token_embedding = nn.Linear(width, width)
        self.proprio_embedding = nn.Linear(config.proprio_size, width) if config.proprio_size else None
        self.return_embedding = nn.Embedding(2, width) if config.return_token else None
        self.observations = config.history * config.tokens_per_step
        self.observation_position = nn.Parameter(torch.randn(self.observations, width) * 0.02)
        self.register_buffer("allowed", _attention_pattern(config, actions), persistent=False)

    def _make_transformer(self) -> Transformer:
        config = self.config
        return Transformer(
            config.layers,
            config.width,
            config.heads,
            config.head_dim,
            config.feedforward,
            config.dropout,
            config.final_norm,
        )

    def seeing_parts(self) -> list[nn.Module]:
        """The modules between an image and its tokens; none for a network that does not see."""
        return [self.vision, self.token_learner, self.to_width] if self.sees else []

    # ---- frames

    @overload
    def encode_frames(self, images: Tensor, text: Tensor, return_attention: Literal[False] = False) -> Tensor: ...

    @overload
    def encode_frames(self, images: Tensor, text: Tensor, return_attention: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def encode_frames(
        self, images: Tensor, text: Tensor, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The expensive part, needed once per frame: images (N, 3, H, W) uint8 RGB, text (N, E) -> (N, K, width).

        With vision 'state' the frames are state vectors (N, S) float32. With return_attention also TokenLearner's maps
        (N, K, h, w), float32, each summing to 1. ValueError on another size or type: nothing is resized silently.
        """
        config = self.config
        if not self.sees:
            raise RuntimeError("encode_frames: this network has no vision; it works on another network's tokens")
        if tuple(text.shape) != (images.shape[0], config.text_size):
            raise ValueError(
                f"encode_frames: text must be ({images.shape[0]}, {config.text_size}), an embedding per frame, "
                f"got {tuple(text.shape)}"
            )
        if config.vision == "state":
            if return_attention:
                raise ValueError("encode_frames: vision 'state' has no attention maps")
            if images.ndim != 2 or images.shape[1] != config.state_size or not images.is_floating_point():
                raise ValueError(
                    f"encode_frames: states must be float (N, {config.state_size}), "
                    f"got {images.dtype} {tuple(images.shape)}"
                )
            return self.vision(images, text)
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, config.image_height, config.image_width):
            raise ValueError(
                f"encode_frames: images must be (N, 3, {config.image_height}, {config.image_width}), "
                f"got {tuple(images.shape)}; resize with qt_ros.contract.observations.resize_rgb"
            )
        if images.dtype != torch.uint8:
            raise ValueError(f"encode_frames: images must be uint8 RGB, got {images.dtype}; the model normalises them")
        tokens, attention = self.token_learner(self.vision(images, text))
        tokens = self.to_width(tokens)
        return (tokens, attention) if return_attention else tokens

    # ---- the window

    def _observe(
        self, tokens: Tensor, proprio: Tensor | None, frame_mask: Tensor | None, returns: Tensor | None = None
    ) -> Tensor:
        """Embedded observation tokens (B, w * tokens_per_step, width)."""
        config = self.config
        batch = tokens.shape[0]
        want = (batch, config.history, config.tokens_per_frame, config.width)
        if tuple(tokens.shape) != want:
            raise ValueError(f"q_transformer: tokens must be (B, w, K, width) = {want}, got {tuple(tokens.shape)}")
        if frame_mask is not None and (tuple(frame_mask.shape) != want[:2] or frame_mask.dtype != torch.bool):
            raise ValueError(
                f"q_transformer: frame_mask must be bool {want[:2]}, got {frame_mask.dtype} {tuple(frame_mask.shape)}"
            )
        if frame_mask is not None:  # so that not even NaN in an unfilled slot can reach the sums
            tokens = torch.where(frame_mask[:, :, None, None], tokens, 0.0)
        x = self.token_embedding(tokens)
        if self.proprio_embedding is None:
            if proprio is not None:
                raise ValueError("q_transformer: proprio given, but this model has proprio_size 0")
        else:
            if proprio is None or tuple(proprio.shape) != (*want[:2], config.proprio_size):
                got = None if proprio is None else tuple(proprio.shape)
                raise ValueError(
                    f"q_transformer: proprio must be (B, w, P) = {(*want[:2], config.proprio_size)}, got {got}"
                )
            if frame_mask is not None:
                proprio = torch.where(frame_mask[:, :, None], proprio, 0.0)
            x = torch.cat((x, self.proprio_embedding(proprio)[:, :, None].to(x.dtype)), dim=2)
        if self.return_embedding is None:
            if returns is not None:
                raise ValueError("q_transformer: returns given, but this model has no return_token")
        else:
            if returns is None or tuple(returns.shape) != want[:2] or returns.is_floating_point():
                found = None if returns is None else f"{returns.dtype} {tuple(returns.shape)}"
                raise ValueError(f"q_transformer: returns must be integers 0 or 1 (B, w) = {want[:2]}, got {found}")
            x = torch.cat((x, self.return_embedding(returns.long())[:, :, None].to(x.dtype)), dim=2)
        return x.flatten(1, 2) + self.observation_position

    def _mask(self, frame_mask: Tensor | None, first: int, last: int) -> Tensor:
        """Who may attend to whom: queries first..last-1 over keys 0..last-1, (B or 1, 1, last - first, last) bool."""
        allowed = self.allowed[first:last, :last]
        if frame_mask is None:
            return allowed[None, None]
        keys = frame_mask.repeat_interleave(self.config.tokens_per_step, dim=1)
        keys = F.pad(keys, (0, last - self.observations), value=True)
        # Each position sees itself, so that rows of unfilled slots have a softmax at all. Nobody else sees them.
        itself = torch.eye(last, dtype=torch.bool, device=allowed.device)[first:last]
        return ((allowed & keys[:, None, :]) | itself)[:, None]


def embed_bins(tables: Tensor, bins: Tensor, first: int) -> Tensor:
    """bins (B, n) of the dimensions first..first+n-1, tables (dims, bins, width) -> (B, n, width).

    A bin out of range is a ValueError on the CPU; on an accelerator it trips the lookup's own bounds check.
    """
    count = tables.shape[1]
    valid = (bins >= 0) & (bins < count)
    if bins.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(valid.all()):
        raise ValueError(f"q_transformer: bins must lie in 0..{count - 1}, got {int(bins.min())}..{int(bins.max())}")
    offset = torch.arange(first, first + bins.shape[1], device=bins.device) * count
    # On an accelerator a wrong bin must not read the next dimension's table.
    index = torch.where(valid, bins.long() + offset, -1)
    return F.embedding(index, tables.flatten(0, 1))


def _attention_pattern(config: ModelConfig, actions: int) -> Tensor:
    """(L, L) bool, True where row may attend to column, all slots filled; L = w * tokens_per_step + actions."""
    observations = config.history * config.tokens_per_step
    position = torch.arange(observations + actions)
    # Observation tokens carry their frame's number, action positions the numbers after the last frame.
    order = torch.where(
        position < observations, position // config.tokens_per_step, config.history + position - observations
    )
    return order[:, None] >= order[None, :]
