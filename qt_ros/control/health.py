"""How well a part of the graph does, in numbers and in one sentence that says what to do. No ROS.

Levels are those of diagnostic_msgs/DiagnosticStatus. A report never raises and never holds a number that is not finite.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from qt_ros.control.runner import Episode
from qt_ros.episodes.episode import TERMINAL_REASONS

OK, WARN, ERROR, STALE = range(4)
SLOW = 0.8  # of the expected rate: below it a stream is too slow
WINDOW = 5.0  # s over which a rate is measured
RESTART = 50  # messages: between two restarts of a publisher there are more
UNNUMBERED = 2**64 - 1  # what a middleware gives for a number that it does not know (rmw/types.h)
FAULTS = {  # stops that are nobody's wish, and what to look at
    "stale_camera": "look at the camera's status here, its driver and its QoS",
    "stale_joints": "look at the joint states' status here and their driver",
    "bad_image": "compare the camera with the contract: encoding, width, height, frame",
    "non_finite": "check the joint state driver; if it is sound, the checkpoint",
    "lost_policy": "is policy_node alive, and its p95 latency well below the policy period?",
    "lost_command": "is command_node alive, and activated before the episode began?",
    "limit": "the robot was led to a limit; look at limits in the contract",
    "fault": "the message of the episode and the node's log say what failed",
    "estop": "release the button, then call command_node/reset",
}


@dataclass
class Health:
    """One status: what it is about, how bad it is, what to do, and the numbers behind it."""

    name: str
    level: int = OK
    message: str = ""
    values: dict[str, str] = field(default_factory=dict)

    def worsen(self, level: int, message: str) -> None:
        """Make it at least as bad as ``level``; the message of the worst stays first."""
        if level > self.level:
            self.level, self.message = level, f"{message}; {self.message}" if self.message else message
        else:
            self.message = f"{self.message}; {message}" if self.message else message


class Stream:
    """Rate and age of a stream of messages. Times in s of one clock, passed in; a clock set back starts anew.

    ``lost``: messages of the publisher that never came, by its own numbers; None while none of them was numbered, and
    where several publish, whose numbers cannot be told apart.
    """

    def __init__(self, name: str, expected: float = 0.0) -> None:
        self.name, self.expected, self.count = name, expected, 0
        self.lost: int | None = None
        self._number, self._steady, self._mixed = 0, RESTART, False
        self._times: deque[float] = deque(maxlen=1000)

    def seen(self, now: float) -> None:
        """A message came."""
        if self._times and now < self._times[-1]:
            self._times.clear()
        self.count += 1
        self._times.append(now)

    def numbered(self, number: int | None) -> None:
        """The publisher's number of the message that came: those left out since the last one are lost, on the way or
        in a queue that was full. A smaller number is of a publisher that was started again; where that
        happens all the time several publish at once."""
        if number is None or number >= UNNUMBERED or self._mixed:
            return
        if self.lost is None:
            self.lost = 0
        elif number > self._number:
            self.lost += number - self._number - 1
            self._steady += 1
        elif self._steady < RESTART:
            self.lost, self._mixed = None, True
        else:
            self._steady = 0
        self._number = number

    def rate(self, now: float) -> float:
        """Messages per second over the last WINDOW s (over what there is, while that is less); 0 without two that a
        clock of nanoseconds can tell apart."""
        recent = [t for t in self._times if t > now - WINDOW]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if recent and recent[-1] - recent[0] >= 1e-9 else 0.0

    def age(self, now: float) -> float:
        """Seconds since the last message; infinite before the first."""
        return max(0.0, now - self._times[-1]) if self._times else math.inf

    def health(self, now: float, max_age: float = 0.0, needed: bool = True) -> Health:
        """STALE without any message, ERROR when the last is older than ``max_age`` s (0: any age will do), WARN below
        SLOW of the expected rate. A stream that is not ``needed`` now is only described."""
        age, rate = self.age(now), self.rate(now)
        result = Health(self.name, values={"messages": str(self.count), "rate_hz": number(rate)})
        if self.expected:
            result.values["expected_hz"] = number(self.expected)
        if math.isfinite(age):
            result.values["age_s"] = number(age)
        if self.lost is not None:
            result.values["lost"] = str(self.lost)
        if not needed:
            result.message = "nothing is expected now"
        elif not self.count or not math.isfinite(age):
            result.worsen(STALE, "nothing yet; is it published, with a fitting QoS and on this domain?")
        elif max_age and age > max_age:
            result.worsen(ERROR, f"nothing for {age:.2f} s, limit {max_age:g} s; is its publisher alive?")
        elif self.expected and rate < SLOW * self.expected:
            result.worsen(WARN, f"{rate:.1f} Hz, expected {self.expected:g}; is the machine or the network overloaded?")
        else:
            result.message = "ok"
        return result


def number(value: float) -> str:
    """Three digits after the point; nothing measured (NaN, infinite) is an empty text."""
    return f"{value:.3f}" if math.isfinite(value) else ""


def stop_level(reason: str) -> int:
    """How bad it is that motion stopped for ``reason`` ('' or 'none': it did not)."""
    if reason in ("", "none") or reason in TERMINAL_REASONS:
        return OK
    return ERROR if reason in FAULTS else WARN


def policy_health(
    episode: Episode | None, active: bool, period: float, memory: Mapping[str, float] | None = None
) -> list[Health]:
    """The present or last episode, its latency in ms (``period``: the policy's, in s), and GPU memory in MiB."""
    state = Health("episode", message="inactive; activate the node" if not active else "idle")
    latency = Health("latency", message="no step yet")
    if episode is not None:
        if active:
            state.message = "acting" if episode.running else f"idle; the last episode ended: {episode.reason}"
        state.values = {
            "state": "running" if episode.running else "ended",
            "episode": episode.episode_id,
            "instruction": episode.instruction,
            "steps": str(episode.steps),
            "reason": episode.reason or "none",
        }
        if (level := stop_level(episode.reason)) != OK:
            advice = FAULTS.get(episode.reason, "")
            state.worsen(level, ": ".join(filter(None, (episode.reason, episode.message, advice))))
        if len(episode.latency):
            latency = _latency(episode, period)
    result = [state, latency]
    if memory:
        values = {name: number(value) for name, value in memory.items()}
        gpu = Health("gpu memory", message="ok", values=values)
        if memory["gpu_memory_free_mib"] < 0.05 * memory["gpu_memory_total_mib"]:
            gpu.worsen(WARN, "less than 5% is free; stop what else uses the GPU")
        result.append(gpu)
    return result


def _latency(episode: Episode, period: float) -> Health:
    latency, overhead = episode.latency, episode.overhead
    numbers = {"p50": latency.p50, "p95": latency.p95}
    health = Health("latency", message="ok")
    health.values = {f"latency_ms_{k}": number(v) for k, v in numbers.items()}
    health.values |= {f"overhead_ms_{k}": number(v) for k, v in {"p50": overhead.p50, "p95": overhead.p95}.items()}
    health.values["period_ms"] = number(period * 1e3)
    if latency.p95 > period * 1e3:
        health.worsen(
            ERROR, f"p95 {latency.p95:.0f} ms is over the policy period; use a GPU, a smaller network or fewer threads"
        )
    elif latency.p95 > 0.5 * period * 1e3:
        health.worsen(WARN, f"p95 {latency.p95:.0f} ms is over half of the policy period; what else uses the CPU?")
    return health


def command_health(
    state: str, reason: str, message: str, episode_id: str, action_age: float, estop: bool, active: bool
) -> Health:
    """What command_node does: ``state`` idle, moving or stopped, the stop's ``reason`` and words, age of the action."""
    health = Health("commands", message=state if active else f"{state}; inactive, activate the node before an episode")
    health.values = {
        "state": state,
        "reason": reason or "none",
        "episode": episode_id,
        "action_age_s": number(action_age),
        "estop_latched": str(estop).lower(),
    }
    if (level := stop_level(reason)) != OK:
        health.worsen(level, ": ".join(filter(None, (reason, message, FAULTS.get(reason, "")))))
    if estop and reason != "estop":
        health.worsen(ERROR, f"estop: {FAULTS['estop']}")
    return health


def recorder_health(episode_id: str, free_bytes: float, last: Mapping[str, str], dropped: int, error: str) -> Health:
    """What recorder_node does; ``last``: numbers of the bag closed last, ``dropped`` and ``error`` of it."""
    health = Health("recording", message=f"recording {episode_id}" if episode_id else "waiting for an episode")
    health.values = {"episode": episode_id, "disk_free_gib": number(free_bytes / 2**30), **last}
    if dropped:
        health.worsen(WARN, f"the last bag lacks {dropped} messages; the disk is too slow, record compressed images")
    if error:
        health.worsen(ERROR, f"the last bag: {error}")
    if free_bytes < 2**28:
        health.worsen(ERROR, "the disk is full; free some space before the next episode")
    elif free_bytes < 2**31:
        health.worsen(WARN, "less than 2 GiB are free on the disk")
    return health


def sim_health(wanted: float, measured: float, slipped: float, unstable: str) -> Health:
    """How the simulator keeps up: real-time factors (``wanted`` 0: as fast as possible), seconds lost."""
    health = Health("simulation", message="ok")
    health.values = {"real_time_factor": number(measured), "wanted": number(wanted), "slipped_s": number(slipped)}
    if wanted and math.isfinite(measured) and measured < SLOW * wanted:
        health.worsen(WARN, f"real-time factor {measured:.2f} instead of {wanted:g}; set real_time_factor lower")
    if unstable:
        health.worsen(ERROR, unstable)
    return health
