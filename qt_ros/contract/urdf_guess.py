"""Which joints of a URDF are the arm and the gripper: guesses for a first contract, to be confirmed by a person."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pinocchio

from qt_ros.contract.description import UrdfText
from qt_ros.contract.kinematics import Kinematics, parse_urdf
from qt_ros.contract.robot import DIMENSIONS
from qt_ros.contract.strict import ConfigError

GRIPPER = re.compile(r"finger|gripper|knuckle|hand|jaw|claw", re.IGNORECASE)
NOT_ARM = re.compile(r"wheel|head|caster|suspension|camera|lift|torso|column|finger|gripper|knuckle", re.IGNORECASE)
TOOLS = ("tool0", "tcp", "grasping_frame", "grasp_center", "grasp", "tool_link", "tool", "ee_link", "flange", "hand")
BASES = ("base_footprint", "base_link")


@dataclass(frozen=True)
class RobotGuess:
    """Names in the URDF. ``carriers`` move the arm (a lift); ``gripper_range``: (open, closed) in rad or m.

    A robot without a gripper has '' for its joint.
    """

    base_frame: str
    tool_frame: str
    arm_joints: tuple[str, ...]
    gripper_joint: str
    gripper_range: tuple[float, float]
    carriers: tuple[str, ...]


def guess_robot(urdf: Path | UrdfText, controllers: Sequence[Sequence[str]], reported: Collection[str]) -> RobotGuess:
    """The arm, and its gripper if it has one.

    ``controllers``: joints that one controller owns; ``reported``: joints with positions. The arm is what a controller
    owns in one chain of three joints or more; without such a controller, the longest chain. ConfigError when there is
    none.
    """
    model = parse_urdf(urdf)
    usable = [n for n in list(model.names)[1:] if model.joints[model.getJointId(n)].nq == 1]
    owned = [tuple(j for j in joints if j in usable) for joints in controllers]
    chains = [c for c in owned if len(c) >= 3 and _in_one_chain(model, c)]
    arm = max(chains, key=len) if chains else _longest_chain(model, [u for u in usable if not NOT_ARM.search(u)])
    if len(arm) < 2:
        raise ConfigError(f"{urdf.name}: no arm found among the joints {', '.join(usable)}; write its contract by hand")
    fingers = [j for j in usable if j not in arm and GRIPPER.search(j)]
    moving = [j for j in fingers if j in reported] or fingers
    above = {a for j in arm for a in _ancestors(model, j)} - set(arm)
    carriers = tuple(j for j in usable if j in above)
    gripper, span = (moving[0], _gripper_range(model, moving[0])) if moving else ("", (math.nan, math.nan))
    return RobotGuess(_base(model), _tool(model, arm), arm, gripper, span, carriers)


def movable_axes(arm: Kinematics, positions: Sequence[float], least: float = 0.05) -> tuple[str, ...]:
    """The tool's axes that the arm can move on their own at ``positions``, preferring translations."""
    jacobian = np.array([1.0] * 3 + [0.3] * 3)[:, None] * arm.jacobian(positions)
    kept: list[int] = []
    for axis in range(6):
        rows = jacobian[[*kept, axis]]
        if len(rows) <= rows.shape[1] and np.linalg.svd(rows, compute_uv=False)[-1] >= least:
            kept.append(axis)
    return tuple(DIMENSIONS["arm"][i] for i in kept)


def _ancestors(model: pinocchio.Model, joint: str) -> list[str]:
    """Joints from the root down to ``joint``."""
    names, index = list(model.names), model.getJointId(joint)
    path = []
    while index:
        path.append(names[index])
        index = model.parents[index]
    return path[::-1]


def _in_one_chain(model: pinocchio.Model, joints: Sequence[str]) -> bool:
    deepest = max(joints, key=lambda j: len(_ancestors(model, j)))
    return set(joints) <= set(_ancestors(model, deepest))


def _longest_chain(model: pinocchio.Model, joints: Sequence[str]) -> tuple[str, ...]:
    chains = [tuple(a for a in _ancestors(model, j) if a in joints) for j in joints]
    return max(chains, key=len, default=())


def _base(model: pinocchio.Model) -> str:
    for name in BASES:
        if model.existFrame(name):
            return name
    return str(model.frames[1].name) if len(model.frames) > 1 else "base_link"


def _tool(model: pinocchio.Model, arm: Sequence[str]) -> str:
    """The most tool-like frame that the last arm joint carries."""
    last = model.getJointId(max(arm, key=lambda j: len(_ancestors(model, j))))
    carried = [f.name for f in model.frames if f.parentJoint == last and f.type == pinocchio.FrameType.BODY]
    for word in TOOLS:
        for name in carried:
            if word in name.lower():
                return str(name)
    if not carried:
        raise ConfigError("the last arm joint carries no frame; write the contract by hand")
    return str(carried[-1])


def _gripper_range(model: pinocchio.Model, joint: str) -> tuple[float, float]:
    """(open, closed): fingers that slide are open far out; knuckles that turn are open at zero."""
    index = model.joints[model.getJointId(joint)].idx_q
    low, high = float(model.lowerPositionLimit[index]), float(model.upperPositionLimit[index])
    slides = "P" in model.joints[model.getJointId(joint)].shortname()[len("JointModel") :][:1]
    if slides:
        return high, low
    return (0.0, high) if low >= 0.0 else (high, max(low, 0.0))
