"""What recorder_node follows: the contract's topics, what is said about episodes, and what else tells what happened."""

from __future__ import annotations

from types import SimpleNamespace

from qt_ros.contract.interfaces import dry_run_types
from qt_ros.contract.robot import RobotContract
from qt_ros.nodes.raw_topics import message_class

ABOUT_EPISODES = {
    "episode_status": "qt_ros/msg/EpisodeStatus",  # first: what lies ready of several topics is read in this order
    "policy_action": "qt_ros/msg/PolicyAction",
    "episode_outcome": "qt_ros/msg/EpisodeOutcome",
    "command_status": "qt_ros/msg/CommandStatus",
}
TRANSFORMS = {"/tf": "tf2_msgs/msg/TFMessage", "/tf_static": "tf2_msgs/msg/TFMessage"}


def recorded_topics(contract: RobotContract, settings: SimpleNamespace) -> dict[str, str]:
    """{topic: type} to record; ``settings`` are recorder_node's parameters. What nobody publishes costs nothing.

    The contract's observations and commands (in a dry run what command_node shows in their place), what is said about
    episodes, odometry, the arm's trajectories, the e-stop, the robot's description, transforms, and extra_topics.
    """
    wanted = dict(ABOUT_EPISODES)
    for observation in contract.observations.values():
        wanted[observation.topic] = observation.type
        if observation.kind == "image":
            wanted[f"{observation.topic.rpartition('/')[0]}/camera_info"] = "sensor_msgs/msg/CameraInfo"
            if settings.compressed_images and observation.type.endswith("/Image"):
                del wanted[observation.topic]
                wanted[f"{observation.topic}/compressed"] = "sensor_msgs/msg/CompressedImage"
    commands = contract.commands.values()
    wanted.update({c.topic: c.type for c in commands if "/msg/" in c.type})  # actions have no topic of that name
    stops = {"estop": "std_msgs/msg/Bool", "estop_press": "std_msgs/msg/Empty"}
    for topic, type_name in {**_beside(contract, settings), **stops}.items():
        wanted.setdefault(topic, type_name)
    wanted.update({f"command_node/dry_run/{name}": kind for name, kind in dry_run_types(contract).items()})
    if contract.description_topic:
        wanted[contract.description_topic] = "std_msgs/msg/String"
    for entry in settings.extra_topics:
        name, _, type_name = entry.partition(":")
        wanted[name] = type_name
    try:
        message_class(TRANSFORMS["/tf"])
    except ImportError:
        return wanted  # this ROS installation has no tf2_msgs
    return wanted | TRANSFORMS


def expected_topics(contract: RobotContract, settings: SimpleNamespace) -> set[str]:
    """Those of them that every bag of this robot should have, and that may have another name on it."""
    sensors = {o.topic for o in contract.observations.values() if o.kind == "joint_state"}
    drives = "base" in contract.commands
    return sensors | {t for t in _beside(contract, settings) if drives or t != settings.odometry_topic}


def _beside(contract: RobotContract, settings: SimpleNamespace) -> dict[str, str]:
    """What the policy neither sees nor sends: where the arm's controller is sent, and where the base has been."""
    found = {settings.odometry_topic: "nav_msgs/msg/Odometry"}
    if "arm" in contract.commands and "arm_joints" not in contract.commands:
        found[settings.trajectory_topic] = "trajectory_msgs/msg/JointTrajectory"
    return {topic: type_name for topic, type_name in found.items() if topic}
