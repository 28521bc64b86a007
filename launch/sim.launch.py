"""The embedded simulator and everything that drives its robot; nothing to install.

ros2 launch qt_ros sim.launch.py
ros2 action send_goal /execute_instruction qt_ros/action/ExecuteInstruction "{instruction: 'pick up the red cube'}"
"""

from launch import LaunchDescription

from qt_ros.nodes.bringup import BringUp, declare, network, number, policy_nodes, qt_node
from qt_ros.nodes.launch_arguments import SIM
from qt_ros.nodes.robot_model import state_publisher


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *declare(SIM),
            network(),
            # The simulator makes the time that the others follow.
            qt_node("sim_node", {"real_time_factor": number("real_time_factor")}, sim_time=False),
            state_publisher("state_publisher"),
            *policy_nodes(),
            BringUp(),
        ]
    )
