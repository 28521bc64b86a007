"""AW-Opt: the actor imitates successes only, by advantage, and its action takes part in the critic's search."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny import tiny_trainer

from qt_ros.learning.baselines.qt_opt import unit_from_bins
from qt_ros.learning.options import AwOptOptions
from qt_ros.learning.trainer import Trainer


def test_the_actor_learns_from_successes_only_and_the_critic_from_all(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "aw_opt", batch=64)
    base = trainer.losses(0)
    failed = ~trainer.data.success.repeat(trainer.data.lengths)
    with torch.no_grad():  # so that the critic's value depends on the action
        torch.nn.init.normal_(trainer.method.critic.head.weight)
    felt = trainer.losses(0)
    trainer.data.bins[failed] = 0
    changed = trainer.losses(0)
    assert torch.equal(changed["policy_loss"], felt["policy_loss"]) and torch.equal(felt["weight"], base["weight"])
    assert not torch.equal(changed["td"], felt["td"])


def lively(trainer: Trainer) -> Trainer:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in (*trainer.method.lagged_critic.parameters(), *trainer.target.parameters()):
            parameter.add_(0.5 * torch.randn_like(parameter))
    return trainer


def test_weights_are_exponential_in_what_the_action_gains_over_the_actors_own(tmp_path: Path) -> None:
    trainer = lively(tiny_trainer(tmp_path, "aw_opt", options=AwOptOptions(samples=8, elites=3, beta=2.0)))
    window = trainer.batches.plain_window(trainer.model, trainer.data.starts)
    bins = torch.from_numpy(trainer.data.bins[trainer.data.starts])
    with torch.no_grad():
        advantage = trainer.method.advantage(window, bins)
        critic, actor = trainer.method.lagged_critic, trainer.target
        own = actor.decode(*window.seen)[0]
        observed = critic.observe(*window.seen)
        q = [critic.value(critic.q_logits(observed, unit_from_bins(b, 5)[:, None]))[:, 0] for b in (bins, own)]
    torch.testing.assert_close(advantage, q[0] - q[1])
    assert float(advantage.abs().max()) > 0.01
    same = trainer.method.advantage(window, own)
    torch.testing.assert_close(same, torch.zeros_like(same))


def test_a_clip_bounds_the_weights(tmp_path: Path) -> None:
    options = AwOptOptions(samples=8, elites=3, beta=1e4, weight_clip=7.0)
    trainer = lively(tiny_trainer(tmp_path, "aw_opt", options=options, batch=64))
    assert 0.0 < float(trainer.losses(0)["weight"]) <= 7.0


def test_the_actors_action_is_a_candidate_of_the_bellman_maximum(tmp_path: Path) -> None:
    """A critic that values one action alone, which a search of few samples cannot hit but the actor takes."""
    trainer = tiny_trainer(tmp_path, "aw_opt", options=AwOptOptions(iterations=1, samples=2, elites=2))
    window = trainer.batches.plain_window(trainer.model, trainer.data.starts)
    with torch.no_grad():
        trainer.target.head_bias[0, 1] += 50.0
        trainer.target.head_bias[1, 3] += 50.0
    proposal = unit_from_bins(torch.tensor([[1, 3]]), 5)
    torch.testing.assert_close(trainer.method.proposals(window), proposal.expand(len(window.tokens), 1, -1))
    for critic in (trainer.method.lagged_critic, trainer.method.second):
        critic.q_logits = lambda observed, actions: 5.0 - 1e3 * (actions - proposal).square().sum(-1)
    value = trainer.method.best_value(window, torch.Generator().manual_seed(0))
    assert value.tolist() == pytest.approx([1 / (1 + math.exp(-5.0))] * len(value))


def test_it_acts_by_its_actor(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "aw_opt", gradient_steps=100, batch=32, log_every=50)
    trainer.run(lambda _: None)
    assert trainer.config.acting.cem is None
    window = trainer.batches.plain_window(trainer.model, trainer.data.starts)
    assert trainer.model.decode(*window.seen)[0].tolist() == [[1, 3]] * 12
