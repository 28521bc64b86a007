"""teleop_node at a terminal: its keys are a joystick, and the terminal is given back; without one it says so."""

from __future__ import annotations

import itertools
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Joy  # noqa: E402
from std_msgs.msg import Bool, Empty  # noqa: E402

from qt_ros.cli.processes import NodeGroup  # noqa: E402
from qt_ros.contract.robot import load_contract, package_root  # noqa: E402
from qt_ros.control.joystick import ROLES, load_joystick  # noqa: E402
from qt_ros.control.keyboard import load_keyboard  # noqa: E402
from qt_ros.msg import EpisodeOutcome, EpisodeStatus  # noqa: E402
from qt_ros.nodes.demo_client import GraphClient  # noqa: E402
from qt_ros.nodes.lifecycle import STATUS  # noqa: E402

KEYS = load_keyboard("teleop_keyboard", load_contract("mobile_manipulator"))
DX = list(KEYS.speeds).index("dx")


def test_keys_become_a_joystick_and_the_terminal_is_given_back(ros_domain_id: int, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "qt_ros.nodes.teleop_node", "--ros-args", "-p", "keyboard:=true"]
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen(
            [*command, "-p", "autostart:=true"], stdin=theirs, stdout=log, stderr=log, start_new_session=True
        )
    sticks: list[Any] = []
    stops: list[Any] = []
    levels: list[Any] = []
    typed = [0.0, b""]

    def check() -> None:
        assert node.poll() is None, (tmp_path / "log").read_text()
        if typed[1] and time.monotonic() - typed[0] > 0.05:
            typed[0] = time.monotonic()
            os.write(ours, typed[1])

    client = GraphClient(check)
    client.node.create_subscription(Joy, "joy", sticks.append, 10)
    client.node.create_subscription(Empty, "estop_press", stops.append, 10)
    client.node.create_subscription(Bool, "estop", levels.append, 10)
    try:
        client.activate("teleop_node")
        client.wait_for_links([("teleop_node", "estop_press", "demo_client"), ("teleop_node", "joy", "demo_client")])
        typed[1] = b"w"
        client.wait(lambda: sticks and sticks[-1].axes[DX] == 1.0, 60.0, "the stick to be pushed")
        assert sticks[-1].buttons[ROLES.index("deadman")] == 1
        typed[1] = b""
        client.wait(lambda: not any(sticks[-1].axes), 60.0, "the stick to be let go")
        typed[1] = b" "
        client.wait(lambda: len(stops) >= 3, 60.0, "the emergency stop to be pressed, and said again")
        typed[1] = b""
        client.wait(lambda: not sticks[-1].buttons[ROLES.index("estop")], 60.0, "the emergency stop to be let go")
        assert not levels, "the button of the robot is somebody else's"
        before_both = len(stops)
        os.write(ours, b" z")
        client.wait(lambda: len(stops) > before_both, 60.0, "a stop that came with a key that means nothing")
        assert termios.tcgetattr(theirs) != before
        node.send_signal(signal.SIGHUP)
        assert node.wait(60) == 0, (tmp_path / "log").read_text()
        assert termios.tcgetattr(theirs) == before
    finally:
        node.kill()
        node.wait(10)
        client.close()
        os.close(ours)
        os.close(theirs)


def test_without_a_terminate_dimension_the_success_button_ends_the_episode_by_itself(
    ros_domain_id: int, node_group: NodeGroup, tmp_path: Path
) -> None:
    text = (package_root() / "config" / "robots" / "mobile_manipulator.yaml").read_text()
    contract = tmp_path / "endless.yaml"
    contract.write_text("".join(line for line in text.splitlines(True) if "name: terminate" not in line))
    mapping = load_joystick("teleop_xbox", load_contract(contract))
    given = {"robot": str(contract), "instruction": "push it", "joy_timeout": 10.0, "use_sim_time": True}
    node_group.start("teleop_node", {**given, "autostart": True}, module="qt_ros.nodes.teleop_node")
    client = GraphClient(node_group.check)
    stick = client.node.create_publisher(Joy, "joy", 10)
    clock = client.node.create_publisher(Clock, "/clock", 10)
    statuses: list[EpisodeStatus] = []
    outcomes: list[EpisodeOutcome] = []
    client.node.create_subscription(EpisodeStatus, "episode_status", statuses.append, STATUS)
    client.node.create_subscription(EpisodeOutcome, "episode_outcome", outcomes.append, STATUS)
    ticks = itertools.count(1)

    def press(role: str, state: int) -> EpisodeStatus:
        """Tap the button until the episode is in that state."""

        def there() -> bool:
            clock.publish(Clock(clock=Time(sec=100, nanosec=next(ticks) * 1_000_000)))
            for down in (0, 1):
                buttons = [0] * 11
                buttons[mapping.buttons[role]] = down
                stick.publish(Joy(axes=[0.0] * 8, buttons=buttons))
            return bool(statuses) and statuses[-1].state == state

        client.wait(there, 60.0, f"{role} to be heeded")
        return statuses[-1]

    try:
        client.activate("teleop_node")
        client.wait_for_links([("demo_client", "joy", "teleop_node"), ("teleop_node", "episode_status", "demo_client")])
        begun = press("start", EpisodeStatus.STATE_RUNNING)
        ended = press("success", EpisodeStatus.STATE_ENDED)
        assert (ended.episode_id, ended.reason) == (begun.episode_id, EpisodeStatus.REASON_DONE)
        client.wait(lambda: outcomes, 60.0, "the label")
        said = (outcomes[0].episode_id, outcomes[0].outcome, outcomes[0].labelled_by)
        assert said == (begun.episode_id, EpisodeStatus.OUTCOME_SUCCESS, "operator")
    finally:
        client.close()


def test_what_cannot_work_ends_the_node_with_its_reason(node_group: NodeGroup) -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"keyboard": True}, "no terminal"),
        ({"keyboard": True, "mapping": "teleop_xbox"}, "not for a keyboard"),
        ({"mapping": "teleop_gamecube"}, "known: teleop_keyboard, teleop_ps, teleop_xbox"),
    )
    module = "qt_ros.nodes.teleop_node"
    nodes = [
        node_group.start(f"case_{i}", {"autostart": True, **parameters}, module=module)
        for i, (parameters, _) in enumerate(cases)
    ]
    for node, (_, words) in zip(nodes, cases, strict=True):
        assert node.process.wait(120) == 1
        assert words in node.tail()
