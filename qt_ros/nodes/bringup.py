"""What the launch files are made of: their declared arguments, our nodes, and bringing them up in order.

Needs `launch` and `launch_ros`, which a ROS installation brings. Every node runs in the argument ``namespace``; what is
absolute by convention (/clock, /tf, /diagnostics) moves into it too, so that two robots have nothing in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.launch_context import LaunchContext
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

from qt_ros.contract.robot import package_root
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.launch_arguments import Argument
from qt_ros.nodes.namespaces import INTO_NAMESPACE

BROUGHT_UP = ("servo_node", "command_node", "policy_node")
"""Lifecycle nodes in the order they are activated: who decides comes last."""
PATIENCE = "15"  # s between SIGINT and SIGTERM: the recorder may have a bag to close


class NodeEnded(RuntimeError):
    """A node that is needed has ended; the launch ends with it."""


class LaunchStopped(RuntimeError):
    """The launch was stopped while nodes were being brought up."""


def declare(arguments: Iterable[Argument]) -> list[Action]:
    """The table's arguments as launch declarations, in order."""
    return [
        DeclareLaunchArgument(
            a.name,
            default_value=None if a.default is None else _filled(a.default),
            description=a.description,
            choices=list(a.choices) or None,
        )
        for a in arguments
    ]


def _filled(default: str) -> list[Any]:
    """``{share}`` and ``{namespace}`` in a default value as what they stand for."""
    text = default.replace("{share}", str(package_root()))
    before, found, after = text.partition("{namespace}")
    return [before, LaunchConfiguration("namespace"), after] if found else [text]


def whole_images() -> list[Action]:
    """Fast DDS with room for camera images between processes, unless the user has profiles of their own."""
    profile = str(package_root() / "config" / "fastdds.xml")
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # Jazzy's and Kilted's
    return [SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=profile)) for name in names]


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
    name: str, parameters: Mapping[str, Any] | None = None, *, only_if: str = "", sim_time: bool = True
) -> Node:
    """One of our nodes with the parameter file and then ``parameters``; ``only_if`` names a boolean argument.

    When it ends, the launch ends: what is left could not do its work.
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
        on_exit=needed(name),
        condition=IfCondition(LaunchConfiguration(only_if)) if only_if else None,
    )


def needed(name: str) -> list[Action]:
    """What to do when the process ``name`` ends: end the launch and say why, unless it is ending anyway."""

    def ended(context: LaunchContext) -> None:
        event = context.locals.event
        if not context.is_shutdown:
            raise NodeEnded(f"{name} ended with exit code {event.returncode}; its log says why. Stopping the others")

    return [OpaqueFunction(function=ended)]


def policy_nodes(*, servo: str = "") -> list[Action]:
    """The nodes that see, decide, command and record; ``servo`` names the argument that can leave servo_node out."""
    return [
        qt_node("servo_node", only_if=servo),
        qt_node("command_node"),
        qt_node("policy_node", {"checkpoint": text("checkpoint")}),
        qt_node("recorder_node", {"root": text("bags")}, only_if="record"),
    ]


class BringUp(Action):
    """Configures and activates the lifecycle nodes one after the other; a failure ends the launch.

    It asks the nodes for their states instead of waiting for transition events, which are lost when a node changes its
    state before the launch's subscription has been matched. ``left_out`` maps a node to the boolean argument that says
    whether it runs at all. What is executed later, from an event, must be given plain values for ``namespace`` and
    ``autostart``: the arguments of an included launch file are forgotten by then.
    """

    def __init__(
        self,
        names: Sequence[str] = BROUGHT_UP,
        *,
        left_out: Mapping[str, str] | None = None,
        namespace: str | None = None,
        autostart: str | None = None,
    ) -> None:
        wanted = LaunchConfiguration("autostart") if autostart is None else autostart
        super().__init__(condition=IfCondition(wanted))
        self.names, self.namespace = tuple(names), namespace
        self.left_out = dict(left_out or {})

    def execute(self, context: LaunchContext) -> None:
        namespace = LaunchConfiguration("namespace").perform(context) if self.namespace is None else self.namespace
        absent = {n for n, a in self.left_out.items() if LaunchConfiguration(a).perform(context) == "false"}
        names = [name for name in self.names if name not in absent]
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
