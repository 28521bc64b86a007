"""Contracts against a running robot: `qt-ros contract check --live` and `init` with sim_node as a real process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from domains import reserved_domain
from robots import write

from qt_ros.cli.main import main
from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.robot import load_contract, package_root
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.graph_probe import GraphProbe
from qt_ros.nodes.namespaces import remappings

SHORT = ["--sim-time", "--seconds", "3", "--json"]


@pytest.fixture(scope="module", autouse=True)
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeGroup]:
    """A simulated robot in a domain of its own."""
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with NodeGroup(tmp_path_factory.mktemp("logs")).running() as group:
            # Slower than life: ages are measured in simulated time, and a busy machine must not make messages old.
            group.start("sim_node", {"real_time_factor": 0.15})
            client = GraphClient(group.check)
            client.wait_for_service("reset_scene")
            client.close()
            yield group


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status = main(["contract", *arguments])
    out = capsys.readouterr().out
    return status, json.loads(out) if out.startswith("{") else {}


def by_subject(report: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for f in report["findings"]:
        found.setdefault(f["subject"], []).append(f"{f['level']}: {f['message']}; {f['advice']}")
    return found


def test_the_robot_fits_its_contract(capsys: pytest.CaptureFixture[str]) -> None:
    status, report = run(capsys, "check", "mobile_manipulator", "--live", *SHORT)
    assert status == 0 and not any(f["level"] == "error" for f in report["findings"]), report
    found = by_subject(report)
    assert any("Hz" in line for line in found["observations.joints"]), "a rate was measured"
    assert any("taken by sim_node" in line for line in found["commands.base"])


def test_every_mistake_of_a_contract_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write(
        tmp_path,
        ("frame: head_camera_optical_frame", "frame: lens_optical_frame"),
        ("height: 480, width: 640", "height: 240, width: 320"),
        ("topic: joint_states", "topic: robot/joint_states"),
        ("gripper_controller/joint_trajectory, type", "hand_controller/joint_trajectory, type"),
        ("cmd_vel, type: geometry_msgs/msg/TwistStamped", "cmd_vel, type: geometry_msgs/msg/Twist"),
    )
    status, report = run(capsys, "check", path, "--live", *SHORT)
    found = {subject: " ".join(lines) for subject, lines in by_subject(report).items()}
    assert status == 1
    assert "frame_id is head_camera_optical_frame" in found["observations.head_camera"]
    assert "set width to 640 and height to 480" in found["observations.head_camera"]
    assert "nobody publishes /robot/joint_states" in found["observations.joints"]
    assert "there are: /joint_states" in found["observations.joints"]
    assert "nobody listens on /hand_controller/joint_trajectory" in found["commands.gripper"]
    assert "/gripper_controller/joint_trajectory" in found["commands.gripper"], "what there is instead"
    assert "set type to geometry_msgs/msg/TwistStamped" in found["commands.base"]


def test_a_first_contract_of_the_robot_fits_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    urdf = package_root() / "description" / "mobile_manipulator.urdf"
    target = tmp_path / "mine.yaml"
    arguments = ("init", "mine", "--urdf", str(urdf), "--output", str(target), *SHORT)
    status, report = run(capsys, *arguments)
    assert status == 0 and report["guessed_lines"] > 10
    drafted, shipped = load_contract(target), load_contract("mobile_manipulator")
    assert drafted.kinematics.arm_joints == shipped.kinematics.arm_joints
    assert drafted.observation("image").frame == shipped.observation("image").frame
    assert {c.topic for c in shipped.commands.values()} < {c.topic for c in drafted.commands.values()}
    status, report = run(capsys, "check", str(target), "--live", *SHORT)
    assert status == 0, report
    assert main(list(("contract", *arguments))) == 2, "what is there is not written over"
    assert "--force" in capsys.readouterr().err


def test_a_robot_in_a_namespace_has_its_own_clock(robot: NodeGroup) -> None:
    robot.start("sim_node", {"real_time_factor": 0.15}, remappings("left"))
    client = GraphClient(robot.check, namespace="left")
    client.wait(lambda: client.node.count_publishers("/left/clock"), 180.0, "the clock of the other robot")
    client.close()

    def clock(probe: GraphProbe) -> str:
        """Who gives it; on a busy machine that is not known at once."""
        return next((found for _ in range(10) if (found := probe.look(3.0).clock)), "")

    with GraphProbe("left", use_sim_time=True) as probe:
        assert clock(probe) == "sim_node" and probe.node.get_clock().now().nanoseconds > 0
        assert probe.node.count_subscribers("/left/clock") == 1
    with GraphProbe("nowhere", use_sim_time=True) as probe:  # a robot that shares the clock of all
        assert clock(probe) == "/sim_node" and probe.node.get_clock().now().nanoseconds > 0
