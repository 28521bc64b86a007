"""Losses of the Q-Transformer: temporal difference on the taken bin and the conservative term on all others (Eq. 2).

Both terms are means over the decisions of the batch, so that the conservative weight does not depend on the batch size,
and both act on values in (0, 1), never on raw logits: a bin that was not taken is pushed to value 0, the lowest return
there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TD_LOSSES = ("mse", "cross_entropy")
REGULARISERS = ("conservative", "none")


@dataclass(frozen=True)
class LossConfig:
    """``td``: ``mse`` is the paper's squared error on the sigmoid value; ``cross_entropy`` the binary cross-entropy of
    that sigmoid with the target as a soft label (same minimiser, gradient not damped by saturation). The conservative
    term uses the same measure with target 0. ``alpha``: its weight.

    A bin taken with probability p settles near p*T / (p + alpha*(1-p)/(bins-1)) for a target T: alpha / (bins-1) is the
    probability at which a bin's value is halved.
    """

    td: str = "mse"
    alpha: float = 1.0
    regulariser: str = "conservative"

    def __post_init__(self) -> None:
        if self.td not in TD_LOSSES:
            raise ValueError(f"td loss {self.td!r} is none of {', '.join(TD_LOSSES)}")
        if self.regulariser not in REGULARISERS:
            raise ValueError(f"regulariser {self.regulariser!r} is none of {', '.join(REGULARISERS)}")
        if self.alpha < 0:
            raise ValueError(f"alpha must not be negative, found {self.alpha}")


def q_losses(logits: Tensor, bins: Tensor, targets: Tensor, mask: Tensor, config: LossConfig) -> dict[str, Tensor]:
    """Losses of a batch of decisions.

    logits (..., D, B) float, bins (..., D) long, targets (..., D) float in [0, 1], mask (..., D) bool: False decisions
    do not count. Returns scalars: ``td``, ``conservative`` (unweighted), ``loss`` = td + alpha * conservative, and for
    logs ``q_taken``, ``q_other`` (mean values). All zero when nothing is unmasked.
    """
    logits = logits.float()
    weight = mask.float()
    count = weight.sum().clamp(min=1.0)
    taken = logits.gather(-1, bins.unsqueeze(-1)).squeeze(-1)
    others = logits.shape[-1] - 1
    q = torch.sigmoid(logits)
    q_taken = torch.sigmoid(taken)
    if config.td == "mse":
        td = 0.5 * (q_taken - targets) ** 2
        per_bin, per_taken = 0.5 * q**2, 0.5 * q_taken**2
    else:
        td = F.binary_cross_entropy_with_logits(taken, targets, reduction="none")
        per_bin, per_taken = F.softplus(logits), F.softplus(taken)
    not_taken = (per_bin.sum(-1) - per_taken) / others
    td = (td * weight).sum() / count
    conservative = (not_taken * weight).sum() / count
    loss = td + config.alpha * conservative if config.regulariser == "conservative" else td
    with torch.no_grad():
        mean_taken = (q_taken * weight).sum() / count
        mean_other = ((q.sum(-1) - q_taken) / others * weight).sum() / count
    return {"loss": loss, "td": td, "conservative": conservative, "q_taken": mean_taken, "q_other": mean_other}
