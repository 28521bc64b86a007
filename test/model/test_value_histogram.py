"""Histogram outputs: right values and gradients, whatever the rank, without ever holding all histograms."""

from __future__ import annotations

import math

import pytest
import torch

from qt_ros.model import value_histogram
from qt_ros.model.value_histogram import ValueHistogram


def outputs(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def test_the_value_is_the_expectation_over_bin_centres() -> None:
    histogram = ValueHistogram(5, 3, 0.2)
    z = outputs(2, 4, 3)
    for i in range(2):
        for j in range(4):
            weight = []
            for k in range(5):
                centre = (k + 0.5) / 5
                cosines = sum(float(z[i, j, m]) * math.cos(math.pi * (m + 1) * centre) for m in range(3))
                weight.append(math.exp(cosines + float(histogram.base[k])))
            mean = sum(w * (k + 0.5) / 5 for k, w in enumerate(weight)) / sum(weight)
            assert float(histogram.mean(z)[i, j]) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("initial", [0.1, 0.3, 0.5, 0.8])
def test_zero_outputs_mean_the_initial_value(initial: float) -> None:
    assert float(ValueHistogram(51, 8, initial).mean(torch.zeros(8))) == pytest.approx(initial, abs=1e-4)


def test_an_initial_value_near_zero_starts_low_without_putting_high_values_out_of_reach() -> None:
    histogram = ValueHistogram(51, 8, 0.01)
    assert float(histogram.mean(torch.zeros(8))) < 0.1
    assert float(histogram.base.max() - histogram.base.min()) <= 12.0


def test_the_full_rank_gives_every_histogram() -> None:
    histogram = ValueHistogram(7, 6, 0.4)
    wanted = torch.softmax(3.0 * outputs(7), 0)
    goal = (wanted.log() - histogram.base).double()
    z = torch.linalg.lstsq(histogram.basis.double().T, (goal - goal.mean())[:, None]).solution[:, 0]
    torch.testing.assert_close(histogram.logits(z.float()).softmax(-1), wanted, atol=1e-5, rtol=1e-4)


def test_pieces_and_the_kept_gradient_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_histogram, "PIECE", {"cpu": 5})
    histogram = ValueHistogram(11, 4, 0.1)
    target = torch.softmax(outputs(3, 2, 6, 11, seed=1), -1)
    z, plain = (outputs(3, 2, 6, 4).mul(3).requires_grad_() for _ in range(2))
    weight = outputs(3, 2, 6, seed=2)
    other = torch.softmax(outputs(11, seed=3), -1)
    against, value = histogram.summary(z, other)
    lean = against - histogram.expected_logit(z, target - other)
    assert not value.requires_grad and not histogram.mean(z).requires_grad
    torch.testing.assert_close(value, histogram.mean(z))
    (lean * weight).sum().backward()
    naive = -(target * torch.log_softmax(histogram.logits(plain), -1)).sum(-1)
    (naive * weight).sum().backward()
    torch.testing.assert_close(lean, naive)
    torch.testing.assert_close(z.grad, plain.grad)
    whole = histogram.logits(plain).softmax(-1) @ histogram.centres
    torch.testing.assert_close(histogram.mean(plain), whole.detach())


def test_large_outputs_stay_finite() -> None:
    histogram = ValueHistogram(51, 8, 0.1)
    z = torch.full((2, 8), 500.0, requires_grad=True)
    total, _ = histogram.summary(z, torch.full((51,), 1 / 51))
    total.sum().backward()
    assert bool(total.isfinite().all()) and bool(z.grad.isfinite().all())
    assert bool(histogram.mean(-z).isfinite().all())
