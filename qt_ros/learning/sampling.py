"""Which steps make a batch: a pure function of (seed, step), so that a resumed run draws the same batches.

A sample is a segment of ``steps`` + lookahead consecutive environment steps of one episode, with the history frames
before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qt_ros.learning.errors import TrainingError


@dataclass(frozen=True)
class SegmentBatch:
    """Indices of one batch of segments into arrays over all steps of all episodes.

    frames (B, w - 1 + L) int64: steps from w-1 before the segment to its end, clamped to the episode;
    frame_mask (B, w - 1 + L) bool: False before the episode's start and after its end.
    """

    frames: NDArray[np.int64]
    frame_mask: NDArray[np.bool_]


class SegmentSampler:
    """Draws segments uniformly over steps, a share of them from successful episodes.

    lengths (E,) steps per episode, in storage order; success (E,) bool. ``success_share`` is the probability that a
    segment comes from a successful episode (None: as the data has it). With a share but no success, or nothing else,
    TrainingError.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        success: NDArray[np.bool_],
        *,
        batch: int,
        steps: int,
        ahead: int,
        history: int,
        success_share: float | None,
        seed: int,
    ) -> None:
        if len(lengths) == 0 or lengths.min() < 1:
            raise TrainingError("the store holds no steps; collect or build episodes first")
        self._length = steps + ahead
        self._batch, self._history, self._seed = batch, history, seed
        starts = np.cumsum(lengths) - lengths
        self._first = np.repeat(starts, lengths)
        self._last = np.repeat(starts + lengths - 1, lengths)
        good = np.repeat(success, lengths)
        self._pools: list[tuple[float, NDArray[np.int64]]] = [(1.0, np.arange(len(good)))]
        if success_share is not None:
            if not 0 <= success_share <= 1:
                raise TrainingError(f"success_share must be in [0, 1], found {success_share}")
            self._pools = [(success_share, np.flatnonzero(good)), (1 - success_share, np.flatnonzero(~good))]
            for (share, pool), kind in zip(self._pools, ("successful", "failed"), strict=True):
                if share > 0 and not len(pool):
                    raise TrainingError(
                        f"success_share {success_share} asks for {kind} episodes and the store has none: "
                        "add some, or leave success_share empty to sample the data as it is"
                    )

    def batch_at(self, step: int) -> SegmentBatch:
        """The batch of training step ``step``; the same for the same (seed, step)."""
        rng = np.random.default_rng((self._seed, step))
        share, first_pool = self._pools[0]
        count = rng.binomial(self._batch, share) if len(self._pools) > 1 else self._batch
        parts = [first_pool[rng.integers(0, len(first_pool), count)]] if count else []
        if self._batch - count:
            pool = self._pools[1][1]
            parts.append(pool[rng.integers(0, len(pool), self._batch - count)])
        start = np.concatenate(parts)
        wanted = start[:, None] + np.arange(1 - self._history, self._length)[None, :]
        first, last = self._first[start][:, None], self._last[start][:, None]
        return SegmentBatch(np.clip(wanted, first, last), (wanted >= first) & (wanted <= last))
