"""Where the robot's description comes from, and what is said when it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from robots import shipped_urdf, telescope_contract, telescope_urdf, variant

from qt_ros.contract.description import UrdfText, find_description
from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.observations import Proprioception
from qt_ros.contract.robot import load_contract
from qt_ros.contract.strict import ConfigError

FILE = "description: description/mobile_manipulator.urdf"
LIVE = "description: topic robot_description"


def test_a_description_from_a_topic_gives_the_same_kinematics_as_the_file() -> None:
    live = variant((FILE, LIVE))
    assert live.description_topic == "robot_description"
    described = live.with_description(shipped_urdf())
    assert described.sha256 == live.sha256, "what the robot says of itself is no part of the contract"
    home = load_contract("mobile_manipulator").kinematics.home
    from_file = Proprioception(load_contract("mobile_manipulator")).encode(home)
    assert Proprioception(described).encode(home).tobytes() == from_file.tobytes()


def test_without_its_topic_the_error_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="comes from the topic robot_description; .* set description to a URDF file"):
        Kinematics.of(variant((FILE, LIVE)))
    with pytest.raises(ConfigError, match="nowhere.urdf does not exist; correct it"):
        _ = variant((FILE, "description: nowhere.urdf")).urdf
    with pytest.raises(ConfigError, match="no URDF that can be used"):
        Kinematics.of(variant((FILE, LIVE)).with_description("<robot name='x'><xacro:include/></robot>"))


def test_a_package_path_is_found_in_the_sourced_workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share = tmp_path / "share" / "my_description"
    share.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert find_description("package://my_description/urdf/a.urdf") == share / "urdf" / "a.urdf"
    with pytest.raises(ConfigError, match="no package 'other' here; source its workspace"):
        find_description("package://other/a.urdf")


def test_a_telescope_is_one_joint() -> None:
    """Position is the sum of the stages; the Jacobian agrees with the motion it describes."""
    arm = Kinematics.of(telescope_contract())
    assert arm.joints == ("wrist_extension", "joint_lift", "joint_wrist_yaw")
    assert arm.upper == pytest.approx([0.52, 1.1, 4.0])
    near, far = arm.fk([0.1, 0.8, 0.3])[0], arm.fk([0.14, 0.8, 0.3])[0]
    assert far - near == pytest.approx([0.0, -0.04, 0.0])
    for i in range(3):
        step = [0.1, 0.8, 0.3]
        step[i] += 1e-6
        slope = (arm.fk(step)[0] - near) / 1e-6
        assert arm.jacobian([0.1, 0.8, 0.3])[:3, i] == pytest.approx(slope, abs=1e-5)


def test_an_unknown_stage_is_named() -> None:
    contract = load_contract("stretch").with_description(telescope_urdf())
    with pytest.raises(ConfigError, match="robot_description: no joint joint_arm_l3, joint_arm_l2"):
        Kinematics.of(contract)
    assert UrdfText("x").name == "robot_description"


@pytest.mark.parametrize("robot", ["stretch", "tiago", "husky_ur5e"])
def test_shipped_robots_load_and_say_what_was_not_run(robot: str) -> None:
    contract = load_contract(robot)
    assert contract.description_topic == "robot_description"
    assert "not run on a robot" in contract.text and "Assumed" in contract.text
    assert "terminate" in contract.action_space.names
