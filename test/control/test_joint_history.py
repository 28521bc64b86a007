"""What the joints were when an image was taken, from messages that may each carry only some of them."""

from __future__ import annotations

from qt_ros.control.joint_history import JointHistory


def test_the_newest_state_at_or_before_the_image_counts() -> None:
    history = JointHistory(["a"])
    for stamp, value in ((1.0, 0.1), (1.1, 0.2), (1.2, 0.3)):
        history.add(stamp, {"a": value, "unknown": 9.0})
    assert history.as_of(1.15, 0.2) == ({"a": 0.2}, [])
    assert history.as_of(1.2, 0.2) == ({"a": 0.3}, [])
    assert history.as_of(0.5, 0.2) == ({}, ["a"])


def test_arm_and_gripper_may_come_in_different_messages() -> None:
    history = JointHistory(["arm", "finger"])
    history.add(1.0, {"finger": 0.05})
    assert history.as_of(2.0, 1.0) == ({"finger": 0.05}, ["arm"])
    history.add(1.5, {"arm": 0.7})
    assert history.as_of(2.0, 1.0) == ({"arm": 0.7, "finger": 0.05}, [])
    assert history.as_of(2.0, 0.6) == ({"arm": 0.7}, ["finger"])  # too old


def test_an_optional_joint_is_neither_missed_nor_a_sign_of_life() -> None:
    history = JointHistory(["arm"], ["lift"])
    history.add(1.0, {"arm": 0.7})
    assert history.as_of(1.0, 0.2) == ({"arm": 0.7}, [])
    history.add(1.1, {"lift": 0.3})
    assert history.latest == 1.0
    assert history.as_of(1.1, 0.2) == ({"arm": 0.7, "lift": 0.3}, [])
    history.add(1.5, {"arm": 0.8})
    assert history.as_of(1.5, 0.2) == ({"arm": 0.8}, [])  # the lift fell silent


def test_a_clock_that_was_set_back_starts_afresh() -> None:
    history = JointHistory(["a"], horizon=1.0)
    history.add(100.0, {"a": 1.0})
    history.add(5.0, {"a": 2.0})
    assert history.latest == 5.0
    assert history.as_of(5.1, 0.2) == ({"a": 2.0}, [])


def test_only_the_last_second_is_kept() -> None:
    history = JointHistory(["a"], horizon=1.0)
    for i in range(100):
        history.add(i * 0.1, {"a": float(i)})
    assert history.as_of(5.0, 9.0) == ({}, ["a"])
    assert history.as_of(9.0, 0.2) == ({"a": 90.0}, [])
