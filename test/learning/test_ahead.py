"""Work is done before it is asked for, each piece once, and what fails does so when it is asked for."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from qt_ros.learning.ahead import Ahead


def test_the_next_steps_are_made_before_they_are_asked_for_and_each_once() -> None:
    made: Counter[int] = Counter()
    third = threading.Event()

    def make(step: int) -> int:
        made[step] += 1
        if step == 3:
            third.set()
        return 10 * step

    ahead = Ahead(make, depth=2)
    assert ahead.get(1) == 10
    assert third.wait(60)
    assert [ahead.get(step, 6) for step in range(2, 6)] == [20, 30, 40, 50]
    ahead.close()
    assert made == Counter(range(1, 6))


def test_another_step_than_the_next_one_may_be_asked_for() -> None:
    ahead = Ahead(lambda step: step, depth=2)
    assert [ahead.get(step) for step in (5, 0, 100, 100, 1)] == [5, 0, 100, 100, 1]
    ahead.close()


def test_a_failure_is_raised_at_its_own_step_and_may_pass() -> None:
    failing = threading.Event()
    failing.set()
    tried = threading.Semaphore(0)

    def make(step: int) -> int:
        if step == 2:
            tried.release()
            if failing.is_set():
                raise OSError("away")
        return step

    ahead = Ahead(make, depth=3)
    assert ahead.get(0) == 0 and ahead.get(1) == 1
    with pytest.raises(OSError, match="away"):
        ahead.get(2)
    assert ahead.get(1) == 1  # begins step 2 again
    assert tried.acquire(timeout=60)
    failing.clear()
    assert ahead.get(2) == 2
    ahead.close()
