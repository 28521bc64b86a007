"""The Q-Transformer as a training method (Chebotar et al., CoRL 2023, arXiv 2309.10150).

    i < D-1:  y = max_b Q'(s_t, a_t[0..i], b)                    next dimension, no reward, no discount       (Eq. 1)
    i = D-1:  y = r_t + gamma max_b Q'(s_{t+1}, b)               first dimension at the next state
    loss    = 1/2 (Q(s_t, a_t[0..i]) - y)^2 + alpha 1/2 mean over other bins of Q^2                           (Eq. 2)

Q' is the lagged network, every max is bounded from below by the episode's own return, y is clamped to [0, 1], and
n-step backups walk along the data's action: see targets.py. Other losses (cross-entropy, value histograms, softmax
regulariser): losses.py, hl_gauss.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qt_ros.learning.batches import LAGGED, ONLINE, Batch, Window
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.hl_gauss import histogram_losses
from qt_ros.learning.losses import agreement, mean_of, q_losses
from qt_ros.learning.method import Method
from qt_ros.learning.targets import td_targets
from qt_ros.model.acting import Network
from qt_ros.model.q_transformer import QTransformer


class PerDimension(Method):
    """A method with one Q-value per bin of each dimension, and the backup between dimensions."""

    model: QTransformer

    @property
    def lookahead(self) -> int:
        return self.config.backup.lookahead(self.dims)

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Backup targets in [0, 1] of the steps to learn from and where there are any, both (B * steps, D)."""
        backup, dims, steps = self.config.backup, self.dims, batch.steps
        network = self.lagged_model
        assert isinstance(network, QTransformer)
        with torch.no_grad():
            only_first = backup.first_dimension_only(dims)
            nearest = min(backup.landing(i, dims)[0] for i in range(dims))
            values = batch.rewards.new_zeros(len(batch.bins), batch.length, 1 if only_first else dims)
            window = batch.window(network, nearest, batch.length, LAGGED)
            logits = network.q_logits(
                window.tokens,
                batch.bins[:, nearest:].flatten(0, 1),
                window.proprio,
                window.frame_mask,
                dimensions=1 if only_first else None,
            )
            # No return leaves [0, 1]; values that are not squashed may.
            best = network.value(logits).amax(-1).clamp(0.0, 1.0)
            values[:, nearest:] = best.unflatten(0, (len(batch.bins), batch.length - nearest))
        targets, known = td_targets(
            values, batch.rewards, batch.returns, batch.remaining, batch.terminated, steps, dims, backup
        )
        return targets.flatten(0, 1), (known & batch.valid[:, :steps, None]).flatten(0, 1)

    def logits(self, batch: Batch) -> Tensor:
        """Outputs of the model for the steps to learn from, (B * steps, D, bins)."""
        window = batch.window(self.model, 0, batch.steps, ONLINE)
        return self.model.q_logits(window.tokens, batch.taken, window.proprio, window.frame_mask)

    def first_values(self, window: Window) -> Tensor:
        """max over bins of Q of the first dimension."""
        bins = torch.zeros(len(window.tokens), 0, dtype=torch.long, device=window.tokens.device)
        logits = self.model.q_logits(window.tokens, bins, window.proprio, window.frame_mask, dimensions=1)
        return self.model.value(logits).amax((-2, -1))


class QTransformerMethod(PerDimension):
    """With squared error, cross-entropy on the sigmoid, or a histogram over values (HL-Gauss), as ``loss.td`` says."""

    name = "q_transformer"

    def __init__(self, model: Network, config: TrainConfig) -> None:
        super().__init__(model, config)
        head = model.config.value_head
        if (head == "hl_gauss") != (config.loss.td == "hl_gauss"):
            raise TrainingError(
                f"value_head {head!r} cannot be trained with loss.td {config.loss.td!r}: hl_gauss needs both to be "
                "hl_gauss"
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        targets, known = self.targets(batch)
        logits = self.logits(batch)
        if self.model.histogram is not None:
            return histogram_losses(logits, batch.taken, targets, known, self.config.loss, self.model.histogram)
        terms = q_losses(logits, batch.taken, targets, known, self.config.loss)
        with torch.no_grad():
            terms["agreement"] = agreement(logits, batch.taken, known)
            terms["target"] = mean_of(targets, known)
        return terms
