"""Who may collect into a store, and what; whole runs are tested in test_collect.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qt_ros.sim.store_guard import SETTINGS, CollectError, alone, require_settings


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
