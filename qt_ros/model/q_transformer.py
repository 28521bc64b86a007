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

import torch
from torch import Tensor, nn

from qt_ros.model.backbone import Backbone, embed_bins
from qt_ros.model.config import ModelConfig
from qt_ros.model.value_histogram import ValueHistogram


class QTransformer(Backbone):
    """Autoregressive Q-function over discretised action dimensions. Shapes: B samples, w frames, K tokens, D, bins.

    The output head is per dimension rather than shared: a bin means something else in each dimension (metres,
    radians, open or closed), and 10 heads cost no more arithmetic than one, because each position uses only its own.
    With value_head 'softmax' the same network is an autoregressive policy (RT-1): log pi(bin | bins before it).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.action_dims)
        width, dims, outputs = config.width, config.action_dims, config.bins * config.outputs_per_bin
        self.action_position = nn.Parameter(torch.randn(dims, width) * 0.02)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        # One table per dimension = a linear map of the one-hot bin. The last dimension's bin is never fed back, so it
        # has a table only when the head reuses it.
        tables = dims if config.bin_head == "tied" else dims - 1
        self.bin_embedding = nn.Parameter(torch.randn(tables, config.bins, width) * 0.02)
        self.transformer = self._make_transformer()
        if config.bin_head == "linear":
            self.head_weight: Tensor | None = nn.Parameter(torch.randn(dims, outputs, width) * 0.02)
        else:
            self.head_weight = None
        # Q starts low everywhere: the lowest attainable return is 0, and values that start high must first be unlearnt.
        q = config.initial_q
        bias = {"sigmoid": math.log(q / (1.0 - q)), "linear": q}.get(config.value_head, 0.0)
        self.head_bias = nn.Parameter(torch.full((dims, outputs), bias))
        self.histogram = (
            ValueHistogram(config.value_atoms, config.value_rank, q) if config.value_head == "hl_gauss" else None
        )

    # ---- actions

    def _actions(self, bins: Tensor, dimensions: int) -> Tensor:
        """Inputs of the action positions 0..dimensions-1: start vector, then bins[:, :dimensions-1]."""
        x = self.start.expand(bins.shape[0], 1, -1)
        if dimensions > 1:
            x = torch.cat((x, embed_bins(self.bin_embedding, bins[:, : dimensions - 1], 0)), dim=1)
        return x + self.action_position[:dimensions]

    def _head(self, hidden: Tensor, first: int) -> Tensor:
        """hidden (B, n, width) of the dimensions first..first+n-1 -> outputs (B, n, bins), always float32.

        With value_head 'hl_gauss' (B, n, bins, value_rank).
        """
        weight: Tensor = self.bin_embedding if self.head_weight is None else self.head_weight
        bias: Tensor = self.head_bias
        if hidden.shape[1] < len(bias):  # all of them need no slice, whose gradient is as large as the weights
            dims = slice(first, first + hidden.shape[1])
            weight, bias = weight[dims], bias[dims]
        with torch.autocast(hidden.device.type, enabled=False):
            hidden, weight = hidden.float().transpose(0, 1), weight.float().transpose(1, 2)
            logits = torch.baddbmm(bias[:, None].float(), hidden, weight).transpose(0, 1)
        return logits.unflatten(-1, (self.config.bins, -1)) if self.histogram is not None else logits

    def q_logits(
        self,
        tokens: Tensor,
        bins: Tensor,
        proprio: Tensor | None = None,
        frame_mask: Tensor | None = None,
        returns: Tensor | None = None,
        *,
        dimensions: int | None = None,
    ) -> Tensor:
        """Teacher-forced outputs (B, D, bins), float32: row i is a function of the observations and bins[:, :i] only.

        With value_head 'hl_gauss' (B, D, bins, value_rank).

        tokens (B, w, K, width) from `encode_frames`, oldest frame first; bins (B, D) integers; proprio (B, w, P), or
        None for a model without; frame_mask (B, w) bool, False = slot not filled yet (None: all filled; the newest slot
        is always filled). returns (B, w) integers, 1 = the episode succeeds, for a model with return_token only.
        dimensions: only the first so many rows, e.g. 1 for max Q at the next state, where bins may be (B, 0). Use
        `value` to turn outputs into Q.
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
        x = self._observe(tokens, proprio, frame_mask, returns)
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
        returns: Tensor | None = None,
    ) -> Tensor:
        """`encode_frames` and `q_logits` in one: images (B, w, 3, H, W) uint8, text (B, E) -> logits (B, D, bins)."""
        batch, history = images.shape[:2]
        text = text[:, None].expand(-1, history, -1).flatten(0, 1)
        tokens = self.encode_frames(images.flatten(0, 1), text)
        return self.q_logits(tokens.unflatten(0, (batch, history)), bins, proprio, frame_mask, returns)

    def value(self, logits: Tensor) -> Tensor:
        """What outputs stand for, float32: Q-values in (0, 1) with 'sigmoid' and 'hl_gauss', unbounded with 'linear',
        probabilities of bins with 'softmax'. Outputs (..., bins), with 'hl_gauss' (..., value_rank), whose values
        carry no gradient.
        """
        if self.histogram is not None:
            return self.histogram.mean(logits)
        head = self.config.value_head
        if head == "softmax":
            return torch.softmax(logits.float(), dim=-1)
        return torch.sigmoid(logits.float()) if head == "sigmoid" else logits.float()

    def best(self, logits: Tensor) -> Tensor:
        """Greedy bins (...) int64 of outputs (..., bins): argmax of outputs rather than of values, where many bins may
        round to 1; of the values with 'hl_gauss'."""
        return (logits if self.histogram is None else self.value(logits)).argmax(dim=-1)

    @torch.no_grad()
    def decode(
        self,
        tokens: Tensor,
        proprio: Tensor | None = None,
        frame_mask: Tensor | None = None,
        returns: Tensor | None = None,
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
        with evaluating(self):
            if use_cache:
                x = self._observe(tokens, proprio, frame_mask, returns)
                x = torch.cat((x, self._actions(bins, 1).to(x.dtype)), dim=1)
                hidden, cache = self.transformer(x, self._mask(frame_mask, 0, x.shape[1]))
                rows.append(self._head(hidden[:, -1:], 0))
                bins[:, 0] = self.best(rows[0][:, 0])
                for i in range(1, dims):
                    y = embed_bins(self.bin_embedding, bins[:, i - 1 : i], i - 1) + self.action_position[i]
                    position = self.observations + i
                    hidden, cache = self.transformer(
                        y.to(x.dtype), self._mask(frame_mask, position, position + 1), cache
                    )
                    rows.append(self._head(hidden, i))
                    bins[:, i] = self.best(rows[i][:, 0])
            else:
                for i in range(dims):
                    logits = self.q_logits(tokens, bins, proprio, frame_mask, returns)
                    rows.append(logits[:, i : i + 1])
                    bins[:, i] = self.best(logits[:, i])
        return bins, self.value(torch.cat(rows, dim=1))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """``module`` in evaluation mode (dropout off, stored batch statistics), and in the mode it had thereafter."""
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
