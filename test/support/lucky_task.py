"""A task of two steps in which luck looks like skill: whoever imitates what succeeded most often stays at 35%.

    start   action (1, 3), rarely tried  -> "skill";  anything else -> "luck"
    skill   action (4, 1), rarely tried  -> success, always;  anything else -> failure
    luck    any action                   -> success with probability 0.35

Most successes came through luck. That skill is better shows only to somebody who asks what the best action there is
worth, and backs that up to the start.
"""

from __future__ import annotations

import numpy as np

from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.targets import monte_carlo_returns
from qt_ros.learning.trainer import Trainer
from qt_ros.model.acting import act

START, SKILL, LUCK = range(3)
LUCKY = 0.35
GAMMA = 0.9


def lucky_data(episodes: int = 600, seed: int = 0) -> TrainingData:
    """Recorded episodes; the state is one-hot, as privileged numbers."""
    rng = np.random.default_rng(seed)
    states, bins, success = [], [], []
    for _ in range(episodes):
        good = rng.random() < 0.2
        states += [START, SKILL if good else LUCK]
        bins.append((1, 3) if good else (2, 0))
        right = rng.random() < 0.3
        bins.append(((4, 1) if right else (0, 2)) if good else (2, 2))
        success.append(right if good else rng.random() < LUCKY)
    won = np.array(success)
    rewards = np.stack((np.zeros(episodes), won), 1).astype(np.float32)
    count = 2 * episodes
    return TrainingData(
        images=None,
        proprio=np.zeros((count, 3), np.float32),
        bins=np.array(bins, np.int64),
        rewards=rewards.reshape(-1),
        returns=np.concatenate([monte_carlo_returns(r, GAMMA) for r in rewards]),
        remaining=np.tile([1, 0], episodes).astype(np.int64),
        terminated=np.ones(count, np.bool_),
        text=np.zeros(count, np.int64),
        keypoints=np.full((count, 2, 3), np.nan, np.float32),
        lengths=np.full(episodes, 2, np.int64),
        success=won,
        instructions=["win"],
        privileged=np.eye(3, dtype=np.float32)[states],
    )


def chance_of_success(trainer: Trainer) -> float:
    """Of the trained network's greedy policy, exactly."""
    states = trainer.data.privileged.argmax(1)
    choices = {}
    for state in (START, SKILL):
        step = np.flatnonzero(states == state)[:1]
        window = trainer.batches.plain_window(trainer.acting, step)
        choices[state] = tuple(act(trainer.acting.eval(), trainer.config.acting, *window.seen).bins[0].tolist())
    if choices[START] != (1, 3):
        return LUCKY
    return 1.0 if choices[SKILL] == (4, 1) else 0.0
