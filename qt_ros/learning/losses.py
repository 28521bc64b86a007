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

from qt_ros.learning.group import shared_count

TD_LOSSES = ("mse", "cross_entropy", "hl_gauss")
REGULARISERS = ("conservative", "softmax", "none")


@dataclass(frozen=True)
class LossConfig:
    """``td``: ``mse`` is the paper's squared error on the sigmoid value; ``cross_entropy`` the binary cross-entropy of
    that sigmoid with the target as a soft label (same minimiser, gradient not damped by saturation); ``hl_gauss`` the
    cross-entropy to a histogram over values, for a model with that value_head (see hl_gauss.py), smoothed by ``sigma``
    cell widths. ``regulariser``: ``conservative`` uses the same measure with target 0; ``softmax`` is CQL's,
    log sum exp of all bins' values minus that of the bin taken, the paper's ablation. ``alpha``: its weight.

    A bin taken with probability p settles near p*T / (p + alpha*(1-p)/(bins-1)) for a target T: alpha / (bins-1) is the
    probability at which a bin's value is halved.
    """

    td: str = "mse"
    alpha: float = 1.0
    regulariser: str = "conservative"
    sigma: float = 0.75

    def __post_init__(self) -> None:
        if self.td not in TD_LOSSES:
            raise ValueError(f"td loss {self.td!r} is none of {', '.join(TD_LOSSES)}")
        if self.regulariser not in REGULARISERS:
            raise ValueError(f"regulariser {self.regulariser!r} is none of {', '.join(REGULARISERS)}")
        if self.alpha < 0:
            raise ValueError(f"alpha must not be negative, found {self.alpha}")
        if self.td == "hl_gauss" and self.regulariser == "softmax":
            raise ValueError("the softmax regulariser needs a differentiable value; td hl_gauss gives a histogram")
        if self.sigma <= 0 or (self.sigma != 0.75 and self.td != "hl_gauss"):
            raise ValueError(f"sigma must be positive and is for td hl_gauss only, found {self.sigma}")


def q_losses(logits: Tensor, bins: Tensor, targets: Tensor, mask: Tensor, config: LossConfig) -> dict[str, Tensor]:
    """Losses of a batch of decisions.

    logits (..., D, B) float, bins (..., D) long, targets (..., D) float in [0, 1], mask (..., D) bool: False decisions
    do not count. Returns scalars: ``td``, ``conservative`` (the regulariser, unweighted), ``loss`` = td + alpha *
    conservative, and for logs ``q_taken``, ``q_other`` (mean values). All zero when nothing is unmasked.
    """
    if config.td == "hl_gauss":
        raise ValueError("q_losses: one output per bin cannot be trained with td hl_gauss; see histogram_losses")
    logits = logits.float()
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
    if config.regulariser == "softmax":
        penalty = softmax_penalty(q, q_taken)
    else:
        penalty = (per_bin.sum(-1) - per_taken) / others
    td, conservative = mean_of(td, mask), mean_of(penalty, mask)
    loss = td if config.regulariser == "none" else td + config.alpha * conservative
    with torch.no_grad():
        mean_taken = mean_of(q_taken, mask)
        mean_other = mean_of((q.sum(-1) - q_taken) / others, mask)
    return {"loss": loss, "td": td, "conservative": conservative, "q_taken": mean_taken, "q_other": mean_other}


def softmax_penalty(values: Tensor, taken: Tensor) -> Tensor:
    """CQL's regulariser of one decision: log sum_b exp Q(b) - Q(taken); values (..., B), taken (...) -> (...).

    Its gradient with respect to the values is their softmax minus the one-hot of the bin taken (Kumar et al., 2020).
    """
    return torch.logsumexp(values, dim=-1) - taken


def mean_of(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values (...) where mask (...) is true; 0 when it is true nowhere.

    Of a batch that several processes share (`counting_in`), this process's part of it: the mean over the processes is
    the mean over the batch."""
    weight = mask.float()
    return (values * weight).sum() / shared_count(weight.sum())


def agreement(logits: Tensor, bins: Tensor, mask: Tensor) -> Tensor:
    """Share of decisions whose greedy bin is the one taken: logits (N, D, bins), bins (N, D), mask (N,) or (N, D)."""
    same = (logits.detach().argmax(-1) == bins).float()
    return mean_of(same, mask[:, None].expand_as(same) if mask.ndim == 1 else mask)
