"""CQL: a regulariser whose gradient is the softmax minus what was taken, on the Q-Transformer's backup."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_trainer

from qt_ros.learning.baselines.cql import cql_losses
from qt_ros.learning.losses import LossConfig, q_losses, softmax_penalty
from qt_ros.learning.options import CqlOptions
from qt_ros.learning.trainer import Trainer


def test_the_regularisers_gradient_is_the_softmax_minus_the_one_hot_of_what_was_taken() -> None:
    values = torch.randn(4, 3, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    bins = torch.randint(0, 7, (4, 3), generator=torch.Generator().manual_seed(1))
    softmax_penalty(values, values.gather(-1, bins[..., None]).squeeze(-1)).sum().backward()
    one_hot = torch.nn.functional.one_hot(bins, 7)
    torch.testing.assert_close(values.grad, values.detach().softmax(-1) - one_hot)


def test_the_loss_is_half_the_squared_error_plus_alpha_times_the_regulariser() -> None:
    values, bins = torch.tensor([[[0.0, 2.0, -1.0]]]), torch.tensor([[1]])
    terms = cql_losses(values, bins, torch.tensor([[0.5]]), torch.tensor([[True]]), alpha=0.3)
    penalty = torch.logsumexp(values[0, 0], 0) - 2.0
    assert float(terms["td"]) == pytest.approx(0.5 * 1.5**2)
    assert float(terms["conservative"]) == pytest.approx(float(penalty))
    assert float(terms["loss"]) == pytest.approx(0.5 * 1.5**2 + 0.3 * float(penalty))


def test_the_papers_softmax_ablation_is_the_same_regulariser_on_squashed_values() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    bins, mask = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool)
    targets = torch.full((2, 3), 0.4)
    ablation = q_losses(logits, bins, targets, mask, LossConfig("mse", 2.0, "softmax"))
    cql = cql_losses(torch.sigmoid(logits), bins, targets, mask, alpha=2.0)
    for name in ("loss", "td", "conservative", "q_taken", "q_other"):
        torch.testing.assert_close(ablation[name], cql[name])


def test_its_targets_are_the_q_transformers(tmp_path: Path) -> None:
    """With the sigmoid head, equal weights give equal targets: only the loss differs."""
    model = tiny_model()
    ours = tiny_trainer(tmp_path / "a")
    cql = tiny_trainer(tmp_path / "b", "cql")
    cql = Trainer(
        tiny_model(method="cql", value_head="sigmoid"), cql.data, cql.batches.text.cpu(), cql.config, tmp_path / "c"
    )
    cql.method.lagged["online"].load_state_dict(model.state_dict())
    for a, b in zip(ours.method.targets(ours.batches.at(3)), cql.method.targets(cql.batches.at(3)), strict=True):
        assert torch.equal(a, b)


def test_values_beyond_any_return_do_not_enter_targets(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "cql")
    with torch.no_grad():
        trainer.target.head_bias += 50.0
    targets, known = trainer.method.targets(trainer.batches.at(0))
    assert float(targets[known].max()) <= 1.0


def test_a_large_weight_ties_the_greedy_policy_to_the_data(tmp_path: Path) -> None:
    """What the paper's ablation found: with the softmax regulariser the policy does what the data mostly did."""
    trainer = tiny_trainer(
        tmp_path, "cql", gradient_steps=200, batch=32, learning_rate=1e-2, options=CqlOptions(alpha=5.0)
    )
    data = trainer.data
    data.images[:], data.proprio[:], data.text[:] = 100, 0.5, 0
    data.bins[:] = [2, 0]
    data.bins[:3] = [1, 3]  # one short success: better, but rare
    trainer.run(lambda _: None)
    window = trainer.batches.plain_window(trainer.model, data.starts[:1])
    assert trainer.model.decode(*window.seen)[0].tolist() == [[2, 0]]
