"""Stores of which nothing is missing. Elsewhere a damaged shard is left out and told; a number that is published says
that it comes of a recipe's data, and then all of them must have been there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.skipped import NAMED, SkippedShard
from qt_ros.episodes.store import EpisodeStore
from qt_ros.experiments.work import DataError
from qt_ros.learning.dataset import TrainingData, load_training_data


def require_whole(store: EpisodeStore) -> None:
    """DataError naming the shards that an opened store is read without."""
    if store.skipped:
        raise _incomplete(store.root, store.skipped)


def load_whole(
    stores: Sequence[Path], gamma: float, contract: RobotContract, *, privileged: bool = False, images: bool = True
) -> TrainingData:
    """As `load_training_data`, whose errors it raises; DataError where a shard of a store would be left out."""
    data = load_training_data(stores, gamma, contract=contract, privileged=privileged, images=images)
    for store, read in zip(stores, data.provenance, strict=True):
        if read["skipped_shards"]:
            # Named by a second look, which may find them mended; what was read lacks them all the same.
            raise _incomplete(store, EpisodeStore(store).skipped)
    return data


def _incomplete(store: Path, skipped: Sequence[SkippedShard]) -> DataError:
    named = [f"{shard.file} ({shard.problem}; {shard.episodes} episodes)" for shard in skipped[:NAMED]]
    named += [f"{len(skipped) - NAMED} more"] * (len(skipped) > NAMED)
    missing = ", ".join(named) or "shards that can be read by now"
    return DataError(
        f"{store} is not complete, without {missing}: what is learned or counted there would not be of the data that "
        "its recipe names. Copy the whole folder again from where it was made; or delete it, and data.json beside it, "
        "and make the data again (the same command with --data)"
    )
