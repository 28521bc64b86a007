"""Did the task succeed? From poses and joint positions alone, for simulators that tell nothing else.

The embedded simulator knows contacts (qt_ros.sim.tasks.Scorer: lifted and touched by both fingers). Here an object
counts as held when its centre is between the finger pads and the gripper is not closed to its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.tasks import LIFT_HEIGHT, Task

# Box around tool0 in its own axes that holds the centre of every object that is gripped, half sizes in m: across the
# pads (half a pad, 0.018, and half an object's diagonal, 0.033), in the direction in which they close, out of the hand.
HELD_BOX = (0.05, 0.03, 0.05)
CLOSED = 0.97  # closedness of a gripper with nothing between its pads


@dataclass(frozen=True)
class Verdict:
    """``lift`` in m above where the target stood; ``offset`` (3,) m of its centre from tool0, in tool0's axes."""

    success: bool
    lift: float
    offset: tuple[float, float, float]
    held: bool


class PoseScorer:
    """Scores one skill of ``contract``'s robot from poses in the world."""

    def __init__(self, contract: RobotContract) -> None:
        spec = contract.kinematics
        self._spec = spec
        self.joints = (*spec.arm_joints, spec.gripper_joint)
        # Joints between base and hand that the policy does not move (the lift) count as well where they are measured.
        self._arm = Kinematics(contract.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=spec.home)

    def verdict(
        self, task: Task, target: ArrayLike, rest_height: float, robot: ArrayLike, joints: Mapping[str, float]
    ) -> Verdict:
        """Judge ``task``.

        ``target`` and ``robot``: poses (7,) x y z qx qy qz qw of the object and of the robot's base in the world;
        ``rest_height``: z of the object where it stood; ``joints``: measured positions of arm and gripper (rad, m).
        Raises ConfigError for a skill without a rule and ValueError for a joint that is missing.
        """
        if task.skill != "pick":
            raise ConfigError(f"task {task.name!r}: no scoring rule for skill {task.skill!r}; known: pick")
        missing = [name for name in self.joints if name not in joints]
        if missing:
            raise ValueError(f"joint states lack {', '.join(missing)}")
        goal, base = np.asarray(target, dtype=np.float64), np.asarray(robot, dtype=np.float64)
        position, rotation = self._arm.fk(np.array([joints[name] for name in self._spec.arm_joints]))
        in_base = rotation_matrix(base[3:]).T @ (goal[:3] - base[:3])
        offset = rotation.T @ (in_base - position)
        open_enough = self._spec.closedness(joints[self._spec.gripper_joint]) < CLOSED
        held = bool(np.all(np.abs(offset) <= HELD_BOX)) and open_enough
        lift = float(goal[2] - rest_height)
        x, y, z = (float(value) for value in offset)
        return Verdict(held and lift >= LIFT_HEIGHT, lift, (x, y, z), held)


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
