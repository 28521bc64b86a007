"""The scripts that make checkpoints: what they decide by is no test scene, and test scenes come last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qt_ros.sim.seeds import range_of

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def steps(script: str) -> list[str]:
    """What a script does with a checkpoint that is trained, in order: the range it is evaluated in, or 'kept'."""
    done = []
    for line in (TOOLS / script).read_text(encoding="utf-8").splitlines():
        if line.startswith("qt-ros evaluate"):
            seed = re.search(r"--seed (\d+)", line)
            assert seed is not None, line
            done.append(range_of(int(seed[1])))
        elif line.startswith(("cp ", "echo ")) and "checkpoints/default" in line:
            done.append("kept")
    return done


@pytest.mark.parametrize("script", ["make_checkpoint.sh", "make_picking_checkpoint.sh"])
def test_a_checkpoint_is_kept_by_tuning_scenes_and_test_scenes_come_last(script: str) -> None:
    done = list(dict.fromkeys(steps(script)))
    assert done == ["tuning", "kept", "test"], done


@pytest.mark.parametrize("script", ["make_checkpoint.sh", "make_picking_checkpoint.sh"])
def test_what_is_decided_by_is_all_that_is_reported_too(script: str) -> None:
    done = steps(script)
    assert done.count("tuning") == done.count("test") > 0
