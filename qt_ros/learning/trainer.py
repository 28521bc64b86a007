"""The training loop of the Q-Transformer: segments in, per-dimension backups, a lagged target network, resumable.

Chebotar et al., CoRL 2023, Eq. 1 (backup) and Eq. 2 (conservative term); see targets.py and losses.py.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from qt_ros.learning.augment import random_shift
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.errors import Diverged, TrainingError
from qt_ros.learning.losses import q_losses
from qt_ros.learning.sampling import SegmentBatch, SegmentSampler
from qt_ros.learning.state import load_state, require_same, save_state
from qt_ros.learning.targets import td_targets
from qt_ros.model.q_transformer import QTransformer

SPREAD_EPISODES = SPREAD_STEPS = 256


@dataclass(frozen=True)
class StepReport:
    """What one logged step tells: metrics averaged since the last report (see docs/reference/metrics.md)."""

    step: int
    metrics: dict[str, float]


class Trainer:
    """Trains ``model`` on ``data``; everything random is a function of (config.seed, step), so a resumed run goes on
    alike.

    text (number of instructions, E) float32: sentence embeddings in the order of ``data.instructions``. ``folder``
    keeps the training state. ``step`` is the next gradient step.
    """

    def __init__(
        self,
        model: QTransformer,
        data: TrainingData,
        text: Tensor,
        config: TrainConfig,
        folder: Path,
        device: str = "cpu",
    ) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.data, self.folder = config, data, folder
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.target = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.dims = model.config.action_dims
        if data.bins.shape[1] != self.dims:
            raise TrainingError(f"the data has {data.bins.shape[1]} action dimensions and the model {self.dims}")
        self.text = text.to(self.device)
        if config.freeze_vision:
            for part in (self.model.vision, self.model.token_learner, self.model.to_width):
                part.requires_grad_(False)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.learning_rate,
        )
        self.ahead = config.backup.lookahead(self.dims)
        self.sampler = SegmentSampler(
            data.lengths,
            data.success,
            batch=config.batch,
            steps=config.segment_steps,
            ahead=self.ahead,
            history=model.config.history,
            success_share=config.success_share,
            seed=config.seed,
        )
        self.step = 0
        self._tokens: Tensor | None = None
        if (folder / "state.safetensors").exists():
            self.step, extra = load_state(folder, {"online": self.model, "target": self.target}, self.optimiser)
            require_same(folder, extra, self._identity())

    def _identity(self) -> dict[str, Any]:
        settings = self.config.to_dict()
        for key in ("log_every", "save_every", "threads"):
            settings.pop(key)
        counts = {"steps_in_data": len(self.data.rewards), "episodes": len(self.data.lengths)}
        return {"config": settings, **counts, "stores": self.data.hashes}

    # ---- frames

    @torch.no_grad()
    def cache_tokens(self, progress: Callable[[int], None] | None = None, chunk: int = 256) -> None:
        """Encode every frame once with the (frozen) vision side; needed before training when freeze_vision is set."""
        self.model.eval()
        count = len(self.data.images)
        config = self.model.config
        self._tokens = torch.empty(
            count, config.tokens_per_frame, config.width, dtype=torch.float16, device=self.device
        )
        for first in range(0, count, chunk):
            part = slice(first, first + chunk)
            text = self.text[torch.from_numpy(self.data.text[part]).to(self.device)]
            self._tokens[part] = self.model.encode_frames(self._images(self.data.images[part]), text).half()
            if progress is not None:
                progress(min(chunk, count - first))

    def _images(self, images: np.ndarray) -> Tensor:
        return torch.from_numpy(images).to(self.device, non_blocking=True).permute(0, 3, 1, 2)

    def _frame_tokens(self, network: QTransformer, frames: np.ndarray, seed: int) -> Tensor:
        """frames (B, F) -> tokens (B, F, K, width)."""
        if self._tokens is not None:
            return self._tokens[torch.from_numpy(frames).to(self.device)].float()
        flat = frames.reshape(-1)
        images = self._images(self.data.images[flat])
        if self.config.image_shift:
            images = random_shift(images, self.config.image_shift, group=frames.shape[1], seed=seed)
        text = self.text[torch.from_numpy(self.data.text[flat]).to(self.device)]
        return network.encode_frames(images, text).unflatten(0, frames.shape)

    # ---- one step

    def _windows(
        self, network: QTransformer, batch: SegmentBatch, first: int, last: int, seed: int
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Observation windows of segment steps first..last-1.

        tokens (B*n, w, K, W), proprio (B*n, w, P) or None, mask (B*n, w).
        """
        history = self.model.config.history
        columns = slice(first, last + history - 1)
        frames, mask = batch.frames[:, columns], torch.from_numpy(batch.frame_mask[:, columns]).to(self.device)
        tokens = self._frame_tokens(network, frames, seed)
        proprio = self._proprio(frames)
        mask = mask.unfold(1, history, 1)  # (B, n, w)
        tokens = tokens.unfold(1, history, 1).permute(0, 1, 4, 2, 3)  # (B, n, w, K, W)
        if proprio is not None:
            proprio = proprio.unfold(1, history, 1).permute(0, 1, 3, 2).flatten(0, 1)
        # The newest slot must be filled. Beyond the episode's end it is not; its result is never used.
        newest = torch.zeros(history, dtype=torch.bool, device=self.device)
        newest[-1] = True
        mask = mask | (newest & ~mask[..., -1:])
        return tokens.flatten(0, 1), proprio, mask.flatten(0, 1)

    def _proprio(self, frames: np.ndarray) -> Tensor | None:
        """frames (B, F) -> (B, F, P); None for a model that takes none."""
        if not self.model.config.proprio_size:
            return None
        return torch.from_numpy(self.data.proprio[frames]).to(self.device)

    def _seed(self, step: int, purpose: int) -> int:
        """A seed of its own for every (config.seed, step, purpose)."""
        return int(np.random.SeedSequence((self.config.seed, step, purpose)).generate_state(1)[0])

    def losses(self, step: int) -> dict[str, Tensor]:
        """Loss terms of gradient step ``step`` (scalars; ``loss`` carries the gradient)."""
        torch.manual_seed(self._seed(step, 2))  # dropout
        config, dims, steps = self.config, self.dims, self.config.segment_steps
        batch = self.sampler.batch_at(step)
        here = batch.frames[:, self.model.config.history - 1 :]  # (B, L)
        length = here.shape[1]

        def column(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array[here]).to(self.device)

        valid = torch.from_numpy(batch.frame_mask[:, self.model.config.history - 1 :]).to(self.device)
        bins, rewards, returns = column(self.data.bins), column(self.data.rewards), column(self.data.returns)
        remaining = column(self.data.remaining)
        rewards, returns = rewards * valid, returns * valid
        remaining = torch.where(valid, remaining, -1)
        terminated = column(self.data.terminated)[:, 0]
        with torch.no_grad(), self._autocast():
            only_first = config.backup.first_dimension_only(dims)
            width = 1 if only_first else dims
            nearest = min(config.backup.landing(i, dims)[0] for i in range(dims))
            values = rewards.new_zeros(len(here), length, width)
            tokens, proprio, mask = self._windows(self.target, batch, nearest, length, seed=self._seed(step, 0))
            logits = self.target.q_logits(
                tokens, bins[:, nearest:].flatten(0, 1), proprio, mask, dimensions=1 if only_first else None
            )
            values[:, nearest:] = self.target.value(logits).amax(-1).unflatten(0, (len(here), length - nearest))
        targets, known = td_targets(values, rewards, returns, remaining, terminated, steps, dims, config.backup)
        known = known & valid[:, :steps, None]
        with self._autocast():
            tokens, proprio, mask = self._windows(self.model, batch, 0, steps, seed=self._seed(step, 1))
            logits = self.model.q_logits(tokens, bins[:, :steps].flatten(0, 1), proprio, mask)
        terms = q_losses(logits, bins[:, :steps].flatten(0, 1), targets.flatten(0, 1), known.flatten(0, 1), config.loss)
        with torch.no_grad():
            greedy = (logits.argmax(-1) == bins[:, :steps].flatten(0, 1)) & known.flatten(0, 1)
            terms["agreement"] = greedy.sum() / known.sum().clamp(min=1)
            terms["target"] = (targets * known).sum() / known.sum().clamp(min=1)
        return terms

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.autocast)

    def train_step(self) -> dict[str, Tensor]:
        """One gradient step; detached metrics. Raises Diverged (batch saved) when loss or gradient is not finite."""
        config = self.config
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate_at(self.step)
        terms = self.losses(self.step)
        if not torch.isfinite(terms["loss"]):
            self._save_bad_batch("loss")
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        if not torch.isfinite(norm):
            self._save_bad_batch("gradient")
        self.optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 1 - config.ema_decay)
            for kept, new in zip(self.target.buffers(), self.model.buffers(), strict=True):
                kept.copy_(new)
        self.step += 1
        return {k: v.detach() for k, v in terms.items()} | {"gradient_norm": norm.detach()}

    def _save_bad_batch(self, what: str) -> NoReturn:
        batch = self.sampler.batch_at(self.step)
        path = self.folder / f"bad_batch_{self.step}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file({"frames": torch.from_numpy(batch.frames), "mask": torch.from_numpy(batch.frame_mask)}, path)
        raise Diverged(
            f"the {what} is not finite at step {self.step}; the step numbers of its batch are in {path}. "
            "Lower learning_rate, or look at those steps with `qt-ros episodes info`"
        )

    # ---- the loop

    @torch.no_grad()
    def value_spread(self) -> dict[str, float]:
        """Mean and standard deviation over episodes of the best first-dimension value at the first step.

        A spread near zero means that the network does not tell scenes apart, the most common way to fail.
        ``value_spread_steps`` is the standard deviation over steps drawn from anywhere in the data.
        """
        starts, count = self.data.starts, len(self.data.rewards)
        spaced = np.linspace(0, len(starts) - 1, min(SPREAD_EPISODES, len(starts))).astype(np.int64)
        first = self._best_values(starts[spaced])
        rng = np.random.default_rng(self.config.seed)  # the same steps in every report
        anywhere = self._best_values(rng.choice(count, min(SPREAD_STEPS, count), replace=False))
        return {
            "value_mean": float(first.mean()),
            "value_spread": float(first.std(correction=0)),
            "value_spread_steps": float(anywhere.std(correction=0)),
        }

    def _best_values(self, steps: np.ndarray) -> Tensor:
        """Best first-dimension value at data steps (n,), each with the history its episode had by then; (n,)."""
        self.model.eval()
        frames = steps[:, None] + np.arange(1 - self.model.config.history, 1)
        starts = self.data.starts[np.searchsorted(self.data.starts, steps, side="right") - 1, None]
        mask = torch.from_numpy(frames >= starts).to(self.device)
        frames = np.maximum(frames, starts)
        distinct, where = np.unique(frames, return_inverse=True)
        parts = np.array_split(distinct[:, None], max(1, len(distinct) // 128))
        tokens = torch.cat([self._plain_tokens(part) for part in parts])[:, 0]
        tokens = tokens[torch.from_numpy(where.reshape(frames.shape)).to(self.device)]
        bins = torch.zeros(len(frames), self.dims, dtype=torch.long, device=self.device)
        return self.model.value(self.model.q_logits(tokens, bins, self._proprio(frames), mask, dimensions=1)).amax(-1)

    def _plain_tokens(self, frames: np.ndarray) -> Tensor:
        if self._tokens is not None:
            return self._tokens[torch.from_numpy(frames).to(self.device)].float()
        flat = frames.reshape(-1)
        text = self.text[torch.from_numpy(self.data.text[flat]).to(self.device)]
        return self.model.encode_frames(self._images(self.data.images[flat]), text).unflatten(0, frames.shape)

    def run(
        self,
        report: Callable[[StepReport], None],
        stop: Callable[[], bool] = lambda: False,
        saved: Callable[[], None] = lambda: None,
    ) -> bool:
        """Train to the end, reporting and saving on the way; ``saved()`` is called whenever the state was saved.

        False when ``stop()`` ended it early (state saved).
        """
        if self.config.freeze_vision and self._tokens is None:
            self.cache_tokens()
        sums: dict[str, Tensor] = {}
        since, count = time.perf_counter(), 0
        while self.step < self.config.gradient_steps:
            for key, value in self.train_step().items():
                sums[key] = sums.get(key, torch.zeros((), device=self.device)) + value
            count += 1
            if self.step % self.config.log_every == 0 or self.step == self.config.gradient_steps:
                elapsed = time.perf_counter() - since
                metrics = {k: float(v) / count for k, v in sums.items()} | self.value_spread()
                metrics["samples_per_second"] = count * self.config.batch * self.config.segment_steps / elapsed
                report(StepReport(self.step, metrics))
                sums, since, count = {}, time.perf_counter(), 0
            leave = stop()
            if leave or self.step % self.config.save_every == 0 or self.step == self.config.gradient_steps:
                save_state(
                    self.folder,
                    self.step,
                    {"online": self.model, "target": self.target},
                    self.optimiser,
                    self._identity(),
                )
                saved()
            if leave:
                return False
        return True

    @property
    def acting(self) -> QTransformer:
        """The network to act with, as ``save_weights`` chooses."""
        return self.target if self.config.save_weights == "ema" else self.model
