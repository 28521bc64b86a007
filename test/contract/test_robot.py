"""Behaviour of robot contracts: strict, hashed, complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from qt_ros.contract import description
from qt_ros.contract.robot import load_contract, parse_contract
from qt_ros.contract.strict import ConfigError


@pytest.fixture
def text() -> str:
    return load_contract("mobile_manipulator").text


def test_the_shipped_contract_loads_and_names_existing_files() -> None:
    contract = load_contract("mobile_manipulator")
    assert contract.urdf.is_file()
    assert contract.observation("image").width == 640
    assert len(contract.sha256) == 64


def test_any_change_of_the_text_changes_the_hash(text: str) -> None:
    assert parse_contract(text).sha256 != parse_contract(text + "\n").sha256


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("policy_rate:", "polcy_rate:", "polcy_rate"),
        ("tool_frame:", "tool_fram:", "tool_fram"),
        ("max_age: 0.5,", "maxage: 0.5,", "maxage"),
        ("joint_speed:", "jointspeed:", "jointspeed"),
        ("align: exact", "align: about", "align"),
        ("schema: 1", "schema: 9", "schema 9"),
        ("linear_speed: 0.45", "linear_speed: -1", "positive"),
        ("linear_speed: 0.45", "linear_speed: .nan", "finite"),
        ("robot: mobile_manipulator", "robot: mobile_manipulator\nrobot: b", "twice"),
        ("target: base}", "target: wings}", "wings"),
        ("workspace_low: [0.38,", "workspace_low: [.nan,", r"workspace_low\[0\]: must be finite"),
        ("joints: [left_finger_joint]", "joints: left_finger_joint", "joints: expected a list"),
        ("lift_joint: 0.2", "lift_joint: up", "lift_joint: expected a number"),
        ("arm_joint_7]", "7]", r"arm_joints\[6\]: expected text"),
        ("joint_speed: 2.0", "joint_speed: 2e0", r"as in 2\.0e\+0"),
        # What no code would execute or honour is refused, not ignored.
        ("{name: dx,", "{name: delta_x,", "nothing executes 'delta_x' with target 'arm'; known there: dx, dy"),
        ("{name: base_turn,", "{name: base_sideways,", "base_sideways.*known there: base_forward"),
        ("{name: gripper, unit", "{name: grip, unit", "nothing executes 'grip'"),
        ("{name: terminate,", "{name: end,", "nothing executes 'end'"),
        ("neutral: 0.0, target: arm}", "neutral: 0.0, target: base}", "nothing executes 'dx' with target 'base'"),
        ("align: exact", "align: as_of", "head_camera: align of kind image must be exact"),
        ("align: as_of", "align: exact", "joints: align of kind joint_state must be as_of"),
        ("align: latched", "align: as_of", "instruction: align of kind text must be latched"),
        ("max_age: 0.0, on_stale: ignore", "max_age: 1.0, on_stale: stop", "text does not age"),
        ("JointState, rate", "JointState, frame: base_link, rate", "joints: frame, height and width are for images"),
        ("type: std_msgs/msg/String", "type: std_msgs/msg/Int8", "instruction: type"),
        ("frame: base_link, on_stop: zero", "frame: base_link, on_stop: hold", "arm: on_stop must be zero"),
        ("on_stop: hold", "on_stop: zero", "gripper: on_stop must be hold"),
        ("frame: base_link, on_stop", "frame: tool0, on_stop", "arm: frame must be the base frame 'base_link'"),
        ("cmd_vel, type: geometry_msgs/msg/TwistStamped", "cmd_vel, type: geometry_msgs/msg/Vector3", "base: type"),
        ("name: base, topic", "name: wheels, topic", "command name must be one of arm, gripper, base"),
        ("  gripper_joint: left_finger_joint\n", "", "positions of gripper_joint; name it"),
        ("  gripper_open: 0.05\n", "", "gripper_joint needs gripper_open and gripper_closed"),
    ],
)
def test_a_wrong_key_or_value_raises_and_is_named(text: str, old: str, new: str, message: str) -> None:
    assert old in text
    with pytest.raises(ConfigError, match=message):
        parse_contract(text.replace(old, new, 1))


def test_a_second_camera_is_refused_by_name(text: str) -> None:
    camera = next(line for line in text.splitlines() if "name: head_camera" in line)
    second = camera.replace("name: head_camera", "name: wrist_camera")
    with pytest.raises(ConfigError, match="one camera is supported by now, found head_camera, wrist_camera"):
        parse_contract(text.replace(camera, f"{camera}\n{second}"))


def test_a_robot_without_a_gripper_joint_has_no_gripper_anywhere(text: str) -> None:
    spoken = [line for line in text.splitlines() if "gripper_" in line or "name: gripper" in line]
    bare = "\n".join(line for line in text.splitlines() if line not in spoken)
    assert parse_contract(bare).kinematics.carriers == ("lift_joint", "left_finger_joint")
    command, dimension = (line for line in spoken if "name: gripper" in line)
    for line, after, where in (
        (command, "commands:", "commands: gripper"),
        ("  gripper_force: 5.0", "limits:", "limits: gripper_..."),
    ):
        with pytest.raises(ConfigError, match=f"{where} but no gripper_joint in kinematics"):
            parse_contract(bare.replace(after, f"{after}\n{line}", 1))
    with pytest.raises(ConfigError, match="commands: gripper, action_space: gripper but no gripper_joint"):
        both = bare.replace("commands:", f"commands:\n{command}", 1)
        parse_contract(both.replace("  - {name: dx", f"{dimension}\n  - {{name: dx", 1))


def test_an_unknown_robot_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="mobile_manipulator"):
        load_contract("no_such_robot")


def test_closedness_and_gripper_position_are_inverse() -> None:
    spec = load_contract("mobile_manipulator").kinematics
    assert spec.closedness(spec.gripper_open) == 0 and spec.closedness(spec.gripper_closed) == 1
    assert spec.gripper_position(spec.closedness(0.02)) == pytest.approx(0.02)


def test_an_installed_package_finds_its_files_under_its_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QT_ROS_SHARE", raising=False)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    module = tmp_path / "lib" / "python3.12" / "site-packages" / "qt_ros" / "contract" / "robot.py"
    monkeypatch.setattr(description, "__file__", str(module))
    with pytest.raises(ConfigError, match="QT_ROS_SHARE"):
        description.package_root()
    (tmp_path / "share" / "qt_ros" / "config" / "robots").mkdir(parents=True)
    assert description.package_root() == (tmp_path / "share" / "qt_ros").resolve()
