"""Which scenes are for what, by their seed.

0..999,999 for training data, 1,000,000..1,999,999 for tuning (everything that is chosen is chosen there), 2,000,000..
for the test numbers that are reported.
"""

from __future__ import annotations

from collections.abc import Iterable

TRAINING_SEEDS = range(0, 1_000_000)
TUNING_SEEDS = range(1_000_000, 2_000_000)
TEST_SEEDS = range(2_000_000, 1_000_000_000)


def range_of(seed: int) -> str:
    """'training', 'tuning' or 'test': what the scene ``seed`` is for."""
    if seed in TRAINING_SEEDS:
        return "training"
    return "tuning" if seed in TUNING_SEEDS else "test"


def scenes_of(seeds: Iterable[int]) -> str:
    """What ``seeds`` are for; where they are of several ranges, all of them: 'tuning and test'."""
    found = {range_of(seed) for seed in seeds}
    return " and ".join(name for name in ("training", "tuning", "test") if name in found)


def outside_training(seed: int | None) -> str:
    """Why an episode in the scene ``seed`` must not be learnt from; '' when it may be. None, no scene: a robot's."""
    if seed is None or seed in TRAINING_SEEDS:
        return ""
    name = range_of(seed)
    use = "policies are chosen by" if name == "tuning" else "policies are compared on"
    return f"its scene {seed} is a {name} scene, which {use}; it must not be trained on"
