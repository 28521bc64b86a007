"""From stored steps to what a method trains on: segments, observation windows, image tokens (cached or encoded
anew)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qt_ros.learning.augment import random_shift
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.sampling import SegmentBatch, SegmentSampler
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

    def __init__(self, source: Batches, step: int, segments: SegmentBatch) -> None:
        self._source, self.step, self.segments = source, step, segments
        self.steps = source.config.segment_steps
        history, device, column = source.history, source.device, source.column
        frames = torch.from_numpy(segments.frames[:, history - 1 :]).to(device)
        self.valid = torch.from_numpy(segments.frame_mask[:, history - 1 :]).to(device)
        self.bins = column("bins")[frames]
        self.rewards, self.returns = column("rewards")[frames] * self.valid, column("returns")[frames] * self.valid
        self.remaining = torch.where(self.valid, column("remaining")[frames], -1)
        self.terminated = column("terminated")[frames[:, 0]]
        self.success = column("success")[frames[:, 0]]

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
        return self._source.window(network, self.segments, first, last, self._source.seed(self.step, view))

    def generator(self, purpose: int) -> torch.Generator:
        """A random generator on the CPU that depends on seed, step and purpose alone."""
        return torch.Generator().manual_seed(self._source.seed(self.step, purpose))


class Batches:
    """All batches of a run; each a function of (config.seed, step).

    ``model``: the network whose shape and vision the windows are for. text (number of instructions, E). ``ahead``:
    environment steps after the learnt ones. ``success_share``: see `SegmentSampler`.
    """

    def __init__(
        self,
        model: Network,
        data: TrainingData,
        text: Tensor,
        config: TrainConfig,
        device: torch.device,
        ahead: int,
        success_share: float | None,
    ) -> None:
        shape = model.config
        if data.bins.shape[1] != shape.action_dims:
            raise TrainingError(
                f"the data has {data.bins.shape[1]} action dimensions and the model {shape.action_dims}"
            )
        self.model, self.data, self.config, self.device = model, data, config, device
        self.history = shape.history
        self.text = text.to(device)
        self._frames = _frames(data, model) if data.tokens is None else _no_frames(data, model, config)
        self._sampler = SegmentSampler(
            data.lengths,
            data.success,
            batch=config.batch,
            steps=config.segment_steps,
            ahead=ahead,
            history=self.history,
            success_share=success_share,
            seed=config.seed,
        )
        self._columns: dict[str, Tensor] = {}
        self._tokens: Tensor | None = None

    def at(self, step: int) -> Batch:
        """The batch of gradient step ``step``."""
        return Batch(self, step, self._sampler.batch_at(step))

    def seed(self, step: int, purpose: int) -> int:
        """A seed of its own for every (config.seed, step, purpose)."""
        return int(np.random.SeedSequence((self.config.seed, step, purpose)).generate_state(1)[0])

    def column(self, name: str) -> Tensor:
        """An array of the data, one row per step, on the device."""
        if name not in self._columns:
            data = self.data
            array = np.repeat(data.success, data.lengths) if name == "success" else getattr(data, name)
            self._columns[name] = torch.from_numpy(array).to(self.device)
        return self._columns[name]

    # ---- tokens

    @property
    def cached(self) -> bool:
        """Whether every frame has been encoded once and for all."""
        return self._tokens is not None

    @torch.no_grad()
    def cache_tokens(self, progress: Callable[[int], None] | None = None, chunk: int = 256) -> None:
        """Encode every frame once with the (frozen) vision side, or take the data's tokens; needed before training when
        freeze_vision is set."""
        self.model.eval()
        count, shape = len(self.data.rewards), self.model.config
        if self.data.tokens is not None:
            self._tokens = torch.from_numpy(self.data.tokens).to(self.device)
            return
        tokens = torch.empty(count, shape.tokens_per_frame, shape.width, dtype=torch.float16, device=self.device)
        for first in range(0, count, chunk):
            frames = np.arange(first, min(first + chunk, count))
            tokens[first : first + chunk] = self._encode(self.model, frames[:, None], None)[:, 0].half()
            if progress is not None:
                progress(len(frames))
        self._tokens = tokens

    def tokens(self, network: Network, frames: NDArray[np.int64], seed: int | None = None) -> Tensor:
        """frames (B, F), step numbers -> tokens (B, F, K, width). seed: of the random shift, None for none."""
        if self._tokens is not None:
            return self._tokens[torch.from_numpy(frames).to(self.device)].float()
        return self._encode(network, frames, seed)

    def _encode(self, network: Network, frames: NDArray[np.int64], seed: int | None) -> Tensor:
        flat = frames.reshape(-1)
        seen = torch.from_numpy(self._frames[flat]).to(self.device, non_blocking=True)
        if seen.ndim == 4:
            seen = seen.permute(0, 3, 1, 2)
            if seed is not None and self.config.image_shift:
                seen = random_shift(seen, self.config.image_shift, group=frames.shape[1], seed=seed)
        text = self.text[self.column("text")[torch.from_numpy(flat).to(self.device)]]
        return network.encode_frames(seen, text).unflatten(0, frames.shape)

    # ---- windows

    def window(self, network: Network, segments: SegmentBatch, first: int, last: int, seed: int) -> Window:
        """Windows of the segment steps first..last-1; see `Batch.window`."""
        history = self.history
        columns = slice(first, last + history - 1)
        frames = segments.frames[:, columns]
        mask = torch.from_numpy(segments.frame_mask[:, columns]).to(self.device).unfold(1, history, 1)  # (B, n, w)
        tokens = self.tokens(network, frames, seed).unfold(1, history, 1).permute(0, 1, 4, 2, 3)  # (B, n, w, K, width)
        proprio, returns = self._proprio(frames), self._returns(frames)
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
        """Windows that end at data steps (n,), each with the history its episode had by then; unshifted images."""
        frames = steps[:, None] + np.arange(1 - self.history, 1)
        starts = self.data.starts[np.searchsorted(self.data.starts, steps, side="right") - 1, None]
        mask = torch.from_numpy(frames >= starts).to(self.device)
        frames = np.maximum(frames, starts)
        distinct, where = np.unique(frames, return_inverse=True)
        parts = np.array_split(distinct[:, None], max(1, len(distinct) // 128))
        tokens = torch.cat([self.tokens(network, part) for part in parts])[:, 0]
        tokens = tokens[torch.from_numpy(where.reshape(frames.shape)).to(self.device)]
        return Window(tokens, self._proprio(frames), mask, self._returns(frames))

    def _proprio(self, frames: NDArray[np.int64]) -> Tensor | None:
        """frames (B, F) -> (B, F, P); None for a model that takes none."""
        if not self.model.config.proprio_size:
            return None
        return self.column("proprio")[torch.from_numpy(frames).to(self.device)]

    def _returns(self, frames: NDArray[np.int64]) -> Tensor | None:
        if not self.model.config.return_token:
            return None
        return self.column("success")[torch.from_numpy(frames).to(self.device)].long()


def _no_frames(data: TrainingData, model: Network, config: TrainConfig) -> NDArray[np.uint8]:
    """Nothing, where the data bring the tokens of a frozen vision side. TrainingError where these do not fit."""
    shape = model.config
    wanted = (len(data.rewards), shape.tokens_per_frame, shape.width)
    if data.tokens is not None and data.tokens.shape != wanted:
        raise TrainingError(f"the tokens have shape {data.tokens.shape}, data and model need {wanted}; make them anew")
    if not config.freeze_vision:
        raise TrainingError("these data hold tokens in the place of images, and vision is to be trained; load images")
    return np.zeros((0, 0, 0, 3), np.uint8)


def _frames(data: TrainingData, model: Network) -> NDArray[np.uint8] | NDArray[np.float32]:
    """What the model's vision takes: images (N, H, W, 3) uint8 or privileged states (N, S) float32."""
    if model.config.vision != "state":
        if data.images is None:
            raise TrainingError("these data were loaded without images, and the model sees; load them with images")
        return data.images
    states = data.privileged
    if states is None or states.shape[1] != model.config.state_size:
        found = None if states is None else states.shape[1]
        raise TrainingError(f"the model takes {model.config.state_size} privileged numbers, the data have {found}")
    if not np.isfinite(states).all():
        lost = int((~np.isfinite(states).all(axis=1)).sum())
        raise TrainingError(
            f"{lost} of {len(states)} steps have no privileged state; only episodes collected in the simulator have it"
        )
    return states
