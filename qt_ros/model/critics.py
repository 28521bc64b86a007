"""Values of whole actions on the same backbone: what the rivals of the Q-Transformer learn in place of Q per dimension.

`JointCritic` reads a discretised action, all bins one after the other, and gives V(s) and Q(s, a) (IQL).
`ContinuousCritic` reads an action as one vector and gives Q(s, a) of any number of candidates at once (QT-Opt, AW-Opt).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qt_ros.model.backbone import Backbone, embed_bins
from qt_ros.model.config import ModelConfig
from qt_ros.model.transformer import Cache


class JointCritic(Backbone):
    """V(s) and Q(s, a), both as they come out (no squashing).

    Action positions: a start vector, where V is read (it sees observations only), then the embeddings of bins 0..D-1; Q
    is read at the last one, which sees all of them. It has no vision of its own: its tokens come from the actor.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.action_dims + 1, sees=False)
        width, dims = config.width, config.action_dims
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.action_position = nn.Parameter(torch.randn(dims + 1, width) * 0.02)
        self.bin_embedding = nn.Parameter(torch.randn(dims, config.bins, width) * 0.02)
        self.transformer = self._make_transformer()
        self.state_head, self.action_head = _head(width, config.initial_q), _head(width, config.initial_q)

    def forward(
        self, tokens: Tensor, bins: Tensor, proprio: Tensor | None = None, frame_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """tokens (B, w, K, width), bins (B, D) integers, proprio and frame_mask as `QTransformer` -> V (B,), Q (B,)."""
        start = self.start.expand(len(bins), 1, -1)
        actions = torch.cat((start, embed_bins(self.bin_embedding, bins, 0)), dim=1) + self.action_position
        hidden = self._run(actions, tokens, proprio, frame_mask)
        return _read(self.state_head, hidden[:, 0]), _read(self.action_head, hidden[:, -1])

    def state_value(self, tokens: Tensor, proprio: Tensor | None = None, frame_mask: Tensor | None = None) -> Tensor:
        """V (B,) alone, without the action positions; the same numbers as `forward` gives."""
        start = (self.start + self.action_position[0]).expand(len(tokens), 1, -1)
        return _read(self.state_head, self._run(start, tokens, proprio, frame_mask)[:, 0])

    def _run(self, actions: Tensor, tokens: Tensor, proprio: Tensor | None, frame_mask: Tensor | None) -> Tensor:
        x = self._observe(tokens, proprio, frame_mask)
        x = torch.cat((x, actions.to(x.dtype)), dim=1)
        hidden, _ = self.transformer(x, self._mask(frame_mask, 0, x.shape[1]))
        return hidden[:, self.observations :]


class ContinuousCritic(Backbone):
    """Q(s, a) as a logit (`value` = sigmoid) of actions given as vectors (D,) in [-1, 1], the range of every dimension.

    An action is one token. Any number of candidates stand side by side behind the observation, each seeing the
    observation and itself, so that a search over actions pays for the observation once.
    """

    def __init__(self, config: ModelConfig, *, sees: bool = True) -> None:
        super().__init__(config, 1, sees=sees)
        width = config.width
        self.action_embedding = nn.Sequential(
            nn.Linear(config.action_dims, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.transformer = self._make_transformer()
        self.head = _head(width, math.log(config.initial_q / (1.0 - config.initial_q)))

    def observe(self, tokens: Tensor, proprio: Tensor | None = None, frame_mask: Tensor | None = None) -> Observed:
        """Work through the observation once; arguments as `QTransformer`. For `q_logits`, as often as wanted."""
        x = self._observe(tokens, proprio, frame_mask)
        _, cache = self.transformer(x, self._mask(frame_mask, 0, self.observations))
        return Observed(cache, self._mask(frame_mask, self.observations, self.observations + 1)[..., :-1])

    def q_logits(self, observed: Observed, actions: Tensor) -> Tensor:
        """Logits of Q (B, n), float32, of candidates ``actions`` (B, n, D) in [-1, 1]. ValueError on another shape."""
        dims = self.config.action_dims
        if actions.ndim != 3 or actions.shape[-1] != dims:
            raise ValueError(f"q_logits: actions must be (B, n, {dims}), got {tuple(actions.shape)}")
        batch, count = actions.shape[:2]
        own = torch.eye(count, dtype=torch.bool, device=actions.device)[None, None].expand(batch, -1, -1, -1)
        mask = torch.cat((observed.mask.expand(batch, -1, count, -1), own), dim=-1)
        x = self.action_embedding(actions)
        hidden, _ = self.transformer(x.to(observed.cache[0][0].dtype), mask, observed.cache)
        return _read(self.head, hidden)

    def value(self, logits: Tensor) -> Tensor:
        """Q in (0, 1), float32."""
        return torch.sigmoid(logits.float())


class Observed:
    """An observation that a `ContinuousCritic` has worked through: keys and values per layer, and who may be seen."""

    def __init__(self, cache: Cache, mask: Tensor) -> None:
        self.cache, self.mask = cache, mask


def unit_from_bins(bins: Tensor, count: int) -> Tensor:
    """Bins (..., D) of ``count`` -> centres in [-1, 1], float32."""
    return (bins.float() + 0.5) * (2.0 / count) - 1.0


def bins_from_unit(actions: Tensor, count: int) -> Tensor:
    """Actions (..., D) in [-1, 1] -> the bins int64 that hold them; clipped."""
    return torch.floor((actions + 1.0) * (count / 2.0)).long().clamp(0, count - 1)


def _head(width: int, bias: float) -> nn.Linear:
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)  # every value starts at the bias
    nn.init.constant_(head.bias, bias)
    return head


def _read(head: nn.Linear, hidden: Tensor) -> Tensor:
    with torch.autocast(hidden.device.type, enabled=False):
        return head(hidden.float()).squeeze(-1)
