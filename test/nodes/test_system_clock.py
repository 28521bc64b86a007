"""command_node on a real robot's clock, the computer's, which somebody sets back while the robot moves."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from control_harness import Harness, harness

from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.robot import RobotContract
from qt_ros.msg import CommandStatus, EpisodeStatus

SOURCE = Path(__file__).parents[1] / "support" / "settable_clock.c"
HOUR = 3600.0  # s: whoever waits for the clock to come back waits longer than any test
PERIOD = 0.05  # s between two actions

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="preloads a library as Linux does"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture
def set_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], int]:
    """Sets the system clock of nodes that are started from now on, by s; to nobody else."""
    library, offset = tmp_path / "settable_clock.so", tmp_path / "offset"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    offset.write_bytes(struct.pack("=q", 0))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("QT_ROS_TEST_CLOCK", str(offset))
    with_offset = offset.open("r+b", buffering=0)

    def set_to(seconds: float) -> int:
        with_offset.seek(0)
        return with_offset.write(struct.pack("=q", round(seconds * 1e9))) or 0

    return set_to


@pytest.fixture
def start_by_system_clock(
    set_clock: Callable[[float], int], contract: RobotContract, ros_domain_id: int, tmp_path: Path
) -> Iterator[Callable[..., Harness]]:
    """Starts a node that follows the system clock, and gives the harness around it."""
    group = NodeGroup(tmp_path / "logs")
    with group.running(), harness(contract, ros_domain_id, group.check) as made:

        def start(name: str, **parameters: float) -> Harness:
            group.start(name, {"autostart": True, **parameters})
            return made

        yield start


def meanwhile(robot: Harness, ready: Callable[[], bool], what: str, say: Callable[[int], None], shift: float) -> None:
    """Joint states, and what ``say(number)`` sends, as on a robot whose clock is ahead by ``shift``; to ``ready()``."""
    number, due = 0, 0.0

    def more() -> bool:
        nonlocal number, due
        if time.monotonic() > due:
            due, number, robot.now = time.monotonic() + PERIOD, number + 1, time.time() + shift
            robot.publish_joints()
            say(number)
        return ready()

    robot.until(more, what)


def test_a_system_clock_that_is_set_back_stops_the_robot(
    start_by_system_clock: Callable[..., Harness], set_clock: Callable[[float], int]
) -> None:
    """Timers that count by it do not tick before it has come back to where it was."""
    robot = start_by_system_clock("command_node", status_rate=50.0)
    robot.matched("joints", "action", "status")
    robot.now = time.time()
    robot.begin("e")

    def act(step: int) -> None:
        robot.action("e", step, dx=0.05, base_turn=0.1)

    def moving() -> bool:
        return bool(robot.twists and robot.base) and not robot.standing()

    meanwhile(robot, moving, "motion", act, 0.0)
    set_clock(-HOUR)
    meanwhile(robot, robot.standing, "zero twist and zero cmd_vel", lambda _: None, -HOUR)
    status = robot.await_status(CommandStatus.STATE_STOPPED, "e")
    assert status.reason == EpisodeStatus.REASON_FAULT and "set back" in status.message, status.message


def test_the_arm_follows_again_after_the_system_clock_was_set_back(
    start_by_system_clock: Callable[..., Harness], set_clock: Callable[[float], int]
) -> None:
    robot = start_by_system_clock("servo_node", twist_timeout=1.0)
    robot.matched("joints", "twist")

    def steer(_: int) -> None:
        robot.twist((0.05, 0.0, 0.0, 0.0, 0.0, 0.0))

    meanwhile(robot, lambda: bool(robot.trajectories), "the arm to follow", steer, 0.0)
    set_clock(-HOUR)
    robot.forget()
    meanwhile(robot, lambda: len(robot.trajectories) > 5, "the arm to follow again", steer, -HOUR)
