"""The arguments of the launch files as tables: name, default, meaning and choices in one place.

Plain data without ROS, so that the documentation and its test read the same tables as `ros2 launch ... --show-args`.
"""

from __future__ import annotations

from dataclasses import dataclass

BOOLEAN = ("true", "false")


@dataclass(frozen=True)
class Argument:
    """One launch argument. Without a ``default`` (None) it must be given; `{share}` and `{namespace}` are filled in."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or not self.description.endswith("."):
            raise ValueError(f"launch argument {self.name!r} needs an identifier for a name and a described meaning")
        if self.choices and self.default is not None and self.default not in self.choices:
            raise ValueError(f"launch argument {self.name}: {self.default!r} is none of {', '.join(self.choices)}")


def _common(params: str, use_sim_time: str, network: str) -> tuple[Argument, ...]:
    """What every launch file takes."""
    return (
        Argument(
            "enable_motion",
            "true",
            "False: a dry run. Commands are shown on command_node/dry_run, nothing goes to the robot.",
            BOOLEAN,
        ),
        Argument(
            "policy", "true", "Start policy_node; false: a person drives (qt-ros record), no checkpoint.", BOOLEAN
        ),
        Argument(
            "servo",
            "auto",
            "Start servo_node, which follows the arm's twists; auto: unless the contract says that MoveIt Servo does.",
            ("auto", *BOOLEAN),
        ),
        Argument(
            "network",
            network,
            "Who may take part: local, this machine; lan, every machine in the ROS domain. What "
            "ROS_AUTOMATIC_DISCOVERY_RANGE says comes first.",
            ("local", "lan"),
        ),
        Argument("viewers", "false", "Start marker_node, and RViz where it is installed.", BOOLEAN),
        Argument("namespace", "", "Namespace of every node and topic; one per robot where several run side by side."),
        Argument(
            "use_sim_time", use_sim_time, "Follow the clock topic (clock in the namespace); false: wall time.", BOOLEAN
        ),
        Argument("params", f"{{share}}/config/nodes/{params}.yaml", "Parameter file; a copy of this one, changed."),
        Argument("autostart", "true", "Configure and activate the lifecycle nodes; false: you do it.", BOOLEAN),
        Argument(
            "log_level", "info", "Least severity that the nodes log.", ("debug", "info", "warn", "error", "fatal")
        ),
        Argument("record", "true", "Start recorder_node: one bag per episode.", BOOLEAN),
        Argument("bags", "bags/{namespace}", "Folder of the bags; relative to where the launch file was started."),
    )


_SHIPPED = Argument("checkpoint", "{share}/checkpoints/default", "Folder of the checkpoint that decides.")
_MODEL = Argument("robot", "mobile_manipulator", "Robot contract: a name in config/robots or the path of a YAML file.")

ROBOT: tuple[Argument, ...] = (
    Argument("robot", None, "Robot contract: a name in config/robots or the path of a YAML file."),
    Argument("checkpoint", "", "Folder of the checkpoint that decides; needed unless policy:=false."),
    # Drivers and controllers often run on other machines than the policy.
    *_common("robot", "false", "lan"),
)
SIM: tuple[Argument, ...] = (
    _MODEL,
    _SHIPPED,
    Argument("real_time_factor", "1.0", "Simulated seconds per second; 0.0: as fast as possible."),
    Argument(
        "state_publisher",
        "auto",
        "Start robot_state_publisher (TF and robot_description, for RViz); auto: where it is installed.",
        ("auto", *BOOLEAN),
    ),
    *_common("sim", "true", "local"),
)
GAZEBO: tuple[Argument, ...] = (
    _MODEL,
    _SHIPPED,
    Argument(
        "headless", "true", "Gazebo without its window, rendering the camera off screen; false: with it.", BOOLEAN
    ),
    Argument("world", "{share}/description/kitchen.sdf", "SDF world that Gazebo loads."),
    Argument("x", "0.0", "Where the robot is put: x in the world, in m."),
    Argument("y", "0.0", "Where the robot is put: y in the world, in m."),
    Argument("yaw", "0.0", "Which way the robot looks: rad about z, counter-clockwise."),
    Argument("scoring", "true", "Start gazebo_node: it sets scenes up and scores episodes.", BOOLEAN),
    Argument("verbosity", "2", "How much Gazebo says: 0 nothing, 4 everything.", ("0", "1", "2", "3", "4")),
    *_common("gazebo", "true", "local"),
)
LAUNCH_FILES: dict[str, tuple[Argument, ...]] = {"sim": SIM, "gazebo": GAZEBO, "robot": ROBOT}
"""Arguments by launch file: launch/<name>.launch.py."""

_EVERYWHERE = ("policy_node", "command_node", "servo_node", "recorder_node", "marker_node")
NODES: dict[str, tuple[str, ...]] = {
    "sim": (*_EVERYWHERE, "sim_node"),
    "gazebo": (*_EVERYWHERE, "gazebo_node"),
    "robot": _EVERYWHERE,
}
"""Our nodes that each launch file starts, or can start."""

BY_ARGUMENT = (
    "robot",
    "checkpoint",
    "root",
    "autostart",
    "enable_motion",
    "real_time_factor",
    "world",
    "start_x",
    "start_y",
    "start_yaw",
)
"""Node parameters that launch arguments set; the parameter files leave them out."""
