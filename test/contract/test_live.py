"""A contract against a running robot: each thing that can be wrong is told with what to change."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from facts import add, fitting
from robots import shipped_urdf, variant

from qt_ros.contract.check import worst
from qt_ros.contract.graph_facts import Endpoint, GraphFacts, Heard
from qt_ros.contract.interfaces import MOVEIT_SWITCH, servo_switch
from qt_ros.contract.live import compare
from qt_ros.contract.robot import load_contract

CONTRACT = load_contract("mobile_manipulator")
IMAGE, JOINTS = "/head_camera/image_raw", "/joint_states"


def told(facts: GraphFacts, contract: object = CONTRACT) -> dict[str, tuple[str, str]]:
    """{subject: (level, message and advice)} of what is not ok, the worst of each."""
    findings = [f for f in compare(contract, facts) if f.level != "ok"]  # type: ignore[arg-type]
    findings.sort(key=lambda f: ("note", "warning", "error").index(f.level))
    return {f.subject: (f.level, f"{f.message}; {f.advice}") for f in findings}


@pytest.mark.parametrize("robot", ["mobile_manipulator", "stretch", "tiago"])
def test_a_robot_that_fits_has_neither_error_nor_warning(robot: str) -> None:
    contract = load_contract(robot)
    facts = fitting(contract, "/a")
    findings = [f for f in compare(contract, facts) if f.subject != "description"]
    assert worst(findings) in ("ok", "note"), findings
    assert sum(f.level == "ok" for f in findings) >= 4


def heard(facts: GraphFacts, topic: str) -> Heard:
    found = facts.topics[topic].heard
    assert found is not None
    return found


CASES: list[tuple[str, Callable[[GraphFacts], object], str, str, str]] = [
    ("missing", lambda f: f.topics.pop(IMAGE), "observations.head_camera", "error", "nobody publishes /head_camera"),
    ("elsewhere", lambda f: (f.topics.pop(IMAGE), add(f, "cam/image", "sensor_msgs/msg/Image", "c")),
     "observations.head_camera", "error", "those there are: /cam/image"),
    ("type", lambda f: setattr(f.topics[IMAGE].publishers[0], "type", "sensor_msgs/msg/CompressedImage"),
     "observations.head_camera", "error", "set type to sensor_msgs/msg/CompressedImage"),
    ("silent", lambda f: setattr(f.topics[JOINTS], "heard", Heard()), "observations.joints", "error", "no message"),
    ("slow", lambda f: setattr(heard(f, JOINTS), "rate", 20.0), "observations.joints", "warning", "20.0 Hz"),
    ("fast", lambda f: setattr(heard(f, JOINTS), "rate", 90.0), "observations.joints", "note", "90.0 Hz"),
    ("gap", lambda f: setattr(heard(f, JOINTS), "gap", 0.7), "observations.joints", "error", "episodes would stop"),
    ("old", lambda f: setattr(heard(f, IMAGE), "age", 2.0), "observations.head_camera", "error", "2.00 s old"),
    ("future", lambda f: setattr(heard(f, IMAGE), "age", -1.0), "observations.head_camera", "error", "in the future"),
    ("frame", lambda f: setattr(heard(f, IMAGE), "frames", ("lens",)), "observations.head_camera", "error", "'lens'"),
    ("size", lambda f: heard(f, IMAGE).details.update(sizes=[(320, 240)]), "observations.head_camera", "error",
     "set width to 320 and height to 240"),
    ("encoding", lambda f: heard(f, IMAGE).details.update(encodings=["16UC1"]), "observations.head_camera", "error",
     "16UC1 cannot be decoded"),
    ("joints", lambda f: heard(f, JOINTS).details.update(joints=["elbow"]), "observations.joints", "error",
     "no position of arm_joint_1"),
    ("broken", lambda f: setattr(heard(f, JOINTS), "problems", ("position of x is nan",)), "observations.joints",
     "error", "position of x is nan"),
    ("nobody", lambda f: f.topics.pop("/cmd_vel"), "commands.base", "error", "nobody listens on /cmd_vel"),
    ("unstamped", lambda f: setattr(f.topics["/cmd_vel"].subscriptions[0], "type", "geometry_msgs/msg/Twist"),
     "commands.base", "error", "set type to geometry_msgs/msg/Twist"),
    ("latched", lambda f: setattr(f.topics["/cmd_vel"].subscriptions[0], "durability", "transient_local"),
     "commands.base", "error", "commands are volatile"),
    ("deadline", lambda f: setattr(f.topics["/cmd_vel"].subscriptions[0], "demand", "a deadline of 0.1 s"),
     "commands.base", "error", "demands a deadline"),
    ("rival", lambda f: add(f, "cmd_vel", "geometry_msgs/msg/TwistStamped", "joy"), "commands.base", "warning", "joy"),
    ("owner", lambda f: f.controllers.update(gripper_controller=["finger"]), "commands.gripper", "error", "owns"),
    ("clock", lambda f: setattr(f, "clock", "gazebo"), "time", "warning", "use_sim_time:=true"),
    ("no clock", lambda f: setattr(f, "use_sim_time", True), "time", "error", "nobody publishes /clock"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "subject", "level", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_each_mistake_is_told(spoil: Callable[[GraphFacts], object], subject: str, level: str, words: str) -> None:
    facts = fitting(CONTRACT)
    assert subject not in told(facts) or told(facts)[subject][0] == "note", "fits before it is spoiled"
    spoil(facts)
    assert told(facts)[subject][0] == level
    assert words in told(facts)[subject][1]


def test_a_servo_that_is_to_come_is_a_note_and_its_services_are_looked_for() -> None:
    facts = fitting(CONTRACT)
    del facts.topics["/servo_node/delta_twist_cmds"]
    assert told(facts)["commands.arm"][0] == "note"
    husky = load_contract("husky_ur5e")
    robot = fitting(husky, "/a200")
    assert "nobody serves /a200/servo_node/switch_command_type" in told(robot, husky)["prepare"][1]
    robot.services["/a200/servo_node/switch_command_type"] = "moveit_msgs/srv/ServoCommandType"
    assert "prepare" not in told(robot, husky)
    robot.actions["/a200/arm_0_gripper_controller/gripper_cmd"] = "control_msgs/action/ParallelGripperCommand"
    assert "set type to control_msgs/action/ParallelGripperCommand" in told(robot, husky)["commands.gripper"][1]


@pytest.mark.parametrize(("robot", "service"), [("stretch", "switch_to_navigation_mode"),
                                                ("husky_ur5e", "servo_node/switch_command_type")])  # fmt: skip
def test_services_are_looked_for_in_the_robots_namespace(robot: str, service: str) -> None:
    contract = load_contract(robot)
    facts = fitting(contract, "/robot1")
    if switch := servo_switch(contract):
        facts.services[facts.resolve(switch)] = MOVEIT_SWITCH
    assert "prepare" not in told(facts, contract)
    facts.services["/" + service] = facts.services.pop(f"/robot1/{service}")  # somebody else's
    level, words = told(facts, contract)["prepare"]
    assert level == "error" and words.startswith(f"nobody serves /robot1/{service};") and f" /{service}" in words


def test_a_position_controller_with_another_order_is_an_error() -> None:
    stretch = load_contract("stretch")
    facts = fitting(stretch)
    facts.controllers["joint_pose_cmd"] = list(stretch.commands["arm_joints"].joints[::-1])
    assert "put them in the controller's order" in told(facts, stretch)["commands.arm_joints"][1]


def test_a_recorder_that_listens_too_does_not_hide_the_controller() -> None:
    stretch = load_contract("stretch")
    facts = fitting(stretch)
    facts.controllers["joint_pose_cmd"] = list(stretch.commands["arm_joints"].joints[::-1])
    topic = facts.topics["/joint_pose_cmd"]
    topic.subscriptions.insert(0, Endpoint("a_rosbag2_recorder", topic.subscriptions[0].type, "reliable", "volatile"))
    assert facts.owner(topic) == "joint_pose_cmd"
    assert "put them in the controller's order" in told(facts, stretch)["commands.arm_joints"][1]


def test_the_description_that_the_robot_publishes_is_checked() -> None:
    live = variant(("description: description/mobile_manipulator.urdf", "description: topic robot_description"))
    facts = fitting(live)
    assert "start robot_state_publisher" in told(facts, live)["description"][1]
    facts.urdf = shipped_urdf()
    assert "description" not in told(facts, live)
    facts.urdf = shipped_urdf().replace("arm_joint_4", "elbow")
    assert "no joint arm_joint_4" in told(facts, live)["description"][1]
    given = live.with_description(shipped_urdf())
    facts.urdf = shipped_urdf() + "<!-- calibrated -->"
    assert "another URDF than the one given" in told(facts, given)["description"][1]
    facts.urdf = shipped_urdf()
    assert "description" not in told(facts, given), "what was given is looked at without the robot"


def test_an_arm_that_cannot_move_its_axes_is_told_from_the_robots_own_description() -> None:
    live = variant(("description: description/mobile_manipulator.urdf", "description: topic robot_description"))
    facts = fitting(live)
    flat = re.sub(r'<axis xyz="[^"]*"', '<axis xyz="0 0 1"', shipped_urdf())
    facts.urdf = re.sub(r'rpy="[^"]*"', 'rpy="0 0 0"', flat)
    assert "cannot move" in told(facts, live)["action_space"][1]


def test_endpoints_know_their_types() -> None:
    facts = fitting(CONTRACT)
    facts.topics["/cmd_vel"].publishers.append(Endpoint("x", "a/msg/B"))
    assert facts.topics["/cmd_vel"].types == ["a/msg/B", "geometry_msgs/msg/TwistStamped"]
