"""A training run from settings to checkpoint: marks change nothing, a stop loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from episode_factory import make_episode

from qt_ros.contract.robot import load_contract
from qt_ros.episodes.store import StoreWriter
from qt_ros.learning.config import PRIVILEGED, TrainConfig, load_train_config
from qt_ros.learning.dataset import TrainingData, load_training_data
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.session import Session, marked, train
from qt_ros.model.checkpoint import read_info

CONTRACT = load_contract("mobile_manipulator")
CHANGES = {
    **PRIVILEGED, "gradient_steps": 6, "batch": 4, "log_every": 2, "save_every": 5, "threads": 1, "model.layers": 1,
    "model.width": 16, "model.heads": 2, "model.head_dim": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    root = tmp_path_factory.mktemp("session") / "store"
    rng = np.random.default_rng(0)
    with StoreWriter(root, CONTRACT, (24, 32), privileged_names=("a", "b", "c")) as writer:
        for i in range(6):
            writer.add(make_episode(CONTRACT, i, privileged=rng.normal(size=(5, 3)).astype(np.float32)))
    return load_training_data([root], 0.98, privileged=True)


def settings() -> TrainConfig:
    return load_train_config("picking/q_transformer", CHANGES)


def run(data: TrainingData, out: Path, stopped: Callable[[], bool] = lambda: False, **more: object) -> Session:
    return train(settings(), CONTRACT, data, out, stopped=stopped, **more)  # type: ignore[arg-type]


def step_of(folder: Path) -> int:
    return int(read_info(folder).provenance["gradient_steps"])


def test_marked_steps_keep_their_checkpoint_and_change_nothing_else(data: TrainingData, tmp_path: Path) -> None:
    steps: list[int] = []
    plain = run(data, tmp_path / "plain")
    with_marks = run(data, tmp_path / "marks", marks=[1, 4], report=lambda entry: steps.append(entry.step))
    assert plain.finished and with_marks.finished and (plain.step, with_marks.step) == (6, 6)
    assert [step_of(marked(tmp_path / "marks", step)) for step in (1, 4)] == [1, 4]
    ids = [read_info(tmp_path / name / "checkpoint").id for name in ("plain", "marks")]
    assert ids[0] == ids[1] and steps == [2, 4, 6]


def test_a_stop_is_saved_and_the_same_call_goes_on_with_its_marks(data: TrainingData, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole", marks=[4])
    asked = iter([False, False, False, True])
    part = run(data, tmp_path / "part", lambda: next(asked, True), marks=[4])
    assert not part.finished and 0 < part.step < 4 and step_of(tmp_path / "part" / "checkpoint") == part.step
    assert run(data, tmp_path / "part", marks=[4]).finished and whole.finished
    for name in ("checkpoint", "checkpoint-4"):
        assert read_info(tmp_path / "part" / name).id == read_info(tmp_path / "whole" / name).id


def test_the_curve_of_an_interrupted_run_has_every_point_once(data: TrainingData, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def points(out: Path) -> list[int]:
        return [point.step for point in EventAccumulator(str(out / "log")).Reload().Scalars("loss")]

    for stop_at in (3, 4):  # between two reports, and right after one
        asked = iter(range(100))
        out = tmp_path / str(stop_at)
        assert not run(data, out, stopped=lambda asked=asked, stop_at=stop_at: next(asked) >= stop_at).finished
        assert run(data, out).finished
        assert points(out) == [2, 4, 6]


def test_a_mark_whose_checkpoint_was_lost_before_it_was_written_is_made_from_the_state(
    data: TrainingData, tmp_path: Path
) -> None:
    run(data, tmp_path / "whole", marks=[4])
    asked: list[int] = []
    run(
        data,
        tmp_path / "part",
        lambda: bool(asked),
        marks=[4],
        report=lambda entry: asked.extend([1] * (entry.step == 4)),
    )
    for path in marked(tmp_path / "part", 4).iterdir():
        path.unlink()
    marked(tmp_path / "part", 4).rmdir()  # as if the power went between saving the state and this checkpoint
    assert run(data, tmp_path / "part", marks=[4]).finished
    assert read_info(marked(tmp_path / "part", 4)).id == read_info(marked(tmp_path / "whole", 4)).id


def test_stopped_before_the_first_step_leaves_no_untrained_checkpoint(data: TrainingData, tmp_path: Path) -> None:
    session = run(data, tmp_path, lambda: True)
    assert (session.step, session.finished, session.seconds) == (0, False, 0.0)
    assert not (tmp_path / "checkpoint").exists()


def test_a_vision_side_that_nobody_trained_is_not_frozen(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="without --init it is random"):
        train(load_train_config("picking/q_transformer"), CONTRACT, data, tmp_path)
