"""Behaviour of the losses."""

from __future__ import annotations

import pytest
import torch

from qt_ros.learning.losses import LossConfig, q_losses


def losses(logits, td="mse", alpha=1.0, target=0.5, batch=1, bins=4):
    values = torch.full((batch, 2, bins), float(logits))
    taken = torch.zeros(batch, 2, dtype=torch.long)
    return q_losses(
        values, taken, torch.full((batch, 2), target), torch.ones(batch, 2, dtype=torch.bool), LossConfig(td, alpha)
    )


@pytest.mark.parametrize("td", ["mse", "cross_entropy"])
def test_the_conservative_term_is_least_at_value_zero(td: str) -> None:
    terms = [float(losses(x, td)["conservative"]) for x in (-20.0, -5.0, -1.0, 0.0, 3.0)]
    assert terms == sorted(terms) and terms[0] < 1e-6 < terms[-1]


@pytest.mark.parametrize("td", ["mse", "cross_entropy"])
def test_no_term_depends_on_the_batch_size(td: str) -> None:
    small, large = losses(0.3, td, batch=2), losses(0.3, td, batch=64)
    for key in small:
        assert float(small[key]) == pytest.approx(float(large[key]), rel=1e-5)


def test_squared_error_and_penalty_have_the_papers_values() -> None:
    terms = losses(0.0, "mse", alpha=2.0, target=1.0)
    assert float(terms["td"]) == pytest.approx(0.5 * 0.25)
    assert float(terms["conservative"]) == pytest.approx(0.5 * 0.25)
    assert float(terms["loss"]) == pytest.approx(0.125 + 2 * 0.125)


@pytest.mark.parametrize("td", ["mse", "cross_entropy"])
def test_minimising_brings_a_bin_to_the_stated_equilibrium(td: str) -> None:
    bins, alpha, target, p = 4, 1.5, 0.8, 0.5
    logits = torch.zeros(1, bins, requires_grad=True)
    taken = torch.tensor([[0], [1]])
    optimiser = torch.optim.Adam([logits], lr=0.05)
    for _ in range(1500):
        optimiser.zero_grad()
        both = logits.expand(2, 1, bins)
        q_losses(both, taken, torch.full((2, 1), target), torch.ones(2, 1, dtype=torch.bool), LossConfig(td, alpha))[
            "loss"
        ].backward()
        optimiser.step()
    value = torch.sigmoid(logits.detach())[0]
    expected = p * target / (p + alpha * (1 - p) / (bins - 1))
    assert value[0].item() == pytest.approx(expected, abs=0.01)
    assert value[2].item() < 0.05


def test_masked_decisions_do_not_count() -> None:
    logits = torch.randn(3, 2, 5)
    taken = torch.randint(0, 5, (3, 2))
    targets = torch.rand(3, 2)
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    changed = logits.clone()
    changed[2] += 5
    changed[1, 1] -= 3
    for td in ("mse", "cross_entropy"):
        a = q_losses(logits, taken, targets, mask, LossConfig(td))["loss"]
        b = q_losses(changed, taken, targets, mask, LossConfig(td))["loss"]
        assert torch.allclose(a, b)


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="huber"):
        LossConfig(td="huber")
    with pytest.raises(ValueError, match="alpha"):
        LossConfig(alpha=-1)
