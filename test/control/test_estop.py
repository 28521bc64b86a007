from __future__ import annotations

from qt_ros.control.estop import EStop


def test_a_press_latches_and_a_release_alone_frees_nothing() -> None:
    estop = EStop()
    estop.press(True)
    assert estop.latched and not estop.reset()[0]
    estop.press(False)
    assert estop.latched
    assert estop.reset() == (True, "emergency stop reset") and not estop.latched


def test_it_can_be_triggered_without_a_button() -> None:
    estop = EStop()
    estop.trigger("asked for by the service")
    assert estop.latched and estop.cause == "asked for by the service"
    assert estop.reset()[0] and not estop.latched


def test_a_silent_button_counts_as_pressed_until_it_is_heard_and_reset() -> None:
    estop = EStop(timeout=0.5)
    estop.watch(100.0)
    assert not estop.latched, "its patience begins when it is first watched"
    estop.press(False, 100.3)
    estop.watch(100.8)
    assert not estop.latched
    estop.watch(100.9)
    assert estop.latched and "silent" in estop.cause
    assert not estop.reset()[0], "still silent"
    estop.press(False, 101.0)
    estop.watch(101.1)
    assert estop.latched
    assert estop.reset()[0] and not estop.latched


def test_a_button_that_never_speaks_counts_as_pressed() -> None:
    estop = EStop(timeout=0.5)
    estop.watch(3.0)
    estop.watch(3.6)
    assert estop.latched


def test_without_a_timeout_silence_means_nothing() -> None:
    estop = EStop()
    for now in (0.0, 1e6):
        estop.watch(now)
    assert not estop.latched


def test_the_first_cause_is_kept() -> None:
    estop = EStop()
    estop.trigger("a")
    estop.press(True)
    assert estop.cause == "a"
