"""One training run from settings to checkpoint, as `qt-ros train` and the experiments do it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from qt_ros.contract.robot import RobotContract
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import StepData
from qt_ros.learning.group import ALONE, Group
from qt_ros.learning.guards import find_device
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
    only_vision: bool = False,
    marks: Sequence[int] = (),
    report: Callable[[StepReport], None] = lambda entry: None,
    stopped: Callable[[], bool] = lambda: False,
    group: Group = ALONE,
    encoding: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Session:
    """Train, or go on training, in the folder ``out``: ``state``, ``checkpoint`` and TensorBoard logs in ``log``.

    ``init``, ``text_encoder``, ``vision_weights``, ``only_vision``: see `build_model`. ``marks``: gradient steps whose
    checkpoint is kept as well, see `marked`; they change nothing else. ``group``: the processes that train together,
    all of which call this; only the main one writes. ``encoding``: entered while every frame is encoded. When
    ``stopped()`` turns true, all is saved and the same call goes on from there. TrainingError when settings, data, what
    is begun from and a saved state do not go together, or ``device`` is not there.
    """
    find_device(device)  # before ``init`` is loaded onto it
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
        only_vision=only_vision,
    )
    start = started_from(encoder, init, vision_weights, only_vision)
    trainer = Trainer(model, data, encoder.encode(data.instructions), settings, out / "state", device, group, start)
    kept = -1  # step of the checkpoint on disk

    def keep(folder: Path) -> None:
        begun = (init, vision_weights, only_vision)
        save_run(folder, trainer.acting, contract, encoder, settings, data, trainer.step, *begun)

    def keep_latest() -> None:
        nonlocal kept
        keep(out / "checkpoint")
        kept = trainer.step

    seconds = 0.0
    with _scalars(out / "log", trainer.step, group.main) as add_scalar:
        if settings.freeze_vision:
            with encoding():
                trainer.cache_tokens()

        def log(entry: StepReport) -> None:
            for key, value in entry.metrics.items():
                add_scalar(key, value, entry.step)
            report(entry)

        while True:
            if group.main and trainer.step in marks and not marked(out, trainer.step).exists():
                keep(marked(out, trainer.step))
            if trainer.step >= settings.gradient_steps or group.any(stopped()):
                break
            begin = time.monotonic()
            trainer.run(log, lambda: stopped() or trainer.step in marks, keep_latest)
            seconds += time.monotonic() - begin
    if group.main and trainer.step and kept != trainer.step:  # a finished run that lost its checkpoint
        keep_latest()
    return Session(trainer.step, trainer.step >= settings.gradient_steps, seconds)


@contextmanager
def _scalars(folder: Path, step: int, wanted: bool) -> Iterator[Callable[[str, float, int], None]]:
    """A function that logs (name, value, step) for TensorBoard, or does nothing where it is not ``wanted``."""
    if not wanted:
        yield lambda name, value, step: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=step + 1) as writer:
        yield writer.add_scalar
