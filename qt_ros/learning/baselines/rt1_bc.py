"""Behaviour cloning as RT-1 does it (Brohan et al., arXiv 2212.06817): imitate what succeeded.

    loss = - mean over dimensions i of log pi(a_t[i] | s_t, a_t[0..i-1]),    successful episodes only

(``options.episodes: all`` clones the failures as well, to see what imitating mixed data gives.)

One categorical distribution over the bins per dimension. Unlike the released RT-1, whose dimensions do not see each
other (facts of its code: its action tokens are multiplied by zero), the policy is autoregressive, as the backbone is.
Every step of the segment is learnt from. Acts by the most probable bin, dimension by dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from qt_ros.learning.batches import ONLINE, Batch
from qt_ros.learning.losses import agreement, mean_of
from qt_ros.learning.method import Method
from qt_ros.learning.options import Rt1BcOptions
from qt_ros.model.q_transformer import QTransformer


class Cloning(Method):
    """Cross-entropy of the bins taken, on all episodes that are drawn."""

    model: QTransformer

    @property
    def lookahead(self) -> int:
        return 0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        window = batch.window(self.model, 0, batch.steps, ONLINE)
        logits = self.model.q_logits(window.tokens, batch.taken, window.proprio, window.frame_mask, window.returns)
        log_likelihood = log_probability(logits, batch.taken)
        mask = batch.counted[:, None].expand_as(log_likelihood)
        with torch.no_grad():
            likelihood = mean_of(log_likelihood.exp(), mask)
        return {
            "loss": -mean_of(log_likelihood, mask),
            "likelihood": likelihood,
            "agreement": agreement(logits, batch.taken, batch.counted),
        }


class Rt1Bc(Cloning):
    """Cloning of successful episodes: the sampler draws no others, unless the options ask for all."""

    name = "rt1_bc"

    @property
    def success_share(self) -> float | None:
        options = self.config.options
        assert isinstance(options, Rt1BcOptions)
        return 1.0 if options.episodes == "successes" else self.config.success_share


def log_probability(logits: Tensor, bins: Tensor) -> Tensor:
    """log pi of the bins taken: logits (N, D, bins), bins (N, D) long -> (N, D)."""
    return -F.cross_entropy(logits.flatten(0, 1).float(), bins.flatten(), reduction="none").view(bins.shape)
