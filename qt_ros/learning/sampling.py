"""Which steps make a batch: a pure function of (seed, step), so that a resumed run draws the same batches.

A sample is a segment of ``steps`` + lookahead consecutive environment steps of one episode, with the history frames
before it. Nothing here grows with the number of steps, and a draw costs the logarithm of the number of episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qt_ros.learning.errors import TrainingError

REPLACED = 1
"""Ends the seeds of draws that replace others."""


@dataclass(frozen=True)
class SegmentBatch:
    """Indices of one batch of segments into arrays over all steps of all episodes.

    frames (B, w - 1 + L) int64: steps from w-1 before the segment to its end, clamped to the episode;
    frame_mask (B, w - 1 + L) bool: False before the episode's start and after its end. episodes (B,) int64: whose they
    are.
    """

    frames: NDArray[np.int64]
    frame_mask: NDArray[np.bool_]
    episodes: NDArray[np.int64]

    def part(self, rows: slice | list[int]) -> SegmentBatch:
        """Some of its segments."""
        return SegmentBatch(self.frames[rows], self.frame_mask[rows], self.episodes[rows])

    def put(self, row: int, segment: SegmentBatch) -> None:
        """Another segment, a batch of one, in the place of that in ``row``."""
        self.frames[row], self.frame_mask[row] = segment.frames[0], segment.frame_mask[0]
        self.episodes[row] = segment.episodes[0]


class _Pool:
    """Some of the episodes, drawn from uniformly over their steps."""

    def __init__(self, episodes: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        # All of them need no list of their own: memory is what limits the number of episodes.
        self._episodes = None if len(episodes) == len(lengths) else episodes.astype(np.int32)
        self._ends = np.cumsum(lengths if self._episodes is None else lengths[episodes])

    def __len__(self) -> int:
        """Steps."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def draw(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Episodes (count,) and the step within each (count,)."""
        number = rng.integers(0, len(self), count)
        at = np.searchsorted(self._ends, number, side="right")
        begin = np.where(at > 0, self._ends[at - 1], 0)
        return at if self._episodes is None else self._episodes[at].astype(np.int64), number - begin


class SegmentSampler:
    """Draws segments uniformly over their first steps, a share of them from successful episodes.

    With segments of S = ``steps`` > 1 the steps that are learnt from are not uniform: step t of its episode (from 0) is
    in min(t + 1, S) segments, so that the first S - 1 of every episode count less than the others.

    lengths (E,) steps per episode, in storage order; success (E,) bool. ``success_share`` is the probability that a
    segment comes from a successful episode (None: as the data has it). With a share but no success, or nothing else,
    TrainingError.

    ``stores`` (E,) int64 with ``weights``, one per store: the probability that a segment comes from each store, up to a
    factor; within a store, uniform over steps. Without weights, uniform over the steps of all. With a success_share the
    weights hold among the successful segments and among the others, each time over the stores that have such episodes.
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
        stores: NDArray[np.int64] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        if len(lengths) == 0 or lengths.min() < 1:
            raise TrainingError("the store holds no steps; collect or build episodes first")
        if weights is not None and (stores is None or min(weights) <= 0):
            raise TrainingError(f"weights of stores must be positive, one for each store, found {list(weights)}")
        self._length = steps + ahead
        self._batch, self._history, self._seed = batch, history, seed
        self._lengths, self._starts = lengths, np.cumsum(lengths) - lengths
        kinds: list[tuple[float, NDArray[np.bool_], str]] = [(1.0, np.ones(len(lengths), np.bool_), "all")]
        if success_share is not None:
            if not 0 <= success_share <= 1:
                raise TrainingError(f"success_share must be in [0, 1], found {success_share}")
            kinds = [(success_share, success, "successful"), (1 - success_share, ~success, "failed")]
        self._kinds: list[tuple[float, list[_Pool], NDArray[np.float64]]] = []
        for share, chosen, kind in kinds:
            if share > 0 and not chosen.any():
                raise TrainingError(
                    f"success_share {success_share} asks for {kind} episodes and the store has none: "
                    "add some, or leave success_share empty to sample the data as it is"
                )
            parts = [chosen] if weights is None else [chosen & (stores == i) for i in range(len(weights))]
            pools = [_Pool(np.flatnonzero(part), lengths) for part in parts]
            mix = np.array([w if len(p) else 0.0 for w, p in zip(weights or [1.0], pools, strict=True)])
            self._kinds.append((share, pools, mix / max(mix.sum(), 1e-300)))

    def batch_at(self, step: int) -> SegmentBatch:
        """The batch of training step ``step``; the same for the same (seed, step)."""
        rng = np.random.default_rng((self._seed, step))
        count = rng.binomial(self._batch, self._kinds[0][0]) if len(self._kinds) > 1 else self._batch
        parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for number, (_, pools, mix) in zip((count, self._batch - count), self._kinds, strict=False):
            if not number:
                continue
            shares = [number] if len(pools) == 1 else rng.multinomial(number, mix)
            parts += [pool.draw(rng, n) for pool, n in zip(pools, shares, strict=True) if n]
        return self.segments(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def segments(self, episodes: NDArray[np.int64], first_step: NDArray[np.int64]) -> SegmentBatch:
        """Segments that begin at ``first_step`` (B,) of ``episodes`` (B,)."""
        first = self._starts[episodes][:, None]
        last = first + self._lengths[episodes][:, None] - 1
        wanted = first + first_step[:, None] + np.arange(1 - self._history, self._length)[None, :]
        return SegmentBatch(np.clip(wanted, first, last), (wanted >= first) & (wanted <= last), episodes)

    def replacement(self, step: int, position: int, attempt: int, success: bool | None) -> SegmentBatch:
        """One segment in place of the one at ``position`` in the batch of ``step``, whose episode cannot be read.

        A function of all its arguments and the seed, so that a resumed run replaces alike. ``success``: what the
        replaced episode was, where successes are drawn apart.
        """
        # A seed is filled up with zeros: only a last number other than 0 makes this another stream than the batch's.
        rng = np.random.default_rng((self._seed, step, position, attempt, REPLACED))
        kind = self._kinds[0 if len(self._kinds) == 1 or success else 1]
        at = 0 if len(kind[1]) == 1 else int(rng.choice(len(kind[1]), p=kind[2]))
        return self.segments(*kind[1][at].draw(rng, 1))
