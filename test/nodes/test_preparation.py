"""What nodes wait for before they work: the description's topic, and services; each failure says what to start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from far_side import LATCHED
from geometry_msgs.msg import TwistStamped
from robots import ARM_LINE, shipped_urdf, variant, write
from std_msgs.msg import String
from std_srvs.srv import SetBool

from qt_ros.contract.commands import ServiceCall
from qt_ros.contract.robot import load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.nodes.outputs import gripper_output
from qt_ros.nodes.preparation import PreparationError, preparations, prepare, robot_contract, set_fields

LIVE = ("description: description/mobile_manipulator.urdf", "description: topic robot_description")


@pytest.fixture
def node(ros_context: Any) -> Iterator[Any]:
    made = rclpy.create_node("command_node", namespace="/a200", context=ros_context)
    yield made
    made.destroy_node()


def test_the_description_comes_from_the_node_s_own_namespace(node: Any, tmp_path: Path) -> None:
    path = write(tmp_path, LIVE)
    with pytest.raises(PreparationError, match="no robot description on /a200/robot_description within 0.2 s"):
        robot_contract(node, path, patience=0.2)
    out = node.create_publisher(String, "robot_description", LATCHED)
    out.publish(String(data=shipped_urdf()))
    contract = robot_contract(node, path, patience=60.0)
    assert contract.urdf_text == shipped_urdf() and contract.sha256 == variant(LIVE).sha256


def test_a_description_of_another_robot_is_refused(node: Any, tmp_path: Path) -> None:
    out = node.create_publisher(String, "robot_description", LATCHED)
    out.publish(String(data=shipped_urdf().replace("arm_joint_4", "elbow")))
    with pytest.raises(ConfigError, match="robot_description: no joint arm_joint_4"):
        robot_contract(node, write(tmp_path, LIVE), patience=60.0)


def test_a_contract_with_a_file_waits_for_nothing(node: Any) -> None:
    assert robot_contract(node, "mobile_manipulator", patience=0.0).urdf_text == ""


def test_a_service_that_is_missing_or_not_installed_is_named(node: Any) -> None:
    def wanting(type_name: str) -> Any:
        return variant(("limits:", f"prepare:\n  - {{service: stream, type: {type_name}}}\nlimits:"))

    with pytest.raises(PreparationError, match=r"no service /a200/stream \(std_srvs/srv/SetBool\) within 0.2 s"):
        prepare(node, wanting("std_srvs/srv/SetBool"), patience=0.2)
    with pytest.raises(PreparationError, match="nowhere_msgs/srv/Switch is not installed here"):
        prepare(node, wanting("nowhere_msgs/srv/Switch"), patience=0.2)
    with pytest.raises(PreparationError, match="std_srvs/srv/Nothing is not installed here"):
        prepare(node, wanting("std_srvs/srv/Nothing"), patience=0.2)


def test_moveit_servo_is_switched_to_twists_last_and_beside_its_topic() -> None:
    line = ARM_LINE.replace("topic: servo_node/", "topic: /arm/servo/").replace(
        "zero}", "zero, follower: moveit_servo}"
    )
    contract = variant((ARM_LINE, line), ("limits:", "prepare:\n  - {service: m, type: a/srv/B}\nlimits:"))
    switch = ServiceCall("/arm/servo/switch_command_type", "moveit_msgs/srv/ServoCommandType", {"command_type": 1})
    assert preparations(contract) == (contract.prepare[0], switch)
    assert preparations(variant()) == ()


def test_requests_are_filled_strictly() -> None:
    request = SetBool.Request()
    set_fields(request, {"data": True}, "here")
    assert request.data is True
    with pytest.raises(ConfigError, match="here: no field 'date'; known: data"):
        set_fields(request, {"date": True}, "here")
    for wrong in ("yes", 1, None, {"data": True}, [True]):
        with pytest.raises(ConfigError, match="here: data: .* does not fit boolean"):
            set_fields(request, {"data": wrong}, "here")
    twist = TwistStamped()
    set_fields(twist, {"header": {"frame_id": "a", "stamp": {"sec": 3}}, "twist": {"linear": {"x": 1}}}, "here")
    assert (twist.header.frame_id, twist.header.stamp.sec, twist.twist.linear.x) == ("a", 3, 1.0)
    with pytest.raises(ConfigError, match="sec: 4294967296 does not fit int32"):
        set_fields(twist, {"header": {"stamp": {"sec": 2**32}}}, "here")


def test_a_gripper_whose_action_is_not_installed_is_named(
    node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = (
        "gripper_controller/joint_trajectory, type: trajectory_msgs/msg/JointTrajectory, joints: [left_finger_joint]"
    )
    action = "gripper/gripper_cmd, type: control_msgs/action/GripperCommand, max_effort: 40.0"
    contract = load_contract(write(tmp_path, (topic, action)))
    for name in ("control_msgs", "control_msgs.action"):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    told = "gripper/gripper_cmd: control_msgs/action/GripperCommand is not installed here .*ROS package control_msgs"
    with pytest.raises(PreparationError, match=told):
        gripper_output(node, contract, lambda *_: None, 0.1, [])
