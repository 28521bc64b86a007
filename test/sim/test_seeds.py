"""What a scene is for follows from its seed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qt_ros.sim.seeds import TEST_SEEDS, TRAINING_SEEDS, TUNING_SEEDS, outside_training, range_of, scenes_of


@pytest.mark.parametrize(
    ("seed", "name"),
    [(0, "training"), (999_999, "training"), (1_000_000, "tuning"), (1_999_999, "tuning"), (2_000_000, "test"),
     (2**40, "test")],
)  # fmt: skip
def test_a_scene_is_for_training_tuning_or_test(seed: int, name: str) -> None:
    assert range_of(seed) == name


def test_no_scene_is_for_two_things() -> None:
    assert TRAINING_SEEDS.stop == TUNING_SEEDS.start and TUNING_SEEDS.stop == TEST_SEEDS.start


@pytest.mark.parametrize(
    ("first", "name"),
    [(999_990, "training"), (999_991, "training and tuning"), (1_999_999, "tuning and test"), (2_000_000, "test")],
)
def test_scenes_across_a_border_are_told_as_both(first: int, name: str) -> None:
    assert scenes_of(range(first, first + 10)) == name


def test_only_training_scenes_and_the_real_world_are_learnt_from() -> None:
    assert outside_training(None) == outside_training(0) == outside_training(999_999) == ""
    assert "tuning scene" in outside_training(1_000_000) and "test scene" in outside_training(2_000_000)


def test_asking_needs_no_simulator() -> None:
    code = "import sys; import qt_ros.sim.seeds; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
