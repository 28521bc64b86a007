"""What command_node sends, as standard messages, and what it says about itself."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from rclpy.duration import Duration
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from qt_ros.control.commander import Standing
from qt_ros.control.shaper import Command
from qt_ros.msg import CommandStatus
from qt_ros.nodes.policy_messages import reason_code

STATES = {
    "idle": CommandStatus.STATE_IDLE,
    "moving": CommandStatus.STATE_MOVING,
    "stopped": CommandStatus.STATE_STOPPED,
}


def twist_messages(command: Command, frame: str, now: Time) -> tuple[TwistStamped, TwistStamped]:
    """Twists of arm and base, m/s and rad/s in ``frame``."""
    arm, base = TwistStamped(), TwistStamped()
    for message in (arm, base):
        message.header.stamp, message.header.frame_id = now, frame
    linear, angular = arm.twist.linear, arm.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = command.arm_twist.tolist()
    base.twist.linear.x, base.twist.angular.z = command.base
    return arm, base


def gripper_message(joints: list[str], position: float, time_from_start: float) -> JointTrajectory:
    """All ``joints`` to ``position`` (m or rad) within ``time_from_start`` s."""
    point = JointTrajectoryPoint(positions=[position] * len(joints))
    point.time_from_start = Duration(seconds=time_from_start).to_msg()
    return JointTrajectory(joint_names=joints, points=[point])


def command_status(standing: Standing, dry_run: bool, now: Time) -> CommandStatus:
    """How things stand in command_node."""
    message = CommandStatus(state=STATES[standing.state], reason=reason_code(standing.reason))
    message.header.stamp = now
    message.episode_id, message.step = standing.episode_id, max(0, standing.step)
    message.action_age_s, message.message = standing.action_age, standing.message
    message.dry_run, message.estop = dry_run, standing.estop
    return message
