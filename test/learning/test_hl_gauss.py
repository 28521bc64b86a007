"""HL-Gauss: what mass a target puts where, what the loss is, and that it learns values."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_data, tiny_trainer

from qt_ros.learning.hl_gauss import gaussian_mass, histogram_losses
from qt_ros.learning.losses import LossConfig, q_losses
from qt_ros.model.value_histogram import ValueHistogram

CONFIG = LossConfig("hl_gauss", alpha=0.7)


def phi(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


@settings(max_examples=60, deadline=None)
@given(value=st.floats(0, 1), cells=st.integers(2, 60), sigma=st.floats(0.3, 2.0))
def test_the_mass_of_a_cell_is_the_difference_of_the_normal_cdf_at_its_edges_renormalised(
    value: float, cells: int, sigma: float
) -> None:
    found = gaussian_mass(torch.tensor(value), cells, sigma)
    spread = sigma / cells
    mass = [phi(((k + 1) / cells - value) / spread) - phi((k / cells - value) / spread) for k in range(cells)]
    np.testing.assert_allclose(found, np.array(mass) / sum(mass), atol=2e-5)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-5)


def test_the_mean_of_a_target_is_its_value_away_from_the_ends_and_off_by_a_known_bit_at_them() -> None:
    centres = (torch.arange(51) + 0.5) / 51
    values = torch.linspace(0.05, 0.95, 19)
    torch.testing.assert_close(gaussian_mass(values, 51, 0.75) @ centres, values, atol=2e-4, rtol=0)
    low = float(gaussian_mass(torch.tensor(0.0), 51, 0.75) @ centres)
    assert low == pytest.approx(0.92 * 0.75 / 51, rel=0.01)
    high = float(gaussian_mass(torch.tensor(1.0), 51, 0.75) @ centres)
    assert high == pytest.approx(1 - low, abs=1e-5)


def slow_losses(outputs, bins, targets, mask, histogram, config) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Loop over decisions and bins, with whole softmaxes."""

    def log_probabilities(z: torch.Tensor) -> list[float]:
        logits = [float(b) + float(z @ histogram.basis[:, k]) for k, b in enumerate(histogram.base)]
        total = math.log(sum(math.exp(x) for x in logits))
        return [x - total for x in logits]

    def entropy(z: torch.Tensor, value: float) -> float:
        mass = gaussian_mass(torch.tensor(value), histogram.atoms, config.sigma).tolist()
        return -sum(m * p for m, p in zip(mass, log_probabilities(z), strict=True))

    td, conservative, taken, other = [], [], [], []
    for n in range(outputs.shape[0]):
        for i in range(outputs.shape[1]):
            if not mask[n, i]:
                continue
            a = int(bins[n, i])
            rest = [b for b in range(outputs.shape[2]) if b != a]
            td.append(entropy(outputs[n, i, a], float(targets[n, i])))
            conservative.append(sum(entropy(outputs[n, i, b], 0.0) for b in rest) / len(rest))
            q = [
                sum(math.exp(p) * (k + 0.5) / histogram.atoms for k, p in enumerate(log_probabilities(z)))
                for z in outputs[n, i]
            ]
            taken.append(q[a])
            other.append(sum(q[b] for b in rest) / len(rest))
    mean = [sum(x) / len(x) for x in (td, conservative, taken, other)]
    names = dict(zip(("td", "conservative", "q_taken", "q_other"), mean, strict=True))
    return {"loss": names["td"] + config.alpha * names["conservative"]} | names


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), atoms=st.integers(3, 9), rank=st.integers(1, 5), count=st.integers(1, 3))
def test_the_terms_equal_loops_over_decisions_bins_and_cells(seed: int, atoms: int, rank: int, count: int) -> None:
    histogram = ValueHistogram(atoms, min(rank, atoms - 1), 0.1)
    g = torch.Generator().manual_seed(seed)
    outputs = 2 * torch.randn(count, 2, 4, histogram.rank, generator=g)
    bins, targets = torch.randint(0, 4, (count, 2), generator=g), torch.rand(count, 2, generator=g)
    mask = torch.rand(count, 2, generator=g) < 0.7
    mask[0, 0] = True
    found = histogram_losses(outputs, bins, targets, mask, CONFIG, histogram)
    for name, value in slow_losses(outputs, bins, targets, mask, histogram, CONFIG).items():
        assert float(found[name]) == pytest.approx(value, abs=1e-4), name


def test_without_regulariser_only_the_bin_taken_is_moved() -> None:
    histogram = ValueHistogram(11, 5, 0.1)
    outputs = torch.zeros(1, 1, 4, 5, requires_grad=True)
    plain = LossConfig("hl_gauss", regulariser="none")
    mask = torch.ones(1, 1, dtype=torch.bool)
    terms = histogram_losses(outputs, torch.tensor([[2]]), torch.tensor([[0.6]]), mask, plain, histogram)
    assert torch.equal(terms["loss"], terms["td"])
    terms["loss"].backward()
    assert outputs.grad[0, 0].abs().sum(-1).nonzero().flatten().tolist() == [2]


def test_minimising_brings_the_bin_taken_to_the_target_and_the_others_to_nothing() -> None:
    histogram = ValueHistogram(51, 8, 0.1)
    outputs = torch.zeros(1, 1, 4, 8, requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    optimiser = torch.optim.Adam([outputs], lr=0.1)
    for _ in range(400):
        optimiser.zero_grad()
        histogram_losses(outputs, torch.tensor([[2]]), torch.tensor([[0.6]]), mask, CONFIG, histogram)[
            "loss"
        ].backward()
        optimiser.step()
    values = histogram.mean(outputs.detach())[0, 0].tolist()
    assert values[2] == pytest.approx(0.6, abs=0.01)
    assert max(values[:2] + values[3:]) < 0.02


def test_of_the_bins_taken_in_one_situation_training_prefers_those_that_succeeded(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "hl_gauss", gradient_steps=250, log_every=250)
    data = trainer.data
    data.images[:], data.proprio[:], data.text[:] = 100, 0.5, 0
    data.bins[:] = [2, 0]
    data.bins[data.success.repeat(data.lengths)] = [1, 3]
    trainer.run(lambda _: None)
    window = trainer.batches.plain_window(trainer.model, data.starts[:1])
    bins, q = trainer.model.decode(*window.seen)
    assert bins.tolist() == [[1, 3]]
    assert q[0, 0, 1] > q[0, 0, 2] > q[0, 0, 4]


def test_dense_rewards_under_values_that_are_too_high_leave_the_loss_finite(tmp_path: Path) -> None:
    """A target well above 1 would have no mass in any cell, and its histogram would be 0 / 0."""
    data = tiny_data()
    data.lengths[:] = 2
    for name in ("images", "proprio", "bins", "text", "rewards", "returns", "remaining", "terminated"):
        setattr(data, name, getattr(data, name)[: data.count].copy())
    data.rewards[:], data.remaining[:] = np.tile([0.6, 0.4], 12), np.tile([1, 0], 12)
    data.returns[:] = np.tile([0.6 + 0.9 * 0.4, 0.4], 12)
    trainer = tiny_trainer(tmp_path, "hl_gauss", data=data, batch=64)
    with torch.no_grad():
        trainer.target.head_bias.unflatten(-1, (5, -1))[..., 0] = -50.0  # every value near 1
    terms = trainer.losses(0)
    assert bool(terms["loss"].isfinite())
    assert float(terms["target"]) == pytest.approx(1.0 - 0.6 / 4, abs=0.02)  # all are 1 but the last of an episode


def test_scalar_outputs_are_not_trained_as_histograms_nor_squashed_twice() -> None:
    with pytest.raises(ValueError, match="histogram_losses"):
        q_losses(
            torch.zeros(1, 1, 3), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1), torch.ones(1, 1) > 0, CONFIG
        )
    with pytest.raises(ValueError, match="softmax regulariser needs"):
        LossConfig("hl_gauss", regulariser="softmax")
    with pytest.raises(ValueError, match="sigma"):
        LossConfig("mse", sigma=0.5)
