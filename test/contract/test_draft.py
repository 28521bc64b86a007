"""The first contract: it loads, states what was seen, marks what was guessed, and says what it cannot do without."""

from __future__ import annotations

from pathlib import Path

import pytest
from facts import VOLATILE, add, fitting
from robots import arm_facts, arm_urdf, shipped_urdf, telescope_contract, telescope_urdf

from qt_ros.contract.check import check_contract
from qt_ros.contract.draft import draft_contract
from qt_ros.contract.graph_facts import Endpoint, GraphFacts, Topic
from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.observations import Proprioception
from qt_ros.contract.robot import RobotContract, load_contract, package_root, parse_contract
from qt_ros.contract.strict import ConfigError

CONTRACT = load_contract("mobile_manipulator")


@pytest.fixture
def facts() -> GraphFacts:
    seen = fitting(CONTRACT)
    name = "/arm_controller/joint_trajectory"
    seen.topics[name] = Topic(name, [], [Endpoint("arm_controller", "trajectory_msgs/msg/JointTrajectory", **VOLATILE)])
    del seen.topics["/servo_node/delta_twist_cmds"]
    seen.urdf = shipped_urdf()
    return seen


def doubts(contract: RobotContract) -> list[str]:
    """What the check of a contract is not content with."""
    return [f.subject for f in check_contract(contract) if f.level != "ok"]


def test_it_finds_arm_gripper_base_and_camera(facts: GraphFacts) -> None:
    text = draft_contract(facts, "my_robot")
    draft = parse_contract(text).with_description(facts.urdf)
    assert draft.kinematics.arm_joints == CONTRACT.kinematics.arm_joints
    assert draft.kinematics.tool_frame == "tool0" and draft.kinematics.gripper_joint == "left_finger_joint"
    assert (draft.kinematics.gripper_open, draft.kinematics.gripper_closed) == (0.05, 0.0)
    assert draft.kinematics.home == pytest.approx(CONTRACT.kinematics.home), "where it stood, its lift included"
    camera = draft.observation("image")
    assert (camera.topic, camera.frame, camera.width) == ("head_camera/image_raw", "head_camera_optical_frame", 640)
    assert draft.commands["base"].topic == "cmd_vel" and draft.commands["arm_joints"].topic.startswith("arm_controller")
    assert set(draft.action_space.names) == set(CONTRACT.action_space.names)
    assert doubts(draft) == ["limits.gripper_force"], "no message tells how strong a gripper is"


def test_every_guess_says_so_and_nothing_is_left_to_do(facts: GraphFacts) -> None:
    text = draft_contract(facts, "my_robot")
    for key in ("base_frame", "tool_frame", "arm_joints:", "gripper_open", "home:", "limits:", "action_space:",
                "policy_rate", "command_rate", "name: base"):  # fmt: skip
        line = next(line for line in text.splitlines() if key in line)
        assert "guessed" in line, line
    assert "TODO" not in text


def test_what_controllers_own_beats_names(facts: GraphFacts) -> None:
    arm = list(CONTRACT.kinematics.arm_joints)
    facts.controllers = {"arm_controller": arm, "gripper_controller": ["left_finger_joint", "right_finger_joint"]}
    text = draft_contract(facts, "my_robot")
    line = next(line for line in text.splitlines() if "name: arm_joints" in line)
    assert "guessed" not in line
    assert parse_contract(text).commands["gripper"].joints == ("left_finger_joint", "right_finger_joint")


def test_a_position_controller_becomes_the_arm_output(facts: GraphFacts) -> None:
    del facts.topics["/arm_controller/joint_trajectory"]
    owner = Endpoint("positions", "std_msgs/msg/Float64MultiArray", **VOLATILE)
    facts.topics["/positions/commands"] = Topic("/positions/commands", [], [owner])
    facts.controllers = {"positions": ["lift_joint", *CONTRACT.kinematics.arm_joints]}
    out = parse_contract(draft_contract(facts, "my_robot")).commands["arm_joints"]
    assert out.type.endswith("Float64MultiArray") and out.joints[0] == "lift_joint" and len(out.joints) == 8


def test_moveit_servo_is_used_where_it_runs(facts: GraphFacts) -> None:
    facts.services["/servo_node/switch_command_type"] = "moveit_msgs/srv/ServoCommandType"
    arm = parse_contract(draft_contract(facts, "my_robot")).commands["arm"]
    assert (arm.follower, arm.topic) == ("moveit_servo", "servo_node/delta_twist_cmds")


def test_an_arm_with_fewer_joints_gets_the_axes_it_can_move() -> None:
    stretch = telescope_contract()
    facts = fitting(stretch)
    heard = facts.topics["/stretch/joint_states"].heard
    assert heard is not None
    stages = dict.fromkeys(("stage_1", "stage_2", "stage_3", "stage_4"), 0.05)
    heard.details["positions"] = {**heard.details["positions"], **stages}
    facts.urdf = telescope_urdf()
    draft = parse_contract(draft_contract(facts, "mine")).with_description(facts.urdf)
    axes = [d.name for d in draft.action_space.dimensions if d.target == "arm"]
    assert axes == ["dy", "dyaw"] or axes == ["dx", "dy"], "the lift before the telescope counts as a carrier"
    assert len(axes) <= len(Kinematics.of(draft).joints)


def test_topics_lose_the_namespace_and_others_stay_absolute(facts: GraphFacts) -> None:
    seen = fitting(CONTRACT, "/a")
    seen.urdf = shipped_urdf()
    add(seen, "/camera/color/image_raw", "sensor_msgs/msg/Image", "c", seen.topics["/a/head_camera/image_raw"].heard)
    del seen.topics["/a/head_camera/image_raw"]
    draft = parse_contract(draft_contract(seen, "a"))
    assert draft.observation("image").topic == "/camera/color/image_raw"
    assert draft.observation("joint_state").topic == "joint_states"


def test_a_robot_beside_another_gets_its_own_topics_actions_and_services() -> None:
    seen, other = (fitting(load_contract("husky_ur5e"), namespace) for namespace in ("/b", "/a"))
    finger = '<parent link="flange"/><child link="tip"/><axis xyz="0 1 0"/><limit lower="0" upper="0.04" velocity="1" '
    finger = f'<link name="tip"/><joint name="finger_joint" type="prismatic">{finger}effort="1"/></joint></robot>'
    seen.urdf = arm_urdf().replace("</robot>", finger)
    positions = {"finger_joint": 0.04, **{f"joint_{i}": 0.3 * i for i in range(1, 7)}}
    for facts in (seen, other):
        heard = facts.topics[facts.resolve("platform/joint_states")].heard
        assert heard is not None
        heard.details = {"joints": list(positions), "positions": positions}
        facts.services[facts.resolve("servo_node/switch_command_type")] = "moveit_msgs/srv/ServoCommandType"
    seen.topics.update(other.topics)
    seen.services = {**other.services, **seen.services}
    seen.actions = {**other.actions, **seen.actions}
    text = draft_contract(seen, "b")
    commands = parse_contract(text).commands
    assert commands["arm"].follower == "moveit_servo" and commands["gripper"].type.endswith("GripperCommand")
    assert "topic: /" not in text and "/a/" not in text.replace("others here: /a/", "")


def test_what_is_missing_on_the_robot_is_said(facts: GraphFacts) -> None:
    for spoil, message in (
        (lambda f: setattr(f, "urdf", ""), "no robot description: start robot_state_publisher"),
        (lambda f: f.topics.pop("/joint_states"), "no joint states were heard"),
    ):
        seen = GraphFacts(**{**vars(facts), "topics": dict(facts.topics)})
        spoil(seen)
        with pytest.raises(ConfigError, match=message):
            draft_contract(seen, "my_robot")
    with pytest.raises(ConfigError, match="use letters"):
        draft_contract(facts, "my robot!")


@pytest.mark.parametrize("lift", [False, True], ids=["arm alone", "arm on a lift"])
def test_an_arm_without_a_gripper_gets_a_contract_without_one(lift: bool) -> None:
    facts = arm_facts(lift)
    text = draft_contract(facts, "arm")
    draft = parse_contract(text).with_description(facts.urdf)
    assert draft.kinematics.arm_joints == tuple(f"joint_{i}" for i in range(1, 7))
    assert draft.kinematics.gripper_joint == "" and "gripper" not in draft.commands
    assert draft.action_space.names[0] == "terminate" and "gripper" not in draft.action_space.names
    assert set(draft.kinematics.home) == {*draft.kinematics.arm_joints, *(["lift"] if lift else [])}
    assert any("guessed: no gripper" in line for line in text.splitlines())
    assert doubts(draft) == []
    state = Proprioception(draft)
    assert state.joints == draft.kinematics.arm_joints
    assert state.encode(draft.kinematics.home)[-1] == 0.0, "an open gripper, as far as a policy is concerned"


def test_what_the_comment_says_adds_the_gripper() -> None:
    text = draft_contract(arm_facts(), "arm")
    with_joint = text.replace(
        "  home:", "  gripper_joint: joint_6\n  gripper_open: 1.0\n  gripper_closed: 0.0\n  home:"
    )
    dimension = next(line for line in text.splitlines() if "after terminate" in line).partition("{")[2].rstrip(".")
    lines = with_joint.splitlines()
    lines.insert(next(i for i, line in enumerate(lines) if "name: terminate" in line) + 1, "  - {" + dimension)
    gripper = "  - {name: gripper, topic: g/commands, type: std_msgs/msg/Float64MultiArray, on_stop: hold}"
    lines.insert(lines.index("commands:") + 1, gripper)
    assert parse_contract("\n".join(lines)).action_space.names[1] == "gripper"


def test_without_a_camera_its_line_is_a_comment_to_complete(facts: GraphFacts) -> None:
    del facts.topics["/head_camera/image_raw"]
    text = draft_contract(facts, "my_robot")
    draft = parse_contract(text).with_description(facts.urdf)
    found = [f for f in check_contract(draft) if f.level == "error"]
    assert [f.subject for f in found] == ["observations"] and "no observation of kind 'image'" in found[0].message
    assert "start the camera" in text
    line = next(line for line in text.splitlines() if "kind: image" in line)
    assert line.startswith("  #")
    completed = parse_contract(text.replace(line, line.replace("#", "", 1))).with_description(facts.urdf)
    assert completed.observation("image").topic == "head_camera/image_raw"
    assert doubts(completed) == ["limits.gripper_force"]


def test_a_urdf_file_is_named_in_place_of_the_topic(facts: GraphFacts) -> None:
    facts.urdf = ""
    path: Path = package_root() / "description" / "mobile_manipulator.urdf"
    assert parse_contract(draft_contract(facts, "my_robot", path)).urdf == path
