"""Behaviour of the per-dimension Bellman targets, against a slow reference written as loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qt_ros.learning.targets import Backup, monte_carlo_returns, td_targets


def reference(values, rewards, returns, length, terminated, t, i, dims, backup):
    """Target of decision (t, i) of an episode of ``length`` steps, walked decision by decision; None: it has none."""
    total, discount, step, dim = 0.0, 1.0, t, i
    moves = 0
    while moves < backup.n_step or (backup.to_next_step and dim != 0):
        moves += 1
        dim += 1
        if dim == dims:
            total += discount * rewards[step]
            discount *= backup.gamma
            step, dim = step + 1, 0
            if step == length:
                return min(total, 1.0) if terminated else None
    bootstrap = values[step, dim]
    if backup.monte_carlo:
        bootstrap = max(bootstrap, returns[step])
    return min(total + discount * bootstrap, 1.0)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 6),
    dims=st.integers(1, 4),
    n_step=st.integers(1, 9),
    to_next=st.booleans(),
    monte_carlo=st.booleans(),
    terminated=st.booleans(),
    start=st.integers(0, 5),
    steps=st.integers(1, 3),
    scale=st.sampled_from((0.1, 1.0)),
)
def test_targets_equal_a_walk_along_the_chain(
    seed, length, dims, n_step, to_next, monte_carlo, terminated, start, steps, scale
) -> None:
    start = min(start, length - 1)
    rng = np.random.default_rng(seed)
    backup = Backup(gamma=0.9, n_step=n_step, to_next_step=to_next, monte_carlo=monte_carlo)
    span = steps + backup.lookahead(dims)
    values = rng.uniform(size=(length + span, dims))
    rewards = np.where(np.arange(length + span) < length, scale * rng.uniform(size=length + span), 0.0)
    returns = np.zeros(length + span)
    returns[:length] = monte_carlo_returns(rewards[:length].astype(np.float32), backup.gamma)
    remaining = length - 1 - np.arange(length + span)
    cut = slice(start, start + span)
    targets, mask = td_targets(
        torch.tensor(values[None, cut]),
        torch.tensor(rewards[None, cut]),
        torch.tensor(returns[None, cut]),
        torch.tensor(remaining[None, cut]),
        torch.tensor([terminated]),
        steps,
        dims,
        backup,
    )
    for s in range(steps):
        if start + s >= length:
            continue
        for i in range(dims):
            expected = reference(values, rewards, returns, length, terminated, start + s, i, dims, backup)
            assert bool(mask[0, s, i]) == (expected is not None)
            if expected is not None:
                assert float(targets[0, s, i]) == pytest.approx(expected, abs=1e-6)


def one_step(reward=0.0, terminated=True, remaining=(1, 0), gamma=0.5, monte_carlo=False, returns=(0.0, 0.0)):
    targets, _ = td_targets(
        torch.full((1, 2, 3), 0.8),
        torch.tensor([[reward, 0.0]]),
        torch.tensor([returns]),
        torch.tensor([remaining]),
        torch.tensor([terminated]),
        1,
        3,
        Backup(gamma=gamma, monte_carlo=monte_carlo),
    )
    return targets[0, 0].tolist()


def test_reward_and_discount_enter_only_the_last_dimension() -> None:
    assert one_step() == pytest.approx([0.8, 0.8, 0.4])
    assert one_step(reward=0.25) == pytest.approx([0.8, 0.8, 0.65])
    assert one_step(gamma=1.0) == pytest.approx([0.8, 0.8, 0.8])


def test_a_terminal_step_does_not_bootstrap() -> None:
    assert one_step(reward=1.0, remaining=(0, -1)) == pytest.approx([0.8, 0.8, 1.0])


def test_the_monte_carlo_bound_is_per_sample_and_in_value_space() -> None:
    targets, _ = td_targets(
        torch.full((2, 2, 2), 0.3),
        torch.zeros(2, 2),
        torch.tensor([[0.9, 0.95], [0.0, 0.0]]),
        torch.tensor([[1, 0], [1, 0]]),
        torch.tensor([True, True]),
        1,
        2,
        Backup(gamma=0.5),
    )
    assert targets[0, 0].tolist() == pytest.approx([0.9, 0.475])
    assert targets[1, 0].tolist() == pytest.approx([0.3, 0.15])


def test_dense_rewards_and_a_value_that_is_too_high_come_to_a_target_of_one_at_most() -> None:
    """Rewards 0.6 and 0.4 return 0.992 at a discount of 0.98; a network that says 1 after the first would make 1.58."""
    for n_step, to_next in ((1, False), (3, False), (1, True)):
        backup = Backup(gamma=0.98, n_step=n_step, to_next_step=to_next)
        rewards = torch.tensor([[0.6, 0.4, 0.0]])
        returns = torch.from_numpy(monte_carlo_returns(rewards[0].numpy(), 0.98))[None]
        remaining, ended = torch.tensor([[1, 0, -1]]), torch.tensor([True])
        targets, known = td_targets(torch.ones(1, 3, 3), rewards, returns, remaining, ended, 1, 3, backup)
        assert bool(known.all()) and float(targets.max()) == 1.0


def test_walking_on_to_a_border_takes_all_dimensions_to_one_state_only_for_n_one_above_a_multiple_of_d() -> None:
    for n_step, ahead in {1: [1] * 10, 2: [1] * 9 + [2], 10: [1] + [2] * 9, 11: [2] * 10, 41: [5] * 10}.items():
        backup = Backup(n_step=n_step, to_next_step=True)
        assert [backup.landing(i, 10) for i in range(10)] == [(steps, 0) for steps in ahead]


def test_a_backup_lands_where_its_decisions_end_or_at_the_border_after_them() -> None:
    backup = Backup(gamma=0.5, n_step=1, to_next_step=True)
    assert [backup.landing(i, 3) for i in range(3)] == [(1, 0)] * 3
    assert backup.first_dimension_only(3) and not Backup(n_step=2).first_dimension_only(3)
    assert Backup(n_step=7).landing(0, 3) == (2, 1)


def test_returns_of_a_success_are_powers_of_gamma_and_of_a_failure_zero() -> None:
    np.testing.assert_allclose(monte_carlo_returns(np.array([0, 0, 1], np.float32), 0.9), [0.81, 0.9, 1.0], rtol=1e-6)
    assert (monte_carlo_returns(np.zeros(3, np.float32), 0.9) == 0).all()


def test_a_segment_too_short_for_its_lookahead_is_refused() -> None:
    one = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="too short"):
        td_targets(torch.zeros(1, 1, 2), one, one, one, torch.tensor([True]), 1, 2, Backup())
