"""The robot contract: one YAML per robot that names every topic, unit, rate, limit and action dimension.

The same object configures the live nodes, the decoding of bags and the training side; its SHA-256 is written into every
bag and checkpoint.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from qt_ros.contract.actions import ActionSpace
from qt_ros.contract.commands import CommandSpec, ServiceCall, check_joints
from qt_ros.contract.description import DESCRIPTION_TOPIC, UrdfText, find_description, package_root
from qt_ros.contract.strict import ConfigError, build, one_of, parse_yaml, read_config

# What the nodes and the decoding of bags do. A contract that asks for anything else is refused, never half obeyed.
OBSERVATION_TYPES = {
    "image": ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"),
    "joint_state": ("sensor_msgs/msg/JointState",),
    "text": ("std_msgs/msg/String",),
}
ALIGNMENTS = {"image": "exact", "joint_state": "as_of", "text": "latched"}
STALE_BEHAVIOURS = ("stop", "ignore")
DIMENSIONS = {  # target: the dimensions that are executed there
    "episode": ("terminate",),
    "gripper": ("gripper",),
    "arm": ("dx", "dy", "dz", "droll", "dpitch", "dyaw"),
    "base": ("base_forward", "base_turn"),
}


@dataclass(frozen=True)
class ObservationSpec:
    """One observed topic.

    ``rate`` in Hz, ``max_age`` in seconds (older than that at use: ``on_stale``), ``frame`` is the expected frame_id,
    ``align``: ``exact`` (images: stamp equal to the policy's observation stamp), ``as_of`` (joint states: newest at or
    before it), ``latched`` (text). ``height`` and ``width`` in pixels for images (0 for the other kinds).
    """

    name: str
    kind: str
    topic: str
    type: str
    rate: float
    align: str
    max_age: float
    on_stale: str = "stop"
    frame: str = ""
    height: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        one_of(self.kind, tuple(OBSERVATION_TYPES), f"observation {self.name}: kind")
        one_of(self.type, OBSERVATION_TYPES[self.kind], f"observation {self.name}: type of kind {self.kind}")
        one_of(self.align, (ALIGNMENTS[self.kind],), f"observation {self.name}: align of kind {self.kind}")
        one_of(self.on_stale, STALE_BEHAVIOURS, f"observation {self.name}: on_stale")
        if self.kind != "image" and (self.frame or self.height or self.width):
            raise ConfigError(f"observation {self.name}: frame, height and width are for images; leave them out")
        if self.kind == "text" and (self.on_stale == "stop" or self.max_age):
            raise ConfigError(f"observation {self.name}: text does not age; set max_age 0.0 and on_stale ignore")
        if self.kind == "image" and (self.height <= 0 or self.width <= 0):
            raise ConfigError(f"observation {self.name}: an image needs height and width in pixels")
        if self.rate < 0 or self.max_age < 0:
            raise ConfigError(f"observation {self.name}: rate and max_age must not be negative")


@dataclass(frozen=True)
class KinematicsSpec:
    """Names of frames and joints in the URDF; ``home`` maps every named joint to its rest position (rad or m).

    ``coupled``: joints that the robot reports and commands as one although the URDF has several in a row, such as a
    telescope: {name: its joints in the URDF}. Its position is their sum, shared equally. A robot without a gripper has
    no ``gripper_joint`` ('') and neither of its positions (NaN).
    """

    base_frame: str
    tool_frame: str
    arm_joints: tuple[str, ...]
    home: dict[str, float]
    gripper_joint: str = ""
    gripper_open: float = math.nan
    gripper_closed: float = math.nan
    coupled: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.arm_joints or len(set(self.arm_joints)) != len(self.arm_joints):
            raise ConfigError(f"kinematics: arm_joints must name each joint once, found {list(self.arm_joints)}")
        alone = [name for name, joints in self.coupled.items() if not joints or name not in self.arm_joints]
        if alone:
            raise ConfigError(f"kinematics: coupled {', '.join(alone)} must be an arm joint made of URDF joints")
        if not self.gripper_joint and not (math.isnan(self.gripper_open) and math.isnan(self.gripper_closed)):
            raise ConfigError("kinematics: gripper_open and gripper_closed are positions of gripper_joint; name it")
        if self.gripper_joint and (math.isnan(self.gripper_open) or math.isnan(self.gripper_closed)):
            raise ConfigError("kinematics: gripper_joint needs gripper_open and gripper_closed, its positions then")
        missing = [j for j in (*self.arm_joints, self.gripper_joint) if j and j not in self.home]
        if missing:
            raise ConfigError(f"kinematics: home lacks a position for {', '.join(missing)}")
        if self.gripper_open == self.gripper_closed:
            raise ConfigError("kinematics: gripper_open and gripper_closed must differ")

    @property
    def carriers(self) -> tuple[str, ...]:
        """Joints that carry the arm without being part of it (a lift): they count where they are reported, else as
        being at home."""
        return tuple(j for j in self.home if j not in self.arm_joints and j != self.gripper_joint)

    def closedness(self, position: float) -> float:
        """Gripper joint position -> closedness, 0 open .. 1 closed (not clipped)."""
        return (position - self.gripper_open) / (self.gripper_closed - self.gripper_open)

    def gripper_position(self, closedness: float) -> float:
        """Closedness 0..1 -> gripper joint position."""
        return self.gripper_open + closedness * (self.gripper_closed - self.gripper_open)


@dataclass(frozen=True)
class Limits:
    """Hard limits of what may be commanded, in SI units; the workspace box is the tool position in the base frame.

    ``joint_speed`` is for every arm joint that ``joint_speeds`` does not name (rad/s, or m/s of a joint that slides).
    The gripper's, in the unit of its joint, are optional: ``gripper_low`` and ``gripper_high`` narrow the range between
    open and closed; ``gripper_force`` (N or Nm) is the measured effort at which closing ends.
    """

    linear_speed: float
    angular_speed: float
    linear_acceleration: float
    angular_acceleration: float
    joint_speed: float
    base_linear_speed: float
    base_angular_speed: float
    base_linear_acceleration: float
    base_angular_acceleration: float
    max_action_age: float
    workspace_low: tuple[float, ...]
    workspace_high: tuple[float, ...]
    gripper_low: float | None = None
    gripper_high: float | None = None
    gripper_force: float | None = None
    joint_speeds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.__dict__.items():
            if value is None or name in ("gripper_low", "gripper_high"):
                continue
            if isinstance(value, dict):
                if any(v <= 0 for v in value.values()):
                    raise ConfigError(f"limits: {name} must be positive, found {value}")
            elif isinstance(value, tuple):
                if len(value) != 3 or not all(isinstance(v, (int, float)) for v in value):
                    raise ConfigError(f"limits: {name} needs three numbers (x, y, z in m), found {value}")
            elif value <= 0:
                raise ConfigError(f"limits: {name} must be positive, found {value}")
        if any(lo >= hi for lo, hi in zip(self.workspace_low, self.workspace_high, strict=True)):
            raise ConfigError("limits: workspace_low must be below workspace_high in x, y and z")
        if self.gripper_low is not None and self.gripper_high is not None and self.gripper_low >= self.gripper_high:
            raise ConfigError("limits: gripper_low must be below gripper_high")


@dataclass(frozen=True)
class RobotContract:
    """A loaded contract. ``policy_rate`` and ``command_rate`` in Hz; ``text`` is the YAML it came from."""

    robot: str
    description: str
    policy_rate: float
    command_rate: float
    kinematics: KinematicsSpec
    observations: dict[str, ObservationSpec]
    commands: dict[str, CommandSpec]
    limits: Limits
    action_space: ActionSpace
    text: str = field(repr=False)
    prepare: tuple[ServiceCall, ...] = ()
    urdf_text: str = field(default="", repr=False)

    @property
    def policy_period(self) -> float:
        """Seconds of one policy step."""
        return 1.0 / self.policy_rate

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the contract's text; written into every bag and checkpoint."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def description_topic(self) -> str:
        """Topic that the robot's description comes from (std_msgs/String, latched); empty when it is a file."""
        return self.description[len(DESCRIPTION_TOPIC) :].strip() if self._described_live else ""

    @property
    def _described_live(self) -> bool:
        return self.description.startswith(DESCRIPTION_TOPIC)

    def with_description(self, urdf: str) -> RobotContract:
        """The same contract with the description that its topic carried; text and hash stay what they are."""
        return replace(self, urdf_text=urdf)

    @property
    def urdf(self) -> Path | UrdfText:
        """The robot description: a file, or what `with_description` was given. ConfigError when there is none yet."""
        return UrdfText(self.urdf_text) if self.urdf_text else self.urdf_file

    @property
    def urdf_file(self) -> Path:
        """The file of the robot description. ConfigError when it comes from a topic or is not there."""
        if self._described_live:
            raise ConfigError(
                f"robot {self.robot}: its description comes from the topic {self.description_topic}; "
                f"nodes and bags bring it, elsewhere set description to a URDF file"
            )
        path = find_description(self.description)
        if not path.is_file():
            raise ConfigError(f"robot {self.robot}: description {path} does not exist; correct it in the contract")
        return path

    def observation(self, kind: str) -> ObservationSpec:
        """The first observation of ``kind``; ConfigError when the contract has none."""
        for spec in self.observations.values():
            if spec.kind == kind:
                return spec
        raise ConfigError(f"robot {self.robot}: no observation of kind {kind!r} in its contract")


@dataclass(frozen=True)
class _Document:
    schema: int
    robot: str
    description: str
    policy_rate: float
    command_rate: float
    kinematics: dict[str, Any]
    observations: list[Any]
    commands: list[Any]
    limits: dict[str, Any]
    action_space: list[Any]
    prepare: list[Any] = field(default_factory=list)


def parse_contract(text: str, where: str = "contract") -> RobotContract:
    """Parse contract YAML ``text``; raises ConfigError naming ``where`` and the key for anything unknown or missing."""
    document = build(_Document, parse_yaml(text, where), where)
    if document.schema != 1:
        raise ConfigError(f"{where}: schema {document.schema} is not supported; this version reads schema 1")
    if document.policy_rate <= 0 or document.command_rate < document.policy_rate:
        raise ConfigError(f"{where}: need 0 < policy_rate <= command_rate")
    observations = [
        build(ObservationSpec, o, f"{where}: observations[{i}]") for i, o in enumerate(document.observations)
    ]
    commands = [build(CommandSpec, c, f"{where}: commands[{i}]") for i, c in enumerate(document.commands)]
    space = ActionSpace.from_config(document.action_space, f"{where}: action_space")
    contract = RobotContract(
        robot=document.robot,
        description=document.description,
        policy_rate=document.policy_rate,
        command_rate=document.command_rate,
        kinematics=build(KinematicsSpec, document.kinematics, f"{where}: kinematics"),
        observations=_by_name(observations, f"{where}: observations"),
        commands=_by_name(commands, f"{where}: commands"),
        limits=build(Limits, document.limits, f"{where}: limits"),
        action_space=space,
        text=text,
        prepare=tuple(build(ServiceCall, c, f"{where}: prepare[{i}]") for i, c in enumerate(document.prepare)),
    )
    for kind in OBSERVATION_TYPES:
        same = [o.name for o in observations if o.kind == kind]
        if len(same) > 1:
            what = {"image": "camera", "joint_state": "joint state", "text": "text"}[kind]
            raise ConfigError(f"{where}: one {what} is supported by now, found {', '.join(same)}; keep one of them")
    base_frame = contract.kinematics.base_frame
    for command in commands:
        if command.frame not in ("", base_frame):
            raise ConfigError(f"{where}: command {command.name}: frame must be the base frame {base_frame!r}")
    for dimension in space.dimensions:
        known = DIMENSIONS.get(dimension.target, ())
        if known and dimension.name not in known:
            raise ConfigError(
                f"{where}: action_space: nothing executes {dimension.name!r} with target {dimension.target!r}; "
                f"known there: {', '.join(known)}"
            )
        if dimension.target != "episode" and dimension.target not in contract.commands:
            raise ConfigError(
                f"{where}: {dimension.name} is sent to {dimension.target!r}, which is not among the commands"
            )
    if not contract.kinematics.gripper_joint:
        _refuse_gripper(contract, where)
    check_joints(contract, where)
    return contract


def _refuse_gripper(contract: RobotContract, where: str) -> None:
    """Without a gripper joint nothing may speak of a gripper."""
    bound = contract.limits
    found = {
        "commands: gripper": "gripper" in contract.commands,
        "action_space: gripper": "gripper" in contract.action_space.names,
        "limits: gripper_...": any(v is not None for v in (bound.gripper_low, bound.gripper_high, bound.gripper_force)),
    }
    if named := [name for name, there in found.items() if there]:
        raise ConfigError(
            f"{where}: {', '.join(named)} but no gripper_joint in kinematics; name it with its home, gripper_open and "
            "gripper_closed, or leave the gripper out everywhere"
        )


def load_contract(name_or_path: str | Path) -> RobotContract:
    """Load ``config/robots/<name>.yaml`` by name, or any YAML file by path."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        folder = package_root() / "config" / "robots"
        path = folder / f"{name_or_path}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
            raise ConfigError(f"no robot {str(name_or_path)!r} in {folder}; known: {known}")
    return parse_contract(read_config(path), str(path))


def _by_name(specs: list[Any], where: str) -> dict[str, Any]:
    result = {s.name: s for s in specs}
    if len(result) != len(specs):
        raise ConfigError(f"{where}: names must be unique, found {[s.name for s in specs]}")
    return result
