"""Files of strangers: contracts, URDFs, bags, stores and checkpoints, cut short and altered in thousands of ways.

None may crash the process, hang it, take its memory, or raise anything but the documented errors.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from fuzz_campaign import NAMES, campaign, findings

pytestmark = pytest.mark.skipif(importlib.util.find_spec("rclpy") is None, reason="bags are made of ROS messages")


def told(folder: Path) -> str:
    return "\n".join(f"{f['target']} seed {f['seed']}: {f['error']}\n{f['trace']}" for f in findings(folder)[:5])


def test_a_few_hundred_mutants(tmp_path: Path) -> None:
    counts = campaign(tmp_path, 270, together=True)
    assert not findings(tmp_path), told(tmp_path)
    assert set(counts) == set(NAMES) and all(c["cases"] == 30 for c in counts.values())
    accepted = sum(c["accepted"] for c in counts.values())
    assert 0 < accepted < 270, "some are whole enough, some are not"


@pytest.mark.slow
@pytest.mark.timeout(8 * 3600)
def test_a_hundred_thousand_mutants(tmp_path: Path) -> None:
    """QT_ROS_FUZZ_FOLDER: where to go on; QT_ROS_FUZZ_CASES: how many; QT_ROS_FUZZ_FIRST: first seed."""
    folder = Path(os.environ.get("QT_ROS_FUZZ_FOLDER", tmp_path))
    cases = int(os.environ.get("QT_ROS_FUZZ_CASES", "100000"))
    counts = campaign(folder, cases, first=int(os.environ.get("QT_ROS_FUZZ_FIRST", "0")))
    assert not findings(folder), told(folder)
    assert sum(c["cases"] for c in counts.values()) >= cases
