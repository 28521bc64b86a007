"""Where actions are sent: the commands of a contract, and the services to call before the first of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qt_ros.contract.strict import ConfigError, one_of

if TYPE_CHECKING:
    from qt_ros.contract.robot import RobotContract

COMMANDS = {  # name: types (messages or actions), what a stop does
    "arm": (("geometry_msgs/msg/TwistStamped",), "zero"),
    "gripper": (
        (
            "trajectory_msgs/msg/JointTrajectory",
            "std_msgs/msg/Float64MultiArray",
            "control_msgs/action/GripperCommand",
            "control_msgs/action/ParallelGripperCommand",
        ),
        "hold",
    ),
    "base": (("geometry_msgs/msg/TwistStamped", "geometry_msgs/msg/Twist"), "zero"),
    "arm_joints": (("trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray"), "hold"),
}
FOLLOWERS = ("servo_node", "moveit_servo")  # who turns the arm's twists into joint motion
NO_JOINT = "-"  # an entry of a position array that stands for no joint; 0.0 is sent there


@dataclass(frozen=True)
class CommandSpec:
    """One commanded topic: where a group of action dimensions is sent and what a stop does there.

    ``on_stop``: ``zero`` velocity for arm and base, ``hold`` (send nothing) for joints. ``topic`` is the action's name
    where ``type`` is an action. ``arm`` takes tool twists; its ``follower`` is our servo_node, which then commands
    ``arm_joints``, or MoveIt Servo. ``joints``: those that a message names, or, for position arrays, the joint of each
    entry in the controller's order, '-' where an entry is no joint. ``max_effort`` of gripper actions in N (0: the
    controller's own).
    """

    name: str
    topic: str
    type: str
    on_stop: str
    frame: str = ""
    joints: tuple[str, ...] = ()
    follower: str = "servo_node"
    max_effort: float = 0.0

    def __post_init__(self) -> None:
        one_of(self.name, tuple(COMMANDS), "command name")
        types, on_stop = COMMANDS[self.name]
        one_of(self.type, types, f"command {self.name}: type")
        one_of(self.on_stop, (on_stop,), f"command {self.name}: on_stop")
        one_of(self.follower, FOLLOWERS, f"command {self.name}: follower")
        if not self.topic:
            raise ConfigError(f"command {self.name}: topic must not be empty")
        if self.joints and self.name not in ("gripper", "arm_joints"):
            raise ConfigError(
                f"command {self.name}: joints are for gripper and arm_joints; the arm's are in kinematics"
            )
        if self.frame and self.name in ("gripper", "arm_joints"):
            raise ConfigError(f"command {self.name}: joint commands have no frame; leave it out")
        if self.follower != "servo_node" and self.name != "arm":
            raise ConfigError(f"command {self.name}: follower is for the arm; leave it out")
        if self.max_effort < 0 or (self.max_effort and "/action/" not in self.type):
            raise ConfigError(f"command {self.name}: max_effort is for gripper actions, and not negative")


@dataclass(frozen=True)
class ServiceCall:
    """A service that command_node calls before it is active, in the order given; one that fails keeps it inactive.

    ``request`` holds the fields of the request that differ from their defaults. Where the answer has a field
    ``success``, it must be true.
    """

    service: str
    type: str
    request: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.service or "/srv/" not in self.type:
            raise ConfigError(f"prepare: {self.service or 'a service'}: type must be like std_srvs/srv/Trigger")


def check_joints(contract: RobotContract, where: str) -> None:
    """Joint commands and joint speeds name joints that the robot has."""
    spec, commands = contract.kinematics, contract.commands
    known = set(spec.arm_joints) | set(spec.home) | {spec.gripper_joint}
    unknown = sorted(set(contract.limits.joint_speeds) - set(spec.arm_joints))
    if unknown:
        raise ConfigError(f"{where}: limits: joint_speeds: {', '.join(unknown)} is none of the arm's joints")
    out = commands.get("arm_joints")
    if out is None:
        return
    if "arm" in commands and commands["arm"].follower != "servo_node":
        raise ConfigError(f"{where}: command arm_joints: {commands['arm'].follower} commands the joints; leave it out")
    listed = [j for j in out.joints if j != NO_JOINT]
    if out.type.endswith("Float64MultiArray") and not listed:
        raise ConfigError(f"{where}: command arm_joints: joints must name the joint of every entry of the array")
    if listed and (set(spec.arm_joints) - set(listed) or len(set(listed)) != len(listed)):
        raise ConfigError(f"{where}: command arm_joints: joints must name each of {', '.join(spec.arm_joints)} once")
    if out.type.endswith("JointTrajectory") and tuple(out.joints) not in ((), spec.arm_joints):
        raise ConfigError(f"{where}: command arm_joints: a trajectory has the arm's joints; leave joints out")
    if strange := sorted(set(listed) - known):
        raise ConfigError(
            f"{where}: command arm_joints: {', '.join(strange)} is unknown; give it a position in kinematics: home"
        )
