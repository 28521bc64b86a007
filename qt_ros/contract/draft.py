"""A first contract written from a running robot: what was seen is stated, what was guessed says so in a comment."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.commands import COMMANDS
from qt_ros.contract.description import UrdfText
from qt_ros.contract.graph_facts import GraphFacts, Topic
from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import parse_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.contract.urdf_guess import RobotGuess, guess_robot, movable_axes

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
TRAJECTORY, ARRAY = COMMANDS["arm_joints"][0]
REACH = 0.3  # m: half the workspace box around the tool as it stands
STEP = {"m": 0.03, "rad": 0.15}  # of one policy step
POLICY_RATE, COMMAND_RATE = 3.0, 50.0
CAMERA_RATE = 15.0  # Hz, where none was measured
WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")  # YAML takes them for something else


def draft_contract(facts: GraphFacts, robot: str, urdf_path: Path | None = None) -> str:
    """The YAML of a first contract. The description is a file where ``urdf_path`` is given, else its topic.

    The result loads. ConfigError says what is missing on the robot: description, joint states, arm. A robot without a
    gripper gets a contract without one; a camera that was not heard is a placeholder in a comment.
    """
    text = urdf_path.read_text(encoding="utf-8") if urdf_path is not None else facts.urdf
    if not text:
        raise ConfigError("no robot description: start robot_state_publisher, or give the robot's URDF with --urdf")
    joints = _joint_states(facts)
    positions = joints.heard.details["positions"] if joints.heard is not None else {}
    guess = guess_robot(UrdfText(text), list(facts.controllers.values()), positions)
    missing = [j for j in guess.arm_joints if j not in positions]
    if missing:
        raise ConfigError(
            f"{joints.name} does not report {', '.join(missing)}; start the arm's joint state broadcaster"
        )
    held = {j: positions.get(j, 0.0) for j in guess.carriers}
    arm = Kinematics(UrdfText(text), guess.base_frame, guess.tool_frame, guess.arm_joints, fixed=held)
    stance = [positions[j] for j in guess.arm_joints]
    description = str(urdf_path) if urdf_path is not None else "topic robot_description"
    lines = [
        f"# First contract of {robot}, written from the running robot by `qt-ros contract init`.",
        "# Lines that say 'guessed' were not seen: read each, correct it, and take the remark away.",
        "# Then: qt-ros contract check THIS_FILE --live",
        "# Units: m, rad, s, Hz. Frames and axes: REP-103. Topics are relative to the namespace.",
        "schema: 1",
        f"robot: {_name(robot)}",
        f"description: {_quoted(description)}",
        f"policy_rate: {POLICY_RATE}  # guessed: most policies keep this up",
        f"command_rate: {COMMAND_RATE}  # guessed",
        *_kinematics(facts, guess, positions),
        *_observations(facts, joints),
        *_commands(facts, guess),
        *_limits(arm.fk(stance)[0]),
        *_actions(facts, guess, movable_axes(arm, stance)),
    ]
    draft = "\n".join(lines) + "\n"
    parse_contract(draft, "the draft")
    return draft


def _kinematics(facts: GraphFacts, guess: RobotGuess, positions: dict[str, float]) -> list[str]:
    home = {j: positions.get(j, 0.0) for j in (*guess.carriers, *guess.arm_joints)}
    if guess.gripper_joint:
        home[guess.gripper_joint] = positions.get(guess.gripper_joint, guess.gripper_range[0])
    array = _arm_array(facts, guess)
    home |= {j: positions.get(j, 0.0) for j in (facts.controllers[facts.owner(array)] if array else ())} | home
    return [
        "kinematics:",
        f"  base_frame: {_quoted(guess.base_frame)}  # guessed from the URDF's frames",
        f"  tool_frame: {_quoted(guess.tool_frame)}  # guessed: the point between the fingers is best",
        f"  arm_joints: {_list(guess.arm_joints)}  # guessed from controllers and URDF",
        *_gripper_positions(guess),
        "  home:  # guessed: where the robot stood while this was written",
        *(f"    {_quoted(joint)}: {_number(position)}" for joint, position in home.items()),
    ]


def _gripper_positions(guess: RobotGuess) -> list[str]:
    if not guess.gripper_joint:
        return [
            "  # guessed: no gripper, for no joint of the URDF is named like one. To add it: here gripper_joint,",
            "  # gripper_open and gripper_closed (rad or m) and its place in home; a command named gripper; in",
            '  # action_space, after terminate, {name: gripper, unit: "1", low: 0.0, high: 1.0, target: gripper}.',
        ]
    opened, closed = guess.gripper_range
    return [
        f"  gripper_joint: {_quoted(guess.gripper_joint)}  # guessed by its name",
        f"  gripper_open: {_number(opened)}  # guessed from the limits: open it and look at the joint states",
        f"  gripper_closed: {_number(closed)}  # guessed from the limits: close it and look",
    ]


def _observations(facts: GraphFacts, joints: Topic) -> list[str]:
    assert joints.heard is not None
    joint_rate = round(joints.heard.rate or 50.0, 1)
    return [
        "observations:",
        *_image(facts),
        _entry(
            name="joints",
            kind="joint_state",
            topic=_relative(facts, joints.name),
            type="sensor_msgs/msg/JointState",
            rate=joint_rate,
            align="as_of",
            max_age=_age(joint_rate, 0.2),
            on_stale="stop",
        ),
        _entry(
            name="instruction",
            kind="text",
            topic="instruction",
            type="std_msgs/msg/String",
            rate=0.0,
            align="latched",
            max_age=0.0,
            on_stale="ignore",
        ),
    ]


def _image(facts: GraphFacts) -> list[str]:
    """The camera; where none was heard, a comment to complete: a contract loads without, no policy acts without."""
    camera = _camera(facts)
    if camera is None or camera.heard is None:
        line = _image_entry("head_camera/image_raw", IMAGE_TYPES[0], "head_camera_optical_frame", CAMERA_RATE, 640, 480)
        return [
            "  # No colour images were heard, and policies need them: start the camera and write this contract anew,",
            "  # or correct the next line (topic, type, frame, rate in Hz, size in pixels) and take its '#' away.",
            f"  #{line.removeprefix('  ')}",
        ]
    others = [t.name for t in _cameras(facts) if t is not camera]
    width, height = camera.heard.details["sizes"][0]
    frame, rate = next(iter(camera.heard.frames), ""), round(camera.heard.rate or CAMERA_RATE, 1)
    line = _image_entry(_relative(facts, camera.name), _kind_of(camera, IMAGE_TYPES), frame, rate, width, height)
    return [*([f"  # guessed: this camera; others here: {', '.join(others)}"] if others else []), line]


def _image_entry(topic: str, kind: str, frame: str, rate: float, width: int, height: int) -> str:
    return _entry(
        name="head_camera",
        kind="image",
        topic=topic,
        type=kind,
        **({"frame": frame} if frame else {}),
        rate=rate,
        align="exact",
        max_age=_age(rate, 0.5),
        on_stale="stop",
        height=height,
        width=width,
    )


def _commands(facts: GraphFacts, guess: RobotGuess) -> list[str]:
    arm = {"type": "geometry_msgs/msg/TwistStamped", "frame": guess.base_frame, "on_stop": "zero"}
    switches = _own_first(facts, (n for n, t in facts.services.items() if t == "moveit_msgs/srv/ServoCommandType"))
    if switches:
        topic = _relative(facts, switches[0].rpartition("/")[0] + "/delta_twist_cmds")
        lines = [_entry(name="arm", topic=topic, **arm, follower="moveit_servo")]
    else:
        lines = [_entry(name="arm", topic="servo_node/delta_twist_cmds", **arm), _arm_joints(facts, guess)]
    if guess.gripper_joint:
        lines.append(_gripper(facts, guess))
    base = _base(facts)
    if base is not None:
        kind = next(e.type for e in base.subscriptions if e.type in COMMANDS["base"][0])
        entry = _entry(
            name="base", topic=_relative(facts, base.name), type=kind, frame=guess.base_frame, on_stop="zero"
        )
        lines.append(f"{entry}  # guessed by its name")
    return ["commands:", *lines]


def _arm_joints(facts: GraphFacts, guess: RobotGuess) -> str:
    arm = set(guess.arm_joints)
    for topic in _taken(facts, TRAJECTORY):
        joints = facts.controllers.get(facts.owner(topic), [])
        if arm == set(joints) or (not joints and "arm" in topic.name):
            entry = _entry(name="arm_joints", topic=_relative(facts, topic.name), type=TRAJECTORY, on_stop="hold")
            return entry if joints else f"{entry}  # guessed by its name"
    array = _arm_array(facts, guess)
    if array is not None:
        joints = facts.controllers[facts.owner(array)]
        return _entry(name="arm_joints", topic=_relative(facts, array.name), type=ARRAY, on_stop="hold", joints=joints)
    entry = _entry(name="arm_joints", topic="arm_controller/joint_trajectory", type=TRAJECTORY, on_stop="hold")
    return f"{entry}  # guessed: no controller of these joints listens"


def _arm_array(facts: GraphFacts, guess: RobotGuess) -> Topic | None:
    """The position controller that owns the arm's joints, where no trajectory controller does."""
    arm = set(guess.arm_joints)
    owners = {t.name: set(facts.controllers.get(facts.owner(t), [])) for t in facts.topics.values()}
    if any(owners[t.name] == arm for t in _taken(facts, TRAJECTORY)):
        return None
    return next((t for t in _taken(facts, ARRAY) if arm <= owners[t.name]), None)


def _gripper(facts: GraphFacts, guess: RobotGuess) -> str:
    for topic in _taken(facts, TRAJECTORY):
        joints = facts.controllers.get(facts.owner(topic), [])
        if guess.gripper_joint in joints or (not joints and any(w in topic.name for w in ("gripper", "hand"))):
            entry = _entry(
                name="gripper",
                topic=_relative(facts, topic.name),
                type=TRAJECTORY,
                joints=joints or [guess.gripper_joint],
                on_stop="hold",
            )
            return entry if joints else f"{entry}  # guessed by its name"
    for name in _own_first(facts, facts.actions):
        if (kind := facts.actions[name]) in COMMANDS["gripper"][0]:
            return _entry(name="gripper", topic=_relative(facts, name), type=kind, on_stop="hold")
    entry = _entry(
        name="gripper",
        topic="gripper_controller/joint_trajectory",
        type=TRAJECTORY,
        joints=[guess.gripper_joint],
        on_stop="hold",
    )
    return f"{entry}  # guessed: nothing that looks like a gripper listens"


def _limits(tool: NDArray[np.float64]) -> list[str]:
    low, high = np.floor((tool - REACH) * 100) / 100, np.ceil((tool + REACH) * 100) / 100
    return [
        "limits:  # guessed, all of them: slow, and a box around the tool as it stood",
        "  linear_speed: 0.15            # m/s of the tool",
        "  angular_speed: 0.5            # rad/s of the tool",
        "  linear_acceleration: 0.5",
        "  angular_acceleration: 2.0",
        "  joint_speed: 0.5              # rad/s of each arm joint",
        "  base_linear_speed: 0.15       # m/s",
        "  base_angular_speed: 0.5       # rad/s",
        "  base_linear_acceleration: 0.3",
        "  base_angular_acceleration: 1.0",
        "  max_action_age: 0.9           # s since the observation an action was computed from",
        f"  workspace_low: [{', '.join(_number(v) for v in low)}]",
        f"  workspace_high: [{', '.join(_number(v) for v in high)}]",
    ]


def _actions(facts: GraphFacts, guess: RobotGuess, axes: Sequence[str]) -> list[str]:
    gripper = _entry(name="gripper", unit="1", low=0.0, high=1.0, target="gripper")
    named = [(axis, "rad" if axis in ("droll", "dpitch", "dyaw") else "m", "arm") for axis in axes]
    if _base(facts) is not None:
        named += [("base_forward", "m", "base"), ("base_turn", "rad", "base")]
    return [
        "action_space:  # guessed: the axes that the arm can move from where it stood",
        _entry(name="terminate", unit="1", low=0.0, high=1.0, target="episode"),
        *([gripper] if guess.gripper_joint else []),
        *(
            _entry(name=name, unit=unit, low=-STEP[unit], high=STEP[unit], neutral=0.0, target=target)
            for name, unit, target in named
        ),
    ]


# --- what there is ----------------------------------------------------------------------------------------------------


def _joint_states(facts: GraphFacts) -> Topic:
    found = [t for t in _published(facts, ("sensor_msgs/msg/JointState",)) if t.heard is not None and t.heard.count]
    if not found:
        raise ConfigError("no joint states were heard: start the robot's joint state broadcaster")
    own = [t for t in found if facts.within(t.name)] or found
    return max(own, key=lambda t: len(t.heard.details.get("joints", ())) if t.heard is not None else 0)


def _cameras(facts: GraphFacts) -> list[Topic]:
    found = [t for t in _published(facts, IMAGE_TYPES) if t.heard is not None and t.heard.details.get("sizes")]
    return [t for t in found if not any(w in t.name for w in ("depth", "infra", "compressedDepth"))]


def _camera(facts: GraphFacts) -> Topic | None:
    def likely(topic: Topic) -> tuple[bool, ...]:
        name = topic.name
        return (
            facts.within(name),
            topic.publishers[0].type == IMAGE_TYPES[0],
            "head" in name,
            "color" in name or "rgb" in name,
        )

    return max(_cameras(facts), key=likely, default=None)


def _base(facts: GraphFacts) -> Topic | None:
    takers = [t for kind in COMMANDS["base"][0] for t in _taken(facts, kind) if "cmd_vel" in t.name]
    return min(takers, key=lambda t: (not facts.within(t.name), len(t.name)), default=None)


def _published(facts: GraphFacts, kinds: Sequence[str]) -> list[Topic]:
    return [t for t in _sorted(facts) if any(e.type in kinds for e in t.publishers)]


def _taken(facts: GraphFacts, kind: str) -> list[Topic]:
    return [t for t in _sorted(facts) if any(e.type == kind for e in t.subscriptions)]


def _kind_of(topic: Topic, kinds: Sequence[str]) -> str:
    return next(e.type for e in topic.publishers if e.type in kinds)


def _sorted(facts: GraphFacts) -> Iterable[Topic]:
    return [facts.topics[name] for name in _own_first(facts, facts.topics)]


def _own_first(facts: GraphFacts, names: Iterable[str]) -> list[str]:
    """By name, those of the robot's namespace before those of its neighbours."""
    return sorted(names, key=lambda name: (not facts.within(name), name))


# --- YAML -------------------------------------------------------------------------------------------------------------


def _relative(facts: GraphFacts, name: str) -> str:
    """Without the robot's namespace; absolute where the topic is outside of it."""
    return name.removeprefix(facts.namespace.rstrip("/") + "/") if facts.within(name) else name


def _age(rate: float, usual: float) -> float:
    return max(usual, math.ceil(30.0 / rate) / 10.0)


def _number(value: float) -> str:
    return repr(round(float(value), 4) + 0.0)


def _entry(**fields: Any) -> str:
    """One line of a list of mappings."""
    return "  - {" + ", ".join(f"{key}: {_value(value)}" for key, value in fields.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return (
        _list(value) if isinstance(value, (list, tuple)) else _number(value) if isinstance(value, float) else str(value)
    )


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(map(_quoted, names)) + "]"


def _quoted(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_/.-]*", text) and text.lower() not in WORDS
    return text if plain else json.dumps(text)  # a JSON text is a YAML one


def _name(robot: str) -> str:
    if not robot.replace("-", "_").isidentifier():
        raise ConfigError(f"robot name {robot!r}: use letters, digits and _")
    return robot
