"""Conservative Q-Learning for discrete actions (Kumar et al., arXiv 2006.04779), on the per-dimension backup.

    loss = 1/2 (Q(s_t, a_t[0..i]) - y)^2 + alpha (log sum_b exp Q(s_t, a_t[0..i-1], b) - Q(s_t, a_t[0..i]))

with the targets y of the Q-Transformer (Eq. 1). The second term pushes all bins down by their softmax and the one taken
up, which ties the greedy policy to the data's distribution. The Q-Transformer paper's ablation ("softmax" instead of
its own conservative term) is this loss. Q is the plain output (value_head 'linear', as in the source) or the sigmoid of
it; since no return leaves [0, 1], neither do bootstrap values and targets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qt_ros.learning.batches import Batch
from qt_ros.learning.losses import agreement, mean_of, softmax_penalty
from qt_ros.learning.options import CqlOptions
from qt_ros.learning.q_transformer import PerDimension


class Cql(PerDimension):
    """The Q-Transformer's backup with CQL's regulariser."""

    name = "cql"

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        options = self.config.options
        assert isinstance(options, CqlOptions)
        targets, known = self.targets(batch)
        logits = self.logits(batch)
        terms = cql_losses(self.model.value(logits), batch.taken, targets, known, options.alpha)
        with torch.no_grad():
            terms["agreement"] = agreement(logits, batch.taken, known)
            terms["target"] = mean_of(targets, known)
        return terms


def cql_losses(values: Tensor, bins: Tensor, targets: Tensor, mask: Tensor, alpha: float) -> dict[str, Tensor]:
    """values (..., D, B) float, bins (..., D) long, targets (..., D), mask (..., D) bool; the terms of `q_losses`."""
    taken = values.gather(-1, bins.unsqueeze(-1)).squeeze(-1)
    td = mean_of(0.5 * (taken - targets) ** 2, mask)
    conservative = mean_of(softmax_penalty(values, taken), mask)
    with torch.no_grad():
        others = (values.sum(-1) - taken) / (values.shape[-1] - 1)
        logs = {"q_taken": mean_of(taken, mask), "q_other": mean_of(others, mask)}
    return {"loss": td + alpha * conservative, "td": td, "conservative": conservative} | logs
