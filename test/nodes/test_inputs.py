"""What no node should be sent is refused by name and the node goes on; a publisher that cannot be heard is told of."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import rclpy
from control_harness import Harness, to_time
from domains import reserved_domain
from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, Empty
from visualization_msgs.msg import MarkerArray

from qt_ros.cli.processes import NodeGroup, NodeProcess
from qt_ros.contract.robot import RobotContract
from qt_ros.control.health import Stream
from qt_ros.control.joystick import load_joystick
from qt_ros.msg import EpisodeStatus, PolicyAction
from qt_ros.nodes.inputs import subscribe
from qt_ros.nodes.lifecycle import EVENT, SENSOR, serve_until

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
VOLATILE = QoSProfile(depth=1, durability=DurabilityPolicy.VOLATILE)
PATIENCE = 60.0  # s
BEYOND = 4_000_000_000  # nanoseconds of a stamp: four seconds


@dataclass
class Nodes:
    """marker_node, servo_node and teleop_node as processes, and what is heard of the first."""

    robot: Harness
    processes: dict[str, NodeProcess]
    markers: list[MarkerArray] = field(default_factory=list)

    def told(self, node: str) -> str:
        return self.processes[node].log.read_text(encoding="utf-8", errors="replace")

    def shown(self) -> str:
        """What stands above the tool."""
        texts = [m.text for m in self.markers[-1].markers if m.ns == "episode"] if self.markers else []
        return "".join(texts)


@pytest.fixture(scope="module")
def nodes(contract: RobotContract, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with reserved_domain() as domain:
        environment = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        with (
            NodeGroup(tmp_path_factory.mktemp("logs"), environment).running() as group,
            pytest.MonkeyPatch.context() as p,
        ):
            for name, value in environment.items():
                p.setenv(name, value)
            auto = {"use_sim_time": True, "autostart": True}
            processes = {
                "marker_node": group.start("marker_node", {"rate": 50.0}),
                "servo_node": group.start("servo_node", auto),
                "teleop_node": group.start("teleop_node", auto),
            }
            robot = Harness(contract, domain, group.check)
            made = Nodes(robot, processes)
            robot.boxes["markers"] = made.markers
            robot.node.create_subscription(MarkerArray, "intended_motion", made.markers.append, 10)
            for name in ("servo_node", "teleop_node"):
                robot.await_state(name, "active")
            robot.until(lambda: made.markers, "markers")
            robot.matched("clock", "joints", "twist", "status", "action")
            yield made
            robot.close()


def test_markers_go_on_after_an_unknown_reason_and_numbers_that_are_none(nodes: Nodes) -> None:
    robot = nodes.robot

    def good() -> None:
        robot.status("e")  # again: what teleop_node said as it came up may reach marker_node only now
        robot.action("e", 1, gripper=0.75)

    def odd() -> None:
        robot.status("odd", EpisodeStatus.STATE_ENDED, reason=250)

    odd()
    robot.until(lambda: "unknown reason 250" in nodes.shown(), "the reason as a number", odd)
    turn = PolicyAction(episode_id="e", names=["base_turn", "dx"], values=[math.inf, math.nan], q=[math.nan, 0.0])
    robot.status("e")
    robot.until(lambda: "running" in nodes.shown(), "the next episode", lambda: robot.status("e"))
    refused = "policy_action: ValueError: values or q are not finite"
    robot.until(lambda: refused in nodes.told("marker_node"), "a refusal", lambda: robot.out["action"].publish(turn))
    joints = JointState(name=["arm_joint_1", "arm_joint_2"], position=[0.0])
    robot.out["joints"].publish(joints)
    nodes.markers.clear()
    good()
    robot.until(lambda: "gripper 0.75" in nodes.shown(), "a good action", good)


def test_servo_node_refuses_a_stamp_that_is_none_and_follows_the_next_twist(nodes: Nodes) -> None:
    robot = nodes.robot
    odd = TwistStamped()
    odd.header.frame_id, odd.header.stamp.nanosec, odd.twist.linear.x = "base_link", BEYOND, 0.1
    state = JointState(name=list(robot.joints), position=list(robot.joints.values()))
    state.header.stamp = to_time(robot.now)
    state.header.stamp.nanosec = BEYOND

    def say() -> None:
        robot.out["twist"].publish(odd)
        robot.out["joints"].publish(state)
        robot.clock()

    refused = (
        "delta_twist_cmds: ValueError: time stamp has 4000000000",
        "joint state refused: time stamp has 4000000000",
    )
    robot.until(lambda: all(text in nodes.told("servo_node") for text in refused), "two refusals", say)
    assert not robot.trajectories

    def follow() -> None:
        robot.clock()
        robot.twist((0.1, 0.0, 0.0, 0.0, 0.0, 0.0))
        robot.clock()

    robot.until(lambda: robot.trajectories, "the arm to move", follow)


def test_teleop_node_refuses_a_stick_of_another_make_and_obeys_the_next(nodes: Nodes) -> None:
    robot = nodes.robot
    out = robot.node.create_publisher(Joy, "joy", 10)
    robot.until(out.get_subscription_count, "teleop_node to listen")
    pressed: list[Empty] = []
    robot.node.create_subscription(Empty, "estop_press", pressed.append, 10)
    odd = (Joy(), Joy(axes=[math.nan] * 8, buttons=[0] * 11), Joy(axes=[0.0] * 8, buttons=[-(2**31)]))

    def say() -> None:
        for message in odd:
            out.publish(message)

    say()
    robot.until(lambda: "joy: " in nodes.told("teleop_node"), "a refusal", say)
    assert not pressed
    good = Joy(axes=[0.0] * 8, buttons=[0] * 11)
    good.buttons[load_joystick("teleop_xbox", robot.contract).buttons["estop"]] = 1
    torn = Joy(axes=[math.nan] * 8, buttons=good.buttons)
    robot.until(lambda: pressed, "the emergency stop of a stick with a torn wire", lambda: out.publish(torn))
    out.publish(Joy(axes=[0.0] * 8, buttons=[0] * 11))
    pressed.clear()
    out.publish(good)
    robot.until(lambda: pressed, "the emergency stop of the good stick", lambda: out.publish(good))


@pytest.mark.parametrize(
    ("node", "kind", "topic", "qos", "advice"),
    [
        ("servo_node", TwistStamped, "servo_node/delta_twist_cmds", BEST_EFFORT, "set its reliability to RELIABLE"),
        ("teleop_node", Joy, "joy", BEST_EFFORT, "set its reliability to RELIABLE"),
        ("marker_node", EpisodeStatus, "episode_status", VOLATILE, "set its durability to TRANSIENT_LOCAL"),
    ],
)
def test_a_publisher_that_cannot_be_heard_is_told_of_with_what_to_change(
    nodes: Nodes, node: str, kind: Any, topic: str, qos: QoSProfile, advice: str
) -> None:
    before = nodes.told(node)
    assert "cannot be heard" not in before
    nodes.robot.node.create_publisher(kind, topic, qos)

    def lines() -> list[str]:
        return [line for line in nodes.told(node).splitlines() if "cannot be heard" in line]

    nodes.robot.until(lines, "the error")
    assert topic in lines()[0] and advice in lines()[0] and "[ERROR]" in lines()[0]


def test_messages_that_a_busy_node_never_saw_are_counted(ros_context: Any) -> None:
    sender, receiver = (rclpy.create_node(name, context=ros_context) for name in ("sender", "receiver"))
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(receiver)
    heard: list[int] = []
    stream = Stream("camera")
    subscribe(receiver, Joy, "camera", lambda m: heard.append(m.buttons[0]), SENSOR, stream=stream)
    out, sent = sender.create_publisher(Joy, "camera", 100), 0
    deadline = time.monotonic() + 60.0

    def send() -> None:
        nonlocal sent
        sent += 1
        out.publish(Joy(buttons=[sent]))

    while not heard:
        send()  # until they have found each other
        executor.spin_once(timeout_sec=0.05)
        assert time.monotonic() < deadline
    for _ in range(40):
        send()  # more than the queue holds, while the node is busy
    while heard[-1] < sent:
        executor.spin_once(timeout_sec=0.05)
        assert time.monotonic() < deadline, f"heard {heard} of {sent}"
    assert stream.lost == sent - heard[0] - (len(heard) - 1) > 0
    executor.shutdown()
    for node in (sender, receiver):
        node.destroy_node()


@pytest.fixture
def spun(ros_context: Any) -> Iterator[tuple[Node, Callable[[Callable[[], object]], bool]]]:
    """A node, and what spins it until something holds."""
    node, executor = rclpy.create_node("inputs", context=ros_context), SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    yield node, lambda true: serve_until(executor, true, PATIENCE)
    executor.shutdown()
    node.destroy_node()


@pytest.mark.parametrize("answer_fails", [False, True])
def test_whatever_a_message_does_the_next_one_is_heard(spun: Any, answer_fails: bool) -> None:
    node, until = spun
    heard: list[bool] = []
    problems: list[str] = []

    def hear(message: Bool) -> None:
        heard.append(message.data)
        if message.data:
            raise ValueError("no such thing")

    def answer(problem: str) -> None:
        problems.append(problem)
        if answer_fails:
            raise RuntimeError("nor an answer to it")

    subscribe(node, Bool, "said", hear, EVENT, answer)
    out = node.create_publisher(Bool, "said", EVENT)
    assert until(out.get_subscription_count)
    out.publish(Bool(data=True))
    assert until(lambda: problems)
    assert problems == ["said: ValueError: no such thing"]
    out.publish(Bool(data=False))
    assert until(lambda: len(heard) == 2) and heard == [True, False]
