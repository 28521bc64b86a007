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


def test_a_tap_latches_and_lets_go_of_no_button_that_is_down() -> None:
    estop = EStop()
    estop.press(True, 100.0)
    estop.tap(100.1)
    assert estop.reset(110.0) == (False, "the emergency stop is still pressed; release it first")
    estop.press(False, 110.0)
    assert estop.latched and estop.reset(110.0)[0]
    estop.tap(120.0)
    assert estop.latched and "console" in estop.cause and not estop.pressed


def test_what_is_tapped_again_and_again_counts_as_held() -> None:
    estop = EStop()
    for now in (100.0, 100.25, 100.5):
        estop.tap(now)
        assert not estop.reset(now + 0.24)[0] and estop.latched
    assert estop.reset(101.0)[0] and not estop.latched


def test_a_tap_is_no_sign_of_life_of_a_button_that_is_dead() -> None:
    estop = EStop(timeout=0.5)
    estop.press(False, 100.0)
    for now in (100.2, 100.4, 100.6):
        estop.tap(now)
        estop.watch(now)
    assert estop.pressed and not estop.reset(200.0)[0]


def test_the_first_cause_is_kept() -> None:
    estop = EStop()
    estop.trigger("a")
    estop.press(True)
    assert estop.cause == "a"
