"""A real robot: its contract, a checkpoint, nothing else. The robot's own drivers and controllers run already.

First a dry run that sends nothing to the robot, then the same without the last argument:

ros2 launch qt_ros robot.launch.py robot:=my_robot.yaml checkpoint:=outputs/picking/checkpoint enable_motion:=false
"""

from launch import LaunchDescription

from qt_ros.nodes.bringup import BringUp, declare, network, policy_nodes
from qt_ros.nodes.launch_arguments import ROBOT


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *declare(ROBOT),
            network(),
            *policy_nodes(),
            BringUp(),
        ]
    )
