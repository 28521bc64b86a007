"""From stored steps to what a method trains on: segments, observation windows, image tokens (cached or encoded
anew)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qt_ros.learning.augment import random_shift
from qt_ros.learning.columns import Columns
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import StepData, TrainingData
from qt_ros.learning.group import ALONE, Group
from qt_ros.learning.sampling import SegmentBatch, SegmentSampler
from qt_ros.learning.sources import MemorySource, Source, StreamedSource
from qt_ros.learning.streaming import StreamedData
from qt_ros.learning.token_file import vision_key
from qt_ros.model.acting import Network

LAGGED, ONLINE, DROPOUT, SEARCH = range(4)
"""What a draw of random numbers is for: shifts of the images that lagged or online networks see, dropout, CEM."""


@dataclass(frozen=True)
class Window:
    """N observation windows, oldest frame first.

    tokens (N, w, K, width); proprio (N, w, P), None for a model that takes none; frame_mask (N, w) bool, False before
    the episode's start; returns (N, w) int64, 1 where the episode succeeds, for a model with return_token, else None.
    """

    tokens: Tensor
    proprio: Tensor | None
    frame_mask: Tensor
    returns: Tensor | None = None

    @property
    def seen(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Tokens, proprio and frame_mask: what every network takes, in this order."""
        return self.tokens, self.proprio, self.frame_mask


class Batch:
    """B segments of L consecutive environment steps, of which the first ``steps`` are to be learnt from.

    bins (B, L, D) int64; rewards, returns (B, L) float32 (Monte-Carlo return-to-go), 0 after the episode; remaining (B,
    L) int64 steps left after this one, -1 after the episode; valid (B, L) bool, False after the episode; terminated,
    success (B,) bool.
    """

    def __init__(self, source: Batches, step: int, segments: SegmentBatch, columns: Columns) -> None:
        self._source, self.step, self.segments, self.columns = source, step, segments, columns
        self.steps = source.config.segment_steps
        history, device, take = source.history, source.device, columns.take
        frames = columns.index(segments.frames[:, history - 1 :])
        self.valid = torch.from_numpy(segments.frame_mask[:, history - 1 :]).to(device)
        self.bins = take("bins", frames)
        self.rewards, self.returns = take("rewards", frames) * self.valid, take("returns", frames) * self.valid
        self.remaining = torch.where(self.valid, take("remaining", frames), -1)
        self.terminated = take("terminated", frames[:, 0])
        self.success = take("success", frames[:, 0])

    @property
    def share(self) -> tuple[int, int]:
        """(r, n): this is part r of n equal parts of the batch, the others being other processes'."""
        return self._source.share

    @property
    def length(self) -> int:
        """L."""
        return self.bins.shape[1]

    @property
    def taken(self) -> Tensor:
        """Bins of the steps to learn from, (B * steps, D)."""
        return self.bins[:, : self.steps].flatten(0, 1)

    @property
    def counted(self) -> Tensor:
        """Which of them lie inside their episode, (B * steps,) bool."""
        return self.valid[:, : self.steps].flatten()

    def window(self, network: Network, first: int, last: int, view: int) -> Window:
        """Windows of segment steps first..last-1, B * (last - first) of them, as ``network`` sees the images.

        view: LAGGED or ONLINE, which random shift of the images.
        """
        return self._source.window(network, self, first, last, self._source.seed(self.step, view))

    def generator(self, purpose: int) -> torch.Generator:
        """A random generator on the CPU that depends on seed, step and purpose alone."""
        return torch.Generator().manual_seed(self._source.seed(self.step, purpose))


class Batches:
    """All batches of a run; each a function of (config.seed, step).

    ``model``: the network whose shape and vision the windows are for. text (number of instructions, E). ``ahead``:
    environment steps after the learnt ones. ``success_share``: see `SegmentSampler`. ``group``: the processes that
    share each batch. ``folder``: where encoded frames of data that are streamed are kept.
    """

    def __init__(
        self,
        model: Network,
        data: StepData,
        text: Tensor,
        config: TrainConfig,
        device: torch.device,
        ahead: int,
        success_share: float | None,
        group: Group = ALONE,
        folder: Path | None = None,
    ) -> None:
        shape = model.config
        self.model, self.config, self.device = model, config, device
        self.history, self.share = shape.history, (group.rank, group.size)
        self.text = text.to(device)
        rows = group.part_of(config.batch)
        sampler = SegmentSampler(
            data.lengths,
            data.success,
            batch=config.batch,
            steps=config.segment_steps,
            ahead=ahead,
            history=self.history,
            success_share=success_share,
            seed=config.seed,
            stores=data.store_of,
            weights=data.weights,
        )
        self.source: Source
        if isinstance(data, StreamedData):
            self.source = StreamedSource(data, sampler, rows, shape, config, device, folder)
        elif isinstance(data, TrainingData):
            self.source = MemorySource(data, sampler, rows, shape, config, device)
        else:
            raise TypeError(f"no way to draw batches from {type(data).__name__}")

    def at(self, step: int) -> Batch:
        """The batch of gradient step ``step``; of several processes, this one's part."""
        return Batch(self, step, *self.source.at(step))

    def seed(self, step: int, purpose: int) -> int:
        """A seed of its own for every (config.seed, step, purpose)."""
        return int(np.random.SeedSequence((self.config.seed, step, purpose)).generate_state(1)[0])

    # ---- tokens

    @property
    def cached(self) -> bool:
        """Whether every frame has been encoded once and for all."""
        return self.source.encoded

    @torch.no_grad()
    def cache_tokens(self, progress: Callable[[int], None] | None = None, chunk: int = 256) -> None:
        """Encode every frame once with the (frozen) vision side, or take the data's tokens; needed before training when
        freeze_vision is set."""
        self.model.eval()

        def encode(columns: Columns, frames: NDArray[np.int64]) -> Tensor:
            return self._encode(self.model, columns, frames[:, None], None)[:, 0].half()

        self.source.encode(encode, vision_key(self.model, self.text), chunk, progress)

    def tokens(self, network: Network, columns: Columns, frames: NDArray[np.int64], seed: int | None = None) -> Tensor:
        """frames (B, F), step numbers -> tokens (B, F, K, width). seed: of the random shift, None for none."""
        if self.cached:
            return columns.take("tokens", columns.index(frames)).float()
        return self._encode(network, columns, frames, seed)

    def _encode(self, network: Network, columns: Columns, frames: NDArray[np.int64], seed: int | None) -> Tensor:
        flat = frames.reshape(-1)
        seen = torch.from_numpy(columns.seen(self.source.sight, flat)).to(self.device, non_blocking=True)
        if seen.ndim == 4:
            seen = seen.permute(0, 3, 1, 2)
            if seed is not None and self.config.image_shift:
                seen = random_shift(seen, self.config.image_shift, group=frames.shape[1], seed=seed, share=self.share)
        text = self.text[columns.take("text", columns.index(flat))]
        return network.encode_frames(seen, text).unflatten(0, frames.shape)

    # ---- windows

    def window(self, network: Network, batch: Batch, first: int, last: int, seed: int) -> Window:
        """Windows of the segment steps first..last-1; see `Batch.window`."""
        history, segments, held = self.history, batch.segments, batch.columns
        columns = slice(first, last + history - 1)
        frames = segments.frames[:, columns]
        mask = torch.from_numpy(segments.frame_mask[:, columns]).to(self.device).unfold(1, history, 1)  # (B, n, w)
        tokens = self.tokens(network, held, frames, seed).unfold(1, history, 1).permute(0, 1, 4, 2, 3)  # B n w K width
        proprio, returns = self._proprio(held, frames), self._returns(held, frames)
        if proprio is not None:
            proprio = proprio.unfold(1, history, 1).permute(0, 1, 3, 2).flatten(0, 1)
        if returns is not None:
            returns = returns.unfold(1, history, 1).flatten(0, 1)
        # The newest slot must be filled. Beyond the episode's end it is not; its result is never used.
        newest = torch.zeros(history, dtype=torch.bool, device=self.device)
        newest[-1] = True
        mask = mask | (newest & ~mask[..., -1:])
        return Window(tokens.flatten(0, 1), proprio, mask.flatten(0, 1), returns)

    def plain_window(self, network: Network, steps: NDArray[np.int64]) -> Window:
        """Windows that end at data steps (n,), each with the history its episode had by then; unshifted images.

        Steps of damaged episodes are left out.
        """
        steps, held = self.source.around(steps)
        frames = steps[:, None] + np.arange(1 - self.history, 1)
        begin = self.source.starts[np.searchsorted(self.source.starts, steps, side="right") - 1, None]
        mask = torch.from_numpy(frames >= begin).to(self.device)
        frames = np.maximum(frames, begin)
        distinct, where = np.unique(frames, return_inverse=True)
        parts = np.array_split(distinct[:, None], max(1, len(distinct) // 128))
        tokens = torch.cat([self.tokens(network, held, part) for part in parts])[:, 0]
        tokens = tokens[torch.from_numpy(where.reshape(frames.shape)).to(self.device)]
        return Window(tokens, self._proprio(held, frames), mask, self._returns(held, frames))

    def _proprio(self, columns: Columns, frames: NDArray[np.int64]) -> Tensor | None:
        """frames (B, F) -> (B, F, P); None for a model that takes none."""
        if not self.model.config.proprio_size:
            return None
        return columns.take("proprio", columns.index(frames))

    def _returns(self, columns: Columns, frames: NDArray[np.int64]) -> Tensor | None:
        if not self.model.config.return_token:
            return None
        return columns.take("success", columns.index(frames)).long()
