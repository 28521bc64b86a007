"""The per-dimension backup reaches the joint-action optimum: tabular MDPs against value iteration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from qt_ros.learning.targets import Backup, td_targets

STATES, DIMS, BINS, GAMMA = 4, 3, 3, 0.9


def random_mdp(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """next state (S, A) with A joint actions, reward in [0, 1-gamma] so that values stay in [0, 1], terminal (S, A)."""
    rng = np.random.default_rng(seed)
    joint = BINS**DIMS
    return (
        rng.integers(0, STATES, (STATES, joint)),
        rng.uniform(0, 1 - GAMMA, (STATES, joint)),
        rng.uniform(size=(STATES, joint)) < 0.1,
    )


def joint_optimum(following: np.ndarray, reward: np.ndarray, terminal: np.ndarray) -> np.ndarray:
    q = np.zeros_like(reward)
    for _ in range(500):
        q = reward + GAMMA * np.where(terminal, 0.0, q.max(1)[following])
    return q


@pytest.mark.parametrize("seed", range(3))
def test_the_per_dimension_backup_converges_to_the_joint_action_optimum(seed: int) -> None:
    following, reward, terminal = random_mdp(seed)
    optimum = joint_optimum(following, reward, terminal)
    actions = np.array(list(itertools.product(range(BINS), repeat=DIMS)))
    tables = [np.zeros((STATES, *([BINS] * (i + 1)))) for i in range(DIMS)]  # Q_i(s, a_0 .. a_i)
    backup = Backup(gamma=GAMMA, monte_carlo=False)
    pairs = [(s, a) for s in range(STATES) for a in range(len(actions))]
    for _ in range(450):  # a value needs DIMS rounds to move one environment step
        here = np.array([[tables[i][(s, *actions[a][:i])].max() for i in range(DIMS)] for s, a in pairs])
        after = np.array([[tables[i][(following[s, a], *([0] * i))].max() for i in range(DIMS)] for s, a in pairs])
        targets, mask = td_targets(
            torch.tensor(np.stack([here, after], 1)),
            torch.tensor([[reward[s, a], 0.0] for s, a in pairs]),
            torch.zeros(len(pairs), 2),
            torch.tensor([[0, -1] if terminal[s, a] else [1, 0] for s, a in pairs]),
            torch.ones(len(pairs), dtype=torch.bool),
            1,
            DIMS,
            backup,
        )
        assert mask.all()
        for (s, a), target in zip(pairs, targets[:, 0].tolist(), strict=True):
            for i in range(DIMS):
                tables[i][(s, *actions[a][: i + 1])] = target[i]
    last = tables[-1].reshape(STATES, -1)
    np.testing.assert_allclose(last, optimum, atol=1e-5)
    for s in range(STATES):  # greedy control, dimension by dimension, picks an optimal joint action
        prefix: tuple[int, ...] = ()
        for i in range(DIMS):
            prefix += (int(tables[i][(s, *prefix)].argmax()),)
        chosen = int(np.flatnonzero((actions == prefix).all(1))[0])
        assert optimum[s, chosen] == pytest.approx(optimum[s].max(), abs=1e-5)
