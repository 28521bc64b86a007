"""The scripted rule of every skill in a world: reads the privileged state and asks the skill's pure function.

A rule keeps nothing from step to step, so that what it does can be learned from an image and proprioception.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qt_ros.sim.carrying import CarrySettings, CarryState, beside, carry_action
from qt_ros.sim.driving import DriveSettings, drive_action
from qt_ros.sim.grasping import GraspSettings, GraspState, Move, grasp_action, read_grasp
from qt_ros.sim.scoring import drawer_interior
from qt_ros.sim.sliding import SlideSettings, SlideState, slide_action
from qt_ros.sim.task_file import load_task_file
from qt_ros.sim.world import HANDLE, World

Array = NDArray[np.float64]
_LOW = 0.018  # m above where it will stand at which an object is let go
_BESIDE_SLACK = 0.012  # m further from the other object than where it was led to
_INSIDE_SLACK = (0.05, 0.08)  # m along and across the drawer from the middle of where objects go in
_AROUND_KNOB = (0.55, 0.75)  # closedness of fingers that stopped on the knob
_KNOB_REACH = 0.025  # m from the knob's centre within which they are around it
# On the table the workspace ends the way down; higher up the hand sinks on while the fingers close, so go down slowly.
_SINKING = GraspSettings(gain_down=0.4, sink=0.012)
# m above its centre at which an object on the cabinet is grasped: the fingertips must not touch the top.
_RAISED = 0.010
_DROPPED = 0.06  # m below the table top: it fell down and cannot be picked any more


class Rule:
    """Picking ``target``; the other skills build on it. ``offset`` (3,) m shifts the grasp point (a flaw)."""

    def __init__(self, world: World, target: str, near: str = "", settings: GraspSettings | None = None) -> None:
        self.world, self.target, self.near = world, target, near
        self.settings = settings or GraspSettings()
        self.offset: Array = np.zeros(3)
        space = world.contract.action_space
        self.step = float(min(space.high[space.index(name)] for name in ("dx", "dy", "dz")))

    def grasp(self) -> GraspState:
        """The state of the hand and the target."""
        return read_grasp(self.world, self.target, self.offset)

    def move(self, state: GraspState) -> Move:
        """The next move, ``state`` being :meth:`grasp` of now."""
        return grasp_action(state, self.settings, self.step)

    def progress(self, state: GraspState) -> float:
        """How far (m) the target has been moved by the hand: up, or the drawer along its rail."""
        return state.lifted

    def goal(self) -> Array:
        """Where (3,) m, world, the target belongs: where it is, for picking."""
        return self.world.object_pose(self.target)[:3]


class Fetch(Rule):
    """Driving up to the target and picking it."""

    def __init__(self, world: World, target: str, near: str = "", settings: GraspSettings | None = None) -> None:
        super().__init__(world, target, near, settings)
        self.drive = DriveSettings()
        self.stays = False  # a flaw
        space = world.contract.action_space
        self._high = [float(space.high[space.index(name)]) for name in ("base_forward", "base_turn")]

    def grasp(self) -> GraspState:
        fallen = self.world.object_pose(self.target)[2] < load_task_file().rules.scene.surface - _DROPPED
        return replace(super().grasp(), lost=bool(fallen))

    def move(self, state: GraspState) -> Move:
        if self.stays:
            return super().move(state)
        return drive_action(state, self.settings, self.drive, self.step, *self._high)


class Carry(Rule):
    """Putting the target beside the object ``near``. ``astray`` (2,) m shifts the goal (a flaw)."""

    def __init__(self, world: World, target: str, near: str = "", settings: GraspSettings | None = None) -> None:
        super().__init__(world, target, near, settings)
        self.carry = CarrySettings()
        self.astray: Array = np.zeros(2)

    def goal(self) -> Array:
        place, other = (self.world.object_pose(name)[:2] for name in (self.target, self.near))
        return np.append(beside(place, other) + self.astray, self.world.rest_height(self.target))

    def there(self, place: Array, goal: Array) -> bool:
        """Whether the target at ``place`` may be let go, both (3,) m in the world."""
        if place[2] - goal[2] > _LOW:
            return False
        other = self.world.object_pose(self.near)[:2] + self.astray
        limit = beside(place[:2], other, _BESIDE_SLACK)
        return bool(np.linalg.norm(place[:2] - other) <= np.linalg.norm(limit - other))

    def move(self, state: GraspState) -> Move:
        place, goal = self.world.object_pose(self.target)[:3], self.goal()
        to_base, there = self.world.to_base, self.there(place, goal)
        now = CarryState(state, to_base(place), to_base(goal), there)
        return carry_action(now, self.settings, self.carry, self.step)


class IntoDrawer(Carry):
    """Putting the target into the open drawer."""

    def __init__(self, world: World, target: str, near: str = HANDLE, settings: GraspSettings | None = None) -> None:
        super().__init__(world, target, near, settings or _SINKING)
        self.carry = CarrySettings(clearance=0.14, narrow=0.02, wide=0.06)
        rules = load_task_file().rules.cabinet
        self._middle = np.array([np.mean(rules.inside_x), np.mean(rules.inside_y)])
        self._bottom = float(drawer_interior(world)[0][2])

    def grasp(self) -> GraspState:
        state = super().grasp()
        return replace(state, target=state.target + (0.0, 0.0, _RAISED))

    def goal(self) -> Array:
        drawer = self.world.body_pose("drawer")[:3]
        half = float(self.world.half_size(self.target)[2])
        return drawer + np.append(self._middle + self.astray, self._bottom + half)

    def there(self, place: Array, goal: Array) -> bool:
        return bool(place[2] - goal[2] <= _LOW and np.all(np.abs(place[:2] - goal[:2]) <= _INSIDE_SLACK))


class Slide(Rule):
    """Opening the drawer by its knob."""

    opens = True

    def __init__(
        self, world: World, target: str = HANDLE, near: str = "", settings: GraspSettings | None = None
    ) -> None:
        super().__init__(world, target, near, settings or _SINKING)
        self.slide = SlideSettings()

    def grasp(self) -> GraspState:
        """Fingers that stopped around the knob hold it: what slides in them loses touch for moments."""
        state = super().grasp()
        around = _AROUND_KNOB[0] < state.closedness < _AROUND_KNOB[1]
        near = float(np.linalg.norm(state.target - state.tool)) <= _KNOB_REACH
        return replace(state, held=state.held or (around and near and not self.offset.any()))

    def move(self, state: GraspState) -> Move:
        # The drawer opens along -x of the world.
        axis = self.world.to_base(np.array([-1.0, 0.0, 0.0])) - self.world.to_base(np.zeros(3))
        now = SlideState(state, axis, self.world.drawer_opening())
        return slide_action(now, self.opens, self.settings, self.slide, self.step)

    def progress(self, state: GraspState) -> float:
        return abs(self.world.drawer_opening() - self.world.scene.drawer)

    def goal(self) -> Array:
        aim = self.slide.done_open if self.opens else 0.0
        left = aim - self.world.drawer_opening()
        return self.world.object_pose(self.target)[:3] - np.array([left, 0.0, 0.0])


class Shut(Slide):
    """Closing it."""

    opens = False


RULES: dict[str, Callable[..., Rule]] = {
    "pick": Rule,
    "fetch": Fetch,
    "move_near": Carry,
    "open_drawer": Slide,
    "close_drawer": Shut,
    "place_in_drawer": IntoDrawer,
    "pick_from_drawer": Rule,
}
"""The rule of every skill: called with world, target, near and, if need be, settings."""
