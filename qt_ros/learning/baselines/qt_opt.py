"""QT-Opt (Kalashnikov et al., arXiv 1806.10293), offline: Q of a continuous action, maximised by sampling.

    y    = clip(r + gamma min(Q1(s', a'), Q2(s', a')), 0, 1),    a' = CEM's best action under Q1
    loss = cross-entropy of sigmoid(Q(s, a)) with y

The action enters as one vector in [-1, 1]^D (the centres of the recorded bins). Q1 is the Polyak average of Q, Q2 an
older copy of Q1, renewed every ``second_target_every`` steps; the smaller of the two damps overestimation. CEM as in
the source: 2 rounds of 64 samples, 6 elites, for targets and for acting. No regulariser: an action that was never tried
may look as good as it likes. gamma is the run's (0.9 in the source).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qt_ros.learning.batches import ONLINE, SEARCH, Batch, Window
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.losses import mean_of
from qt_ros.learning.method import Method
from qt_ros.learning.options import QtOptOptions
from qt_ros.model.acting import Network
from qt_ros.model.cem import cross_entropy_method
from qt_ros.model.critics import ContinuousCritic, unit_from_bins


class QtOpt(Method):
    """``model`` is the critic itself: it acts by searching for its best action."""

    name = "qt_opt"
    needs_failures = True
    critic_name = "online"

    def __init__(self, model: Network, config: TrainConfig) -> None:
        super().__init__(model, config)
        assert isinstance(config.options, QtOptOptions)
        self.options = config.options
        self.second = copy.deepcopy(self.lagged[self.critic_name])

    @property
    def critic(self) -> ContinuousCritic:
        """The trained critic."""
        return _critic(self.networks[self.critic_name])

    @property
    def lagged_critic(self) -> ContinuousCritic:
        """Q1."""
        return _critic(self.lagged[self.critic_name])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.critic_terms(batch, batch.window(self.model, 0, batch.steps, ONLINE))

    def critic_terms(self, batch: Batch, window: Window) -> dict[str, Tensor]:
        """The critic's loss on the steps to learn from, whose windows are given."""
        generator = batch.generator(SEARCH)
        targets, known = self.whole_action_targets(
            batch, lambda later: self.best_value(later, generator, batch.share), self.lagged_model
        )
        actions = unit_from_bins(batch.taken, self.model.config.bins)
        logits = self.critic.q_logits(self.critic.observe(*window.seen), actions[:, None])[:, 0]
        td = mean_of(F.binary_cross_entropy_with_logits(logits, targets, reduction="none"), known)
        logs = {"q_taken": mean_of(torch.sigmoid(logits), batch.counted), "target": mean_of(targets, known)}
        return {"loss": td, "td": td} | {name: value.detach() for name, value in logs.items()}

    def best_value(self, window: Window, generator: torch.Generator, share: tuple[int, int] = (0, 1)) -> Tensor:
        """min(Q1, Q2) at the best action found under Q1, (N,). ``share``: which part of a batch the window is."""
        first, second = self.lagged_critic, _critic(self.second)
        observed = first.observe(*window.seen)
        actions, logits = cross_entropy_method(
            lambda candidates: first.q_logits(observed, candidates),
            len(window.tokens),
            self.dims,
            self.options.cem,
            generator,
            window.tokens.device,
            extra=self.proposals(window),
            share=share,
        )
        other = second.q_logits(second.observe(*window.seen), actions[:, None])[:, 0]
        return torch.sigmoid(torch.minimum(logits, other))

    def proposals(self, window: Window) -> Tensor | None:
        """Candidates (N, m, D) for the search from elsewhere."""
        return None

    def first_values(self, window: Window) -> Tensor:
        return self.best_value(window, torch.Generator().manual_seed(self.config.seed))

    def after_step(self, step: int) -> None:
        super().after_step(step)
        if (step + 1) % self.options.second_target_every == 0:
            self.second.load_state_dict(self.lagged[self.critic_name].state_dict())

    def state(self) -> dict[str, nn.Module]:
        return super().state() | {"second_target": self.second}


def _critic(network: nn.Module) -> ContinuousCritic:
    assert isinstance(network, ContinuousCritic)
    return network
