"""What a contract may say about commands and preparation, and what is refused."""

from __future__ import annotations

import pytest
from robots import ARM_LINE, variant

from qt_ros.contract.strict import ConfigError

ARM_JOINTS = "[arm_joint_1, arm_joint_2, arm_joint_3, arm_joint_4, arm_joint_5, arm_joint_6, arm_joint_7]"
ARRAY = "\n  - {name: arm_joints, topic: p/commands, type: std_msgs/msg/Float64MultiArray, on_stop: hold, joints: %s}"


def test_a_position_controller_can_be_the_arm_output_in_its_own_order() -> None:
    joints = ARM_JOINTS.replace("[", "[left_finger_joint, ").replace("]", ', lift_joint, "-"]')
    contract = variant((ARM_LINE, ARM_LINE + ARRAY % joints))
    assert contract.commands["arm_joints"].joints[0] == "left_finger_joint"
    assert contract.commands["arm_joints"].joints[-1] == "-"


@pytest.mark.parametrize(
    ("joints", "told"),
    [
        ("[]", "joints must name the joint of every entry"),
        ("[arm_joint_1]", "joints must name each of arm_joint_1, arm_joint_2"),
        (ARM_JOINTS.replace("]", ", arm_joint_1]"), "once"),
        (ARM_JOINTS.replace("]", ", elbow]"), "elbow is unknown; give it a position in kinematics: home"),
    ],
)
def test_an_array_that_would_move_the_wrong_joint_is_refused(joints: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        variant((ARM_LINE, ARM_LINE + ARRAY % joints))


def test_two_followers_of_the_arm_are_refused() -> None:
    moveit = ARM_LINE.replace("zero}", "zero, follower: moveit_servo}")
    assert variant((ARM_LINE, moveit)).commands["arm"].follower == "moveit_servo"
    with pytest.raises(ConfigError, match="moveit_servo commands the joints; leave it out"):
        variant((ARM_LINE, moveit + ARRAY % ARM_JOINTS))
    with pytest.raises(ConfigError, match="follower must be one of servo_node, moveit_servo"):
        variant((ARM_LINE, ARM_LINE.replace("zero}", "zero, follower: somebody}")))


def test_services_to_call_first_are_checked_when_loading() -> None:
    added = "prepare:\n  - {service: drive_mode, type: %s, request: {data: true}}\nlimits:"
    call = variant(("limits:", added % "std_srvs/srv/SetBool")).prepare[0]
    assert (call.service, call.request) == ("drive_mode", {"data": True})
    with pytest.raises(ConfigError, match="type must be like std_srvs/srv/Trigger"):
        variant(("limits:", added % "std_msgs/msg/Bool"))
    with pytest.raises(ConfigError, match=r"prepare\[0\]: unknown key"):
        variant(("limits:", "prepare:\n  - {service: x, type: a/srv/B, wait: 3}\nlimits:"))


def test_a_gripper_may_be_an_action_with_a_force_limit() -> None:
    topic = "topic: gripper_controller/joint_trajectory, type: trajectory_msgs/msg/JointTrajectory"
    action = "topic: gripper/gripper_cmd, type: control_msgs/action/GripperCommand, max_effort: 40.0"
    assert variant((topic, action)).commands["gripper"].max_effort == 40.0
    with pytest.raises(ConfigError, match="max_effort is for gripper actions"):
        variant((topic, topic + ", max_effort: 1.0"))


def test_speeds_of_single_joints_are_for_joints_of_the_arm() -> None:
    line = "max_action_age: 0.6 "
    assert variant((line, "joint_speeds: {arm_joint_1: 0.1}\n  " + line)).limits.joint_speeds == {"arm_joint_1": 0.1}
    with pytest.raises(ConfigError, match="lift_joint is none of the arm's joints"):
        variant((line, "joint_speeds: {lift_joint: 0.1}\n  " + line))
    with pytest.raises(ConfigError, match="joint_speeds must be positive"):
        variant((line, "joint_speeds: {arm_joint_1: 0.0}\n  " + line))
    with pytest.raises(ConfigError, match="keys must be text"):
        variant((line, "joint_speeds: {1: 0.5}\n  " + line))
