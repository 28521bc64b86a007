"""The rule of picking: a function of the present state only, from hovering over the object to lifting it.

Far from the object it moves at full speed, close to it in proportion to the distance; it comes down only as far as it
is above the object (a funnel), and any disturbance is answered by the same rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qt_ros.sim.world import World

Array = NDArray[np.float64]
_REACH = 0.01  # m outside the workspace box from which an object can still be grasped
_OPENING_SPEED = 0.02  # m/s: a finger that moves out faster is letting go


@dataclass(frozen=True)
class GraspState:
    """What the demonstrator acts on. Positions (3,) in m in base_link axes.

    ``tool`` and ``target`` (the object's grasp point), ``closedness`` 0 open .. 1 closed as measured, ``held``: both
    fingers touch the target and are not opening, ``lifted``: its height above where it rested, ``lost``: it left the
    workspace.
    """

    tool: Array
    target: Array
    closedness: float
    held: bool
    lifted: float
    lost: bool = False


@dataclass(frozen=True)
class GraspSettings:
    """Lengths in m, gains per policy step.

    ``gain``: share of the remaining distance asked for per step (the previous action is still acting when the next
    frame is taken, hence well below 1); ``gain_down`` on the way down. The tool keeps ``clearance`` above the grasp
    point while it is more than ``funnel_wide`` away sideways, and is all the way down within ``funnel_narrow``. Fingers
    close within ``close_side`` and ``close_height``, or ``sink`` more below it; above ``open_enough`` (closedness) they
    are not lowered over an object, above ``empty`` they hold nothing. ``lift``: how high to raise the object.
    ``resolution``: motions are multiples of it (0 = any).
    """

    gain: float = 0.6
    gain_down: float = 0.6
    clearance: float = 0.085
    funnel_narrow: float = 0.010
    funnel_wide: float = 0.045
    close_side: float = 0.014
    close_height: float = 0.012
    sink: float = 0.0
    open_enough: float = 0.35
    empty: float = 0.97
    lift: float = 0.11
    resolution: float = 0.005


@dataclass(frozen=True)
class Move:
    """``motion`` (3,) m per policy step in base_link axes; ``close`` or open the fingers; ``terminate`` the episode;
    ``base``: forward m and turn rad per policy step."""

    motion: Array
    close: bool
    terminate: bool
    base: tuple[float, float] = (0.0, 0.0)


def grasp_action(state: GraspState, settings: GraspSettings, step: float) -> Move:
    """The next move of a pick. ``step`` is the largest displacement per axis and policy step in m."""
    if state.lost:
        return Move(np.zeros(3), close=False, terminate=True)
    if state.held:
        if state.lifted >= settings.lift:
            return Move(np.zeros(3), close=True, terminate=True)
        return Move(np.array([0.0, 0.0, step]), close=True, terminate=False)
    error = state.target - state.tool
    side = math.hypot(error[0], error[1])
    missed = state.closedness >= settings.empty
    level = -settings.close_height <= error[2] <= settings.close_height + settings.sink
    if side <= settings.close_side and level and not missed:
        return Move(np.zeros(3), close=True, terminate=False)
    funnel = (side - settings.funnel_narrow) / (settings.funnel_wide - settings.funnel_narrow)
    height = settings.clearance * min(max(funnel, 0.0), 1.0)
    if state.closedness > settings.open_enough:
        height = settings.clearance  # closed fingers would come down on the object
    motion = settings.gain * error
    too_low = error[2] + height
    motion[2] = (settings.gain if too_low > 0.0 else settings.gain_down) * too_low
    if too_low > 0.0:  # beside the object and low: rise first, or the fingers push it away
        motion[:2] *= max(0.0, 1.0 - too_low / (0.6 * settings.clearance))
        motion[2] = min(2.0 * motion[2], step)
    return Move(on_grid(np.clip(motion, -step, step), settings.resolution), close=False, terminate=False)


def on_grid(motion: Array, resolution: float) -> Array:
    """``motion`` in multiples of ``resolution`` (0: as it is)."""
    return motion if resolution <= 0.0 else np.round(motion / resolution) * resolution


def read_grasp(world: World, name: str, offset: Array) -> GraspState:
    """The state of picking ``name`` now; its grasp point is shifted by ``offset`` (3,) m."""
    spec, limits = world.contract.kinematics, world.contract.limits
    target = world.object_pose(name, "base_link")[:3]
    low, high = np.array(limits.workspace_low) - _REACH, np.array(limits.workspace_high) + _REACH
    opening = np.sign(spec.gripper_open - spec.gripper_closed) * world.joint_velocities()[spec.gripper_joint]
    return GraspState(
        tool=world.tool_pose("base_link")[:3],
        target=target + offset,
        closedness=spec.closedness(world.joint_positions()[spec.gripper_joint]),
        held=all(world.finger_contacts(name)) and opening < _OPENING_SPEED,
        lifted=float(world.object_pose(name)[2]) - world.rest_height(name),
        lost=bool(np.any(target < low) or np.any(target > high)),
    )
