"""The training loop of every method: optimiser, lagged networks, saving and resuming, reports, and stops with
advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from qt_ros.episodes.manifest import StoreError
from qt_ros.learning.batches import DROPOUT, Batch, Batches
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import StepData
from qt_ros.learning.errors import DataLost
from qt_ros.learning.group import ALONE, Group, counting_in, require_nothing_gathered
from qt_ros.learning.guards import find_device, memory_advice, stop_diverged
from qt_ros.learning.methods import make_method
from qt_ros.learning.sources import StreamedSource
from qt_ros.learning.state import Sums, load_state, require_same, save_state
from qt_ros.model.acting import Network

T = TypeVar("T")

LOST = (StoreError, DataLost, OSError)
"""What says that data cannot be read, or learnt from, now: the run saves its state, and goes on another time."""
SPREAD_EPISODES = 256
SPREAD_STEPS = 256


@dataclass(frozen=True)
class StepReport:
    """What one logged step tells: metrics averaged since the last report (see docs/reference/metrics.md)."""

    step: int
    metrics: dict[str, float]


class Trainer:
    """Trains ``model`` on ``data`` by ``config.method``; everything random is a function of (config.seed, step), so a
    resumed run goes on alike.

    text (number of instructions, E) float32: sentence embeddings in the order of ``data.instructions``. ``folder``
    keeps the training state. ``start`` says what the run began from (see `run.started_from`): a saved state that began
    from something else is refused like one of other settings. ``step`` is the next gradient step. ``group``: the
    processes that train together, each with a trainer of its own; only the main one writes. TrainingError when model,
    data, settings and a saved state do not go together, or ``device`` is not there.
    """

    def __init__(
        self,
        model: Network,
        data: StepData,
        text: Tensor,
        config: TrainConfig,
        folder: Path,
        device: str = "cpu",
        group: Group = ALONE,
        start: Mapping[str, str] | None = None,
    ) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.data, self.folder, self.group = config, data, folder, group
        self.device = find_device(device)
        if not config.freeze_vision:
            require_nothing_gathered(model, group)
        self.method = make_method(model, config)
        self.method.check(data)
        self.method.to(self.device)
        self.batches = Batches(
            model, data, text, config, self.device, self.method.lookahead, self.method.success_share, group, folder
        )
        if config.freeze_vision:
            for part in model.seeing_parts():
                part.requires_grad_(False)
        networks = self.method.networks.values()
        parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.learning_rate,
            fused=True,
        )
        self.step = 0
        self._start = dict(start or {})
        self._all_stop = False
        sums: dict[str, Any] = {}
        if (folder / "state.safetensors").exists():
            self.step, extra, sums = load_state(folder, self.method.state(), self.optimiser)
            require_same(folder, extra, self._identity())
        self._sums = Sums(self.device, sums, group)
        self._waited = -float(sums.get("waited", 0.0))  # what the data's source had waited at the last report

    @property
    def model(self) -> Network:
        """The network that is trained to act."""
        return self.method.model

    @property
    def target(self) -> Network:
        """Its lagged copy."""
        return self.method.lagged_model

    @property
    def acting(self) -> Network:
        """The network to act with, as ``save_weights`` chooses."""
        return self.target if self.config.save_weights == "ema" else self.model

    def _identity(self) -> dict[str, Any]:
        settings = self.config.to_dict()
        for key in ("log_every", "save_every", "threads"):
            settings.pop(key)
        counts = {"steps_in_data": self.data.count, "episodes": len(self.data.lengths)}
        mixed = {} if self.data.weights is None else {"weights": list(self.data.weights)}
        return {"config": settings, **counts, "stores": self.data.hashes, **mixed, "start": self._start}

    def cache_tokens(self, progress: Callable[[int], None] | None = None) -> None:
        """Encode every frame once; done before training when freeze_vision is set. OutOfMemory with advice."""
        with memory_advice(self._encoding_advice):
            self.batches.cache_tokens(progress)

    def _seed(self, step: int, purpose: int) -> int:
        return self.batches.seed(step, purpose)

    # ---- one step

    def losses(self, step: int) -> dict[str, Tensor]:
        """Loss terms of gradient step ``step`` (scalars; ``loss`` carries the gradient)."""
        return self._losses(self.batches.at(step))

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        # Dropout is drawn for a whole batch at once, so each process needs draws of its own.
        torch.manual_seed(self._seed(batch.step, DROPOUT) + self.group.rank)
        with (
            counting_in(self.group),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.autocast),
        ):
            return self.method.losses(batch)

    def train_step(self) -> dict[str, Tensor]:
        """One gradient step; detached metrics. Raises Diverged (batch saved) when loss or gradient is not finite, and
        OutOfMemory with advice."""
        with memory_advice(self._memory_advice):
            return self._train_step()

    def _train_step(self) -> dict[str, Tensor]:
        config = self.config
        for network in self.method.networks.values():
            network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate_at(self.step)
        batch = self._together(lambda: self.batches.at(self.step))
        terms = self._losses(batch)
        if self.group.any(not torch.isfinite(terms["loss"])):
            self._save_bad_batch("loss", batch)
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        self.group.average_gradients(self.method.networks.values())
        norms = [  # each network by itself, so that a critic does not slow its actor down
            nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            for network in self.method.networks.values()
        ]
        norm = torch.stack(norms).square().sum().sqrt() if len(norms) > 1 else norms[0]
        if not torch.isfinite(norm):
            self._save_bad_batch("gradient", batch)
        self.optimiser.step()
        self.method.after_step(self.step)
        self.step += 1
        return {k: v.detach() for k, v in terms.items()} | {"gradient_norm": norm.detach()}

    def _together(self, work: Callable[[], T]) -> T:
        """What ``work`` reads of the data. What keeps one process from it stops all of them at the same step."""
        problem: Exception | None = None
        try:
            found = work()
        except LOST as error:
            problem = error
        if self.group.any(problem is not None):
            self._all_stop = True
            raise problem or DataLost("another process could not read its part of the data; its message says why")
        return found

    def _save_bad_batch(self, what: str, batch: Batch) -> NoReturn:
        mine = "" if self.group.size == 1 else f"_process_{self.group.rank}"
        path = self.folder / f"bad_batch_{self.step}{mine}.safetensors"
        segments, columns = batch.segments, batch.columns
        tensors = {"frames": torch.from_numpy(segments.frames), "mask": torch.from_numpy(segments.frame_mask)}
        tensors |= {"episodes": torch.from_numpy(np.searchsorted(self.data.starts, segments.frames, "right") - 1)}
        for name in ("proprio", *(["tokens"] if self.batches.cached else [])):
            tensors[name] = columns.take(name, columns.index(segments.frames))
        if not self.batches.cached:
            sight = self.batches.source.sight
            tensors[sight] = torch.from_numpy(columns.seen(sight, segments.frames))
        for name in ("bins", "rewards", "returns", "remaining", "terminated", "success"):
            tensors[name] = getattr(batch, name)
        stop_diverged(what, self.step, path, tensors, "Lower learning_rate")

    def _memory_advice(self) -> str:
        config, shape = self.config, self.model.config
        ways = [f"batch (now {config.batch}; --set batch={max(1, config.batch // 2)} needs about half)"]
        if config.segment_steps > 1:
            ways.append(f"segment_steps (now {config.segment_steps})")
        if self.device.type == "cuda" and not config.autocast:
            ways.append("precision (--set autocast=true)")
        if config.method in ("qt_opt", "aw_opt"):
            ways.append(f"candidates of the search (options.samples, now {config.options.samples})")
        if shape.value_head == "hl_gauss":
            ways.append(f"numbers per bin (model.value_rank, now {shape.value_rank})")
        if not config.freeze_vision and shape.vision != "state":
            ways.append("the vision side in training (--set freeze_vision=true, with a warmed-up one)")
        return (
            f"out of memory on {self.device} in gradient step {self.step}. Reduce one of: {'; '.join(ways)}. "
            f"The last saved state in {self.folder} is untouched; another batch needs a folder of its own"
        )

    def _encoding_advice(self) -> str:
        shape, device = self.model.config, self.device
        size = self.data.count * shape.tokens_per_frame * shape.width * 2 >> 20
        ways = [
            "a smaller vision side (--init with another warmed-up one)",
            "a device with more free memory (--device)",
        ]
        if not isinstance(self.batches.source, StreamedSource):
            ways.insert(0, f"--stream, which keeps the encoded frames in a file instead of {size} MB on {device}")
        return (
            f"out of memory on {device} while every frame was encoded once (freeze_vision), before gradient step "
            f"{self.step}; a smaller batch does not help. Take one of: {'; '.join(ways)}. "
            f"The last saved state in {self.folder} is untouched"
        )

    def _spread_advice(self) -> str:
        shape = self.model.config
        ways = ["a device with more free memory (--device)", f"less history (model.history, now {shape.history})"]
        if shape.vision != "state" and not self.config.freeze_vision:
            ways.append("the vision side frozen, so that frames are encoded before (--set freeze_vision=true)")
        if self.config.method in ("qt_opt", "aw_opt"):
            ways.append(f"fewer candidates of the search (options.samples, now {self.config.options.samples})")
        return (
            f"out of memory on {self.device} while values of up to {max(SPREAD_EPISODES, SPREAD_STEPS)} steps were "
            f"measured for the report after gradient step {self.step}; a smaller batch does not help. Take one of: "
            f"{'; '.join(ways)}. The last saved state in {self.folder} is untouched; other settings need a folder of "
            "their own"
        )

    # ---- the loop

    @torch.no_grad()
    def value_spread(self) -> dict[str, float]:
        """Mean and standard deviation over episodes of the value of the first step; nothing for methods without values.

        A spread near zero means that the network does not tell scenes apart, the most common way to fail.
        ``value_spread_steps`` is the standard deviation over steps drawn from anywhere in the data. OutOfMemory with
        advice.
        """
        with memory_advice(self._spread_advice):
            return self._value_spread()

    def _value_spread(self) -> dict[str, float]:
        starts, count = self.data.starts, self.data.count
        spaced = np.linspace(0, len(starts) - 1, min(SPREAD_EPISODES, len(starts))).astype(np.int64)
        first = self._values(starts[spaced])
        if first is None:
            return {}
        rng = np.random.default_rng(self.config.seed)  # the same steps in every report
        anywhere = self._values(rng.choice(count, min(SPREAD_STEPS, count), replace=False))
        assert anywhere is not None
        return {
            "value_mean": float(first.mean()),
            "value_spread": float(first.std(correction=0)),
            "value_spread_steps": float(anywhere.std(correction=0)),
        }

    def _values(self, steps: np.ndarray) -> Tensor | None:
        """The method's value of data steps (n,), each with the history its episode had by then; (n,)."""
        for network in self.method.networks.values():
            network.eval()
        return self.method.first_values(self.batches.plain_window(self.model, steps))

    def run(
        self,
        report: Callable[[StepReport], None],
        stop: Callable[[], bool] = lambda: False,
        saved: Callable[[], None] = lambda: None,
    ) -> bool:
        """Train to the end, reporting and saving on the way; ``saved()`` is called whenever the state was saved.

        False when ``stop()`` ended it early (state saved). Wherever it ends, going on reports as if it had not.
        """
        if self.config.freeze_vision and not self.batches.cached:
            self.cache_tokens()
        self._sums.go_on()
        while self.step < self.config.gradient_steps:
            try:
                if not self._due:  # it is due already where data were lost amid a report
                    self._sums.add(self.train_step())
                if self._due:
                    metrics = self._metrics()
                    self._sums.clear()  # before the report: should that fail, nothing is to be gathered for the state
                    if self.group.main:
                        report(StepReport(self.step, metrics))
                    self._sums.go_on()
            except LOST:
                self._save(saved)
                if self._all_stop:  # a launcher ends all when one ends, so nobody does before the state is saved
                    self.group.wait()
                raise
            leave = self.group.any(stop())
            if leave or self.step % self.config.save_every == 0 or self.step == self.config.gradient_steps:
                self._save(saved)
            if leave:
                return False
        return True

    @property
    def _due(self) -> bool:
        border = self.step % self.config.log_every == 0 or self.step == self.config.gradient_steps
        return border and self._sums.count > 0

    def _metrics(self) -> dict[str, float]:
        """Means since the last report over all processes, and what only the main process measures."""
        elapsed, count = self._sums.elapsed, self._sums.count
        metrics = self._sums.means(self.group)
        metrics |= self._together(lambda: self.value_spread() if self.group.main else {})
        metrics["samples_per_second"] = count * self.config.batch * self.config.segment_steps / elapsed
        source = self.batches.source
        if isinstance(source, StreamedSource):
            waited, self._waited = source.ahead.waited_s - self._waited, source.ahead.waited_s
            metrics |= {"data_wait_share": waited / elapsed, "skipped_episodes": float(len(source.corrupt))}
        return metrics

    def _save(self, saved: Callable[[], None]) -> None:
        sums = self._sums.kept(self.group)
        source = self.batches.source
        if sums and isinstance(source, StreamedSource):
            sums["waited"] = source.ahead.waited_s - self._waited
        if self.group.main:
            save_state(self.folder, self.step, self.method.state(), self.optimiser, self._identity(), sums)
            saved()
