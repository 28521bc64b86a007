"""The rule of opening and closing the drawer: pinch its knob and move it along the rail.

A function of the present state only, as the rule of picking that it begins with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qt_ros.sim.grasping import GraspSettings, GraspState, Move, grasp_action, on_grid

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SlideState:
    """``grasp``: of the knob, as for picking. ``axis`` (3,): direction of opening in base_link axes. ``opening``: how
    far (m) it is open."""

    grasp: GraspState
    axis: Array
    opening: float


@dataclass(frozen=True)
class SlideSettings:
    """Openings in m: it is done ``done_open`` when opening and ``done_shut`` when closing. The knob is led towards
    ``aim_open`` or ``aim_shut``, which lie beyond, so that it does not slow down before."""

    done_open: float = 0.18
    aim_open: float = 0.24
    done_shut: float = 0.008
    aim_shut: float = -0.04


def slide_action(state: SlideState, opens: bool, grasp: GraspSettings, slide: SlideSettings, step: float) -> Move:
    """The next move. ``step`` is the largest displacement per axis and policy step in m."""
    hand = state.grasp
    done = state.opening >= slide.done_open if opens else state.opening <= slide.done_shut
    if done or hand.lost:
        return Move(np.zeros(3), close=hand.held, terminate=True)
    if not hand.held:
        return grasp_action(hand, grasp, step)
    left = (slide.aim_open if opens else slide.aim_shut) - state.opening
    error = hand.target - hand.tool
    across = error - (error @ state.axis) * state.axis  # stay on the knob
    motion = np.clip(left, -step, step) * state.axis + grasp.gain * across
    return Move(on_grid(np.clip(motion, -step, step), grasp.resolution), close=True, terminate=False)
