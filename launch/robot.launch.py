"""A real robot: its contract, a checkpoint, nothing else. The robot's own drivers and controllers run already.

ros2 launch qt_ros robot.launch.py robot:=mobile_manipulator checkpoint:=outputs/picking/checkpoint
"""

from launch import LaunchDescription

from qt_ros.nodes.bringup import BringUp, declare, policy_nodes, whole_images
from qt_ros.nodes.launch_arguments import ROBOT


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *declare(ROBOT),
            *whole_images(),
            *policy_nodes(servo="servo"),
            BringUp(left_out={"servo_node": "servo"}),
        ]
    )
