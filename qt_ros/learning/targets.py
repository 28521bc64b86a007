"""Targets of the per-dimension Bellman backup (Q-Transformer, Eq. 1), with Monte-Carlo bound and n-step returns.

Decisions form one chain: step t, dimension i is decision t*D + i. One-step backup (n = 1) of decision (t, i):

- i < D-1: max over bins of Q(s_t, a_t[0..i], .), the next dimension of the same step: no reward, no discount;
- i = D-1: r_t + gamma * max over bins of Q(s_{t+1}, .) of the first dimension; nothing after the last step of an
  episode.

The n-step backup goes n decisions along the dataset action and pays reward and discount at each step border it crosses.
Every bootstrap value is bounded from below by the recorded return of the same episode from there on (both in value
space). Targets are clamped to [0, 1], where every return lies: rewards on the way plus a bootstrap value that is too
high may come to more, which no value can reach. With one reward at the end of an episode they never do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def monte_carlo_returns(rewards: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    """Return-to-go of one episode: rewards (T,) -> G (T,) float32 with G_t = r_t + gamma * G_{t+1}, G_T = 0.

    For an episode whose only reward is 1 at its last step, G_t = gamma ** (T - 1 - t); for a failure 0. A truncated
    episode gives the return seen so far, which still is a lower bound when rewards are not negative.
    """
    out = np.zeros(len(rewards), dtype=np.float32)
    running = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        running = float(rewards[t]) + gamma * running
        out[t] = running
    return out


@dataclass(frozen=True)
class Backup:
    """How far a backup looks.

    ``n_step``: decisions (action dimensions) to go along the dataset action; 1 is Eq. 1. ``to_next_step``: after them
    go on to the next border between environment steps, so that every dimension bootstraps from the first dimension of a
    later state. With n_step = k*D + 1 that is the state k + 1 steps on for all of them: the next one with 1, the fifth
    with 41 and D = 10. With any other n_step the later dimensions reach one state further than the earlier ones: of
    D = 10, n_step 2 sends the last alone two steps on, n_step 10 all but the first. ``monte_carlo``: bound bootstrap
    values by recorded returns.
    """

    gamma: float = 0.98
    n_step: int = 1
    to_next_step: bool = False
    monte_carlo: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], found {self.gamma}")
        if self.n_step < 1:
            raise ValueError(f"n_step counts action dimensions and must be at least 1, found {self.n_step}")

    def landing(self, dimension: int, dims: int) -> tuple[int, int]:
        """(environment steps ahead, dimension) where the backup of ``dimension`` bootstraps."""
        index = dimension + self.n_step
        if self.to_next_step:
            index = -(-index // dims) * dims
        return index // dims, index % dims

    def lookahead(self, dims: int) -> int:
        """Environment steps after the updated one that must be in the batch."""
        return max(self.landing(i, dims)[0] for i in range(dims))

    def first_dimension_only(self, dims: int) -> bool:
        """True when all bootstraps use the first dimension, so that later ones need no target values."""
        return all(self.landing(i, dims)[1] == 0 for i in range(dims))


def td_targets(
    values: Tensor,
    rewards: Tensor,
    returns: Tensor,
    remaining: Tensor,
    terminated: Tensor,
    steps: int,
    dims: int,
    backup: Backup,
) -> tuple[Tensor, Tensor]:
    """Targets of the first ``steps`` steps of each segment.

    values (B, L, J): max over bins of the target network's Q of dimension j at each step, given the dataset's earlier
        dimensions, in value space; J = D, or 1 where ``backup.first_dimension_only``.
    rewards (B, L): reward of each step, 0 after the episode. returns (B, L): Monte-Carlo return-to-go.
    remaining (B, L) integer: steps left in the episode after this one (0 at its last); anything after the end.
    terminated (B,) bool: the episode ended as an MDP (no bootstrap); else it was cut off and its end has no target.

    Returns targets (B, steps, D) in [0, 1] and mask (B, steps, D) bool, False where no target exists. The caller
    masks steps beyond the episode. L must be at least steps + backup.lookahead(D); ValueError otherwise.
    """
    length = values.shape[1]
    ahead = backup.lookahead(dims)
    if length < steps + ahead:
        raise ValueError(f"segments of {length} steps are too short for {steps} updates looking {ahead} steps ahead")
    bootstrap = torch.maximum(values, returns.unsqueeze(-1)) if backup.monte_carlo else values
    targets, masks = [], []
    for i in range(dims):
        offset, j = backup.landing(i, dims)
        target = torch.zeros_like(rewards[:, :steps])
        for k in range(offset):
            target = target + backup.gamma**k * rewards[:, k : k + steps]
        inside = remaining[:, :steps] >= offset
        later = backup.gamma**offset * bootstrap[:, offset : offset + steps, j]
        targets.append(target + torch.where(inside, later, torch.zeros_like(later)))
        masks.append(inside | terminated.unsqueeze(1))
    return torch.stack(targets, dim=-1).clamp(0.0, 1.0), torch.stack(masks, dim=-1)
