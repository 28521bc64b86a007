"""Several processes that train together take the steps that one would take with the same batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fast_folder import fast_folder
from group_member import CHANGES, curve, member
from store_factory import make_store, trainer_on
from tiny import METHODS, tiny_config, tiny_data, tiny_model, tiny_text

from qt_ros.learning.dataset import load_training_data
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.group import ALONE, Group, counting_in, join_group, shared_count
from qt_ros.learning.losses import mean_of
from qt_ros.learning.trainer import Trainer

SUPPORT = Path(__file__).parents[1] / "support"


def close(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The same metrics at every step, up to the rounding of sums; an agreement may jump by that."""
    assert len(found["metrics"]) == len(wanted["metrics"]) > 0
    for mine, theirs in zip(found["metrics"], wanted["metrics"], strict=True):
        for name in mine.keys() & theirs.keys() - {"agreement"}:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4 if name == "loss" else 1e-3, abs=1e-5), name
        assert mine.keys() - theirs.keys() <= {"data_wait_share", "skipped_episodes"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    return make_store(folder / "store", range(18))


@pytest.fixture(scope="module")
def two(folder: Path, store: Path) -> dict[str, Any]:
    """What two processes report that Accelerate launched."""
    begun = member(folder / "two" / "alone", ALONE)
    assert not begun.run(lambda _: None, stop=lambda: begun.step == 3)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += [str(SUPPORT / "group_member.py"), str(folder / "two"), str(store)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert document["processes"] == 2
    return document


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_have_the_loss_curve_of_one_with_the_same_batch(
    two: dict[str, Any], tmp_path: Path, method: str
) -> None:
    close(two[method], curve(member(tmp_path, ALONE, method)))


def test_frozen_vision_and_streamed_data_change_nothing_of_that(
    two: dict[str, Any], tmp_path: Path, store: Path
) -> None:
    close(two["frozen"], curve(member(tmp_path / "a", ALONE, freeze_vision=True, image_shift=0)))
    alone = trainer_on(load_training_data([store], 0.9), tmp_path / "b", freeze_vision=True, **CHANGES)
    wanted = curve(alone)
    close(two["memory"], wanted)
    close(two["streamed"], wanted)


def test_a_run_of_two_processes_that_was_interrupted_is_continued_by_one(
    two: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    halved = two["halved"]
    assert (halved["finished"], halved["step"], halved["saved"]) == (False, 3, [3])
    rest = member(folder / "two" / "halved", ALONE)
    assert rest.step == 3
    whole = curve(member(tmp_path, ALONE))
    close({"metrics": halved["metrics"] + curve(rest)["metrics"]}, whole)


def test_a_run_of_one_process_is_continued_by_two(two: dict[str, Any], tmp_path: Path) -> None:
    assert two["continued"]["step"] == 6
    close(two["continued"], {"metrics": curve(member(tmp_path, ALONE))["metrics"][3:]})


def test_what_keeps_one_process_from_its_data_stops_all_at_the_same_step_with_the_state_saved(
    two: dict[str, Any], folder: Path
) -> None:
    assert two["lost"] == ["DataLost", 2]
    assert member(folder / "two" / "lost", ALONE).step == 2


def test_a_batch_that_cannot_be_dealt_out_is_refused() -> None:
    three = Group()
    three.rank, three.size = 2, 3
    assert three.part_of(9) == slice(6, 9)
    with pytest.raises(TrainingError, match=r"batch of 8 cannot be split among 3 processes.*batch=9"):
        three.part_of(8)


def test_batch_statistics_that_every_process_would_gather_for_itself_are_refused_at_the_start(tmp_path: Path) -> None:
    two = Group()
    two.size = 2

    def trainer(group: Group, batch_norm: str = "batch", **changes: Any) -> Trainer:
        model = tiny_model(vision="efficientnet_b0", batch_norm=batch_norm)
        return Trainer(model, tiny_data(), tiny_text(), tiny_config(**changes), tmp_path, "cpu", group)

    with pytest.raises(TrainingError, match=r"each of the 2 processes.*model\.batch_norm=frozen.*one process"):
        trainer(two)
    assert trainer(two, "frozen").step == trainer(two, freeze_vision=True).step == trainer(ALONE).step == 0


class Halves(Group):
    """One of two processes of which the other counted ``other`` samples."""

    def __init__(self, other: float) -> None:
        self.size, self.other = 2, other

    def total(self, value: torch.Tensor) -> torch.Tensor:
        return value + self.other


def test_means_are_over_the_samples_of_all_processes() -> None:
    mine, theirs = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 0.0, 0.0])
    mask, their_mask = torch.tensor([True, True, True]), torch.tensor([True, False, False])
    with counting_in(Halves(1.0)):
        one = mean_of(mine, mask)
    with counting_in(Halves(3.0)):
        two = mean_of(theirs, their_mask)
    assert (one + two) / 2 == pytest.approx(16 / 4)
    with counting_in(Halves(0.0)):
        assert shared_count(torch.tensor(0.0)) == 0.5
    assert mean_of(mine, mask) == 2 and shared_count(torch.tensor(0.0)) == 1


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_group("cpu") == (ALONE, "cpu")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join_group("cuda:1") == (ALONE, "cuda:1")
