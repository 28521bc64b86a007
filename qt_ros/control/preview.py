"""What the last action means in space, for people to look at: where the tool and the base are about to go. No ROS.

Lengths in m, angles in rad, positions in the contract's base frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from qt_ros.contract.robot import DIMENSIONS

Point = tuple[float, float, float]
TERMINATE_THRESHOLD = 0.5  # as command_node has it
ARC_POINTS = 12
ARC_RADIUS = 0.35  # m, of the arc that shows a turn of the base


@dataclass(frozen=True)
class Intention:
    """``tool``: displacement (3,) of one policy step; ``base``: end point of one step's drive, ``arc`` of its turn;
    ``words``: what cannot be drawn."""

    tool: Point
    base: Point
    arc: tuple[Point, ...]
    words: str


def intention(values: Mapping[str, float]) -> Intention:
    """From an action {dimension: value per policy step}; dimensions that a robot lacks count as nothing."""
    dx, dy, dz = (float(values.get(name, 0.0)) for name in DIMENSIONS["arm"][:3])
    forward, turn = (float(values.get(name, 0.0)) for name in DIMENSIONS["base"])
    # A step of constant forward speed and turn rate runs on an arc; its chord points half of the turn aside.
    chord = forward * (math.sin(turn / 2) / (turn / 2) if abs(turn) > 1e-9 else 1.0)
    end = (chord * math.cos(turn / 2), chord * math.sin(turn / 2), 0.0)
    angles = np.linspace(0.0, turn, ARC_POINTS)
    arc = tuple((ARC_RADIUS * math.cos(a), ARC_RADIUS * math.sin(a), 0.0) for a in angles) if turn else ()
    words = []
    if values.get("terminate", 0.0) >= TERMINATE_THRESHOLD:
        words.append("terminate")
    elif not any(values.get(name, 0.0) for name in (*DIMENSIONS["arm"], *DIMENSIONS["base"])):
        words.append("held")
    if "gripper" in values:
        words.append(f"gripper {values['gripper']:.2f}")
    return Intention((dx, dy, dz), end, arc, ", ".join(words))


def box_edges(low: Sequence[float], high: Sequence[float]) -> list[Point]:
    """The 12 edges of the box ``low`` .. ``high`` as 24 points, two per edge."""
    corners: list[Point] = list(product(*zip(low, high, strict=True)))  # type: ignore[arg-type]
    return [
        point
        for i, a in enumerate(corners)
        for b in corners[i + 1 :]
        if sum(x != y for x, y in zip(a, b, strict=True)) == 1
        for point in (a, b)
    ]
