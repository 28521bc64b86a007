"""The rule of driving up to an object and picking it: a function of the present state only.

The base turns towards the object and drives until it is well within reach, then stands while the arm picks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qt_ros.sim.grasping import GraspSettings, GraspState, Move, grasp_action, on_grid


@dataclass(frozen=True)
class DriveSettings:
    """Lengths in m in base_link axes, angles in rad.

    The base drives while the object is further ahead than ``reach`` or nearer than ``back``, and turns while it is
    further aside than ``side``. It drives towards ``aim``, with a step of ``gain`` times what is left (the base is slow
    to speed up and to brake, hence small), and turns by ``turn_gain`` times the direction of the object, once that is
    nearer than ``seen``: further away the head camera does not show it. Multiples of ``resolution`` m and
    ``turn_resolution`` rad.
    """

    reach: float = 0.72
    back: float = 0.44
    side: float = 0.25
    aim: float = 0.64
    seen: float = 1.05
    gain: float = 0.30
    turn_gain: float = 0.30
    resolution: float = 0.01
    turn_resolution: float = 0.025


def drive_action(
    state: GraspState, grasp: GraspSettings, drive: DriveSettings, step: float, forward: float, turn: float
) -> Move:
    """The next move. ``step``: largest displacement of the tool per axis, ``forward`` (m) and ``turn`` (rad): of the
    base, per policy step."""
    ahead, aside = float(state.target[0]), abs(float(state.target[1]))
    drives = not drive.back <= ahead <= drive.reach
    if state.held or state.lost or not (drives or aside > drive.side):
        return grasp_action(state, grasp, step)
    direction = math.atan2(float(state.target[1]), ahead) if ahead <= drive.seen else 0.0
    wanted = on_grid(np.array([drive.gain * (ahead - drive.aim) * drives]), drive.resolution)
    turned = on_grid(np.array([drive.turn_gain * direction]), drive.turn_resolution)
    base = (float(np.clip(wanted[0], -forward, forward)), float(np.clip(turned[0], -turn, turn)))
    return Move(np.zeros(3), close=False, terminate=False, base=base)
