"""Simulated time keeps pace with the wall, or runs free; periodic work falls on a fixed grid."""

from __future__ import annotations

import pytest

from qt_ros.sim.pacing import Pacer, Periodic


class Wall:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_simulated_time_waits_for_the_wall() -> None:
    wall = Wall()
    pacer = Pacer(2.0, clock=wall)
    assert pacer.delay(1.0) == pytest.approx(0.5)
    wall.now += 0.5
    assert pacer.delay(1.0) == pytest.approx(0.0)


def test_a_short_delay_is_caught_up_and_a_long_one_is_forgotten() -> None:
    wall = Wall()
    pacer = Pacer(1.0, max_lag=0.25, clock=wall)
    wall.now += 0.2
    assert pacer.delay(0.1) == 0.0
    assert pacer.delay(0.3) == pytest.approx(0.1)
    wall.now += 10.0
    assert pacer.delay(0.4) == 0.0
    assert pacer.slipped == pytest.approx(9.8)
    assert pacer.delay(0.5) == pytest.approx(0.1)


def test_factor_zero_never_waits() -> None:
    pacer = Pacer(0.0, clock=Wall())
    assert [pacer.delay(t) for t in (1.0, 100.0)] == [0.0, 0.0]
    with pytest.raises(ValueError, match="real-time factor"):
        Pacer(-1.0)


def test_the_real_time_factor_is_measured() -> None:
    wall = Wall()
    pacer = Pacer(0.0, clock=wall)
    for i in range(10):
        pacer.delay(i * 0.3)
        wall.now += 0.1
    assert pacer.measured == pytest.approx(3.0)


def test_fifteen_hertz_stays_on_its_grid_when_time_moves_in_steps_of_ten_milliseconds() -> None:
    camera = Periodic(15.0)
    stamps = [i * 0.01 for i in range(201) if camera.due(i * 0.01)]
    assert len(stamps) == 31
    assert stamps[:4] == pytest.approx([0.0, 0.07, 0.14, 0.2])
    assert stamps[30] == pytest.approx(2.0)


def test_a_late_caller_is_served_once() -> None:
    joints = Periodic(50.0)
    assert joints.due(0.0)
    assert joints.due(1.0)
    assert not joints.due(1.0)
    assert joints.due(1.02)
