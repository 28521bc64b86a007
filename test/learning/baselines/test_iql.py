"""IQL: expectiles, clipped weights, and no question about actions that nobody took."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_config, tiny_data, tiny_model, tiny_text, tiny_trainer

from qt_ros.learning.baselines.iql import expectile_loss
from qt_ros.learning.batches import LAGGED, ONLINE
from qt_ros.learning.options import IqlOptions
from qt_ros.learning.targets import Backup
from qt_ros.learning.trainer import Trainer


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_minimiser_is_the_expectile_of_a_known_distribution(expectile: float) -> None:
    """Of 0 and 1 with equal chances the tau-expectile is tau: tau (1 - v) = (1 - tau) v."""
    samples = torch.tensor([0.0, 1.0])
    v = torch.tensor(0.5, requires_grad=True)
    optimiser = torch.optim.SGD([v], lr=0.2)
    for _ in range(200):
        optimiser.zero_grad()
        expectile_loss(samples - v, expectile).mean().backward()
        optimiser.step()
    assert float(v.detach()) == pytest.approx(expectile, abs=1e-4)


def test_the_expectile_of_uniform_numbers() -> None:
    """Of U(0, 1) it solves tau (1 - v)^2 = (1 - tau) v^2."""
    samples, tau = torch.linspace(0, 1, 2001), 0.8
    values = torch.linspace(0, 1, 1001)
    best = values[expectile_loss(samples[None] - values[:, None], tau).mean(1).argmin()]
    ratio = (tau / (1 - tau)) ** 0.5
    assert float(best) == pytest.approx(ratio / (1 + ratio), abs=2e-3)


def test_v_reaches_towards_the_better_half_of_the_outcomes_and_q_to_their_mean(tmp_path: Path) -> None:
    """One-step episodes of one situation and one action, half of them successes: Q = 1/2, V = the expectile of Q."""
    data = tiny_data(12)
    lengths = np.ones(12, np.int64)
    for name in ("images", "proprio", "bins", "text", "rewards", "returns", "remaining", "terminated", "keypoints"):
        setattr(data, name, getattr(data, name)[:12].copy())
    data.lengths, data.remaining[:], data.terminated[:] = lengths, 0, True
    data.images[:], data.proprio[:], data.text[:] = 0, 0, 0
    data.success[:] = True
    # Action (1, 3) always succeeds, (2, 0) never; both are taken equally often.
    data.bins[:] = [[1, 3] if i % 2 else [2, 0] for i in range(12)]
    data.rewards[:] = [float(i % 2) for i in range(12)]
    trainer = tiny_trainer(
        tmp_path, "iql", data=data, gradient_steps=400, batch=32, ema_decay=0.9, options=IqlOptions(expectile=0.9)
    )
    trainer.run(lambda _: None)
    window = trainer.batches.plain_window(trainer.model, np.array([0, 1]))
    with torch.no_grad():
        v, q = trainer.method.critic(window.tokens, torch.tensor([[2, 0], [1, 3]]), *window.seen[1:])
    assert q.tolist() == pytest.approx([0.0, 1.0], abs=0.1)
    assert v.tolist() == pytest.approx([0.9, 0.9], abs=0.08)
    assert trainer.model.decode(*window.seen)[0].tolist() == [[1, 3]] * 2


def test_weights_are_exponential_in_the_advantage_and_clipped(tmp_path: Path) -> None:
    def weight(beta: float, clip: float, q: float) -> float:
        trainer = tiny_trainer(tmp_path, "iql", options=IqlOptions(beta=beta, weight_clip=clip))
        with torch.no_grad():
            trainer.method.lagged["critic"].action_head.bias.fill_(q)
            trainer.method.critic.state_head.bias.fill_(0.2)
        return float(trainer.losses(0)["weight"])

    assert weight(2.0, 100.0, 0.7) == pytest.approx(np.exp(2.0 * 0.5), rel=1e-4)
    assert weight(2.0, 100.0, -0.3) == pytest.approx(np.exp(2.0 * -0.5), rel=1e-4)
    assert weight(20.0, 100.0, 0.7) == pytest.approx(100.0)


def test_the_backup_pays_the_reward_and_asks_v_of_the_next_state_only(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "iql", batch=64)
    with torch.no_grad():
        trainer.method.critic.state_head.bias.fill_(0.6)
    batch = trainer.batches.at(0)
    targets, known = trainer.method.targets(batch)
    last = batch.remaining[:, 0] == 0
    assert bool(known.all()) and bool(last.any()) and not bool(last.all())
    torch.testing.assert_close(targets[last], batch.rewards[last, 0])
    bound = torch.maximum(torch.tensor(0.6), batch.returns[:, 1])  # the Monte-Carlo bound is on by default
    torch.testing.assert_close(targets[~last], (batch.rewards[:, 0] + 0.9 * bound)[~last])


def with_dropout(folder: Path, **changes: object) -> Trainer:
    """A trainer whose critic has a V of its own for every situation, and drops much."""
    model = tiny_model(method="iql", dropout=0.5)
    trainer = Trainer(model, tiny_data(), tiny_text(), tiny_config("iql", batch=64, **changes), folder)
    with torch.no_grad():
        for network in trainer.method.state().values():
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        trainer.method.critic.state_head.weight.mul_(0.3)
        trainer.method.critic.state_head.bias.fill_(0.5)  # well inside of [0, 1]
    return trainer


def test_dropout_adds_no_noise_to_targets_and_stays_on_for_what_is_trained(tmp_path: Path) -> None:
    trainer = with_dropout(tmp_path)
    method, batch = trainer.method, trainer.batches.at(0)
    for network in method.networks.values():
        network.train()
    first, second = method.targets(batch)[0], method.targets(batch)[0]
    assert torch.equal(first, second) and not first.requires_grad
    assert all(module.training for network in method.networks.values() for module in network.modules())
    window = batch.window(method.model, 0, 1, ONLINE)
    assert not torch.equal(method.critic.state_value(*window.seen), method.critic.state_value(*window.seen))


def test_targets_ask_the_critic_about_the_tokens_that_it_is_trained_on(tmp_path: Path) -> None:
    """Trained vision has moved away from its lagged copy, of whose tokens the trained critic knows nothing."""
    trainer = with_dropout(tmp_path, backup=Backup(gamma=0.9, monte_carlo=False))
    method, batch = trainer.method, trainer.batches.at(0)
    targets, known = method.targets(batch)
    inside = batch.remaining[:, 0] > 0
    method.critic.eval()
    with torch.no_grad():
        own, lagged = (
            0.9 * method.critic.state_value(*batch.window(network, 1, 2, LAGGED).seen).clamp(0.0, 1.0)
            for network in (method.model, method.lagged_model)
        )
    torch.testing.assert_close(targets[inside], own[inside])
    assert bool(known.all()) and float((own - lagged)[inside].abs().max()) > 0.01


def test_a_question_that_fails_leaves_the_critic_in_training(tmp_path: Path) -> None:
    trainer = with_dropout(tmp_path)
    batch, critic = trainer.batches.at(0), trainer.method.critic.train()
    batch.bins = batch.bins[:, :1]  # no later step is left to ask about
    with pytest.raises(RuntimeError):
        trainer.method.targets(batch)
    assert all(module.training for module in critic.modules())


def test_asking_for_targets_first_costs_no_weight_its_gradient_in_mixed_precision(tmp_path: Path) -> None:
    """Autocast keeps the weights that it rounds; those kept without gradients must not serve the loss."""
    trainer = tiny_trainer(tmp_path, "iql", autocast=True)
    for _ in range(2):  # the heads start at zero, behind which nothing has a gradient in the first step
        trainer.train_step()
    for network in trainer.method.networks.values():
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_policys_gradient_does_not_reach_the_critic(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "iql", freeze_vision=True)
    trainer.losses(0)["policy_loss"].backward()
    assert all(p.grad is None for p in trainer.method.critic.parameters())
    assert trainer.model.head_weight.grad is not None
