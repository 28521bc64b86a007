"""command_node as a process: what reaches the controllers, and that every stop is zero and has a name."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from control_harness import SIMULATED, Harness, twist_of

from qt_ros.msg import CommandStatus, EpisodeStatus

MOVING, STOPPED = CommandStatus.STATE_MOVING, CommandStatus.STATE_STOPPED
_ids = itertools.count()


@pytest.fixture(scope="module")
def active(module_graph: Any) -> Harness:
    """A command_node that configured and activated itself."""
    group, robot = module_graph
    group.start("command_node", {**SIMULATED, "autostart": True})
    robot.matched("clock", "joints", "action", "status", "estop")
    robot.tick_commands()
    return robot


@pytest.fixture
def robot(active: Harness) -> Iterator[Harness]:
    yield active
    active.estop(False)
    active.reset()


@pytest.fixture
def episode() -> str:
    return f"e{next(_ids)}"


def stopped(robot: Harness, episode: str, reason: int) -> CommandStatus:
    """Wait for the named stop; arm and base were told zero, the gripper nothing new."""
    status = robot.await_status(STOPPED, episode)
    assert status.reason == reason, status.message
    robot.until(robot.standing, "zero twist and zero cmd_vel")
    robot.forget()
    robot.action(episode, 1000, dx=0.05, gripper=0.5)
    robot.tick_commands(8)
    robot.drain()
    assert not any(any(twist_of(m)) for m in (*robot.twists, *robot.base)), "nothing moves after a stop"
    assert not robot.gripper, "the gripper holds"
    return status


def test_an_action_reaches_arm_base_and_gripper(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.move(episode, dx=0.05, dyaw=-0.1, base_turn=0.1, gripper=1.0)
    arm, base = robot.twists[-1], robot.base[-1]
    assert arm.header.frame_id == "base_link" and base.header.frame_id == "base_link"
    assert arm.twist.linear.x == pytest.approx(0.24, abs=0.011) and arm.twist.angular.z == pytest.approx(-0.5, abs=0.01)
    assert 0.1 < base.twist.angular.z <= 0.5 and base.twist.linear.x == 0.0
    robot.until(lambda: robot.gripper, "a gripper trajectory")
    grip = robot.gripper[-1]
    assert list(grip.joint_names) == ["left_finger_joint"] and list(grip.points[0].positions) == [0.0]


def test_what_is_looser_than_the_safety_case_says_is_warned_about(active: Harness, module_graph: Any) -> None:
    told = module_graph[0].nodes[0].tail(1000)
    assert "clock_patience is 60 s, looser than the default of 2 s" in told
    assert told.count("contract: limits.gripper_force: nothing here limits how hard the gripper closes") == 1


def test_the_gripper_opens_when_told(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.move(episode, dx=0.01, gripper=0.0)
    robot.until(lambda: robot.gripper, "a gripper trajectory")
    assert robot.gripper[-1].points[0].positions[0] == pytest.approx(0.05)


def test_one_action_moves_its_displacement(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.forget()
    robot.offer(episode, 1, dz=-0.05)
    robot.tick_commands(20)
    robot.drain()
    moved = sum(m.twist.linear.z for m in robot.twists) * 0.02
    assert moved == pytest.approx(-0.05, abs=0.006)
    assert not any(twist_of(robot.twists[-1]))


def test_the_end_of_the_episode_stops(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.move(episode, gripper=1.0, dx=0.05)
    robot.status(episode, EpisodeStatus.STATE_ENDED, EpisodeStatus.REASON_TERMINATE)
    stopped(robot, episode, EpisodeStatus.REASON_TERMINATE)


def test_a_policy_that_falls_silent_is_lost(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.move(episode)
    robot.tick_commands(35)
    status = stopped(robot, episode, EpisodeStatus.REASON_LOST_POLICY)
    assert "policy_node" in status.message


def test_an_action_from_an_old_image_stops(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.move(episode)
    robot.offer(episode, 2, dx=0.05)
    robot.tick_commands(2)
    later = f"{episode}-old"
    robot.begin(later)
    robot.action(later, 1, age=0.7, dx=0.05)
    stopped(robot, later, EpisodeStatus.REASON_LOST_POLICY)


def test_the_estop_stops_and_stays_until_it_is_reset(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.move(episode)
    robot.estop(True)
    stopped(robot, episode, EpisodeStatus.REASON_ESTOP)
    answer = robot.reset()
    assert not answer.success and "release" in answer.message
    robot.estop(False)
    again = f"{episode}-again"
    robot.status(again)
    stopped(robot, again, EpisodeStatus.REASON_ESTOP)
    assert robot.reset().success
    free = f"{episode}-free"
    robot.begin(free)
    robot.move(free)


FINGER = "left_finger_joint"


@pytest.fixture
def finger(robot: Harness) -> Iterator[Callable[[float, int], None]]:
    """Moves the measured gripper to a place, in so many command periods."""
    robot.joints[FINGER] = 0.05

    def move(place: float, ticks: int) -> None:
        step = (place - robot.joints[FINGER]) / ticks
        for _ in range(ticks):
            robot.joints[FINGER] += step
            robot.tick_commands()

    yield move
    del robot.joints[FINGER]


@pytest.mark.parametrize("how", ["estop", "end"])
def test_a_stop_sends_a_gripper_that_travels_to_where_it_was_measured(
    robot: Harness, episode: str, finger: Callable[[float, int], None], how: str
) -> None:
    robot.begin(episode)
    robot.move(episode, dx=0.01, gripper=1.0)
    robot.until(lambda: robot.gripper, "a gripper trajectory")
    finger(0.03, 5)
    robot.forget()
    if how == "estop":
        robot.estop(True)
    else:
        robot.status(episode, EpisodeStatus.STATE_ENDED, EpisodeStatus.REASON_TERMINATE)
    robot.await_status(STOPPED, episode)
    robot.until(lambda: robot.gripper, "a gripper trajectory")
    (sent,) = robot.gripper[-1].points[0].positions
    assert any(sent == pytest.approx(0.05 - 0.004 * i) for i in range(1, 6)), "one of the last measurements"
    robot.forget()
    robot.tick_commands(8)
    robot.drain()
    assert not robot.gripper, "told once"


def test_a_stop_leaves_a_gripper_that_presses_on_something_as_it_is(
    robot: Harness, episode: str, finger: Callable[[float, int], None]
) -> None:
    robot.begin(episode)
    robot.move(episode, dx=0.01, gripper=1.0)
    robot.until(lambda: robot.gripper, "a gripper trajectory")
    finger(0.02, 5)
    robot.tick_commands(12)
    robot.forget()
    robot.estop(True)
    robot.await_status(STOPPED, episode)
    robot.tick_commands(8)
    robot.drain()
    assert not robot.gripper


def test_an_action_that_nobody_decided_brakes_and_holds_the_gripper(robot: Harness, episode: str) -> None:
    """The neutral stop, as it is where no dimension terminates: its gripper value is the open end."""
    robot.begin(episode)
    robot.move(episode, dx=0.05, gripper=1.0)
    robot.until(lambda: robot.gripper, "a gripper trajectory")
    robot.forget()
    undecided = lambda: robot.action(episode, 2, age=0.0, decided=False)  # noqa: E731
    undecided()
    robot.until(lambda: robot.statuses[-1].step == 2, "the neutral stop to be accepted", undecided)
    robot.tick_commands(9)
    robot.drain()
    assert robot.standing() and not robot.gripper
    robot.status(episode, EpisodeStatus.STATE_ENDED, EpisodeStatus.REASON_DONE)
    robot.await_status(STOPPED, episode)


def test_nan_in_an_action_stops(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.move(episode)
    robot.action(episode, 2, age=0.0, dy=float("nan"))
    stopped(robot, episode, EpisodeStatus.REASON_NON_FINITE)


def test_nan_in_a_joint_state_stops(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.move(episode)
    robot.publish_joints(arm_joint_3=float("nan"))
    status = stopped(robot, episode, EpisodeStatus.REASON_NON_FINITE)
    assert "arm_joint_3" in status.message


def test_joint_states_that_fall_silent_stop(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.move(episode)
    robot.offer(episode, 2, dx=0.05)
    robot.tick_commands(15, joints=False)
    stopped(robot, episode, EpisodeStatus.REASON_STALE_JOINTS)


def test_another_frame_is_a_fault(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.action(episode, 1, frame="map", dx=0.05)
    assert "'map'" in stopped(robot, episode, EpisodeStatus.REASON_FAULT).message


def test_actions_of_another_episode_and_repeated_ones_move_nothing(robot: Harness, episode: str) -> None:
    robot.begin(episode)
    robot.forget()
    robot.action("somebody else", 5, dx=0.05)
    robot.tick_commands(5)
    assert not any(any(twist_of(m)) for m in robot.twists)
    robot.move(episode, step=3, dx=0.05)
    robot.tick_commands(15)  # the motion has run out
    robot.forget()
    robot.action(episode, 3, age=0.0, dx=0.05)
    robot.action(episode, 2, age=0.0, dx=0.05)
    robot.tick_commands(5)
    assert not any(any(twist_of(m)) for m in robot.twists)
    assert robot.statuses[-1].state == MOVING


def test_an_impossible_transition_is_refused_and_survived(robot: Harness, episode: str) -> None:
    assert not robot.change("command_node", "configure")
    assert robot.state("command_node") == "active"
    robot.begin(episode)
    robot.move(episode)


def test_deactivation_in_mid_motion_stops_and_then_nothing_is_said(robot: Harness, episode: str) -> None:
    """Last, because the node walks through its life."""
    robot.begin(episode)
    robot.move(episode)
    assert robot.change("command_node", "deactivate")
    status = robot.await_status(STOPPED, episode)
    assert status.reason == EpisodeStatus.REASON_DEACTIVATED
    robot.until(robot.standing, "zero twist and zero cmd_vel")
    robot.forget()
    refused = f"{episode}-refused"
    robot.status(refused)
    assert robot.await_status(STOPPED, refused).reason == EpisodeStatus.REASON_DEACTIVATED
    robot.action(refused, 1, dx=0.05)
    robot.tick_commands(5)
    assert not robot.twists and not robot.base and not robot.gripper

    assert robot.change("command_node", "activate")
    robot.status(refused)
    robot.action(refused, 2, dx=0.05)
    robot.tick_commands(5)
    assert not any(any(twist_of(m)) for m in robot.twists), "an episode that was refused does not start by itself"
    fresh = f"{episode}-fresh"
    robot.begin(fresh)
    robot.move(fresh)

    assert robot.change("command_node", "deactivate") and robot.change("command_node", "cleanup")
    assert robot.state("command_node") == "unconfigured"
    assert robot.change("command_node", "configure") and robot.change("command_node", "activate")
    robot.matched("action", "status", "joints")
    robot.tick_commands()
    last = f"{episode}-last"
    robot.begin(last)
    robot.move(last)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_motion_stops_the_robot_first(start: Callable[..., Any], number: int) -> None:
    process, robot = start("command_node", autostart=True)
    robot.matched("clock", "joints", "action", "status")
    robot.tick_commands()
    robot.begin("e")
    robot.move("e")
    robot.expect_end()
    process.process.send_signal(number)
    robot.until(robot.standing, "zero twist and zero cmd_vel")
    assert process.process.wait(timeout=120) == 0, process.tail()


def test_a_clock_that_stops_takes_the_motion_with_it(start: Callable[..., Any]) -> None:
    _, robot = start("command_node", autostart=True, clock_patience=0.3)
    robot.matched("clock", "joints", "action", "status")
    robot.tick_commands()
    robot.begin("e")
    robot.offer("e", 1, dx=0.05)
    robot.tick_commands()
    status = robot.await_status(STOPPED, "e")
    assert status.reason == EpisodeStatus.REASON_FAULT and "/clock" in status.message
    robot.until(robot.standing, "zero twist and zero cmd_vel")


@pytest.mark.parametrize(
    ("parameters", "told"),
    [({"robot": "no_such_robot"}, "no robot 'no_such_robot'"), ({"robott": "x"}, "unknown parameter(s) robott"),
     ({"status_rate": 5000.0}, "status_rate")],
)  # fmt: skip
def test_a_wrong_parameter_ends_the_node_with_advice(
    start: Callable[..., Any], parameters: dict[str, Any], told: str
) -> None:
    process, _ = start("command_node", autostart=True, **parameters)
    assert process.process.wait(timeout=120) == 1
    assert told in process.tail(40)
