"""Did the task succeed? From poses and joint positions alone, for simulators that tell nothing else.

The rules are those of the embedded simulator (qt_ros.sim.scoring) with what it knows of contacts replaced: an object
counts as held when its centre is between the finger pads and the gripper is not closed to its end, and as let go when
its centre is elsewhere or the gripper is open further than the widest object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.scoring import LIFT_HEIGHT, NEAR, RESTING, STAYED, STILL
from qt_ros.sim.tasks import Task

# Box around tool0 in its own axes that holds the centre of every object that is gripped, half sizes in m: across the
# pads (half a pad, 0.018, and half an object's diagonal, 0.033), in the direction in which they close, out of the hand.
HELD_BOX = (0.05, 0.03, 0.05)
CLOSED = 0.97  # closedness of a gripper with nothing between its pads
RELEASED = 0.3  # closedness at which the pads (0.07 m apart) are further apart than any object's diagonal (0.067 m)
SKILLS = ("pick", "fetch", "move_near")
"""What can be judged so; the drawer's opening is no entity's pose."""


@dataclass(frozen=True)
class Body:
    """An object as it is seen, in the world: ``pose`` (7,) x y z (m) qx qy qz qw, where its centre was at the reset
    (``rest``, the first three count, m), and how fast it moves (``speed``, m/s)."""

    pose: ArrayLike
    rest: ArrayLike
    speed: float = 0.0

    @property
    def place(self) -> NDArray[np.float64]:
        """Its centre (3,) m, world."""
        return np.asarray(self.pose, dtype=np.float64)[:3]

    @property
    def moved(self) -> NDArray[np.float64]:
        """From where it stood to where it is, (3,) m."""
        return self.place - np.asarray(self.rest, dtype=np.float64)[:3]


@dataclass(frozen=True)
class Verdict:
    """``lift`` in m above where the target stood; ``offset`` (3,) m of its centre from tool0, in tool0's axes;
    ``told``: what was measured, in words."""

    success: bool
    lift: float
    offset: tuple[float, float, float]
    held: bool
    told: str


def check_skill(task: Task) -> None:
    """ConfigError for a task that cannot be judged by poses."""
    if task.skill not in SKILLS:
        raise ConfigError(
            f"task {task.name!r}: skill {task.skill!r} cannot be judged from poses; these can: {', '.join(SKILLS)}"
        )


class PoseScorer:
    """Scores the skills of ``SKILLS`` for ``contract``'s robot from poses in the world."""

    def __init__(self, contract: RobotContract) -> None:
        spec = contract.kinematics
        self._spec = spec
        self.joints = (*spec.arm_joints, spec.gripper_joint)
        self.optional_joints = spec.carriers  # the lift: it counts where it is measured, else as being at home
        self._arm = Kinematics.of(contract, (*spec.arm_joints, *spec.carriers))

    def verdict(self, task: Task, bodies: Mapping[str, Body], robot: ArrayLike, joints: Mapping[str, float]) -> Verdict:
        """Judge ``task``.

        ``bodies``: the task's target, and what it goes near where it does; ``robot``: pose (7,) of the robot's base in
        the world; ``joints``: measured positions of arm, gripper and lift (rad, m). Raises ConfigError for a skill
        without a rule and ValueError for a joint or an object that is missing; a lift may be.
        """
        check_skill(task)
        named = (task.target, task.near) if task.skill == "move_near" else (task.target,)
        missing = [name for name in self.joints if name not in joints]
        if missing:
            raise ValueError(f"joint states lack {', '.join(missing)}")
        if unseen := [name for name in named if name not in bodies]:
            raise ValueError(f"no pose of {', '.join(unseen)}")
        target = bodies[task.target]
        x, y, z = offset = self._offset(target, robot, joints)
        closedness = self._spec.closedness(joints[self._spec.gripper_joint])
        inside = bool(np.all(np.abs(offset) <= HELD_BOX))
        held, lift = inside and closedness < CLOSED, float(target.moved[2])
        if task.skill != "move_near":
            told = f"target lifted {lift:.3f} m, {'held' if held else 'not held'}"
            return Verdict(held and lift >= LIFT_HEIGHT, lift, (x, y, z), held, told)
        other = bodies[task.near]
        apart = float(np.linalg.norm((target.place - other.place)[:2]))
        let_go = not (inside and closedness >= RELEASED) and target.speed <= STILL
        stands = abs(lift) <= RESTING and float(np.linalg.norm(other.moved)) <= STAYED
        told = f"target {apart:.3f} m from {task.near}, lifted {lift:.3f} m, {'let go' if let_go else 'not let go'}"
        return Verdict(apart <= NEAR and stands and let_go, lift, (x, y, z), held, told)

    def _offset(self, target: Body, robot: ArrayLike, joints: Mapping[str, float]) -> tuple[float, float, float]:
        base = np.asarray(robot, dtype=np.float64)
        known = {**self._spec.home, **joints}
        position, rotation = self._arm.fk([known[name] for name in self._arm.joints])
        in_base = rotation_matrix(base[3:]).T @ (target.place - base[:3])
        x, y, z = (float(value) for value in rotation.T @ (in_base - position))
        return x, y, z


def rotation_matrix(quaternion: ArrayLike) -> NDArray[np.float64]:
    """Unit quaternion (4,) x y z w -> matrix (3, 3). ValueError when it has no length."""
    q = np.asarray(quaternion, dtype=np.float64)
    norm = float(np.linalg.norm(q))
    if not norm > 1e-6:
        raise ValueError(f"quaternion {q.tolist()} has no length")
    x, y, z, w = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
