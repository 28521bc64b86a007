"""Policies: least privilege, one enclave per node, following the contract."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from robots import ARM_LINE, variant

from qt_ros.contract.interfaces import interfaces
from qt_ros.contract.robot import load_contract
from qt_ros.contract.security import policy_xml
from qt_ros.contract.strict import ConfigError


def rules(text: str, enclave: str, kind: str, permission: str) -> set[str]:
    root = ElementTree.fromstring(text)
    profile = root.find(f".//enclave[@path='{enclave}']/profiles/profile")
    assert profile is not None
    return {e.text or "" for group in profile.findall(f"{kind}s[@{permission}='ALLOW']") for e in group}


def published(text: str, node: str) -> set[str]:
    return rules(text, f"/qt_ros/{node}", "topic", "publish")


def test_only_command_node_may_move_base_and_gripper() -> None:
    """And nobody but sim_node may set the clock, nobody but people may press the e-stop."""
    contract = load_contract("mobile_manipulator")
    text = policy_xml(contract, [n for n in interfaces(contract) if n != "gazebo_node"])
    may = {
        topic: [n for n in interfaces(contract) if f'/{n}"' in text and topic in published(text, n)]
        for topic in (
            "cmd_vel",
            "gripper_controller/joint_trajectory",
            "policy_action",
            "/clock",
            "estop",
            "estop_press",
            "instruction",
        )
    }
    assert may == {
        "cmd_vel": ["command_node"],
        "gripper_controller/joint_trajectory": ["command_node"],
        "policy_action": ["policy_node", "teleop_node"],
        "/clock": ["sim_node"],
        "estop": [],  # the robot's own button is none of our nodes
        "estop_press": ["teleop_node", "operator"],
        "instruction": ["operator"],
    }
    assert not rules(text, "/qt_ros/recorder_node", "topic", "publish") & {"cmd_vel", "policy_action", "estop_press"}
    assert "DENY" not in text and "*" not in text, "nothing by pattern"


def test_the_contract_decides_what_is_allowed() -> None:
    stretch = policy_xml(load_contract("stretch"), ["command_node", "servo_node"])
    assert "stretch/cmd_vel" in rules(stretch, "/qt_ros/command_node", "topic", "publish")
    assert rules(stretch, "/qt_ros/command_node", "service", "request") == {
        "switch_to_navigation_mode",
        "activate_streaming_position",
    }
    assert rules(stretch, "/qt_ros/servo_node", "topic", "publish") >= {"joint_pose_cmd"}
    husky = policy_xml(load_contract("husky_ur5e"))
    assert rules(husky, "/qt_ros/command_node", "service", "request") == {"servo_node/switch_command_type"}
    assert rules(husky, "/qt_ros/command_node", "action", "call") == {"arm_0_gripper_controller/gripper_cmd"}
    assert "arm_controller/joint_trajectory" not in rules(husky, "/qt_ros/servo_node", "topic", "publish")


def test_private_names_namespace_and_prefix_are_written_as_sros2_reads_them() -> None:
    text = policy_xml(load_contract("mobile_manipulator"), ["command_node"], "/a200", "/fleet/a200")
    root = ElementTree.fromstring(text)
    assert root.get("version") == "0.2.0"
    assert [e.get("path") for e in root.iter("enclave")] == ["/fleet/a200/command_node"]
    assert [p.get("ns") for p in root.iter("profile")] == ["/a200"]
    assert "~/reset" in rules(text, "/fleet/a200/command_node", "service", "reply")


def test_what_cannot_be_written_is_refused() -> None:
    contract = load_contract("mobile_manipulator")
    with pytest.raises(ConfigError, match="no node teleport; known: policy_node"):
        policy_xml(contract, ["teleport"])
    for wrong in ("a200", "/a b", "/*", "/a/"):
        with pytest.raises(ConfigError, match="must be like /robot_1"):
            policy_xml(contract, None, wrong)
    absolute = variant((ARM_LINE, ARM_LINE.replace("topic: servo_node", "topic: /servo_node")))
    assert "/servo_node/delta_twist_cmds" in rules(policy_xml(absolute), "/qt_ros/command_node", "topic", "publish")


def test_the_policy_fits_the_schema_of_sros2(tmp_path: Path) -> None:
    sros2 = pytest.importorskip("sros2.policy", reason="sros2 is not installed here")
    for robot in ("mobile_manipulator", "stretch", "tiago", "husky_ur5e"):
        path = tmp_path / f"{robot}.xml"
        path.write_text(policy_xml(load_contract(robot)), encoding="utf-8")
        assert len(sros2.load_policy(path).findall(".//enclave")) == len(interfaces(load_contract(robot)))
