"""Who may collect into a store, and what; whole runs are tested in test_collect.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qt_ros.sim import store_guard
from qt_ros.sim.store_guard import (
    SETTINGS,
    CollectError,
    alone,
    note_simulator,
    require_settings,
    simulator_sha256,
)


def test_only_one_holds_a_lock_and_it_is_free_afterwards(tmp_path: Path) -> None:
    with alone(tmp_path / "lock"):
        with pytest.raises(CollectError, match="another process"), alone(tmp_path / "lock"):
            raise AssertionError("held twice")
    with alone(tmp_path / "lock"):
        pass


def test_an_error_inside_is_not_mistaken_for_a_held_lock(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError, match="a pipe"), alone(tmp_path / "lock"):
        raise BlockingIOError("a pipe")


def test_settings_are_kept_and_compared_as_they_come_back_from_the_file(tmp_path: Path) -> None:
    settings = {"tasks": ("pick_mug",), "noise": {"flip": 0.1}}
    require_settings(tmp_path, settings)
    assert json.loads((tmp_path / SETTINGS).read_text())["tasks"] == ["pick_mug"]
    require_settings(tmp_path, settings)
    with pytest.raises(CollectError, match="noise is .* there, not"):
        require_settings(tmp_path, {**settings, "noise": {"flip": 0.2}})
    require_settings(tmp_path, {"tasks": ["pick_bowl"]}, empty=True)  # an attempt that left nothing binds nobody
    assert json.loads((tmp_path / SETTINGS).read_text()) == {"tasks": ["pick_bowl"]}


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_settings_that_cannot_be_read_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(CollectError, match=SETTINGS):
        require_settings(tmp_path, {"tasks": []})


def simulators(store: Path) -> list[str]:
    found = json.loads((store / SETTINGS).read_text())["simulators"]
    assert isinstance(found, list)
    return found


def test_a_store_names_the_simulators_that_made_it_and_a_change_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"tasks": ["pick_mug"]}
    require_settings(tmp_path, settings, empty=True)
    note_simulator(tmp_path, "a" * 64, empty=True)
    note_simulator(tmp_path, "a" * 64)
    assert simulators(tmp_path) == ["a" * 64] and not caplog.records
    note_simulator(tmp_path, "b" * 64)
    note_simulator(tmp_path, "b" * 64)
    assert simulators(tmp_path) == ["a" * 64, "b" * 64]
    (told,) = caplog.messages
    assert "ANOTHER SIMULATOR (aaaaaaaaaaaa, now bbbbbbbbbbbb)" in told and str(tmp_path) in told
    require_settings(tmp_path, settings)  # it is no setting that must agree
    with pytest.raises(CollectError, match="tasks is"):
        require_settings(tmp_path, {"tasks": ["pick_bowl"]})


def test_a_store_of_before_is_only_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    require_settings(tmp_path, {"tasks": []})
    for _ in range(2):
        note_simulator(tmp_path, "a" * 64)
    assert simulators(tmp_path) == ["unknown", "a" * 64]
    (told,) = caplog.messages
    assert "does not say which simulator" in told


@pytest.mark.parametrize(
    "file", ["config/tasks.yaml", "description/kitchen.sdf", "description/new/mesh.stl", "qt_ros/sim/scoring.py"]
)
def test_every_edit_of_scenes_robot_or_code_makes_another_simulator(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(store_guard.__file__).parents[2]
    for name in ("config/tasks.yaml", "description", "qt_ros/sim"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (root / name).is_dir() else shutil.copy)(root / name, tmp_path / name)
    computed = simulator_sha256.__wrapped__
    here = computed()
    monkeypatch.setattr(store_guard, "package_root", lambda: tmp_path)
    monkeypatch.setattr(store_guard, "__file__", str(tmp_path / "qt_ros" / "sim" / "store_guard.py"))
    assert computed() == here, "the same wherever it is installed"
    (tmp_path / file).parent.mkdir(exist_ok=True)
    with (tmp_path / file).open("a") as edited:
        edited.write("\n")
    assert computed() != here
