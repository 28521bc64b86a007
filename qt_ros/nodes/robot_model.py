"""The robot's description for launch files: robot_state_publisher with the contract's URDF.

Needs `launch` and `launch_ros`, as qt_ros.nodes.bringup does.
"""

from __future__ import annotations

from launch.action import Action
from launch.actions import LogInfo, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from qt_ros.contract.robot import load_contract
from qt_ros.nodes.bringup import flag, installed
from qt_ros.nodes.namespaces import INTO_NAMESPACE


def state_publisher_node(description: str) -> Node:
    """robot_state_publisher: TF from joint states, and the topic robot_description."""
    return Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {"robot_description": ParameterValue(description, value_type=str), "use_sim_time": flag("use_sim_time")}
        ],
        remappings=INTO_NAMESPACE,
        output="screen",
    )


def state_publisher(argument: str) -> Action:
    """robot_state_publisher with the contract's URDF as ``argument`` says: true, false, or auto (where installed)."""

    def start(context: LaunchContext) -> list[Action]:
        wanted = LaunchConfiguration(argument).perform(context)
        if wanted == "auto" and not installed("robot_state_publisher"):
            return [LogInfo(msg="robot_state_publisher is not installed: no TF and no robot_description")]
        if wanted == "false":
            return []
        contract = load_contract(LaunchConfiguration("robot").perform(context))
        if contract.description_topic:
            return [LogInfo(msg=f"{contract.robot} publishes its description itself, on {contract.description_topic}")]
        return [state_publisher_node(contract.urdf_file.read_text(encoding="utf-8"))]

    return OpaqueFunction(function=start)
