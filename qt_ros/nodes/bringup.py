"""What the launch files are made of: their declared arguments, our nodes, and bringing them up in order.

Needs `launch` and `launch_ros`, which a ROS installation brings. Every node runs in the argument ``namespace``; what is
absolute by convention (/clock, /tf, /diagnostics) moves into it too, so that two robots have nothing in common.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    SetLaunchConfiguration,
)
from launch.conditions import IfCondition
from launch.launch_context import LaunchContext
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

from qt_ros.contract.robot import package_root
from qt_ros.nodes import launch_checks, transport
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.launch_arguments import Argument
from qt_ros.nodes.namespaces import INTO_NAMESPACE

# Topics that config/rviz/qt_ros.rviz shows, with a slash before each.
SHOWN_BY_RVIZ = ("intended_motion", "head_camera/image_raw", "servo_node/delta_twist_cmds", "cmd_vel", "odom")
BROUGHT_UP = ("servo_node", "command_node", "policy_node")
"""Lifecycle nodes in the order they are activated: who decides comes last."""
STARTED_BY = {"servo_node": launch_checks.SERVO, "policy_node": "policy"}
"""Launch configurations that say whether a lifecycle node runs at all."""
PATIENCE = "15"  # s between SIGINT and SIGTERM: the recorder may have a bag to close


class NodeEnded(RuntimeError):
    """A node that is needed has ended; the launch ends with it."""


class LaunchStopped(RuntimeError):
    """The launch was stopped while nodes were being brought up."""


def declare(arguments: Iterable[Argument]) -> list[Action]:
    """The table's arguments as launch declarations, in order, and then what refuses senseless ones."""
    table = list(arguments)
    declarations = [
        DeclareLaunchArgument(
            a.name,
            default_value=None if a.default is None else _filled(a.default),
            description=a.description,
            choices=list(a.choices) or None,
        )
        for a in table
    ]
    return [*declarations, OpaqueFunction(function=_check, args=[[a.name for a in table]])]


def _check(context: LaunchContext, declared: Sequence[str]) -> list[Action]:
    """Refuse what would start something else than was asked for; decide what the contract decides."""
    given = context.launch_configurations
    path = context.get_locals_as_dict().get("current_launch_file_path", "")
    launch_checks.refuse_undeclared(given, declared, launch_checks.named_on_command_line(path, sys.argv[1:]))
    launch_checks.refuse_missing_checkpoint(given["policy"], given["checkpoint"])
    launch_checks.refuse_hidden_settings(given["params"])
    servo = launch_checks.decided_servo(given["servo"], given["robot"])
    return [SetLaunchConfiguration(launch_checks.SERVO, servo)]


def _filled(default: str) -> list[Any]:
    """``{share}`` and ``{namespace}`` in a default value as what they stand for."""
    text = default.replace("{share}", str(package_root()))
    before, found, after = text.partition("{namespace}")
    return [before, LaunchConfiguration("namespace"), after] if found else [text]


def network() -> Action:
    """Who can reach the nodes, and room for camera images between them; see `qt_ros.nodes.transport`."""

    def decide(context: LaunchContext) -> list[Action]:
        local = LaunchConfiguration("network").perform(context) == "local"
        variables, line = transport.launched(dict(context.environment), local)
        return [LogInfo(msg=line), *(SetEnvironmentVariable(name, value) for name, value in variables.items())]

    return OpaqueFunction(function=decide)


def installed(package: str) -> bool:
    """Whether a ROS package is there."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True


def text(argument: str) -> ParameterValue:
    """A launch argument as a text parameter, whatever it looks like."""
    return ParameterValue(LaunchConfiguration(argument), value_type=str)


def flag(argument: str) -> ParameterValue:
    """A launch argument as a boolean parameter."""
    return ParameterValue(LaunchConfiguration(argument), value_type=bool)


def number(argument: str) -> ParameterValue:
    """A launch argument as a number that is not an integer."""
    return ParameterValue(LaunchConfiguration(argument), value_type=float)


def qt_node(
    name: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    only_if: str = "",
    sim_time: bool = True,
    vital: bool = True,
) -> Node:
    """One of our nodes with the parameter file and then ``parameters``; ``only_if`` names a boolean argument.

    When a ``vital`` one ends, the launch ends: what is left could not do its work.
    """
    kind = LifecycleNode if name in BROUGHT_UP else Node
    own: dict[str, Any] = {"robot": text("robot"), **(parameters or {})}
    if sim_time:
        own["use_sim_time"] = flag("use_sim_time")
    return kind(
        package="qt_ros",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[ParameterFile(LaunchConfiguration("params"), allow_substs=False), own],
        remappings=INTO_NAMESPACE,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        sigterm_timeout=PATIENCE,
        on_exit=needed(name) if vital else None,
        condition=IfCondition(LaunchConfiguration(only_if)) if only_if else None,
    )


def needed(name: str) -> list[Action]:
    """What to do when the process ``name`` ends: end the launch and say why, unless it is ending anyway."""

    def ended(context: LaunchContext) -> None:
        event = context.locals.event
        if not context.is_shutdown:
            raise NodeEnded(f"{name} ended with exit code {event.returncode}; its log says why. Stopping the others")

    return [OpaqueFunction(function=ended)]


def policy_nodes() -> list[Action]:
    """The nodes that see, decide, command, record and show, each where its argument wants it."""
    return [
        qt_node("servo_node", only_if=STARTED_BY["servo_node"]),
        qt_node("command_node", {"enable_motion": flag("enable_motion")}),
        qt_node("policy_node", {"checkpoint": text("checkpoint")}, only_if=STARTED_BY["policy_node"]),
        qt_node("recorder_node", {"root": text("bags")}, only_if="record"),
        qt_node("marker_node", only_if="viewers", vital=False),
        OpaqueFunction(function=_rviz),
    ]


def _rviz(context: LaunchContext) -> list[Action]:
    """RViz with our configuration, where it is wanted and installed; its topics move into the namespace too."""
    if LaunchConfiguration("viewers").perform(context) != "true":
        return []
    if not installed("rviz2"):
        return [LogInfo(msg="rviz2 is not installed: marker_node runs, and any viewer can show intended_motion")]
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=LaunchConfiguration("namespace"),
            arguments=["-d", str(package_root() / "config" / "rviz" / "qt_ros.rviz")],
            parameters=[{"use_sim_time": flag("use_sim_time")}],
            remappings=[*INTO_NAMESPACE, *((f"/{topic}", topic) for topic in SHOWN_BY_RVIZ)],
            output="screen",
        )
    ]


def brought_up(context: LaunchContext) -> list[str]:
    """The lifecycle nodes that this launch starts, in the order in which they are activated."""
    return [
        name
        for name in BROUGHT_UP
        if name not in STARTED_BY or LaunchConfiguration(STARTED_BY[name]).perform(context) == "true"
    ]


class BringUp(Action):
    """Configures and activates the lifecycle nodes one after the other; a failure ends the launch.

    It asks the nodes for their states instead of waiting for transition events, which are lost when a node changes its
    state before the launch's subscription has been matched. What is executed later, from an event, must be given plain
    values for ``names``, ``namespace`` and ``autostart``: the arguments of an included launch file are forgotten then.
    """

    def __init__(
        self,
        names: Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        autostart: str | None = None,
    ) -> None:
        wanted = LaunchConfiguration("autostart") if autostart is None else autostart
        super().__init__(condition=IfCondition(wanted))
        self.names, self.namespace = names, namespace

    def execute(self, context: LaunchContext) -> None:
        namespace = LaunchConfiguration("namespace").perform(context) if self.namespace is None else self.namespace
        names = brought_up(context) if self.names is None else self.names
        work = context.asyncio_loop.run_in_executor(None, _bring_up, context, namespace, names)
        # The launch waits for it, and an exception from it ends the launch with exit status 1.
        context.add_completion_future(work)


def _bring_up(context: LaunchContext, namespace: str, names: Sequence[str]) -> None:
    def going_on() -> None:
        if context.is_shutdown:
            raise LaunchStopped("the launch was stopped while its nodes were being brought up")

    client = GraphClient(going_on, name="bringup", namespace=namespace)
    try:
        for name in names:
            client.activate(name)
            client.node.get_logger().info(f"{name} is active")
    except LaunchStopped:
        pass
    finally:
        client.close()
