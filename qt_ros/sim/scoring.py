"""Did the task succeed? Ground truth of the simulator, for scoring only.

Every skill has one detector, a function of the world as it stands at the end of the episode.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.strict import ConfigError
from qt_ros.sim.task_file import Task
from qt_ros.sim.world import World

LIFT_HEIGHT = 0.08  # m above where the object stood
NEAR = 0.12  # m between the centres of two objects that stand near each other
STAYED = 0.05  # m that the other object may have been pushed
RESTING = 0.01  # m above where it stood at which an object still stands
STILL = 0.05  # m/s: slower than this it does not roll away
OPEN = 0.15  # m: from here on the drawer is open
SHUT = 0.02  # m: up to here it is shut


class Scorer:
    """The success detector of ``task``. ConfigError for a skill that has none."""

    def __init__(self, task: Task) -> None:
        if task.skill not in _DETECTORS:
            known = ", ".join(_DETECTORS)
            raise ConfigError(f"task {task.name!r}: no scoring rule for skill {task.skill!r}; known: {known}")
        self.task = task
        self._success, self._describe = _DETECTORS[task.skill]

    def lift(self, world: World) -> float:
        """How far (m) the target's centre is above where it stood at the reset."""
        return _lift(world, self.task)

    def success(self, world: World) -> bool:
        """Whether what was asked for is done now."""
        return self._success(world, self.task)

    def describe(self, world: World) -> str:
        """What was measured, in words."""
        return self._describe(world, self.task)


def drawer_interior(world: World) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner (3,) m of the space inside the drawer, in the frame of the body drawer."""
    model = world.model

    def face(name: str, axis: int, side: float) -> float:
        geom = model.geom(f"drawer_{name}_collision")
        return float(geom.pos[axis] + side * geom.size[axis])

    low = (face("front", 0, 1.0), face("right", 1, 1.0), face("bottom", 2, 1.0))
    high = (face("back", 0, -1.0), face("left", 1, -1.0), face("left", 2, 1.0))
    return np.array(low), np.array(high)


def _lift(world: World, task: Task) -> float:
    return float(world.object_pose(task.target)[2] - world.rest_height(task.target))


def _picked(world: World, task: Task) -> bool:
    """Target at least LIFT_HEIGHT above its support and touched by both fingers."""
    return _lift(world, task) >= LIFT_HEIGHT and all(world.finger_contacts(task.target))


def _describe_lift(world: World, task: Task) -> str:
    return f"target lifted {_lift(world, task):.3f} m"


def _let_go(world: World, task: Task) -> bool:
    return not any(world.finger_contacts(task.target)) and world.object_speed(task.target) <= STILL


def _distance(world: World, task: Task) -> float:
    apart = world.object_pose(task.target)[:2] - world.object_pose(task.near)[:2]
    return float(np.linalg.norm(apart))


def _moved_near(world: World, task: Task) -> bool:
    """Target let go, standing where it stood in height, within NEAR of the other object, which has stayed in place."""
    pushed = np.linalg.norm(world.object_pose(task.near)[:3] - world.rest_position(task.near))
    near, stands = _distance(world, task) <= NEAR, abs(_lift(world, task)) <= RESTING
    return near and stands and bool(pushed <= STAYED) and _let_go(world, task)


def _describe_distance(world: World, task: Task) -> str:
    return f"target {_distance(world, task):.3f} m from {task.near}, lifted {_lift(world, task):.3f} m"


def _opened(world: World, task: Task) -> bool:
    return world.drawer_opening() >= OPEN


def _closed(world: World, task: Task) -> bool:
    return world.drawer_opening() <= SHUT


def _describe_drawer(world: World, task: Task) -> str:
    return f"drawer open {world.drawer_opening():.3f} m"


def _is_inside(world: World, task: Task) -> bool:
    """The target's centre between the drawer's walls and below their top."""
    low, high = drawer_interior(world)
    drawer = world.body_pose("drawer")[:3]  # the cabinet is not turned
    return bool(np.all(world.object_pose(task.target)[:3] - drawer >= low)) and bool(
        np.all(world.object_pose(task.target)[:3] - drawer <= high)
    )


def _placed(world: World, task: Task) -> bool:
    """Target inside the drawer and let go."""
    return _is_inside(world, task) and _let_go(world, task)


def _describe_place(world: World, task: Task) -> str:
    return f"target {'inside' if _is_inside(world, task) else 'not inside'} the drawer"


_DETECTORS: dict[str, tuple[Callable[[World, Task], bool], Callable[[World, Task], str]]] = {
    "pick": (_picked, _describe_lift),
    "fetch": (_picked, _describe_lift),
    "move_near": (_moved_near, _describe_distance),
    "open_drawer": (_opened, _describe_drawer),
    "close_drawer": (_closed, _describe_drawer),
    "place_in_drawer": (_placed, _describe_place),
    "pick_from_drawer": (_picked, _describe_lift),
}
