"""The Q-Transformer: Q-values of every bin of every action dimension, one dimension after the other.

Chebotar et al., CoRL 2023 (arXiv 2309.10150), on RT-1's backbone. Sequence of one sample, oldest frame first:

    [K image tokens, proprioception token] per frame, then D action positions

Action position i reads the embedding of bin i-1 (a learnt start vector for i = 0) and yields Q for all bins of
dimension i. It attends to every valid observation token and to the action positions up to itself. Observation tokens
attend to the frames up to their own, never to actions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qt_ros.model.config import ModelConfig
from qt_ros.model.token_learner import TokenLearner
from qt_ros.model.transformer import Transformer
from qt_ros.model.vision import make_vision


class QTransformer(nn.Module):
    """Autoregressive Q-function over discretised action dimensions. Shapes: B samples, w frames, K tokens, D, bins.

    The output head is per dimension rather than shared: a bin means something else in each dimension (metres,
    radians, open or closed), and 10 heads cost no more arithmetic than one, because each position uses only its own.
    """

    allowed: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, dims, bins = config.width, config.action_dims, config.bins
        self.vision = make_vision(config)
        channels = self.vision.out_channels
        self.token_learner = TokenLearner(channels, config.tokens_per_frame, config.token_learner_hidden)
        self.to_width: nn.Module = nn.Linear(channels, width) if channels != width else nn.Identity()
        self.token_embedding = nn.Linear(width, width)
        self.proprio_embedding = nn.Linear(config.proprio_size, width) if config.proprio_size else None
        self.observations = config.history * config.tokens_per_step
        self.observation_position = nn.Parameter(torch.randn(self.observations, width) * 0.02)
        self.action_position = nn.Parameter(torch.randn(dims, width) * 0.02)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        # One table per dimension = a linear map of the one-hot bin. The last dimension's bin is never fed back, so it
        # has a table only when the head reuses it.
        tables = dims if config.bin_head == "tied" else dims - 1
        self.bin_embedding = nn.Parameter(torch.randn(tables, bins, width) * 0.02)
        self.transformer = Transformer(
            config.layers, width, config.heads, config.head_dim, config.feedforward, config.dropout, config.final_norm
        )
        if config.bin_head == "linear":
            self.head_weight: Tensor | None = nn.Parameter(torch.randn(dims, bins, width) * 0.02)
        else:
            self.head_weight = None
        # Q starts low everywhere: the lowest attainable return is 0, and values that start high must first be unlearnt.
        bias = math.log(config.initial_q / (1.0 - config.initial_q))
        self.head_bias = nn.Parameter(torch.full((dims, bins), bias))
        self.register_buffer("allowed", _attention_pattern(config), persistent=False)

    # ---- observations

    @overload
    def encode_frames(self, images: Tensor, text: Tensor, return_attention: Literal[False] = False) -> Tensor: ...

    @overload
    def encode_frames(self, images: Tensor, text: Tensor, return_attention: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def encode_frames(
        self, images: Tensor, text: Tensor, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The expensive part, needed once per frame: images (N, 3, H, W) uint8 RGB, text (N, E) -> (N, K, width).

        With return_attention also TokenLearner's maps (N, K, h, w), float32, each summing to 1. ValueError on another
        size or type: nothing is resized silently.
        """
        config = self.config
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, config.image_height, config.image_width):
            raise ValueError(
                f"encode_frames: images must be (N, 3, {config.image_height}, {config.image_width}), "
                f"got {tuple(images.shape)}; resize with qt_ros.contract.observations.resize_rgb"
            )
        if images.dtype != torch.uint8:
            raise ValueError(f"encode_frames: images must be uint8 RGB, got {images.dtype}; the model normalises them")
        if tuple(text.shape) != (images.shape[0], config.text_size):
            raise ValueError(
                f"encode_frames: text must be ({images.shape[0]}, {config.text_size}), an embedding per frame, "
                f"got {tuple(text.shape)}"
            )
        tokens, attention = self.token_learner(self.vision(images, text))
        tokens = self.to_width(tokens)
        return (tokens, attention) if return_attention else tokens

    def _observe(self, tokens: Tensor, proprio: Tensor | None, frame_mask: Tensor | None) -> Tensor:
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

    # ---- actions

    def _embed_bins(self, bins: Tensor, first: int) -> Tensor:
        """bins (B, n) of the dimensions first..first+n-1 -> (B, n, width)."""
        count = self.config.bins
        valid = (bins >= 0) & (bins < count)
        if bins.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(valid.all()):
            raise ValueError(
                f"q_transformer: bins must lie in 0..{count - 1}, got {int(bins.min())}..{int(bins.max())}"
            )
        offset = torch.arange(first, first + bins.shape[1], device=bins.device) * count
        # On an accelerator a wrong bin must trip the lookup's own bounds check, not read the next dimension's table.
        index = torch.where(valid, bins.long() + offset, -1)
        return F.embedding(index, self.bin_embedding.flatten(0, 1))

    def _actions(self, bins: Tensor, dimensions: int) -> Tensor:
        """Inputs of the action positions 0..dimensions-1: start vector, then bins[:, :dimensions-1]."""
        x = self.start.expand(bins.shape[0], 1, -1)
        if dimensions > 1:
            x = torch.cat((x, self._embed_bins(bins[:, : dimensions - 1], 0)), dim=1)
        return x + self.action_position[:dimensions]

    def _head(self, hidden: Tensor, first: int) -> Tensor:
        """hidden (B, n, width) of the dimensions first..first+n-1 -> logits (B, n, bins), always float32."""
        dims = slice(first, first + hidden.shape[1])
        weight = self.bin_embedding if self.head_weight is None else self.head_weight
        with torch.autocast(hidden.device.type, enabled=False):
            logits = torch.bmm(hidden.float().transpose(0, 1), weight[dims].float().transpose(1, 2))
            return (logits + self.head_bias[dims, None].float()).transpose(0, 1)

    def q_logits(
        self,
        tokens: Tensor,
        bins: Tensor,
        proprio: Tensor | None = None,
        frame_mask: Tensor | None = None,
        *,
        dimensions: int | None = None,
    ) -> Tensor:
        """Teacher-forced outputs (B, D, bins), float32: row i is a function of the observations and bins[:, :i] only.

        tokens (B, w, K, width) from `encode_frames`, oldest frame first; bins (B, D) integers; proprio (B, w, P), or
        None for a model without; frame_mask (B, w) bool, False = slot not filled yet (None: all filled; the newest slot
        is always filled). dimensions: only the first so many rows, e.g. 1 for max Q at the next state, where bins may
        be (B, 0). Use `value` to turn outputs into Q.
        """
        dims = self.config.action_dims if dimensions is None else dimensions
        if not 1 <= dims <= self.config.action_dims:
            raise ValueError(f"q_logits: dimensions must lie in 1..{self.config.action_dims}, got {dims}")
        needed = self.config.action_dims if dimensions is None else dims - 1
        if bins.ndim != 2 or bins.shape[0] != tokens.shape[0] or bins.shape[1] < needed or bins.is_floating_point():
            raise ValueError(
                f"q_logits: bins must be integers ({tokens.shape[0]}, {self.config.action_dims}), "
                f"got {bins.dtype} {tuple(bins.shape)}"
            )
        x = self._observe(tokens, proprio, frame_mask)
        x = torch.cat((x, self._actions(bins, dims).to(x.dtype)), dim=1)
        x, _ = self.transformer(x, self._mask(frame_mask, 0, x.shape[1]))
        return self._head(x[:, self.observations :], 0)

    def forward(
        self,
        images: Tensor,
        text: Tensor,
        bins: Tensor,
        proprio: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """`encode_frames` and `q_logits` in one: images (B, w, 3, H, W) uint8, text (B, E) -> logits (B, D, bins)."""
        batch, history = images.shape[:2]
        text = text[:, None].expand(-1, history, -1).flatten(0, 1)
        tokens = self.encode_frames(images.flatten(0, 1), text)
        return self.q_logits(tokens.unflatten(0, (batch, history)), bins, proprio, frame_mask)

    def value(self, logits: Tensor) -> Tensor:
        """Q-values in (0, 1), float32, of outputs of any shape. The seam for other value heads."""
        return torch.sigmoid(logits.float())

    @torch.no_grad()
    def decode(
        self,
        tokens: Tensor,
        proprio: Tensor | None = None,
        frame_mask: Tensor | None = None,
        *,
        use_cache: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Greedy action: in each dimension the bin of highest Q, fed back for the next. Arguments as `q_logits`.

        Returns bins (B, D) int64 and the Q-values (B, D, bins) float32 of all bins along the chosen prefix. No
        randomness, also in training mode (dropout is off here). use_cache=False recomputes the whole sequence for
        each dimension; it exists to check the cache against.
        """
        dims = self.config.action_dims
        bins = torch.zeros(tokens.shape[0], dims, dtype=torch.long, device=tokens.device)
        rows: list[Tensor] = []
        with _evaluating(self):
            if use_cache:
                x = self._observe(tokens, proprio, frame_mask)
                x = torch.cat((x, self._actions(bins, 1).to(x.dtype)), dim=1)
                hidden, cache = self.transformer(x, self._mask(frame_mask, 0, x.shape[1]))
                rows.append(self._head(hidden[:, -1:], 0))
                bins[:, 0] = rows[0][:, 0].argmax(dim=-1)
                for i in range(1, dims):
                    y = self._embed_bins(bins[:, i - 1 : i], i - 1) + self.action_position[i]
                    position = self.observations + i
                    hidden, cache = self.transformer(
                        y.to(x.dtype), self._mask(frame_mask, position, position + 1), cache
                    )
                    rows.append(self._head(hidden, i))
                    bins[:, i] = rows[i][:, 0].argmax(dim=-1)
            else:
                for i in range(dims):
                    logits = self.q_logits(tokens, bins, proprio, frame_mask)
                    rows.append(logits[:, i : i + 1])
                    bins[:, i] = logits[:, i].argmax(dim=-1)
        return bins, self.value(torch.cat(rows, dim=1))


def _attention_pattern(config: ModelConfig) -> Tensor:
    """(L, L) bool, True where row may attend to column, all slots filled; L = w * tokens_per_step + D."""
    observations, length = (
        config.history * config.tokens_per_step,
        config.history * config.tokens_per_step + config.action_dims,
    )
    position = torch.arange(length)
    # Observation tokens carry their frame's number, action positions the numbers after the last frame.
    order = torch.where(
        position < observations, position // config.tokens_per_step, config.history + position - observations
    )
    return order[:, None] >= order[None, :]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    if training:
        module.eval()
    try:
        yield
    finally:
        if training:
            module.train()


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Number of parameters per part (direct child or own parameter) and in 'total'."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts | {"total": sum(counts.values())}
