"""Warm-up of the vision side: where is the object that the sentence names, and where is the tool?

The paper starts from an EfficientNet trained on ImageNet. The small encoder has no such start, and from
temporal-difference targets alone a few CPU hours do not teach it to see. So its first two attention maps are first
trained to rest on the named object and on the tool, with positions that the simulator knows. They are a training aid:
the policy never gets them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.guards import find_device, memory_advice, stop_diverged
from qt_ros.learning.state import Sums, load_state, require_same, save_state
from qt_ros.model.q_transformer import QTransformer


@dataclass(frozen=True)
class PointingLoss:
    """``sigma``: width of the Gaussian that the map should follow, in image fractions of the width.
    ``position_weight``: weight of the squared error of the map's centre of mass (in units of sigma)."""

    sigma: float = 0.02
    position_weight: float = 0.1

    def __call__(self, attention: Tensor, keypoints: Tensor) -> dict[str, Tensor]:
        """attention (N, K, h, w), maps that sum to 1; keypoints (N, M, 3): (u, v) image fractions, visible; M <= K.

        Map m is trained on point m: cross-entropy to a Gaussian around it plus the error of its centre of mass. Points
        out of view do not count. Returns ``loss`` and, for logs, ``error``: mean distance in image widths.
        """
        height, width = attention.shape[-2:]
        aspect = height / width
        maps = attention[:, : keypoints.shape[1]]
        v = (torch.arange(height, device=maps.device) + 0.5) / height
        u = (torch.arange(width, device=maps.device) + 0.5) / width
        point = torch.nan_to_num(keypoints)
        du = u[None, None, None, :] - point[..., 0, None, None]
        dv = (v[None, None, :, None] - point[..., 1, None, None]) * aspect
        goal = torch.softmax((-(du**2 + dv**2) / (2 * self.sigma**2)).flatten(2), dim=-1)
        entropy = -(goal * torch.log(maps.flatten(2) + 1e-8)).sum(-1)
        centre_u = (maps.sum(-2) * u).sum(-1)
        centre_v = (maps.sum(-1) * v).sum(-1)
        square = (centre_u - point[..., 0]) ** 2 + ((centre_v - point[..., 1]) * aspect) ** 2
        weight = (keypoints[..., 2] > 0.5).float()
        count = weight.sum().clamp(min=1)
        loss = ((entropy + self.position_weight * square / self.sigma**2) * weight).sum() / count
        with torch.no_grad():
            distance = square.sqrt() * weight
            per_point = distance.sum(0) / weight.sum(0).clamp(min=1)
        return {"loss": loss, "error": per_point.detach()}


@dataclass(frozen=True)
class PointingConfig:
    """Settings of the warm-up: plain supervised training of the vision side on random frames of a store."""

    gradient_steps: int = 4000
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 0
    threads: int = 0
    log_every: int = 50
    save_every: int = 500
    loss: PointingLoss = PointingLoss()


class PointingTrainer:
    """Trains vision, TokenLearner and their FiLM layers of ``model`` to point; the rest of the model is left as it is.

    ``held_out``: share of episodes kept for ``evaluate``. Resumable like `Trainer`, and as deterministic.
    TrainingError when data, model, settings and a saved state do not go together, or ``device`` is not there.
    """

    def __init__(
        self,
        model: QTransformer,
        data: TrainingData,
        text: Tensor,
        config: PointingConfig,
        folder: Path,
        device: str = "cpu",
        held_out: float = 0.05,
        start: Mapping[str, str] | None = None,
    ) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        if data.images is None or model.config.vision == "state":
            raise TrainingError("the warm-up teaches seeing: it needs images and a model that takes them")
        if data.weights is not None:
            raise TrainingError("the warm-up draws from all frames alike; leave out the weights of the stores")
        self.images = data.images
        known = np.isfinite(data.keypoints).all(axis=(1, 2))
        if not known.any():
            raise TrainingError(
                "no step of these stores has key points; only episodes collected in the simulator have them"
            )
        self.device = find_device(device)
        self.model, self.data, self.config, self.folder = model.to(device), data, config, folder
        self.text = text.to(device)
        episode = np.repeat(np.arange(len(data.lengths)), data.lengths)
        stride = max(2, round(1 / held_out)) if held_out else 0
        test = (episode % stride == stride - 1) if stride else np.zeros(len(episode), np.bool_)
        self.pool, self.test_pool = np.flatnonzero(known & ~test), np.flatnonzero(known & test)
        self.parts = nn.ModuleDict({"vision": model.vision, "token_learner": model.token_learner})
        self.optimiser = torch.optim.AdamW(
            self.parts.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0
        self._start = dict(start or {})
        sums: dict[str, Any] = {}
        if (folder / "state.safetensors").exists():
            self.step, extra, sums = load_state(folder, {"parts": self.parts}, self.optimiser)
            if extra:  # empty: saved before settings were kept
                own = self._identity()
                require_same(folder, {"stores": own["stores"], **extra}, own)  # stores were noted later than the rest
        self._sums = Sums(torch.device("cpu"), sums, dtype=torch.float64)

    def _identity(self) -> dict[str, Any]:
        settings = dataclasses.asdict(self.config)
        for key in ("log_every", "save_every", "threads"):
            settings.pop(key)
        counts = {
            "steps_in_data": len(self.data.rewards),
            "episodes": len(self.data.lengths),
            "tested": len(self.test_pool),
        }
        return {"config": settings, **counts, "stores": self.data.hashes, "start": self._start}

    def _batch(self, index: NDArray[np.int64]) -> dict[str, Tensor]:
        images = torch.from_numpy(self.images[index]).to(self.device).permute(0, 3, 1, 2)
        text = self.text[torch.from_numpy(self.data.text[index]).to(self.device)]
        _, attention = self.model.encode_frames(images, text, return_attention=True)
        return self.config.loss(attention, torch.from_numpy(self.data.keypoints[index]).to(self.device))

    def train_step(self) -> dict[str, float]:
        """One gradient step on frames drawn as a function of (seed, step). Raises Diverged (batch saved) when loss or
        gradient is not finite, and OutOfMemory with advice."""
        with memory_advice(self._memory_advice):
            return self._train_step()

    def _train_step(self) -> dict[str, float]:
        config = self.config
        self.model.train()
        rng = np.random.default_rng((config.seed, self.step))
        rate = config.learning_rate * min(1.0, (self.step + 1) / 200)
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / config.gradient_steps)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        index = self.pool[rng.integers(0, len(self.pool), config.batch)]
        terms = self._batch(index)
        if not torch.isfinite(terms["loss"]):
            self._save_bad_batch("loss", index)
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
        if not torch.isfinite(norm):
            self._save_bad_batch("gradient", index)
        self.optimiser.step()
        self.step += 1
        return _named(terms)

    def _save_bad_batch(self, what: str, index: NDArray[np.int64]) -> NoReturn:
        data = self.data
        found = {
            "frames": index,
            "episodes": np.searchsorted(data.starts, index, "right") - 1,
            "images": self.images[index],
            "keypoints": data.keypoints[index],
            "text": data.text[index],
        }
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in found.items()}
        path = self.folder / f"bad_batch_{self.step}.safetensors"
        stop_diverged(what, self.step, path, tensors, "Lower the learning rate (--rate, in a folder of its own)")

    def _memory_advice(self) -> str:
        batch = self.config.batch
        return (
            f"out of memory on {self.device} in the warm-up, after {self.step} gradient steps. Take a smaller batch "
            f"(now {batch}; --batch {max(1, batch // 2)} needs about half), smaller images or a smaller preset. The "
            f"last saved state in {self.folder} is untouched; other settings need a folder of their own"
        )

    @torch.no_grad()
    def evaluate(self, frames: int = 1024) -> dict[str, float]:
        """Pointing error on episodes that are not trained on: mean distance in image widths, target and tool.
        OutOfMemory with advice."""
        with memory_advice(self._memory_advice):
            return self._evaluate(frames)

    def _evaluate(self, frames: int) -> dict[str, float]:
        self.model.eval()
        if not len(self.test_pool):
            return {}
        index = self.test_pool[
            np.linspace(0, len(self.test_pool) - 1, min(frames, len(self.test_pool))).astype(np.int64)
        ]
        parts = [_named(self._batch(part)) for part in np.array_split(index, max(1, len(index) // 128))]
        return {f"held_out_{k}": float(np.mean([p[k] for p in parts])) for k in parts[0]}

    def run(self, report: Callable[[int, dict[str, float]], None], stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end; False when ``stop()`` asked to leave early (state saved). Raises like ``train_step``."""
        sums = self._sums
        sums.go_on()
        while self.step < self.config.gradient_steps:
            sums.add(self.train_step())
            finished = self.step == self.config.gradient_steps
            if self.step % self.config.log_every == 0 or finished:
                metrics = sums.means()
                metrics["samples_per_second"] = sums.count * self.config.batch / sums.elapsed
                if self.step % (10 * self.config.log_every) == 0 or finished:
                    metrics |= self.evaluate()
                report(self.step, metrics)
                sums.clear()
            leave = stop()
            if leave or finished or self.step % self.config.save_every == 0:
                save_state(self.folder, self.step, {"parts": self.parts}, self.optimiser, self._identity(), sums.kept())
            if leave:
                return False
        return True


def _named(terms: dict[str, Tensor]) -> dict[str, float]:
    out = {"loss": float(terms["loss"].detach())}
    for index, error in enumerate(terms["error"].tolist()):
        out[f"error_{('target', 'tool')[index] if index < 2 else index}"] = error
    return out
