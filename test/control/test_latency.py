from __future__ import annotations

import math

import pytest

from qt_ros.control.latency import LatencyTracker


def test_the_warm_up_is_not_counted() -> None:
    tracker = LatencyTracker(warm_up=2)
    for value in (900.0, 500.0, 10.0, 20.0, 30.0):
        tracker.add(value)
    assert (len(tracker), tracker.p50) == (3, 20.0)
    assert tracker.p95 == pytest.approx(29.0)


def test_without_samples_the_percentiles_are_nan() -> None:
    assert math.isnan(LatencyTracker().p50) and math.isnan(LatencyTracker().p95)


def test_reset_forgets_and_can_skip_the_warm_up() -> None:
    tracker = LatencyTracker(warm_up=1)
    tracker.add(5.0)
    tracker.add(6.0)
    tracker.reset(warm_up=0)
    tracker.add(7.0)
    assert (len(tracker), tracker.p50) == (1, 7.0)


def test_only_the_window_is_kept() -> None:
    tracker = LatencyTracker(warm_up=0, window=3)
    for value in range(10):
        tracker.add(float(value))
    assert (len(tracker), tracker.p50) == (3, 8.0)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_an_impossible_latency_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="latency"):
        LatencyTracker().add(bad)
