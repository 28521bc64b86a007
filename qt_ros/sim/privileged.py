"""The state behind the image, as a vector: what a policy without the burden of seeing acts on.

For the experiments from privileged state, which tell a method's failures from perception's. It completes proprioception
(tool pose, gripper) to all that a pick depends on, distractors left out; with the numbers of SKILL_STATE_NAMES, to all
that any skill depends on. No robot can know it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qt_ros.sim.skill_rules import RULES, Carry, IntoDrawer
from qt_ros.sim.task_file import SKILLS, Task
from qt_ros.sim.world import World

PRIVILEGED_NAMES = (
    "target_x", "target_y", "target_z", "turn_cos", "turn_sin", "half_x", "half_y", "half_z", "lifted",
    "contact_left", "contact_right",
)  # fmt: skip
SKILL_STATE_NAMES = (
    *PRIVILEGED_NAMES, "goal_x", "goal_y", "goal_z", "drawer", "base_cos", "base_sin", *(f"is_{s}" for s in SKILLS),
)  # fmt: skip
DISTANCE = 0.1  # m that stand for 1
EXTENT = 0.05  # m of half extents that stand for 1


def privileged_state(world: World, target: str) -> NDArray[np.float32]:
    """(S,) float32, in the order of PRIVILEGED_NAMES, of the object ``target`` now. ValueError for an unknown object.

    target_*: its centre from the tool, base_link axes, in tenths of a metre. turn_*: cosine and sine of twice its yaw
    against the hand's (boxes look the same after half a turn). half_*: half extents in 5 cm. lifted: height above where
    it stood, in tenths of a metre. contact_*: 1 where that finger touches it.
    """
    tool, pose = world.tool_pose("base_link"), world.object_pose(target, "base_link")
    turn = 2.0 * (_yaw(pose[3:]) - _yaw(tool[3:]))
    lifted = float(world.object_pose(target)[2]) - world.rest_height(target)
    return np.concatenate(
        [
            (pose[:3] - tool[:3]) / DISTANCE,
            [math.cos(turn), math.sin(turn)],
            world.half_size(target) / EXTENT,
            [lifted / DISTANCE, *world.finger_contacts(target)],
        ]
    ).astype(np.float32)


def skill_state(world: World, task: Task) -> NDArray[np.float32]:
    """(S,) float32, in the order of SKILL_STATE_NAMES: the state of the task's target and what its skill needs besides.

    goal_*: from the target to where the skill takes it, base_link axes, in tenths of a metre (0 for picking). drawer:
    its opening in tenths of a metre. base_*: direction of the world's x axis in base_link. is_*: 1 for the skill asked
    for, since such a policy hears no words.
    """
    goal = world.to_base(RULES[task.skill](world, task.target, task.near).goal())
    ahead = world.to_base((1.0, 0.0, 0.0)) - world.to_base((0.0, 0.0, 0.0))
    more = [
        *((goal - world.object_pose(task.target, "base_link")[:3]) / DISTANCE),
        world.drawer_opening() / DISTANCE,
        *ahead[:2],
        *(float(skill == task.skill) for skill in SKILLS),
    ]
    return np.concatenate([privileged_state(world, task.target), np.array(more, dtype=np.float32)])


def key_point(world: World, task: Task) -> NDArray[np.float64]:
    """Where (3,) m, world, the hand has to go now: the target, and once it is held what it is to be taken to.

    That is the other object, or the middle of where things go in the drawer; the drawer's knob stays the target.
    """
    rule = RULES[task.skill](world, task.target, task.near)
    if isinstance(rule, Carry) and all(world.finger_contacts(task.target)):
        return rule.goal() if isinstance(rule, IntoDrawer) else world.object_pose(task.near)[:3]
    return world.object_pose(task.target)[:3]


def _yaw(quaternion: NDArray[np.float64]) -> float:
    """Direction (rad) of the x axis of a frame (x, y, z, w) in the plane."""
    x, y, z, w = quaternion
    return math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
