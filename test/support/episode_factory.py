"""Makes small, valid episodes with random content."""

from __future__ import annotations

import numpy as np

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.episode import Episode


def make_episode(
    contract: RobotContract, number: int = 0, steps: int = 5, size: tuple[int, int] = (24, 32), **changes: object
) -> Episode:
    """A valid episode with random content that depends on ``number`` only."""
    rng = np.random.default_rng(number)
    space = contract.action_space
    bins = rng.integers(0, space.bins, (steps, space.size)).astype(np.int16)
    success = bool(number % 2)
    rewards = np.zeros(steps, np.float32)
    rewards[-1] = float(success)
    fields: dict[str, object] = {
        "episode_id": f"episode-{number:04d}",
        "instruction": f"pick up object {number}",
        "task": "pick",
        "images": rng.integers(0, 256, (steps, *size, 3), dtype=np.uint8),
        "proprio": rng.normal(size=(steps, 10)).astype(np.float32),
        "actions": space.decode(bins).astype(np.float32),
        "bins": bins,
        "rewards": rewards,
        "terminated": True,
        "outcome": "success" if success else "failure",
        "reason": "terminate",
        "source": "noise",
        "seed": number,
        "stamps": 100.0 + 0.2 * np.arange(steps),
        "contract_sha256": contract.sha256,
        "action_space_sha256": space.sha256,
        "q_values": rng.random((steps, space.size)).astype(np.float32) if number % 3 == 0 else None,
        "keypoints": rng.random((steps, 2, 3)).astype(np.float32) if number % 3 == 1 else None,
    }
    return Episode(**{**fields, **changes})  # type: ignore[arg-type]
