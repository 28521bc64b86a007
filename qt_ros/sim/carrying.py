"""The rule of putting things somewhere: pick, carry above everything else, put down, let go, draw back.

A function of the present state only, as the rule of picking that it begins with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qt_ros.sim.grasping import GraspSettings, GraspState, Move, grasp_action, on_grid

Array = NDArray[np.float64]
# Half axes (m) of the ellipse around an object on which another is put down beside it. Longer along y, where the open
# fingers need room.
_BESIDE = np.array([0.078, 0.098])


@dataclass(frozen=True)
class CarryState:
    """``grasp``: as for picking; ``place`` (3,): the object's centre, ``goal`` (3,): where it should be (m, base_link
    axes); ``there``: it stands where it may be let go."""

    grasp: GraspState
    place: Array
    goal: Array
    there: bool


@dataclass(frozen=True)
class CarrySettings:
    """Lengths in m. The object is carried ``clearance`` above the goal while it is more than ``wide`` away sideways,
    and is all the way down within ``narrow``. ``retreat``: how far the open hand rises before the end."""

    clearance: float = 0.09
    narrow: float = 0.012
    wide: float = 0.05
    retreat: float = 0.05


def carry_action(state: CarryState, grasp: GraspSettings, carry: CarrySettings, step: float) -> Move:
    """The next move. ``step`` is the largest displacement per axis and policy step in m."""
    hand = state.grasp
    if hand.lost:
        return Move(np.zeros(3), close=False, terminate=True)
    if state.there:
        if hand.held or hand.closedness > grasp.open_enough:
            return Move(np.zeros(3), close=False, terminate=False)
        if hand.tool[2] - state.place[2] < carry.retreat:
            return Move(np.array([0.0, 0.0, step]), close=False, terminate=False)
        return Move(np.zeros(3), close=False, terminate=True)
    if not hand.held:
        return grasp_action(hand, grasp, step)
    error = state.goal - state.place
    side = math.hypot(error[0], error[1])
    funnel = (side - carry.narrow) / (carry.wide - carry.narrow)
    rise = error[2] + carry.clearance * min(max(funnel, 0.0), 1.0)
    motion = np.array([grasp.gain * error[0], grasp.gain * error[1], grasp.gain * rise])
    if rise > 0.0:  # rise first, or what is carried sweeps others away
        motion[:2] *= max(0.0, 1.0 - rise / (0.6 * carry.clearance))
        motion[2] = min(2.0 * motion[2], step)
    return Move(on_grid(np.clip(motion, -step, step), grasp.resolution), close=True, terminate=False)


def beside(place: Array, other: Array, more: float = 0.0) -> Array:
    """Where (2,) to put what is at ``place`` (2,) beside ``other`` (2,): straight from it towards the other, as far
    from the other as the open fingers need, and ``more`` m."""
    away = place - other
    distance = float(np.linalg.norm(away))
    direction = away / distance if distance > 1e-6 else np.array([-1.0, 0.0])
    reach = 1.0 / float(np.linalg.norm(direction / _BESIDE))  # of the ellipse in that direction
    return other + (reach + more) * direction
