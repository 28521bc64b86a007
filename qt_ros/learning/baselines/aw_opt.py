"""AW-Opt (Lu et al., arXiv 2111.05424), offline: QT-Opt's critic and an actor that imitates what went better than
usual.

    critic:  as QT-Opt, with the actor's action among CEM's candidates in the Bellman maximum
    actor:   - min(exp(beta A), clip) log pi(a | s),   A = Q1(s, a) - Q1(s, pi'(s)),   successful episodes only

The actor is autoregressive over bins, as RT-1's; pi'(s) is its lagged copy's greedy action. Only steps of successful
episodes train it ("positive filtering", which the source finds needed); the critic learns from all. The actor's loss is
divided by D, which only rescales it. The source also mixes actor and CEM for exploration, which has no place offline.
Acts by the actor's most probable bin, dimension by dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qt_ros.learning.baselines.qt_opt import QtOpt
from qt_ros.learning.baselines.rt1_bc import log_probability
from qt_ros.learning.batches import LAGGED, ONLINE, Batch, Window
from qt_ros.learning.losses import agreement, mean_of
from qt_ros.learning.options import AwOptOptions
from qt_ros.model.critics import ContinuousCritic, unit_from_bins
from qt_ros.model.q_transformer import QTransformer


class AwOpt(QtOpt):
    """``model`` is the actor; 'critic' works on its tokens."""

    name = "aw_opt"
    critic_name = "critic"

    def other_networks(self) -> dict[str, nn.Module]:
        shape = self.model.config
        return {"critic": ContinuousCritic(shape, sees=False)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        options, actor, bins = self.options, self.model, batch.taken
        assert isinstance(options, AwOptOptions) and isinstance(actor, QTransformer)
        window = batch.window(actor, 0, batch.steps, ONLINE)
        terms = self.critic_terms(batch, window)
        good = batch.counted & batch.success.repeat_interleave(batch.steps)
        with torch.no_grad():
            advantage = self.advantage(batch.window(self.lagged_model, 0, batch.steps, LAGGED), bins)
            weight = torch.exp(options.beta * advantage).clamp(max=options.weight_clip)
        logits = actor.q_logits(window.tokens, bins, window.proprio, window.frame_mask)
        log_likelihood = log_probability(logits, bins).sum(-1) / self.dims
        policy_loss = mean_of(-weight * log_likelihood, good)
        return terms | {
            "loss": terms["td"] + policy_loss,
            "policy_loss": policy_loss,
            "advantage": mean_of(advantage.abs(), good),
            "weight": mean_of(weight, good),
            "agreement": agreement(logits, bins, good),
        }

    def advantage(self, window: Window, bins: Tensor) -> Tensor:
        """Q1 of the action taken minus Q1 of what the lagged actor would do, (N,); windows as that actor sees them."""
        critic, shape = self.lagged_critic, self.model.config
        both = torch.cat((unit_from_bins(bins, shape.bins)[:, None], self.proposals(window)), dim=1)
        q = critic.value(critic.q_logits(critic.observe(*window.seen), both))
        return q[:, 0] - q[:, 1]

    def proposals(self, window: Window) -> Tensor:
        """The lagged actor's greedy action, (N, 1, D)."""
        actor = self.lagged_model
        assert isinstance(actor, QTransformer)
        return unit_from_bins(actor.decode(*window.seen)[0], actor.config.bins)[:, None]
