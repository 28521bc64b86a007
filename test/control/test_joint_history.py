"""What the joints were when an image was taken, from messages that may each carry only some of them."""

from __future__ import annotations

import math

from qt_ros.control.joint_history import JointHistory


def test_the_newest_state_at_or_before_the_image_counts() -> None:
    history = JointHistory(["a"])
    for stamp, value in ((1.0, 0.1), (1.1, 0.2), (1.2, 0.3)):
        history.add(stamp, {"a": value, "unknown": 9.0})
    assert history.as_of(1.15) == ({"a": 0.2}, 1.1)
    assert history.as_of(1.2) == ({"a": 0.3}, 1.2)
    assert history.as_of(0.5) == ({}, -math.inf)


def test_arm_and_gripper_may_come_in_different_messages() -> None:
    history = JointHistory(["arm", "finger"])
    history.add(1.0, {"finger": 0.05})
    assert history.as_of(2.0) == ({"finger": 0.05}, -math.inf)
    history.add(1.5, {"arm": 0.7})
    assert history.as_of(2.0) == ({"arm": 0.7, "finger": 0.05}, 1.0)


def test_a_clock_that_was_set_back_starts_afresh() -> None:
    history = JointHistory(["a"], horizon=1.0)
    history.add(100.0, {"a": 1.0})
    history.add(5.0, {"a": 2.0})
    assert history.latest == 5.0
    assert history.as_of(200.0) == ({"a": 2.0}, 5.0)


def test_only_the_last_second_is_kept() -> None:
    history = JointHistory(["a"], horizon=1.0)
    for i in range(100):
        history.add(i * 0.1, {"a": float(i)})
    assert history.as_of(5.0) == ({}, -math.inf)
    assert history.as_of(9.0) == ({"a": 90.0}, 9.0)
