"""Implicit Q-Learning (Kostrikov et al., arXiv 2110.06169): never ask for the value of an action that nobody took.

    V loss:       | tau - 1(u < 0) | u^2,  u = Q'(s, a) - V(s)               expectile regression, Q' lagged
    Q loss:       1/2 (r + gamma V(s') - Q(s, a))^2                          no max over actions, V not lagged
    policy loss:  - min(exp(beta (Q'(s, a) - V(s))), clip) sum_i log pi(a[i] | s, a[0..i-1])

The action is the joint one: the critic is fed all D bins and gives one number. Q and V share a Transformer (the source
has a net for each, and a second Q of which it takes the smaller). Values are plain outputs, as in the source,
but V(s') is clipped to [0, 1], where returns lie. The policy loss is divided by D, which only rescales it. Acts by the
policy's most probable bin, dimension by dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qt_ros.learning.baselines.rt1_bc import log_probability
from qt_ros.learning.batches import LAGGED, ONLINE, Batch, Window
from qt_ros.learning.losses import agreement, mean_of
from qt_ros.learning.method import Method
from qt_ros.learning.options import IqlOptions
from qt_ros.model.critics import JointCritic
from qt_ros.model.q_transformer import QTransformer, evaluating


class Iql(Method):
    """``model`` is the policy; 'critic' holds Q and V and works on the policy's tokens."""

    name = "iql"
    model: QTransformer

    def other_networks(self) -> dict[str, nn.Module]:
        return {"critic": JointCritic(self.model.config)}

    @property
    def critic(self) -> JointCritic:
        """The trained critic."""
        critic = self.networks["critic"]
        assert isinstance(critic, JointCritic)
        return critic

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        options, bins, counted = self.config.options, batch.taken, batch.counted
        assert isinstance(options, IqlOptions)
        targets, known = self.targets(batch)
        with torch.no_grad():
            seen = batch.window(self.lagged_model, 0, batch.steps, LAGGED)
            _, lagged_q = self.lagged["critic"](seen.tokens, bins, seen.proprio, seen.frame_mask)
        window = batch.window(self.model, 0, batch.steps, ONLINE)
        v, q = self.critic(window.tokens, bins, window.proprio, window.frame_mask)
        advantage = lagged_q - v.detach()
        weight = torch.exp(options.beta * advantage).clamp(max=options.weight_clip)
        logits = self.model.q_logits(window.tokens, bins, window.proprio, window.frame_mask)
        log_likelihood = log_probability(logits, bins).sum(-1) / self.dims

        td = mean_of(0.5 * (q - targets) ** 2, known)
        value_loss = mean_of(expectile_loss(lagged_q - v, options.expectile), counted)
        policy_loss = mean_of(-weight * log_likelihood, counted)
        logs = {
            "q_taken": mean_of(q, counted),
            "value": mean_of(v, counted),
            "advantage": mean_of(advantage.abs(), counted),
            "weight": mean_of(weight, counted),
            "agreement": agreement(logits, bins, counted),
            "target": mean_of(targets, known),
        }
        loss = td + value_loss + policy_loss
        terms = {"loss": loss, "td": td, "value_loss": value_loss, "policy_loss": policy_loss}
        return terms | {name: value.detach() for name, value in logs.items()}

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """r + gamma V(s') of the steps to learn from and where there is one, both (B * steps,); without gradient.

        V is the trained critic's own, as in the source. It is asked without dropout, whose noise is no part of a value,
        and on the tokens that it is trained on: the model's, not those of the model's lagged copy.
        """
        with evaluating(self.critic), evaluating(self.model):
            return self.whole_action_targets(batch, self.first_values, self.model)

    def first_values(self, window: Window) -> Tensor:
        return self.critic.state_value(*window.seen)


def expectile_loss(error: Tensor, expectile: float) -> Tensor:
    """|tau - 1(u < 0)| u^2 of ``error`` u = sample - estimate; its minimiser is the tau-expectile of the samples."""
    return torch.where(error < 0, 1.0 - expectile, expectile) * error**2
