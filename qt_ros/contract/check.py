"""Whether a contract makes sense, without a robot: what loading cannot see, told with what to change.

Loading refuses what is wrong in itself (unknown keys, types, units of shape). Here parts are held against each other:
rates against age limits, ranges of actions against limits, names and home against the robot's description.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import DIMENSIONS, RobotContract
from qt_ros.contract.strict import ConfigError

UNITS = {"terminate": "1", "gripper": "1", "dx": "m", "dy": "m", "dz": "m", "droll": "rad", "dpitch": "rad",
         "dyaw": "rad", "base_forward": "m", "base_turn": "rad"}  # fmt: skip
SERVO_TIMEOUT = 0.1  # s: servo_node and MoveIt Servo drop twists older than this
BASE_TIMEOUT = 0.25  # s: the shortest command time-out of the base drivers looked at
SINGULAR = 0.05  # m per scaled rad: where the servo begins to slow down


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``level``: ok, note (decide for yourself), warning, error. ``advice``: what to change."""

    level: str
    subject: str
    message: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def worst(findings: list[Finding]) -> str:
    """The highest level among ``findings``."""
    order = ("ok", "note", "warning", "error")
    return max((f.level for f in findings), key=order.index, default="ok")


def check_contract(contract: RobotContract) -> list[Finding]:
    """All findings about a loaded contract, in the order of its file."""
    return [
        *check_description(contract),
        *_observations(contract),
        *_commands(contract),
        *check_limits(contract),
        *_actions(contract),
    ]


def check_description(contract: RobotContract) -> Iterator[Finding]:
    """Names, home, gripper and workspace against the robot's description: all that the URDF has a say in."""
    if contract.description_topic and not contract.urdf_text:
        told = f"comes from the topic {contract.description_topic}; joints, frames and home are not checked here"
        yield Finding("note", "description", told, "check them on the robot with --live, or give its URDF with --urdf")
        return
    spec = contract.kinematics
    try:
        arm = Kinematics.of(contract)
        gripper = _gripper(contract) if spec.gripper_joint else None
    except ConfigError as error:
        yield Finding("error", "description", str(error), "correct description, joint and frame names")
        return
    yield Finding("ok", "description", f"{len(arm.joints)} arm joints from {spec.base_frame} to {spec.tool_frame}")
    home = np.array([spec.home[j] for j in arm.joints])
    for joint, position, low, high in zip(arm.joints, home, arm.lower, arm.upper, strict=True):
        if not low <= position <= high:
            told = f"{joint}: {position:g} is outside its limits {low:.4g} .. {high:.4g}"
            yield Finding("error", "kinematics.home", told, "move it inside")
    if gripper is not None:
        low, high = float(gripper.lower[0]), float(gripper.upper[0])
        for name, position in (("gripper_open", spec.gripper_open), ("gripper_closed", spec.gripper_closed)):
            if not low - 1e-9 <= position <= high + 1e-9:
                told = f"{position:g} is outside the limits of {spec.gripper_joint}, {low:.4g} .. {high:.4g}"
                yield Finding("error", f"kinematics.{name}", told, "read the gripper's positions off its joint states")
    yield from _reach(contract, arm, home)


def _gripper(contract: RobotContract) -> Kinematics:
    spec = contract.kinematics
    return Kinematics(contract.urdf, spec.base_frame, spec.base_frame, [spec.gripper_joint])


def _reach(contract: RobotContract, arm: Kinematics, home: Any) -> Iterator[Finding]:
    tool = arm.fk(home)[0]
    low, high = np.array(contract.limits.workspace_low), np.array(contract.limits.workspace_high)
    where = "(" + ", ".join(f"{v:.3f}" for v in tool) + ") m"
    if ((tool < low) | (tool > high)).any():
        yield Finding("error", "limits.workspace", f"the tool at home is at {where}, outside the workspace box",
                      "move home or the box; outside, the arm may only move back in")  # fmt: skip
    else:
        yield Finding("ok", "limits.workspace", f"the tool at home is at {where}, inside the box")
    axes = [i for i, axis in enumerate(DIMENSIONS["arm"]) if axis in contract.action_space.names]
    if not axes:
        return
    scale = np.array([1.0] * 3 + [0.3] * 3)  # as the servo weighs a rad against a metre
    sigma = np.linalg.svd((scale[:, None] * arm.jacobian(home))[axes], compute_uv=False)
    names = ", ".join(DIMENSIONS["arm"][i] for i in axes)
    if len(sigma) < len(axes) or sigma[-1] < 1e-3:
        advice = "take the axes that it cannot move out of action_space, or move home away from the singularity"
        yield Finding("error", "action_space", f"{len(arm.joints)} joints cannot move {names} alone at home", advice)
    elif sigma[-1] < SINGULAR:
        yield Finding("warning", "kinematics.home", f"home is close to a singularity (sigma {sigma[-1]:.3f})",
                      "bend the arm more; motion is slowed down there")  # fmt: skip


def _observations(contract: RobotContract) -> Iterator[Finding]:
    for kind in ("image", "joint_state"):
        try:
            spec = contract.observation(kind)
        except ConfigError as error:
            yield Finding("error", "observations", str(error), "add it")
            continue
        where = f"observations.{spec.name}"
        if spec.rate <= 0:
            yield Finding("warning", where, "no rate is given, so nothing tells a slow one", "give its rate in Hz")
        elif spec.max_age < 1.5 / spec.rate:
            told = f"max_age {spec.max_age:g} s is less than 1.5 periods at {spec.rate:g} Hz"
            yield Finding(
                "error", where, told, f"raise it to {3.0 / spec.rate:.2g} s or more, else one late message stops"
            )
        if kind == "image":
            if 0 < spec.rate < contract.policy_rate:
                told = f"{spec.rate:g} Hz is less than policy_rate {contract.policy_rate:g} Hz"
                yield Finding("error", where, told, "lower policy_rate or raise the camera's rate")
            if not spec.frame:
                yield Finding("warning", where, "any frame_id is accepted", "name the camera's optical frame")
            elif not spec.frame.endswith(("_optical_frame", "_optical")):
                yield Finding("note", where, f"frame {spec.frame!r} is not named as an optical frame (REP-103)",
                              "z must point out of the lens, x right, y down")  # fmt: skip
            if spec.max_age > contract.limits.max_action_age:
                told = f"max_age {spec.max_age:g} s is more than max_action_age {contract.limits.max_action_age:g} s"
                yield Finding("note", where, told, "actions from such old images are refused anyway")
        elif spec.max_age > contract.limits.max_action_age:
            told = f"max_age {spec.max_age:g} s lets the arm move on joint states older than any action"
            yield Finding("warning", where, told, "lower it")
    for spec in contract.observations.values():
        yield from _relative(f"observations.{spec.name}", spec.topic)


def _commands(contract: RobotContract) -> Iterator[Finding]:
    seen = {spec.topic: f"observations.{spec.name}" for spec in contract.observations.values()}
    if "arm" not in contract.commands:
        yield Finding("error", "commands", "there is no arm command", "add it: command_node sends tool twists there")
    for spec in contract.commands.values():
        where = f"commands.{spec.name}"
        if spec.topic in seen:
            yield Finding("error", where, f"{spec.topic} is used by {seen[spec.topic]} too", "give each its own topic")
        seen[spec.topic] = where
        yield from _relative(where, spec.topic)
        if not any(
            d.target == ("arm" if spec.name == "arm_joints" else spec.name) for d in contract.action_space.dimensions
        ):
            yield Finding("note", where, "no action dimension is sent here", "only zeros will be")
    period = 1.0 / contract.command_rate
    if 2.0 * period > SERVO_TIMEOUT:
        yield Finding("error", "command_rate", f"{contract.command_rate:g} Hz: one late twist and the servo's "
                      f"{SERVO_TIMEOUT:g} s are over", f"use {2.0 / SERVO_TIMEOUT:g} Hz or more")  # fmt: skip
    if "base" in contract.commands and 2.0 * period > BASE_TIMEOUT:
        yield Finding(
            "warning", "command_rate", f"{contract.command_rate:g} Hz is slow for a base's time-out", "raise it"
        )


def check_limits(contract: RobotContract) -> Iterator[Finding]:
    """The limits that stand between a policy and people: those that hardly limit anything, and those left out."""
    bound = contract.limits
    periods = bound.max_action_age * contract.policy_rate
    if periods < 1.5:
        yield Finding("error", "limits.max_action_age", f"{bound.max_action_age:g} s is {periods:.1f} policy periods",
                      "allow two or three, else the first late action stops")  # fmt: skip
    elif periods > 5:
        yield Finding("warning", "limits.max_action_age", f"{bound.max_action_age:g} s is {periods:.1f} policy periods",
                      "a policy that died is noticed only then")  # fmt: skip
    for name, most in (("linear_speed", 1.0), ("angular_speed", 3.2), ("joint_speed", 3.2), ("base_linear_speed", 1.5),
                       ("base_angular_speed", 3.2)):  # fmt: skip
        if getattr(bound, name) > most:
            told = f"{getattr(bound, name):g} is fast for a robot among people"
            yield Finding("warning", f"limits.{name}", told, f"begin below {most:g} and raise it later")
    for name, most in (("linear_acceleration", 10.0), ("angular_acceleration", 40.0),
                       ("base_linear_acceleration", 5.0), ("base_angular_acceleration", 15.0)):  # fmt: skip
        if getattr(bound, name) > most:
            told = f"{getattr(bound, name):g} per s^2 is no smooth motion"
            yield Finding("warning", f"limits.{name}", told, f"begin below {most:g} and raise it later")
    for joint, speed in bound.joint_speeds.items():
        if speed > 3.2:
            told = f"{joint}: {speed:g} is fast for a robot among people"
            yield Finding("warning", "limits.joint_speeds", told, "begin below 3.2 and raise it later")
    gripper = contract.commands.get("gripper")
    if gripper is not None and bound.gripper_force is None and not gripper.max_effort:
        told = "nothing here limits how hard the gripper closes; only its own driver does"
        advice = f"where joint states report the effort of {contract.kinematics.gripper_joint}, set gripper_force"
        if "/action/" in gripper.type:
            advice = f"set max_effort (N) of commands: gripper; or, {advice}"
        yield Finding("warning", "limits.gripper_force", told, f"{advice}; else limit it in the gripper's driver")


def _actions(contract: RobotContract) -> Iterator[Finding]:
    space, bound, period = contract.action_space, contract.limits, contract.policy_period
    speed = {"dx": bound.linear_speed, "dy": bound.linear_speed, "dz": bound.linear_speed,
             "droll": bound.angular_speed, "dpitch": bound.angular_speed, "dyaw": bound.angular_speed,
             "base_forward": bound.base_linear_speed, "base_turn": bound.base_angular_speed}  # fmt: skip
    if "terminate" not in space.names:
        yield Finding("note", "action_space", "without terminate every episode ends by its time limit", "")
    for d in space.dimensions:
        where = f"action_space.{d.name}"
        if d.unit != UNITS[d.name]:
            yield Finding("error", where, f"unit {d.unit!r}", f"everything reads it in {UNITS[d.name]!r}; convert it")
        if d.name in ("terminate", "gripper"):
            if (d.low, d.high) != (0.0, 1.0):
                yield Finding("error", where, f"range {d.low:g} .. {d.high:g}", "use 0 .. 1")
            continue
        if d.neutral != 0.0:
            yield Finding(
                "error", where, f"neutral is {d.neutral}", "give neutral: 0.0, so that standing still is exact"
            )
        fastest = max(abs(d.low), abs(d.high)) / period
        if fastest > 1.001 * speed[d.name]:
            told = f"its range asks for {fastest:.3g} {d.unit}/s, the limit is {speed[d.name]:g}"
            yield Finding("warning", where, told, f"use at most {speed[d.name] * period:.3g} {d.unit} per step")
        if d.low > 0 or d.high < 0:
            yield Finding("error", where, f"range {d.low:g} .. {d.high:g} has no standing still", "include 0")


def _relative(where: str, topic: str) -> Iterator[Finding]:
    if topic.startswith("/"):
        told = f"{topic} is absolute: it ignores the namespace"
        yield Finding("note", where, told, "leave the slash out unless only one robot will ever run")
