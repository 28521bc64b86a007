"""What command_node heeds beside actions: buttons of every kind, dry runs, messages nobody should send."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control_harness import SIMULATED, Harness, harness, twist_of
from geometry_msgs.msg import TwistStamped
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Empty
from std_srvs.srv import Trigger

from qt_ros.msg import CommandStatus, EpisodeStatus, PolicyAction

STOPPED = CommandStatus.STATE_STOPPED
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
EVENT = QoSProfile(depth=1)  # reliable and not latched, as most buttons are
BOTH_KINDS = {ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT}
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def robot(start: Callable[..., Any]) -> Harness:
    _, made = start("command_node", autostart=True)
    return ready(made)


def ready(made: Harness) -> Harness:
    made.matched("clock", "joints", "action", "status")
    made.tick_commands()
    return made


def stops(robot: Harness, episode: str, reason: int) -> CommandStatus:
    status = robot.await_status(STOPPED, episode)
    assert status.reason == reason, status.message
    robot.until(robot.standing, "zero twist and zero cmd_vel")
    return status


def test_a_best_effort_button_is_heard(robot: Harness) -> None:
    button = robot.node.create_publisher(Bool, "estop", BEST_EFFORT)
    robot.until(lambda: button.get_subscription_count(), "command_node to listen to the button")
    robot.begin("e")
    robot.move("e")
    button.publish(Bool(data=True))
    robot.until(lambda: robot.statuses[-1].state == STOPPED, "the stop", lambda: button.publish(Bool(data=True)))
    assert stops(robot, "e", EpisodeStatus.REASON_ESTOP).estop


def test_a_single_message_of_a_reliable_button_is_enough(robot: Harness) -> None:
    """What a reliable publisher sends is sent again until it is received, but only to a reliable subscription."""
    button = robot.node.create_publisher(Bool, "estop", EVENT)
    ears = lambda: robot.node.get_subscriptions_info_by_topic("/estop")  # noqa: E731
    robot.until(lambda: {e.qos_profile.reliability for e in ears()} == BOTH_KINDS, "command_node's subscriptions")
    robot.until(lambda: button.get_subscription_count() == len(ears()), "the button to be matched")
    robot.begin("e")
    robot.move("e")
    button.publish(Bool(data=True))
    assert stops(robot, "e", EpisodeStatus.REASON_ESTOP).estop
    button.publish(Bool(data=False))
    robot.until(lambda: robot.reset().success, "the reset, once the button has been let go")
    robot.begin("free")
    robot.move("free")


def test_a_press_is_heard_however_often_the_button_says_released_before_the_node_listens(
    start: Callable[..., Any],
) -> None:
    """While a transition waits for services of the robot nothing is read."""
    process, robot = start("command_node", autostart=True)
    button = robot.node.create_publisher(Bool, "estop", QoSProfile(depth=500))
    ears = lambda: robot.node.get_subscriptions_info_by_topic("/estop")  # noqa: E731
    robot.until(lambda: {e.qos_profile.reliability for e in ears()} == BOTH_KINDS, "command_node's subscriptions")
    robot.until(lambda: button.get_subscription_count() == len(ears()), "the button to be matched")
    ready(robot)
    robot.begin("e")
    robot.move("e")
    process.process.send_signal(signal.SIGSTOP)
    for pressed in (True, *[False] * 200):
        button.publish(Bool(data=pressed))
    process.process.send_signal(signal.SIGCONT)
    assert stops(robot, "e", EpisodeStatus.REASON_ESTOP).estop


def test_a_button_that_was_pressed_and_latched_before_the_node_came_counts(
    start: Callable[..., Any],
) -> None:
    _, robot = start("command_node", autostart=False)
    button = robot.node.create_publisher(Bool, "estop", LATCHED)
    button.publish(Bool(data=True))
    robot.await_state("command_node", "unconfigured")
    assert robot.change("command_node", "configure") and robot.change("command_node", "activate")
    ready(robot)
    robot.until(lambda: robot.statuses[-1].estop, "the latched press")
    robot.status("e")
    stops(robot, "e", EpisodeStatus.REASON_ESTOP)


def test_a_press_at_a_console_latches_and_lets_go_of_no_button_that_is_down(robot: Harness) -> None:
    button = robot.node.create_publisher(Bool, "estop", EVENT)
    console = robot.node.create_publisher(Empty, "estop_press", EVENT)
    both = lambda: [out.get_subscription_count() for out in (button, console)] == [2, 2]  # noqa: E731
    robot.until(both, "command_node to listen to both, as a reliable and as a best-effort ear")
    robot.begin("e")
    robot.move("e")
    console.publish(Empty())
    assert "console" in stops(robot, "e", EpisodeStatus.REASON_ESTOP).message
    robot.until(lambda: robot.reset().success, "the reset, once the press is over")
    button.publish(Bool(data=True))
    robot.until(lambda: robot.statuses[-1].estop, "the button")
    console.publish(Empty())
    robot.tick_commands(5)
    robot.until(lambda: (answer := robot.reset()).success is False and "release it" in answer.message, "a refusal")
    button.publish(Bool(data=False))
    robot.until(lambda: robot.reset().success, "the reset, once the button is up")


def test_the_estop_can_be_called_as_a_service(robot: Harness) -> None:
    robot.begin("e")
    robot.move("e")
    assert robot.call(Trigger, "command_node/estop", Trigger.Request()).success
    assert "service" in stops(robot, "e", EpisodeStatus.REASON_ESTOP).message
    assert robot.reset().success
    robot.begin("free")
    robot.move("free")


def test_a_silent_button_counts_as_pressed(start: Callable[..., Any]) -> None:
    _, robot = start("command_node", autostart=True, estop_timeout=0.2)
    ready(robot)
    robot.until(lambda: robot.statuses[-1].estop, "the silence to be noticed")
    robot.status("e")
    assert "silent" in stops(robot, "e", EpisodeStatus.REASON_ESTOP).message
    assert not robot.reset().success


def test_a_dry_run_shows_its_commands_and_sends_none(start: Callable[..., Any]) -> None:
    _, robot = start("command_node", autostart=True, enable_motion=False)
    shown: list[TwistStamped] = []
    robot.node.create_subscription(TwistStamped, "command_node/dry_run/arm", shown.append, 100)
    ready(robot)
    robot.until(lambda: robot.node.count_publishers("command_node/dry_run/arm"), "the dry run's topic")
    robot.begin("e")
    robot.offer("e", 1, dx=0.05)
    robot.until(lambda: any(any(twist_of(m)) for m in shown), "a command that is shown", robot.tick_commands)
    assert robot.statuses[-1].dry_run
    assert not robot.twists and not robot.base and not robot.gripper
    for topic in ("cmd_vel", "gripper_controller/joint_trajectory"):
        assert robot.node.count_publishers(topic) == 0


def malformed_action(robot: Harness) -> None:
    action = PolicyAction(episode_id="e", step=9, names=["dx"], values=[float("nan"), 1.0])
    action.observation_stamp.nanosec = 4_000_000_000
    robot.out["action"].publish(action)


def malformed_joints(robot: Harness) -> None:
    message = JointState(name=["arm_joint_1", "arm_joint_2"], position=[0.0])
    message.header.stamp.nanosec = 4_000_000_000
    robot.out["joints"].publish(message)


def malformed_status(robot: Harness) -> None:
    robot.out["status"].publish(EpisodeStatus(episode_id="e", state=EpisodeStatus.STATE_ENDED, reason=250))


@pytest.mark.parametrize("send", [malformed_action, malformed_joints, malformed_status])
def test_a_malformed_message_ends_the_episode_and_not_the_node(robot: Harness, send: Callable[[Harness], None]) -> None:
    robot.begin("e")
    robot.move("e")
    send(robot)
    stops(robot, "e", EpisodeStatus.REASON_FAULT)
    robot.begin("next")
    robot.move("next")


def test_a_parameter_that_would_not_be_heeded_is_refused(start: Callable[..., Any]) -> None:
    """Whoever is told that motion is off believes it."""
    _, robot = start("command_node", autostart=False)

    def ask(**values: Any) -> list[str]:
        wanted = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParameters.Request(parameters=wanted)
        answers = robot.call(SetParameters, "command_node/set_parameters", request, repeat=10.0).results
        assert all(a.successful == (not a.reason) for a in answers)
        return [a.reason for a in answers]

    robot.await_state("command_node", "unconfigured")
    assert ask(estop_timeout=5.0) == [""]
    assert robot.change("command_node", "configure")
    assert "inactive" in ask(enable_motion=False)[0]
    assert robot.change("command_node", "activate")
    for reason in ask(enable_motion=False, estop_timeout=0.5):
        assert "the node is active" in reason and "deactivate and clean up first" in reason
    request = GetParameters.Request(names=["enable_motion", "estop_timeout"])
    motion, timeout = robot.call(GetParameters, "command_node/get_parameters", request, repeat=10.0).values
    assert motion.bool_value and timeout.double_value == 5.0
    ready(robot)
    assert not robot.statuses[-1].dry_run
    assert robot.change("command_node", "deactivate") and robot.change("command_node", "cleanup")
    assert ask(enable_motion=False) == [""]
    assert robot.change("command_node", "configure") and robot.change("command_node", "activate")
    robot.tick_commands()
    assert robot.statuses[-1].dry_run


def test_a_first_step_that_is_read_together_with_its_episode_s_beginning_is_followed(start: Callable[..., Any]) -> None:
    process, robot = start("command_node", autostart=True)
    ready(robot)
    for i in range(5):
        process.process.send_signal(signal.SIGSTOP)
        robot.status(f"e{i}")
        robot.action(f"e{i}", 1, age=0.0, dx=0.05)
        process.process.send_signal(signal.SIGCONT)
        robot.until(lambda i=i: (robot.statuses[-1].episode_id, robot.statuses[-1].step) == (f"e{i}", 1), "the step")
    robot.action("unheard-of", 1, age=0.0, dx=0.05)
    robot.until(lambda: "step 1 of episode unheard-of is dropped" in process.tail(50), "the step to be told of")


def test_an_episode_under_way_is_not_joined(start: Callable[..., Any]) -> None:
    """As after a respawn: the latched status of an episode that runs is the first thing that is heard."""
    _, robot = start("command_node", autostart=False)
    robot.await_state("command_node", "unconfigured")
    running = EpisodeStatus(episode_id="e", state=EpisodeStatus.STATE_RUNNING, step=7)
    robot.out["status"].publish(running)
    assert robot.change("command_node", "configure") and robot.change("command_node", "activate")
    ready(robot)
    refused = (EpisodeStatus.REASON_LOST_COMMAND, EpisodeStatus.REASON_DEACTIVATED)  # heard after or before activation
    assert robot.await_status(STOPPED, "e").reason in refused
    robot.forget()
    robot.action("e", 8, dx=0.05)
    robot.tick_commands(5)
    robot.drain()
    assert not any(any(twist_of(m)) for m in robot.twists)
    robot.begin("next")
    robot.move("next")


def test_a_gripper_that_cannot_be_held_keeps_no_zeros_back_and_ends_no_node(
    node_group: Any, contract: Any, ros_domain_id: int
) -> None:
    support = str(Path(__file__).parents[1] / "support")
    node_group.environment["PYTHONPATH"] = support + ":" + node_group.environment.get("PYTHONPATH", "")
    process = node_group.start("command_node", {**SIMULATED, "autostart": True}, module="stubborn_gripper")
    with harness(contract, ros_domain_id, node_group.check) as robot:
        ready(robot)
        robot.joints["left_finger_joint"] = 0.05
        robot.begin("e")
        robot.move("e", dx=0.05, gripper=1.0)
        robot.joints["left_finger_joint"] = 0.045
        robot.tick_commands(2)
        assert robot.call(Trigger, "command_node/estop", Trigger.Request()).success, "the node is alive"
        stops(robot, "e", EpisodeStatus.REASON_ESTOP)
        told = process.tail(100)
        assert "could not be held" in told and "no holding, after zeros" in told
