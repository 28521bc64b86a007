"""The state behind the image, as a vector: what a policy without the burden of seeing acts on.

For the experiments from privileged state, which tell a method's failures from perception's. It completes proprioception
(tool pose, gripper) to all that a pick depends on, distractors left out. No robot can know it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qt_ros.sim.world import World

PRIVILEGED_NAMES = (
    "target_x", "target_y", "target_z", "turn_cos", "turn_sin", "half_x", "half_y", "half_z", "lifted",
    "contact_left", "contact_right",
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


def _yaw(quaternion: NDArray[np.float64]) -> float:
    """Direction (rad) of the x axis of a frame (x, y, z, w) in the plane."""
    x, y, z, w = quaternion
    return math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
