"""Gazebo's side of gazebo.launch.py: server, bridges, and the robot with its controllers, one after the other.

Needs `launch`, `launch_ros`, `ros_gz_sim`, `ros_gz_bridge`, `ros_gz_image`, `robot_state_publisher`, `gz_ros2_control`
and `controller_manager`, which ROS 2 Jazzy brings for Gazebo Harmonic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch.action import Action
from launch.actions import (
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.launch_context import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from qt_ros.contract.robot import load_contract, package_root
from qt_ros.nodes.bringup import BringUp, NodeEnded, brought_up, flag, needed
from qt_ros.nodes.namespaces import INTO_NAMESPACE
from qt_ros.nodes.robot_model import state_publisher_node
from qt_ros.nodes.transport import RANGE
from qt_ros.sim.gazebo import ROBOT_ENTITY, gazebo_urdf, server_arguments

CONTROLLERS = ("lift_controller", "arm_controller", "gripper_controller", "base_controller")
"""Started together once joint_state_broadcaster is active; see config/gazebo/controllers.yaml."""


def _value(context: LaunchContext, argument: str) -> str:
    return LaunchConfiguration(argument).perform(context)


def partition() -> Action:
    """With a namespace, a Gazebo of its own: topics and services of others are not seen.

    Where ROS keeps to this machine (see `qt_ros.nodes.bringup.network`), so does Gazebo's own transport.
    """

    def isolate(context: LaunchContext) -> list[Action]:
        namespace = _value(context, "namespace").strip("/")
        wanted = {"GZ_PARTITION": namespace.replace("/", "_")} if namespace else {}
        if context.environment.get(RANGE) == "LOCALHOST" and not context.environment.get("GZ_IP"):
            wanted["GZ_IP"] = "127.0.0.1"
        return [SetEnvironmentVariable(name, value) for name, value in wanted.items()]

    return OpaqueFunction(function=isolate)


def server() -> Action:
    """Gazebo itself, through ros_gz_sim; the launch ends with it."""

    def start(context: LaunchContext) -> list[Action]:
        world = Path(_value(context, "world")).absolute()
        if not world.is_file():
            raise FileNotFoundError(f"world:={world} does not exist")
        arguments = server_arguments(world, _value(context, "headless") == "true", int(_value(context, "verbosity")))
        path = PathJoinSubstitution([FindPackageShare("ros_gz_sim"), "launch", "gz_sim.launch.py"])
        # Its own way to end the launch would end it twice after Ctrl-C, which launch_ros takes for an error.
        given = {"gz_args": arguments, "on_exit_shutdown": ""}
        return [
            RegisterEventHandler(OnProcessExit(on_exit=_gazebo_ended)),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=given.items()),
        ]

    return OpaqueFunction(function=start)


def _gazebo_ended(event: Any, context: LaunchContext) -> None:
    """ros_gz_sim's launch file names the process gazebo; launch adds a number."""
    if event.process_name.startswith("gazebo-") and not context.is_shutdown:
        raise NodeEnded(f"Gazebo ended with exit code {event.returncode}; stopping the others")


def bridges() -> list[Action]:
    """Clock, camera and ground truth from Gazebo to ROS, in the robot's namespace."""
    common = {"namespace": LaunchConfiguration("namespace"), "remappings": INTO_NAMESPACE, "output": "screen"}
    config = str(package_root() / "config" / "gazebo" / "bridge.yaml")
    return [
        Node(
            package="ros_gz_bridge",
            executable="parameter_bridge",
            name="gazebo_bridge",
            parameters=[{"config_file": config, "use_sim_time": flag("use_sim_time")}],
            on_exit=needed("gazebo_bridge"),
            **common,
        ),
        Node(
            package="ros_gz_image",
            executable="image_bridge",
            name="gazebo_images",
            arguments=["head_camera/image_raw"],
            parameters=[{"qos": "sensor_data", "use_sim_time": flag("use_sim_time")}],
            on_exit=needed("gazebo_images"),
            **common,
        ),
    ]


def spawned_robot() -> Action:
    """robot_state_publisher, the robot in Gazebo, its controllers in order, and at last our lifecycle nodes."""

    def start(context: LaunchContext) -> list[Action]:
        contract = load_contract(_value(context, "robot"))
        namespace = _value(context, "namespace")
        create = Node(
            package="ros_gz_sim",
            executable="create",
            namespace=namespace,
            arguments=[
                *("-topic", "robot_description", "-name", ROBOT_ENTITY),
                *("-x", _value(context, "x"), "-y", _value(context, "y"), "-Y", _value(context, "yaw")),
            ],
            output="screen",
        )
        states = _spawner(namespace, "joint_state_broadcaster")
        others = _spawner(namespace, *CONTROLLERS)
        nodes = BringUp(brought_up(context), namespace=namespace, autostart=_value(context, "autostart"))
        return [
            state_publisher_node(gazebo_urdf(contract.urdf_file, namespace)),
            _after(create, "the robot could not be spawned", [states]),
            _after(states, "joint_state_broadcaster did not start", [others]),
            _after(others, "a controller did not start", [nodes]),
            create,
        ]

    return OpaqueFunction(function=start)


def _spawner(namespace: str, *controllers: str) -> Node:
    """Loads, configures and activates controllers; ends when they are active."""
    return Node(
        package="controller_manager",
        executable="spawner",
        namespace=namespace,
        arguments=[*controllers, "--controller-manager", "controller_manager", "--controller-manager-timeout", "120"],
        output="screen",
    )


def _after(process: Node, failure: str, actions: list[Action]) -> Action:
    """``actions`` once ``process`` has ended well; if it failed, the launch ends and says so."""

    def follow(event: Any, context: LaunchContext) -> list[Action] | None:
        if context.is_shutdown:
            return None
        if event.returncode != 0:
            raise NodeEnded(f"{failure} (exit code {event.returncode}); its log says why")
        return actions

    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=follow))
