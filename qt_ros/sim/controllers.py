"""The controllers of a real robot, as far as others can tell: joint trajectories and a velocity command that times out.

They follow joint_trajectory_controller and diff_drive_controller of ros2_controllers, so that whatever drives the
simulator drives a robot with those controllers. No ROS, no simulator: times are seconds of one clock, passed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class CommandRejected(ValueError):
    """A command the controller does not accept; the message says why and what to send instead."""


@dataclass(frozen=True)
class Waypoint:
    """One point of a trajectory: ``time`` in s after its start, ``positions``, ``velocities`` (or none) per joint."""

    time: float
    positions: Sequence[float]
    velocities: Sequence[float] = ()


class TrajectoryFollower:
    """Interpolates joint trajectories like joint_trajectory_controller with interpolate_from_desired_state.

    A new trajectory replaces the old one at once and starts from the position and velocity desired at that moment:
    linear between points that give positions only, cubic where both ends have velocities. After its last point the last
    position is held. Joints may come in any order, and a subset is allowed (the others hold).
    """

    def __init__(self, joints: Sequence[str]) -> None:
        self.joints = tuple(joints)
        self._times: NDArray[np.float64] = np.zeros(1)
        self._positions: NDArray[np.float64] = np.zeros((1, len(joints)))
        self._velocities: NDArray[np.float64] | None = None

    def hold(self, positions: Mapping[str, float], now: float) -> None:
        """Forget any trajectory and hold ``positions`` (rad or m)."""
        self._times = np.array([now])
        self._positions = np.array([[positions[j] for j in self.joints]])
        self._velocities = None

    def accept(self, names: Sequence[str], points: Sequence[Waypoint], now: float, start: float | None = None) -> None:
        """Follow ``points`` of the joints ``names`` from ``start`` (None: now). An empty list holds the present
        position.

        Raises CommandRejected for unknown or repeated joints, wrong sizes, times that do not increase, numbers that
        are not finite, and trajectories that ended in the past; what was being followed then stays in force.
        """
        held, speed = self._state(now)
        if not points:
            self.hold(dict(zip(self.joints, held, strict=True)), now)
            return
        columns = self._columns(names)
        start = now if start is None else start
        times = start + np.array([p.time for p in points], dtype=np.float64)
        positions = self._matrix(points, [p.positions for p in points], "positions", len(names))
        with_velocity = all(len(p.velocities) for p in points)
        velocities = (
            self._matrix(points, [p.velocities for p in points], "velocities", len(names)) if with_velocity else None
        )
        if not np.isfinite(times).all() or points[0].time < 0 or (np.diff(times) <= 0).any():
            raise CommandRejected("trajectory: time_from_start must be finite, not negative and increasing")
        if times[-1] < now and start < now:
            raise CommandRejected(
                f"trajectory: ended {now - times[-1]:.3f} s ago; stamp it with the time it should start, or 0"
            )
        full = np.tile(held, (len(points), 1))
        full[:, columns] = positions
        self._times = np.concatenate([[min(now, times[0])], times])
        self._positions = np.vstack([held, full])
        self._velocities = None
        if velocities is not None:
            full_speed = np.zeros_like(full)
            full_speed[:, columns] = velocities
            self._velocities = np.vstack([speed, full_speed])

    def sample(self, now: float) -> dict[str, float]:
        """Desired joint positions at ``now`` (rad or m)."""
        return dict(zip(self.joints, self._state(now)[0].tolist(), strict=True))

    def _state(self, now: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Desired position and velocity (n,) at ``now``."""
        i = int(np.searchsorted(self._times, now, side="right"))
        if i == 0 or i >= len(self._times):
            return self._positions[0 if i == 0 else -1].copy(), np.zeros(len(self.joints))
        span = self._times[i] - self._times[i - 1]
        s = (now - self._times[i - 1]) / span
        a, b = self._positions[i - 1], self._positions[i]
        if self._velocities is None:
            return a + s * (b - a), (b - a) / span
        va, vb = self._velocities[i - 1] * span, self._velocities[i] * span
        c2, c3 = 3 * (b - a) - 2 * va - vb, 2 * (a - b) + va + vb  # cubic Hermite in s
        return a + s * (va + s * (c2 + s * c3)), (va + s * (2 * c2 + 3 * s * c3)) / span

    def _columns(self, names: Sequence[str]) -> list[int]:
        unknown = [n for n in names if n not in self.joints]
        if unknown or not names or len(set(names)) != len(names):
            wrong = f"unknown joint(s) {', '.join(unknown)}" if unknown else "joint names are missing or repeated"
            raise CommandRejected(f"trajectory: {wrong}; this controller has {', '.join(self.joints)}")
        return [self.joints.index(n) for n in names]

    @staticmethod
    def _matrix(
        points: Sequence[Waypoint], rows: Sequence[Sequence[float]], what: str, width: int
    ) -> NDArray[np.float64]:
        for i, row in enumerate(rows):
            if len(row) != width:
                raise CommandRejected(
                    f"trajectory: point {i} of {len(points)} has {len(row)} {what} for {width} joints"
                )
        matrix = np.array([list(row) for row in rows], dtype=np.float64)
        if not np.isfinite(matrix).all():
            raise CommandRejected(f"trajectory: {what} are not all finite")
        return matrix


class VelocityCommand:
    """A base velocity that is obeyed while it is fresh, as diff_drive_controller does with ``cmd_vel_timeout``."""

    def __init__(self, timeout: float = 0.5) -> None:
        self.timeout = timeout
        self._forward = self._turn = 0.0
        self._stamp = -math.inf

    def accept(self, forward: float, turn: float, stamp: float, now: float) -> None:
        """Take ``forward`` m/s and ``turn`` rad/s given at ``stamp`` s (0: now).

        Raises CommandRejected when they are not finite or the stamp is older than the time-out.
        """
        if not (math.isfinite(forward) and math.isfinite(turn)):
            raise CommandRejected("cmd_vel: velocities are not finite")
        stamp = now if stamp == 0.0 else stamp
        if now - stamp > self.timeout:
            raise CommandRejected(
                f"cmd_vel: {now - stamp:.3f} s old, time-out {self.timeout} s; stamp it when it is sent"
            )
        self._forward, self._turn, self._stamp = forward, turn, min(stamp, now)

    def stop(self) -> None:
        """Zero from now on, until the next command."""
        self._stamp = -math.inf

    def sample(self, now: float) -> tuple[float, float]:
        """Forward m/s and turn rad/s in force at ``now``; zero once the last command is older than the time-out."""
        return (self._forward, self._turn) if now - self._stamp <= self.timeout else (0.0, 0.0)
