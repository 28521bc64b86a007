"""Bounds on motion as pure functions: finite, not too fast, not too sudden, inside the box.

Arrays are float64 in SI units. Every function refuses non-finite numbers with `NonFiniteError`, so a NaN can enter
at one place and leave at none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class NonFiniteError(ValueError):
    """A NaN or an infinity where a number that moves a robot is needed."""


def finite(what: str, values: ArrayLike, size: int | None = None) -> Array:
    """`values` as a fresh float64 array; raises `NonFiniteError` for NaN or infinity, `ValueError` for another size.

    `what` names the quantity in the message; `size` is the expected length of a one-dimensional array.
    """
    array = np.array(values, dtype=np.float64)
    if size is not None and array.shape != (size,):
        raise ValueError(f"{what}: expected {size} numbers, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise NonFiniteError(f"{what} is not finite: {array.tolist()}; nothing is sent to the robot")
    return array


def limit_norm(vector: ArrayLike, maximum: float) -> Array:
    """`vector` (n,), shortened to the length `maximum` if it is longer; its direction stays."""
    v = finite("vector", vector)
    length = float(np.linalg.norm(v))
    return v if length <= maximum else v * (maximum / length)


def slew(current: ArrayLike, target: ArrayLike, max_change: float) -> Array:
    """One step from `current` (n,) towards `target` (n,) of at most `max_change` in length; arrives exactly."""
    a, b = finite("current", current), finite("target", target)
    step = b - a
    length = float(np.linalg.norm(step))
    return b if length <= max_change else a + step * (max_change / length)


def clip_to_box(position: ArrayLike, low: Sequence[float] | Array, high: Sequence[float] | Array) -> Array:
    """`position` (3,) moved to the nearest point of the box `low` .. `high` (3,) each."""
    return np.clip(finite("position", position), low, high)


def limit_outward(
    position: ArrayLike,
    velocity: ArrayLike,
    low: Sequence[float] | Array,
    high: Sequence[float] | Array,
    horizon: float,
) -> Array:
    """`velocity` (3,) m/s with every component shortened that would leave the box within `horizon` seconds.

    At a wall the outward component is exactly zero; outside the box only the way back is left open.
    """
    p, v = finite("position", position), finite("velocity", velocity)
    room_up = np.maximum(np.asarray(high, dtype=np.float64) - p, 0.0) / horizon
    room_down = np.maximum(p - np.asarray(low, dtype=np.float64), 0.0) / horizon
    return np.clip(v, -room_down, room_up)


def approach_speed(room: ArrayLike, horizon: float, deceleration: float) -> Array:
    """Largest speeds (n,) m/s that can still be braked away within `room` (n,) m.

    `horizon` s pass before the braking begins, which then takes `deceleration` m/s^2: v T + v^2 / 2a = room. Sampled at
    intervals of up to 2 T, a speed kept at this bound never has to fall by more than `deceleration`.
    """
    free = np.maximum(finite("room", room), 0.0)
    return np.asarray(deceleration * (np.sqrt(horizon**2 + 2.0 * free / deceleration) - horizon))


def limit_joint_step(step: ArrayLike, max_speed: Sequence[float] | Array, dt: float) -> Array:
    """Joint step (n,) scaled as a whole so that no joint exceeds `max_speed` (n,) per second over `dt` seconds."""
    s = finite("joint step", step)
    ratio = float(np.max(np.abs(s) / (np.asarray(max_speed, dtype=np.float64) * dt), initial=0.0))
    return s if ratio <= 1.0 else s / ratio
