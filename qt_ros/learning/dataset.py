"""What training needs to know of its stores; and all their steps as contiguous arrays, where they fit into memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.arrays import EpisodeArrays
from qt_ros.episodes.manifest import Manifest, StoreError
from qt_ros.episodes.skipped import SkippedShard, first_of
from qt_ros.episodes.store import EpisodeStore
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.targets import monte_carlo_returns

log = logging.getLogger(__name__)

ROUNDING = 1e-5  # of a float32 sum of rewards
_AGREE = {False: ("image_height", "image_width"), True: ("privileged_names",)}


class StepData:
    """What is known of the E episodes of one or more stores, N steps in all, in storage order, without their steps.

    lengths (E,) int64, success (E,) bool; ``instructions`` that occur; action_space_sha256 of the stores; provenance:
    a record of each store. ``weights``: how often to draw from each store, one number per store, None for as often as
    it has steps; ``store_of`` (E,) int64 then says which store an episode is from.
    """

    lengths: NDArray[np.int64]
    success: NDArray[np.bool_]
    instructions: list[str]
    action_space_sha256: str
    provenance: list[dict[str, object]]
    weights: tuple[float, ...] | None
    store_of: NDArray[np.int64] | None

    @property
    def starts(self) -> NDArray[np.int64]:
        """(E,) index of the first step of each episode."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def hashes(self) -> list[object]:
        """SHA-256 of each store's manifest, in order: equal for equal content (a manifest has its shards' hashes)."""
        return [store["manifest_sha256"] for store in self.provenance]

    @property
    def count(self) -> int:
        """N."""
        return int(self.lengths.sum())

    def close(self) -> None:
        """Stop whatever still reads."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) of the frames; None when they were left out."""
        raise NotImplementedError

    @property
    def proprio_size(self) -> int:
        """P."""
        raise NotImplementedError

    @property
    def privileged_size(self) -> int:
        """S; 0 when there is no privileged state."""
        raise NotImplementedError


@dataclass
class TrainingData(StepData):
    """Step data in memory.

    images (N, H, W, 3) uint8; proprio (N, P) float32; bins (N, D) int64; rewards, returns (N,) float32 (return-to-go
    for the data's gamma); remaining (N,) int64 steps left in the episode; terminated (N,) bool, of the step's episode;
    text (N,) int64 index into ``instructions``; keypoints (N, 2, 3) float32, NaN where unknown. images are None where
    they were not loaded, privileged (N, S) float32 (NaN where unknown) as well. tokens (N, K, width) float16, where
    given, are what the frozen vision side makes of the images, which then are not needed (`qt_ros.learning.tokens`).
    """

    images: NDArray[np.uint8] | None
    proprio: NDArray[np.float32]
    bins: NDArray[np.int64]
    rewards: NDArray[np.float32]
    returns: NDArray[np.float32]
    remaining: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    text: NDArray[np.int64]
    keypoints: NDArray[np.float32]
    lengths: NDArray[np.int64]
    success: NDArray[np.bool_]
    instructions: list[str]
    action_space_sha256: str = ""
    provenance: list[dict[str, object]] = field(default_factory=list)
    privileged: NDArray[np.float32] | None = None
    tokens: NDArray[np.float16] | None = None
    weights: tuple[float, ...] | None = None
    store_of: NDArray[np.int64] | None = None

    @property
    def image_size(self) -> tuple[int, int] | None:
        return None if self.images is None else (self.images.shape[1], self.images.shape[2])

    @property
    def proprio_size(self) -> int:
        return self.proprio.shape[1]

    @property
    def privileged_size(self) -> int:
        return 0 if self.privileged is None else self.privileged.shape[1]


def load_training_data(
    stores: Sequence[Path],
    gamma: float,
    *,
    contract: RobotContract | None = None,
    allow_other_contract: bool = False,
    privileged: bool = False,
    images: bool = True,
    weights: Sequence[float] | None = None,
    progress: Callable[[int], None] | None = None,
) -> TrainingData:
    """Read whole stores into memory (36 KB a step at 96 x 128), but for episodes whose outcome is unknown.

    ``contract``: the robot's; stores of another action space are refused, of another contract unless
    ``allow_other_contract``. ``privileged``: load the simulator's privileged state in place of the images. ``images``:
    False leaves them out, for training on tokens that were made before. ``weights``: see `StepData`.
    Joining several stores needs twice that for a moment. Raises TrainingError when there is nothing to train on,
    rewards lie outside [0, 1], or stores disagree in action space, contract or image size. ``progress`` is called with
    the number of steps read so far of the current store.
    """
    try:
        opened = [EpisodeStore(path, contract, allow_other_contract=allow_other_contract) for path in stores]
    except StoreError as error:
        raise TrainingError(str(error)) from error
    chosen = [judged_episodes(s) for s in opened]
    unjudged = [len(s) - len(c) for s, c in zip(opened, chosen, strict=True)]
    for store in opened:
        tell_unjudged(str(store.root), [meta.id for meta in store.meta if not meta.judged])
    manifests = [s.manifest for s in opened]
    require_alike(
        [str(s.root) for s in opened], manifests, [len(c) for c in chosen], privileged, sum(unjudged),
        allow_other_contract=allow_other_contract,
    )  # fmt: skip
    columns = ("proprio", "bins", "rewards", "keypoints")
    seen = ("privileged",) if privileged else ("images",) if images else ()
    parts = [
        s.load_all((*seen, *columns), indices=c, progress=progress) for s, c in zip(opened, chosen, strict=True) if c
    ]
    arrays = parts[0] if len(parts) == 1 else EpisodeArrays.concatenate(parts)
    del parts
    proprio, bins, rewards, keypoints = (getattr(arrays, c) for c in columns)
    require_rewards(rewards.min(), rewards.max())
    lengths = np.diff(arrays.offsets)
    index = {text: i for i, text in enumerate(dict.fromkeys(arrays.instructions))}
    spans = list(zip(arrays.offsets[:-1], arrays.offsets[1:], strict=True))
    returns = [monte_carlo_returns(rewards[a:b], gamma) for a, b in spans]
    for one, meta in zip(returns, arrays.meta, strict=True):
        require_returns(one, lambda meta=meta: meta.id)  # type: ignore[misc]
    return TrainingData(
        images=arrays.images,
        privileged=arrays.privileged,
        proprio=proprio,
        bins=bins.astype(np.int64),
        rewards=rewards,
        returns=np.concatenate(returns),
        remaining=np.concatenate([np.arange(b - a)[::-1] for a, b in spans]),
        terminated=np.repeat(arrays.terminated, lengths),
        text=np.repeat(np.array([index[t] for t in arrays.instructions], np.int64), lengths),
        keypoints=keypoints,
        lengths=lengths,
        success=np.array([m.outcome == "success" for m in arrays.meta], np.bool_),
        instructions=list(index),
        action_space_sha256=opened[0].manifest.action_space_sha256,
        provenance=[
            provenance(s.root.name, len(c), s.skipped, n, s.manifest, hashlib.sha256(s.manifest.to_json()).hexdigest())
            for s, c, n in zip(opened, chosen, unjudged, strict=True)
        ],
        weights=None if weights is None else tuple(weights),
        store_of=None if weights is None else np.repeat(np.arange(len(opened)), [len(c) for c in chosen]),
    )


def judged_episodes(store: EpisodeStore) -> list[int]:
    """Numbers of the episodes that are learnt from: an outcome that nobody knows, or that was taken back, is none."""
    return [number for number, meta in enumerate(store.meta) if meta.judged]


def tell_unjudged(where: str, ids: Sequence[str], count: int | None = None) -> None:
    """Log that the episodes ``ids`` of a store are not learnt from; or ``count``, of which they are the first."""
    count = len(ids) if count is None else count
    if count:
        log.warning(
            "%s: %d episodes left out, as their outcome is unknown (%s); label them with: qt-ros episodes label",
            where, count, first_of(ids, count),
        )  # fmt: skip


def require_alike(
    names: Sequence[str],
    manifests: Sequence[Manifest],
    episodes: Sequence[int],
    privileged: bool,
    unjudged: int = 0,
    *,
    allow_other_contract: bool = False,
) -> None:
    """TrainingError unless there are episodes (beside ``unjudged`` ones), and the stores go together: by action space,
    contract (unless ``allow_other_contract``), image size, and privileged state where that is what is trained on."""
    if not sum(episodes):
        where = ", ".join(names) or "an empty list of stores"
        if unjudged:
            raise TrainingError(
                f"none of the {unjudged} episodes in {where} has a known outcome; label them: qt-ros episodes label"
            )
        raise TrainingError(f"no episodes in {where}; collect or build some first")
    contract = () if allow_other_contract else ("contract_sha256",)
    for attribute in ("action_space_sha256", *contract, "proprio_names", *_AGREE[privileged]):
        found = {name: getattr(manifest, attribute) for name, manifest in zip(names, manifests, strict=True)}
        if len(set(found.values())) > 1:
            told = ", ".join(f"{value} in {root}" for root, value in found.items())
            raise TrainingError(
                f"stores disagree in {attribute}: {told}; train on stores of one contract and image size"
            )
    if privileged and not manifests[0].privileged_names:
        raise TrainingError(
            f"{names[0]} holds no privileged state; collect it anew (qt-ros collect keeps it), or train on images"
        )


def require_rewards(low: float, high: float) -> None:
    """TrainingError unless rewards lie in [0, 1]."""
    if not (low >= 0 and high <= 1):  # so for NaN too
        raise TrainingError(f"rewards must lie in [0, 1] because Q does, found {low} .. {high}")


def require_returns(returns: NDArray[np.float32], episode: Callable[[], str]) -> None:
    """TrainingError where rewards are right one by one, but come to more than Q can be. ``episode`` tells its id."""
    if not returns.max(initial=0.0) <= 1.0 + ROUNDING:
        raise TrainingError(
            f"the rewards of episode {episode()} come to a discounted return of {returns.max():.3f}, and Q lies in "
            "[0, 1]; give the reward once, when the task is done, or scale rewards so that no return is above 1"
        )


def provenance(
    name: str,
    episodes: int,
    skipped: Sequence[SkippedShard],
    unjudged: int,
    manifest: Manifest,
    manifest_sha256: str,
) -> dict[str, object]:
    """The record of one store that a checkpoint keeps: what was trained on, and what was left out."""
    return {
        "store": name,
        "episodes": episodes,
        "skipped_shards": len(skipped),
        "skipped_episodes": sum(shard.episodes for shard in skipped),
        "unjudged_episodes": unjudged,
        "contract_sha256": manifest.contract_sha256,
        "manifest_sha256": manifest_sha256,
    }
