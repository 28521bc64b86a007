"""Health says how bad it is and what to do, in numbers that are finite, whatever happened before."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qt_ros.control.health import (
    ERROR,
    FAULTS,
    OK,
    STALE,
    WARN,
    Health,
    Stream,
    command_health,
    policy_health,
    recorder_health,
    sim_health,
    stop_level,
)
from qt_ros.control.runner import Episode
from qt_ros.episodes.episode import REASONS, TERMINAL_REASONS

PERIOD = 0.2
GIB = 2.0**30


def stream(rate: float, seconds: float = 10.0, expected: float = 15.0) -> Stream:
    made = Stream("camera", expected)
    for i in range(int(rate * seconds) + 1):
        made.seen(i / rate)
    return made


def test_a_stream_at_its_rate_is_well_and_a_slow_or_silent_one_is_told_what_to_look_at() -> None:
    well = stream(15.0).health(10.0, max_age=0.5)
    assert (well.level, well.message) == (OK, "ok")
    assert float(well.values["rate_hz"]) == pytest.approx(15.0, rel=0.01)
    slow = stream(6.0).health(10.0, max_age=0.5)
    assert (slow.level, "6.0 Hz, expected 15" in slow.message) == (WARN, True)
    silent = stream(15.0).health(12.0, max_age=0.5)
    assert (silent.level, "nothing for 2.00 s, limit 0.5" in silent.message) == (ERROR, True)
    never = Stream("camera", 15.0).health(12.0, max_age=0.5)
    assert (never.level, "is it published" in never.message) == (STALE, True)
    assert "age_s" not in never.values
    assert Stream("camera", 15.0).health(12.0, needed=False).level == OK


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([7, 8, 9], 0),
        ([7, 10, 11, 15], 5),
        ([700, 1, 2, 4], 1),  # the publisher was started again
        ([5], 0),
        ([700, 3, 4, 6], 1),  # and was heard a little late
        ([1, 200, 2, 201, 3, 202, 203], None),  # two publishers on one topic
        ([None, None], None),
        ([2**64 - 1] * 3, None),  # a middleware that does not number
    ],
)
def test_messages_that_never_came_are_counted_by_their_publisher_s_numbers(
    numbers: list[int | None], lost: int | None
) -> None:
    stream = Stream("camera")
    for number in numbers:
        stream.numbered(number)
        stream.seen(1.0)
    assert stream.lost == lost and stream.count == len(numbers)
    assert stream.health(1.0).values.get("lost") == (None if lost is None else str(lost))


def test_a_clock_that_was_set_back_starts_the_measurement_anew() -> None:
    made = stream(15.0)
    made.seen(1.0)
    assert made.age(1.5) == 0.5 and made.rate(1.5) == 0.0
    made.seen(1.1)
    assert made.rate(1.5) == pytest.approx(10.0)


@given(st.lists(st.floats(-1e6, 1e6), max_size=50), st.floats(-1e6, 1e6))
@example([-2.2e-313, 0.0], 0.0)
def test_any_sequence_of_times_gives_finite_numbers(times: list[float], now: float) -> None:
    made = Stream("x", 10.0)
    for time in times:
        made.seen(time)
    health = made.health(now, 0.5)
    assert all(math.isfinite(float(v)) for v in health.values.values())
    assert made.age(now) >= 0.0 and made.rate(now) >= 0.0
    assert health.message


def test_every_stop_has_a_level_and_every_fault_an_advice() -> None:
    assert {r for r in REASONS if stop_level(r) == OK} == TERMINAL_REASONS | {"none"}
    assert {r for r in REASONS if stop_level(r) == WARN} == {"operator", "canceled", "deactivated", "preempted"}
    assert {r for r in REASONS if stop_level(r) == ERROR} == set(FAULTS)
    assert stop_level("") == OK


def episode(**changes: object) -> Episode:
    return Episode("e1", "pick", start=0.0, max_duration=12.0, **changes)  # type: ignore[arg-type]


def test_the_policy_tells_its_episode_its_latency_and_what_is_not_the_network() -> None:
    acting = episode(steps=1)
    acting.latency.add(30.0)
    acting.overhead.add(2.0)
    state, latency = policy_health(acting, True, PERIOD)
    assert (state.message, state.values["state"], state.values["reason"]) == ("acting", "running", "none")
    assert (latency.values["latency_ms_p95"], latency.values["overhead_ms_p95"]) == ("30.000", "2.000")
    assert (state.level, latency.level) == (OK, OK)
    assert policy_health(None, False, PERIOD)[0].message.startswith("inactive")
    assert policy_health(None, True, PERIOD)[0].message == "idle"


@pytest.mark.parametrize(("milliseconds", "level"), [(50.0, OK), (120.0, WARN), (250.0, ERROR)])
def test_a_latency_near_or_over_the_period_is_told(milliseconds: float, level: int) -> None:
    slow = episode(steps=1)
    slow.latency.add(milliseconds)
    slow.overhead.add(1.0)
    health = policy_health(slow, True, PERIOD)[1]
    assert health.level == level
    assert ("policy period" in health.message) == (level != OK)


def test_an_episode_that_ended_in_a_fault_says_what_to_do_and_one_that_was_done_does_not() -> None:
    bad = policy_health(episode(reason="stale_camera", message="nothing for 1 s"), True, PERIOD)[0]
    assert bad.level == ERROR and "nothing for 1 s" in bad.message and "QoS" in bad.message
    assert policy_health(episode(reason="timeout"), True, PERIOD)[0].level == OK
    assert policy_health(episode(reason="canceled"), True, PERIOD)[0].level == WARN


def test_gpu_memory_is_told_where_there_is_a_gpu() -> None:
    memory = {"gpu_memory_free_mib": 100.0, "gpu_memory_total_mib": 8000.0}
    assert [h.name for h in policy_health(None, True, PERIOD)] == ["episode", "latency"]
    full = policy_health(None, True, PERIOD, memory)[2]
    assert (full.name, full.level) == ("gpu memory", WARN)
    assert policy_health(None, True, PERIOD, {**memory, "gpu_memory_free_mib": 7000.0})[2].level == OK


def test_a_latched_emergency_stop_is_an_error_until_it_is_reset_whatever_happened_last() -> None:
    for reason in ("estop", "timeout", ""):
        health = command_health("stopped", reason, "", "e1", 0.1, estop=True, active=True)
        assert health.level == ERROR and "command_node/reset" in health.message
    assert command_health("idle", "", "", "", 0.0, estop=False, active=True).level == OK
    assert command_health("stopped", "terminate", "", "e1", 0.0, estop=False, active=True).level == OK


def test_the_recorder_tells_drops_errors_and_a_full_disk() -> None:
    assert recorder_health("e1", 100 * GIB, {}, 0, "").level == OK
    assert recorder_health("e1", 100 * GIB, {}, 0, "").message == "recording e1"
    assert recorder_health("", 100 * GIB, {"dropped": "3"}, 3, "").level == WARN
    assert recorder_health("", 100 * GIB, {}, 3, "no space").level == ERROR
    assert recorder_health("", 1 * GIB, {}, 0, "").level == WARN
    assert recorder_health("", 0.1 * GIB, {}, 0, "").level == ERROR


def test_the_simulator_tells_when_it_cannot_keep_up() -> None:
    assert sim_health(1.0, 0.99, 0.0, "").level == OK
    assert sim_health(1.0, 0.5, 3.0, "").level == WARN
    assert sim_health(0.0, 0.5, 0.0, "").level == OK  # as fast as possible is never too slow
    assert sim_health(1.0, 1.0, 0.0, "unstable").level == ERROR


def test_the_worst_problem_stands_first_and_none_is_forgotten() -> None:
    health = Health("x")
    health.worsen(WARN, "slow")
    health.worsen(ERROR, "broken")
    health.worsen(WARN, "late")
    assert (health.level, health.message) == (ERROR, "broken; slow; late")
