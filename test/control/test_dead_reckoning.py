from __future__ import annotations

import numpy as np
import pytest

from qt_ros.control.dead_reckoning import DeadReckoning


def sent(*velocities: float, tick: float = 0.02) -> DeadReckoning:
    """Velocities along x, one per tick, from time 0."""
    reckoning = DeadReckoning()
    for i, velocity in enumerate(velocities):
        reckoning.advance(i * tick)
        reckoning.command([velocity, 0.0, 0.0])
    reckoning.advance(len(velocities) * tick)
    return reckoning


def test_it_adds_up_what_was_commanded_since() -> None:
    reckoning = sent(0.1, 0.2, 0.3)
    assert reckoning.since(0.0) == pytest.approx([0.012, 0.0, 0.0])
    assert reckoning.since(0.03) == pytest.approx([0.008, 0.0, 0.0]), "between two ticks"
    assert reckoning.since(0.06) == pytest.approx(np.zeros(3))
    assert reckoning.since(9.0) == pytest.approx(np.zeros(3)), "nothing was sent in the future"


def test_a_command_is_not_obeyed_for_ever() -> None:
    reckoning = DeadReckoning(obeyed_for=0.1)
    reckoning.advance(0.0)
    reckoning.command([1.0, 0.0, 0.0])
    reckoning.advance(5.0)
    assert reckoning.since(0.0)[0] == pytest.approx(0.1)


def test_a_clock_that_is_set_back_takes_the_past_with_it() -> None:
    reckoning = sent(0.5, 0.5)
    reckoning.advance(-10.0)
    assert reckoning.since(-10.02)[0] == pytest.approx(0.01)
    assert reckoning.since(-20.0)[0] == pytest.approx(0.02)


def test_before_anything_nothing_was_sent() -> None:
    assert DeadReckoning().since(1.0) == pytest.approx(np.zeros(3))
