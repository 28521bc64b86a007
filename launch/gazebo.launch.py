"""Gazebo Harmonic with the kitchen and the robot of the embedded simulator, and everything that drives it.

ros2 launch qt_ros gazebo.launch.py headless:=false

In order, each step started by the end of the one before: Gazebo and the bridges; the robot is spawned;
joint_state_broadcaster; the other controllers; the lifecycle nodes. With a namespace Gazebo runs in a partition of its
own, so that several robots, each in its own kitchen, share a machine.
"""

from launch import LaunchDescription

from qt_ros.nodes.bringup import declare, network, number, policy_nodes, qt_node, text
from qt_ros.nodes.gazebo_bringup import bridges, partition, server, spawned_robot
from qt_ros.nodes.launch_arguments import GAZEBO


def generate_launch_description() -> LaunchDescription:
    start = {"start_x": number("x"), "start_y": number("y"), "start_yaw": number("yaw")}
    return LaunchDescription(
        [
            *declare(GAZEBO),
            network(),
            partition(),
            server(),
            *bridges(),
            *policy_nodes(),
            qt_node("gazebo_node", {"world": text("world"), **start}, only_if="scoring"),
            spawned_robot(),
        ]
    )
