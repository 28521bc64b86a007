"""What every node publishes, takes and serves under a contract: the one list that security policies are made from.

Names are as the nodes give them: relative, private ('~/x') or absolute. A test starts the real nodes and compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from qt_ros.contract.robot import RobotContract

ACTION = "qt_ros/action/ExecuteInstruction"
STATUS = {
    "episode_status": "qt_ros/msg/EpisodeStatus",
    "command_status": "qt_ros/msg/CommandStatus",
    "episode_outcome": "qt_ros/msg/EpisodeOutcome",
}
DIAGNOSTICS = {"/diagnostics": "diagnostic_msgs/msg/DiagnosticArray"}
TRANSFORMS = {"/tf": "tf2_msgs/msg/TFMessage", "/tf_static": "tf2_msgs/msg/TFMessage"}
MOVEIT_SWITCH = "moveit_msgs/srv/ServoCommandType"
LIFECYCLE_SERVICES = (
    "change_state", "get_state", "get_available_states", "get_available_transitions", "get_transition_graph",
)  # fmt: skip
PARAMETER_SERVICES = (
    "describe_parameters", "get_parameter_types", "get_parameters", "list_parameters", "set_parameters",
    "set_parameters_atomically", "get_type_description",
)  # fmt: skip


@dataclass(frozen=True)
class NodeInterface:
    """{name: type} of what a node does beyond what every node does (`COMMON`).

    ``lifecycle``: it is a managed node. ``names``: its names where they differ from the enclave's.
    """

    publishes: dict[str, str] = field(default_factory=dict)
    subscribes: dict[str, str] = field(default_factory=dict)
    serves: dict[str, str] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    executes: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    lifecycle: bool = False
    names: tuple[str, ...] = ()


COMMON = NodeInterface(
    publishes={"/rosout": "rcl_interfaces/msg/Log", "/parameter_events": "rcl_interfaces/msg/ParameterEvent"},
    subscribes={"/clock": "rosgraph_msgs/msg/Clock", "/parameter_events": "rcl_interfaces/msg/ParameterEvent"},
)
"""What rclpy does in every node; its parameter services are in `PARAMETER_SERVICES`."""


def interfaces(contract: RobotContract) -> dict[str, NodeInterface]:
    """Every node of a running robot, and ``operator`` for the tools of people."""
    return {
        "policy_node": _policy(contract),
        "command_node": _command(contract),
        "servo_node": _servo(contract),
        "recorder_node": _recorder(contract),
        "teleop_node": _teleop(contract),
        "marker_node": _marker(contract),
        "sim_node": _sim(contract),
        "gazebo_node": _gazebo(contract),
        "operator": _operator(contract),
    }


def needs_servo(contract: RobotContract) -> bool:
    """Whether servo_node turns the arm's twists into joint motion; no where MoveIt Servo does, or there is no arm."""
    arm = contract.commands.get("arm")
    return arm is not None and arm.follower == "servo_node"


def servo_switch(contract: RobotContract) -> str:
    """The service that makes MoveIt Servo take twists; empty where servo_node follows the arm."""
    arm = contract.commands.get("arm")
    if arm is None or arm.follower != "moveit_servo":
        return ""
    return "".join(arm.topic.rpartition("/")[:2]) + "switch_command_type"


def dry_run_types(contract: RobotContract) -> dict[str, str]:
    """{name of a command: type} of what command_node shows on ~/dry_run/NAME; a gripper's action as a trajectory."""
    trajectory = "trajectory_msgs/msg/JointTrajectory"
    outputs = {n: c for n, c in contract.commands.items() if n != "arm_joints"}
    return {n: c.type if "/msg/" in c.type else trajectory for n, c in outputs.items()}


def _description(contract: RobotContract) -> dict[str, str]:
    return {contract.description_topic: "std_msgs/msg/String"} if contract.description_topic else {}


def _observed(contract: RobotContract, *kinds: str) -> dict[str, str]:
    return {o.topic: o.type for o in contract.observations.values() if o.kind in kinds}


def _policy(contract: RobotContract) -> NodeInterface:
    return NodeInterface(
        publishes={
            "policy_action": "qt_ros/msg/PolicyAction",
            "episode_status": STATUS["episode_status"],
            "~/q_curves": "std_msgs/msg/Float32MultiArray",
            **DIAGNOSTICS,
        },
        subscribes={
            **_observed(contract, "image", "joint_state", "text"),
            "command_status": STATUS["command_status"],
            "episode_outcome": STATUS["episode_outcome"],
            **_description(contract),
        },
        executes={"execute_instruction": ACTION},
        lifecycle=True,
    )


def _command(contract: RobotContract) -> NodeInterface:
    outputs = {n: c for n, c in contract.commands.items() if n != "arm_joints"}
    switch = servo_switch(contract)
    return NodeInterface(
        publishes={
            **{c.topic: c.type for c in outputs.values() if "/msg/" in c.type},
            "command_status": STATUS["command_status"],
            **{f"~/dry_run/{n}": kind for n, kind in dry_run_types(contract).items()},
            **DIAGNOSTICS,
        },
        subscribes={
            "policy_action": "qt_ros/msg/PolicyAction",
            "episode_status": STATUS["episode_status"],
            **_observed(contract, "joint_state"),
            "estop": "std_msgs/msg/Bool",
            "estop_press": "std_msgs/msg/Empty",
            **_description(contract),
        },
        serves={"~/estop": "std_srvs/srv/Trigger", "~/reset": "std_srvs/srv/Trigger"},
        calls={**{c.service: c.type for c in contract.prepare}, **({switch: MOVEIT_SWITCH} if switch else {})},
        commands={c.topic: c.type for c in outputs.values() if "/action/" in c.type},
        lifecycle=True,
    )


def _servo(contract: RobotContract) -> NodeInterface:
    if servo_switch(contract):
        return NodeInterface(lifecycle=True)  # it is not run: MoveIt Servo takes its place
    arm, out = contract.commands["arm"], contract.commands.get("arm_joints")
    published = {"arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory"}
    gripper = {}
    if out is not None:
        published = {out.topic: out.type}
        if out.type.endswith("Float64MultiArray") and contract.kinematics.gripper_joint in out.joints:
            gripper = {contract.commands["gripper"].topic: "trajectory_msgs/msg/JointTrajectory"}
    return NodeInterface(
        publishes=published | DIAGNOSTICS,
        subscribes={arm.topic: arm.type, **_observed(contract, "joint_state"), **gripper, **_description(contract)},
        lifecycle=True,
    )


def _recorder(contract: RobotContract) -> NodeInterface:
    images = _observed(contract, "image")
    return NodeInterface(
        publishes={
            "episode_record": "qt_ros/msg/EpisodeRecord",
            "episode_outcome": STATUS["episode_outcome"],
            **DIAGNOSTICS,
        },
        subscribes={
            "policy_action": "qt_ros/msg/PolicyAction",
            **STATUS,
            **_observed(contract, "image", "joint_state", "text"),
            **{f"{topic}/compressed": "sensor_msgs/msg/CompressedImage" for topic in images},
            **{f"{topic.rpartition('/')[0]}/camera_info": "sensor_msgs/msg/CameraInfo" for topic in images},
            **{c.topic: c.type for c in contract.commands.values() if "/msg/" in c.type},
            "arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
            "odom": "nav_msgs/msg/Odometry",
            "estop": "std_msgs/msg/Bool",
            "estop_press": "std_msgs/msg/Empty",
            **{f"command_node/dry_run/{n}": kind for n, kind in dry_run_types(contract).items()},
            **_description(contract),
            **TRANSFORMS,
        },
        serves={"set_outcome": "qt_ros/srv/SetOutcome"},
    )


def _teleop(contract: RobotContract) -> NodeInterface:
    """It stands in for policy_node, with a person in place of the network."""
    policy = _policy(contract)
    joy = {"joy": "sensor_msgs/msg/Joy"}
    publishes = {k: v for k, v in policy.publishes.items() if k != "~/q_curves"}
    own = {"episode_outcome": STATUS["episode_outcome"], "estop_press": "std_msgs/msg/Empty", **joy}
    return replace(policy, publishes=publishes | own, subscribes=policy.subscribes | joy)


def _marker(contract: RobotContract) -> NodeInterface:
    return NodeInterface(
        publishes={"intended_motion": "visualization_msgs/msg/MarkerArray"},
        subscribes={
            "policy_action": "qt_ros/msg/PolicyAction",
            "episode_status": STATUS["episode_status"],
            **_observed(contract, "joint_state"),
            **_description(contract),
        },
    )


def _gazebo(contract: RobotContract) -> NodeInterface:
    commands = contract.commands
    return NodeInterface(
        publishes={
            "arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
            **{commands[n].topic: commands[n].type for n in ("gripper", "base") if n in commands},
            "episode_outcome": STATUS["episode_outcome"],
        },
        subscribes={
            "episode_status": STATUS["episode_status"],
            "entities/*/pose": "geometry_msgs/msg/PoseStamped",  # of every object in the world
            **_observed(contract, "joint_state"),
        },
        serves={"reset_scene": "qt_ros/srv/ResetScene"},
    )


def _sim(contract: RobotContract) -> NodeInterface:
    image, joints = contract.observation("image"), contract.observation("joint_state")
    commands = contract.commands
    return NodeInterface(
        publishes={
            "/clock": "rosgraph_msgs/msg/Clock",
            image.topic: "sensor_msgs/msg/Image",
            f"{image.topic}/compressed": "sensor_msgs/msg/CompressedImage",
            f"{image.topic.rpartition('/')[0]}/camera_info": "sensor_msgs/msg/CameraInfo",
            joints.topic: joints.type,
            "odom": "nav_msgs/msg/Odometry",
            "episode_outcome": STATUS["episode_outcome"],
            **DIAGNOSTICS,
        },
        subscribes={
            "arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
            **{commands[n].topic: commands[n].type for n in ("gripper", "base") if n in commands},
            "episode_status": STATUS["episode_status"],
        },
        serves={"reset_scene": "qt_ros/srv/ResetScene"},
    )


def _operator(contract: RobotContract) -> NodeInterface:
    managed = ("policy_node", "command_node", "servo_node")
    return NodeInterface(
        publishes={**_observed(contract, "text"), "estop_press": "std_msgs/msg/Empty", "joy": "sensor_msgs/msg/Joy"},
        subscribes={**STATUS, "episode_record": "qt_ros/msg/EpisodeRecord", **DIAGNOSTICS},
        calls={
            "command_node/estop": "std_srvs/srv/Trigger",
            "command_node/reset": "std_srvs/srv/Trigger",
            "set_outcome": "qt_ros/srv/SetOutcome",
            "reset_scene": "qt_ros/srv/ResetScene",
            **{f"{n}/change_state": "lifecycle_msgs/srv/ChangeState" for n in managed},
            **{f"{n}/get_state": "lifecycle_msgs/srv/GetState" for n in managed},
        },
        commands={"execute_instruction": ACTION},
        names=("demo_client", "bringup", "evaluation_client", "record_client"),
    )
