"""servo_node as a process: twists in, joint trajectories out, and when it refuses."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from control_harness import SIMULATED, Harness, twist_of

from qt_ros.cli.processes import NodeDied
from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract

FORWARD = (0.1, 0.0, 0.0, 0.0, 0.0, 0.0)
UP = (0.0, 0.0, 0.1, 0.0, 0.0, 0.0)


@pytest.fixture
def kinematics(contract: RobotContract) -> Kinematics:
    spec = contract.kinematics
    return Kinematics(contract.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=spec.home)


def tool(robot: Harness, kinematics: Kinematics) -> np.ndarray:
    return kinematics.fk([robot.joints[j] for j in kinematics.joints])[0]


def ready(robot: Harness) -> Harness:
    robot.await_state("servo_node", "active")
    robot.matched("clock", "joints", "twist")
    begin = len(robot.trajectories)

    def nudge() -> None:
        robot.clock()
        robot.twist(tuple(1e-9 for _ in range(6)))
        robot.clock()

    nudge()
    robot.until(lambda: len(robot.trajectories) > begin, "a first trajectory", nudge)
    for _ in range(10):
        robot.clock()  # the nudge runs out
    robot.drain()
    return robot


def move(robot: Harness, twist: tuple[float, ...], ticks: int) -> None:
    """``ticks`` periods of ``twist``, each answered by a setpoint that the arm follows."""

    def say() -> None:
        robot.twist(twist)
        robot.clock()

    for _ in range(ticks):
        seen = len(robot.trajectories)
        say()
        robot.until(lambda seen=seen: len(robot.trajectories) > seen, "a trajectory", say)
        robot.follow()


def test_a_stream_of_twists_moves_the_tool(start: Callable[..., Any], kinematics: Kinematics) -> None:
    _, robot = start("servo_node", autostart=True)
    ready(robot)
    begin = tool(robot, kinematics)
    move(robot, FORWARD, 25)
    assert tool(robot, kinematics) - begin == pytest.approx([0.05, 0.0, 0.0], abs=5e-3)
    message = robot.trajectories[-1]
    assert tuple(message.joint_names) == kinematics.joints and len(message.points) == 1
    after = message.points[0].time_from_start
    assert after.sec == 0 and after.nanosec == pytest.approx(40_000_000, abs=1000)
    assert not message.points[0].velocities and (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)


def test_an_arm_that_moveit_servo_follows_is_refused(start: Callable[..., Any]) -> None:
    """Two nodes would command it; nobody waits for the robot's description to say so."""
    process, robot = start("servo_node", robot="husky_ur5e", autostart=True)
    with pytest.raises(NodeDied, match="moveit_servo follows its arm, so servo_node must not run.*servo:=false"):
        robot.await_state("servo_node", "active")
    assert "no robot description" not in process.tail(50)


def test_refused_twists_do_not_move_the_arm(start: Callable[..., Any], kinematics: Kinematics) -> None:
    """Frame, age and NaN: each is refused, and the next good twist is followed again."""
    process, robot = start("servo_node", autostart=True)
    ready(robot)
    height = tool(robot, kinematics)[2]
    for frame, age, values, told in (
        ("map", 0.0, UP, "twist in frame 'map'"),
        ("", 0.0, UP, "twist in frame ''"),
        ("base_link", 0.5, UP, "s old, limit 0.1 s"),
        ("base_link", 0.0, (0, 0, float("nan"), 0, 0, 0), "twist is not finite"),
    ):

        def say(frame: str = frame, age: float = age, values: Any = values) -> None:
            for _ in range(60):  # more than a second, for the log says the same at most once a second
                robot.clock()
            robot.twist(values, frame, age)
            robot.clock()

        say()
        robot.until(lambda told=told: told in process.tail(1000), told, say)
        robot.follow()
        move(robot, FORWARD, 3)
    assert tool(robot, kinematics)[2] == pytest.approx(height, abs=1e-3)


def test_without_fresh_joints_nothing_moves(start: Callable[..., Any], kinematics: Kinematics) -> None:
    process, robot = start("servo_node", autostart=True)
    ready(robot)
    move(robot, FORWARD, 3)
    for _ in range(15):
        robot.twist(UP)
        robot.clock(joints=False)
    robot.state("servo_node")
    robot.forget()
    for _ in range(5):
        robot.twist(UP)
        robot.clock(joints=False)
    robot.state("servo_node")
    robot.drain()
    assert not robot.trajectories and "joint_states" in process.tail(50)
    robot.publish_joints()
    move(robot, FORWARD, 3)


def test_nothing_moves_unless_it_is_active(start: Callable[..., Any]) -> None:
    _, robot = start("servo_node")
    robot.await_state("servo_node", "unconfigured")
    assert not robot.change("servo_node", "activate"), "not from here"
    assert robot.change("servo_node", "configure")
    robot.matched("clock", "joints", "twist")
    for _ in range(5):
        robot.twist(FORWARD)
        robot.clock()
    assert robot.state("servo_node") == "inactive"
    robot.drain()
    assert not robot.trajectories
    assert robot.change("servo_node", "activate")
    move(robot, FORWARD, 5)
    assert robot.change("servo_node", "deactivate")
    robot.drain()
    held = robot.follow()
    robot.forget()
    for _ in range(5):
        robot.twist(FORWARD)
        robot.clock()
    assert robot.state("servo_node") == "inactive"
    robot.drain()
    assert held is not None and not robot.trajectories


def test_sigint_in_mid_motion_holds_and_ends_cleanly(start: Callable[..., Any]) -> None:
    process, robot = start("servo_node", autostart=True)
    ready(robot)
    move(robot, FORWARD, 5)
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(timeout=120) == 0, process.tail()


def test_actions_move_the_tool_through_both_nodes(module_graph: Any, kinematics: Kinematics) -> None:
    """PolicyAction to joint trajectory over DDS: four equal 5 cm steps arrive."""
    group, robot = module_graph
    group.start("command_node", {**SIMULATED, "autostart": True})
    group.start("servo_node", {"use_sim_time": True, "autostart": True})
    robot.await_state("servo_node", "active")
    robot.matched("clock", "joints", "twist", "action", "status")
    robot.tick_commands(3)
    robot.begin("e")
    begin = tool(robot, kinematics)
    for step in range(1, 5):
        robot.offer("e", step, dy=0.05, gripper=1.0)
        for _ in range(10):
            twists, setpoints = len(robot.twists), len(robot.trajectories)
            flowing = bool(robot.twists) and any(twist_of(robot.twists[-1]))
            robot.tick_commands()
            robot.until(lambda n=twists: len(robot.twists) > n, "a twist")
            if flowing:  # servo_node had a twist to follow when this period began
                robot.until(lambda n=setpoints: len(robot.trajectories) > n, "a setpoint")
            robot.follow()
    for _ in range(15):
        robot.tick_commands()
        robot.follow()
    robot.drain()
    robot.follow()
    assert not any(twist_of(robot.twists[-1]))
    assert tool(robot, kinematics) - begin == pytest.approx([0.0, 0.2, 0.0], abs=0.02)
