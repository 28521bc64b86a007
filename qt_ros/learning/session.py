"""One training run from settings to checkpoint, as `qt-ros train` and the experiments do it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from qt_ros.contract.robot import RobotContract
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import StepData
from qt_ros.learning.group import ALONE, Group
from qt_ros.learning.run import build_model, require_start, save_run, started_from
from qt_ros.learning.trainer import StepReport, Trainer


@dataclass(frozen=True)
class Session:
    """What came of a run: ``step`` reached, whether it is ``finished``, and the ``seconds`` it trained this time."""

    step: int
    finished: bool
    seconds: float


def marked(out: Path, step: int) -> Path:
    """Where the checkpoint of a marked step is kept."""
    return out / f"checkpoint-{step}"


def train(
    settings: TrainConfig,
    contract: RobotContract,
    data: StepData,
    out: Path,
    *,
    init: Path | None = None,
    device: str = "cpu",
    text_encoder: str | None = None,
    vision_weights: str | None = None,
    marks: Sequence[int] = (),
    report: Callable[[StepReport], None] = lambda entry: None,
    stopped: Callable[[], bool] = lambda: False,
    encoding: Callable[[], AbstractContextManager[object]] = nullcontext,
    group: Group = ALONE,
) -> Session:
    """Train, or go on training, in the folder ``out``: ``state``, ``checkpoint`` and TensorBoard logs in ``log``.

    ``init``, ``text_encoder``, ``vision_weights``: see `build_model`. ``marks``: gradient steps whose checkpoint is
    kept as well, see `marked`; they change nothing else. ``encoding``: entered while every frame is encoded. When
    ``stopped()`` turns true, all is saved and the same call goes on from there. ``group``: the processes that train
    together and all call this; only the main one writes and reports.
    """
    require_start(settings, init)
    model, encoder = build_model(
        settings.model,
        contract,
        data,
        init,
        device,
        method=settings.method,
        seed=settings.seed,
        text_encoder=text_encoder,
        vision_weights=vision_weights,
    )
    start = started_from(encoder, init, vision_weights)
    trainer = Trainer(model, data, encoder.encode(data.instructions), settings, out / "state", device, start, group)
    kept = -1  # step of the checkpoint on disk

    def keep(folder: Path) -> None:
        if not group.main:
            return
        save_run(folder, trainer.acting, contract, encoder, settings, data, trainer.step, init, vision_weights)

    def keep_latest() -> None:
        nonlocal kept
        keep(out / "checkpoint")
        kept = trainer.step

    seconds = 0.0
    with ExitStack() as stack:
        writer = None
        if group.main:
            writer = stack.enter_context(SummaryWriter(str(out / "log"), purge_step=trainer.step))
        if settings.freeze_vision:
            with encoding():
                trainer.cache_tokens()

        def log(entry: StepReport) -> None:
            if writer is not None:
                for key, value in entry.metrics.items():
                    writer.add_scalar(key, value, entry.step)
            report(entry)

        while True:
            if trainer.step in marks and not marked(out, trainer.step).exists():
                keep(marked(out, trainer.step))
            if trainer.step >= settings.gradient_steps or group.any(stopped()):
                break
            begin = time.monotonic()
            trainer.run(log, lambda: stopped() or trainer.step in marks, keep_latest)
            seconds += time.monotonic() - begin
    if trainer.step and kept != trainer.step:  # a finished run that lost its checkpoint
        keep_latest()
    group.leave()
    return Session(trainer.step, trainer.step >= settings.gradient_steps, seconds)
