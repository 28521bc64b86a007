"""The recorder benchmark counts what is in a bag against what was sent, message by message."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.recorder import compare, number_of


def test_lost_doubled_and_unknown_messages_are_counted() -> None:
    counts = compare(5, Counter({0: 1, 1: 2, 4: 1, 9: 1}))
    assert (counts["lost"], counts["first_lost"]) == (2, [2, 3])
    assert (counts["doubled"], counts["unknown"], counts["in_bag"], counts["published"]) == (1, 1, 5, 5)


def test_nothing_is_lost_when_every_number_is_there_once() -> None:
    counts = compare(3, Counter({0: 1, 1: 1, 2: 1}))
    assert (counts["lost"], counts["doubled"], counts["unknown"]) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["image", "joint_state", "imu"])
def test_the_number_is_read_from_a_serialised_message_of_every_kind(kind: str) -> None:
    serialization = pytest.importorskip("rclpy.serialization")
    from benchmarks.sensor_publisher import make_message

    message = make_message(kind, 8, 6, "", "mobile_manipulator")
    message.header.stamp.sec = 2**31 - 1
    message.header.frame_id = f"{1234:010d}"
    assert number_of(serialization.serialize_message(message)) == 1234


@pytest.mark.graph
def test_a_short_recording_over_dds_accounts_for_every_message(
    ros_domain_id: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("rclpy")
    from benchmarks.recorder import measure, parse

    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "PYTHONPATH"):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))  # so that what the benchmark sets is undone
    options = parse(["--seconds", "1", "--camera-rate", "5", "--width", "64", "--height", "48", "--out", str(tmp_path)])
    recording = measure(options)
    assert recording["complete"] and recording["error"] == ""
    assert {t["published"] for t in recording["topics"].values()} == {5, 100}
    for counts in recording["topics"].values():
        assert counts["in_bag"] == counts["published"] - counts["lost"] + counts["doubled"]
        assert counts["unknown"] == 0
    assert recording["bytes"] > 0
