"""A robot that is an arm and nothing else: no base, no gripper; command_node runs and sends arm twists only."""

from __future__ import annotations

from pathlib import Path

from far_side import ActingPolicy, FarSide
from geometry_msgs.msg import TwistStamped
from robots import variant_text

from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.check import check_contract
from qt_ros.contract.robot import load_contract

GRIPPER = ("name: gripper,", "gripper_joint:", "gripper_open:", "gripper_closed:", "left_finger_joint: 0.05")
GONE = (*GRIPPER, "name: base,", "name: base_forward", "name: base_turn")


def test_an_arm_without_gripper_and_base_moves(ros_domain_id: int, tmp_path: Path) -> None:
    lines = [line for line in variant_text().splitlines() if not any(word in line for word in GONE)]
    path = tmp_path / "arm.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    contract = load_contract(path)
    space = contract.action_space
    assert set(contract.commands) == {"arm"} and space.size == 7 and not contract.kinematics.gripper_joint
    assert not [f for f in check_contract(contract) if f.level == "error"]
    with NodeGroup(tmp_path / "logs").running() as group:
        with FarSide(ros_domain_id, group.check, contract.kinematics.home, "joint_states") as far:
            twists = far.listen(TwistStamped, "servo_node/delta_twist_cmds")
            group.start("command_node", {"robot": str(path), "autostart": True})
            far.await_state("command_node", "active")
            far.said.append(ActingPolicy(far, space, dx=0.03))
            far.until(lambda: any(m.twist.linear.x > 0.05 for m in twists), "an arm twist")
