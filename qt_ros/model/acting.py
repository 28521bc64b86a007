"""How a trained network decides: the part of a method that lives on in its checkpoint.

Every method but QT-Opt ends in a network with one output per bin, and the action is its argmax, dimension by dimension:
Q-values of `q_transformer` and `cql`, probabilities of the policies that `rt1_bc`, `decision_transformer`, `iql` and
`aw_opt` train. `decision_transformer` is told that the episode succeeds. `qt_opt` searches its critic with CEM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qt_ros.model.cem import CemSettings, cross_entropy_method
from qt_ros.model.config import ModelConfig
from qt_ros.model.critics import ContinuousCritic, bins_from_unit
from qt_ros.model.q_transformer import QTransformer

Network = QTransformer | ContinuousCritic

VALUE_HEADS: dict[str, tuple[str, ...]] = {
    "q_transformer": ("sigmoid", "hl_gauss"),
    "cql": ("linear", "sigmoid"),
    "rt1_bc": ("softmax",),
    "decision_transformer": ("softmax",),
    "iql": ("softmax",),
    "aw_opt": ("softmax",),
    "qt_opt": ("sigmoid",),
}
"""Methods by name, with the value heads their acting network may have; the first is taken when none is asked for."""


@dataclass(frozen=True)
class Acting:
    """``name``: one of VALUE_HEADS. ``cem``: settings of the search, for `qt_opt` and only for it."""

    name: str = "q_transformer"
    cem: CemSettings | None = None

    def __post_init__(self) -> None:
        if self.name not in VALUE_HEADS:
            raise ValueError(f"method {self.name!r} is none of {', '.join(VALUE_HEADS)}")
        if (self.name == "qt_opt") != (self.cem is not None):
            raise ValueError(f"cem settings go with qt_opt and only with it, found {self.cem} for {self.name}")

    def check(self, config: ModelConfig) -> None:
        """ValueError when a network of that shape cannot act by this method."""
        heads = VALUE_HEADS[self.name]
        if config.value_head not in heads:
            raise ValueError(f"{self.name} needs value_head {' or '.join(heads)}, the model has {config.value_head}")
        if config.return_token != (self.name == "decision_transformer"):
            wanted = "needs" if self.name == "decision_transformer" else "has no"
            raise ValueError(f"{self.name} {wanted} return_token, the model has return_token {config.return_token}")

    @property
    def network_class(self) -> type[QTransformer] | type[ContinuousCritic]:
        """The kind of network that acts."""
        return network_class(self.name)

    def make_network(self, config: ModelConfig) -> Network:
        """A network of that kind with random weights; ValueError when a network of that shape cannot act so."""
        self.check(config)
        return self.network_class(config)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Acting:
        """Strict inverse of `to_dict`; ValueError."""
        data = _strict(data, cls)
        cem = data["cem"]
        if cem is not None:
            cem = _strict(cem, CemSettings)
            wrong = [key for key, value in cem.items() if type(value) is not int]
            if wrong:
                raise ValueError(f"cem: {wrong[0]} must be a whole number, found {cem[wrong[0]]!r}")
            cem = CemSettings(**cem)
        return cls(data["name"], cem)


def network_class(method: str) -> type[QTransformer] | type[ContinuousCritic]:
    """The kind of network that acts by that method."""
    return ContinuousCritic if method == "qt_opt" else QTransformer


def _strict(data: Any, record: type) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(record)}
    if not isinstance(data, Mapping) or set(data) != names:
        found = sorted(data) if isinstance(data, Mapping) else data
        raise ValueError(f"{record.__name__} needs exactly the keys {', '.join(sorted(names))}, found {found}")
    return dict(data)


@dataclass(frozen=True)
class Choice:
    """Actions of B samples: ``bins`` (B, D) int64; ``q`` (B, D) float32, Q-value or probability of each chosen bin
    (with CEM the Q-value of the whole action, D times); ``table`` (B, D, bins) of all bins, None with CEM."""

    bins: Tensor
    q: Tensor
    table: Tensor | None


@torch.no_grad()
def act(
    network: Network,
    acting: Acting,
    tokens: Tensor,
    proprio: Tensor | None = None,
    frame_mask: Tensor | None = None,
) -> Choice:
    """The greedy action; arguments as `QTransformer.decode`. The same observation always gives the same action."""
    if isinstance(network, ContinuousCritic):
        if acting.cem is None:
            raise ValueError(f"{acting.name} does not act by a search over continuous actions")
        observed = network.observe(tokens, proprio, frame_mask)
        config = network.config
        generator = torch.Generator().manual_seed(acting.cem.seed)
        actions, logits = cross_entropy_method(
            lambda candidates: network.q_logits(observed, candidates),
            len(tokens), config.action_dims, acting.cem, generator, tokens.device, shared=True,
        )  # fmt: skip
        bins, value = bins_from_unit(actions, config.bins), network.value(logits)
        return Choice(bins, value[:, None].expand(-1, config.action_dims), None)
    returns = None
    if network.config.return_token:
        returns = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
    bins, table = network.decode(tokens, proprio, frame_mask, returns)
    return Choice(bins, table.gather(-1, bins[..., None]).squeeze(-1), table)
