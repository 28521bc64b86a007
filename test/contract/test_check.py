"""The offline check finds what does not fit together, and says what to change."""

from __future__ import annotations

import pytest
from robots import telescope_contract, telescope_urdf, variant

from qt_ros.contract.check import check_contract, worst
from qt_ros.contract.robot import load_contract, parse_contract


def found(*changes: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """{subject: (level, message and advice)} of everything that is not ok."""
    findings = check_contract(variant(*changes))
    return {f.subject: (f.level, f"{f.message}; {f.advice}") for f in findings if f.level != "ok"}


@pytest.mark.parametrize("robot", ["mobile_manipulator", "telescope", "stretch", "tiago", "husky_ur5e"])
def test_the_shipped_contracts_have_no_error_and_no_warning_but_that_the_gripper_limits_itself(robot: str) -> None:
    contract = telescope_contract() if robot == "telescope" else load_contract(robot)
    findings = check_contract(contract)
    limited = bool(contract.commands["gripper"].max_effort)
    forces = [f for f in findings if f.subject == "limits.gripper_force"]
    assert [f.level for f in forces] == ([] if limited else ["warning"])
    note = robot in ("stretch", "tiago", "husky_ur5e")  # their descriptions are on the robots
    assert worst([f for f in findings if f not in forces]) == ("note" if note else "ok")


ACTION = "gripper_cmd, type: control_msgs/action/GripperCommand"
TOPIC = "gripper_controller/joint_trajectory, type: trajectory_msgs/msg/JointTrajectory, joints: [left_finger_joint]"
FORCE = ("  max_action_age: 0.6", "  gripper_force: 20.0\n  max_action_age: 0.6")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ((), "report the effort of left_finger_joint, set gripper_force"),
        (((TOPIC, ACTION),), "set max_effort (N) of commands: gripper"),
        (((TOPIC, f"{ACTION}, max_effort: 40.0"),), None),
        ((FORCE,), None),
    ],
)
def test_a_gripper_whose_force_nothing_limits_is_warned_about(
    changes: tuple[tuple[str, str], ...], told: str | None
) -> None:
    level, text = found(*changes).get("limits.gripper_force", ("ok", ""))
    assert (level, told or "") == ("warning" if told else "ok", told or "") and (told or "") in text


@pytest.mark.parametrize(
    ("old", "new", "subject", "level", "told"),
    [
        ("tool_frame: tool0", "tool_frame: hand", "description", "error", "no frame 'hand'"),
        ("arm_joint_4: 2.0035", "arm_joint_4: 9.0", "kinematics.home", "error", "arm_joint_4: 9 is outside its limits"),
        ("gripper_open: 0.05", "gripper_open: 0.5", "kinematics.gripper_open", "error", "outside the limits of left_f"),
        ("[0.38, -0.32, 0.712]", "[0.70, -0.32, 0.712]", "limits.workspace", "error", "outside the workspace box"),
        ("rate: 15.0", "rate: 3.0", "observations.head_camera", "error", "less than policy_rate 5 Hz"),
        ("max_age: 0.2", "max_age: 0.02", "observations.joints", "error", "less than 1.5 periods at 50 Hz"),
        ("max_age: 0.2", "max_age: 0.9", "observations.joints", "warning", "older than any action"),
        ("topic: cmd_vel", "topic: joint_states", "commands.base", "error", "used by observations.joints too"),
        ("topic: cmd_vel", "topic: /cmd_vel", "commands.base", "note", "absolute"),
        ("command_rate: 50.0", "command_rate: 10.0", "command_rate", "error", "use 20 Hz or more"),
        ("max_action_age: 0.6", "max_action_age: 0.2", "limits.max_action_age", "error", "1.0 policy periods"),
        ("max_action_age: 0.6", "max_action_age: 2.0", "limits.max_action_age", "warning", "noticed only then"),
        ("name: dx, unit: m", "name: dx, unit: cm", "action_space.dx", "error", "reads it in 'm'"),
        ("{name: dx, unit: m, low: -0.05", "{name: dx, unit: m, low: -0.2", "action_space.dx", "warning", "0.09"),
        ("0.05, neutral: 0.0", "0.05, neutral: 0.01", "action_space.dx", "error", "0.0"),
        ("linear_acceleration: 4.0", "linear_acceleration: 1000000.0", "limits.linear_acceleration", "warning",
         "no smooth"),
        ("linear_speed: 0.45", "linear_speed: 1000000.0", "limits.linear_speed", "warning", "among people"),
        ("joint_speed: 2.0", "joint_speed: 2.0\n  joint_speeds: {arm_joint_1: 9.0}", "limits.joint_speeds", "warning",
         "arm_joint_1: 9"),
        ("base_linear_speed: 0.5", "base_linear_speed: 3.0", "limits.base_linear_speed", "warning", "among people"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_found(old: str, new: str, subject: str, level: str, told: str) -> None:
    assert found((old, new))[subject][0] == level
    assert told in found((old, new))[subject][1]


def test_axes_that_the_arm_cannot_move_are_an_error() -> None:
    whole = telescope_contract()
    yaw = next(line for line in whole.text.splitlines() if "name: dyaw" in line)
    asked = parse_contract(whole.text.replace(yaw, yaw.replace("dyaw", "dpitch") + "\n" + yaw))
    findings = check_contract(asked.with_description(telescope_urdf()))
    assert any(f.level == "error" and "cannot move dy, dz, dpitch, dyaw" in f.message for f in findings)
