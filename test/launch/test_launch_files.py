"""The launch files under the real launch system: what they declare, start, order, and how they end.

Needs `launch`, `launch_ros` and `launch_testing`, which a ROS installation brings (they are in no package registry for
Python).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_gazebo_packages
import pytest
from small_checkpoint import make_checkpoint

from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.launch_arguments import LAUNCH_FILES

pytest.importorskip("launch_ros.actions", reason="needs launch and launch_ros: a ROS installation brings them")
pytestmark = pytest.mark.graph
ROOT = Path(__file__).resolve().parents[2]
RUNNER = ROOT / "test" / "support" / "launch_runner.py"
ACTIVE = 3  # lifecycle_msgs/State


def launch_file(name: str) -> Path:
    return ROOT / "launch" / f"{name}.launch.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "moving"
    make_checkpoint(folder)
    return folder


class Launched:
    """A launch file running in a process of its own."""

    def __init__(self, folder: Path, name: str, *arguments: str, **environment: str) -> None:
        self.log = folder / f"{name}.txt"
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, str(RUNNER), str(launch_file(name)), *arguments],
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, "ROS_LOG_DIR": str(folder / "ros"), **environment},
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        assert self.process.poll() is None, self.said

    def interrupt(self) -> int:
        """Ctrl-C in its terminal: the launch and all its processes get it. The launch's exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(120.0)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            try:
                self.process.wait(60.0)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)


Start = Callable[..., Launched]


@pytest.fixture
def start(ros_domain_id: int, tmp_path: Path) -> Iterator[Start]:
    started: list[Launched] = []

    def run(name: str, *arguments: str, **environment: str) -> Launched:
        started.append(Launched(tmp_path, name, *arguments, **environment))
        return started[-1]

    yield run
    for launched in started:
        launched.close()


def environment_of(launched: Launched, node: str) -> dict[str, str]:
    """The environment that the launch gave to one of its nodes."""
    started = re.search(rf"\[{node}-\d+\]: process started with pid \[(\d+)\]", launched.said)
    assert started is not None, launched.said
    entries = Path(f"/proc/{started[1]}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def parameter(client: GraphClient, node: str, name: str) -> Any:
    """A parameter of a running node."""
    from rcl_interfaces.srv import GetParameters
    from rclpy.parameter import parameter_value_to_python

    asking = client.node.create_client(GetParameters, f"{node}/get_parameters")
    answer = client.call(asking, GetParameters.Request(names=[name]), 60.0, f"parameters of {node}")
    return parameter_value_to_python(answer.values[0])


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_the_launch_system_shows_every_argument_with_description_and_choices(name: str) -> None:
    from launch.launch_context import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    description = PythonLaunchDescriptionSource(str(launch_file(name))).get_launch_description(LaunchContext())
    shown = {a.name: a for a in description.get_launch_arguments()}
    assert list(shown) == [argument.name for argument in LAUNCH_FILES[name]]
    for argument in LAUNCH_FILES[name]:
        assert shown[argument.name].description.startswith(argument.description)
        assert tuple(shown[argument.name].choices or ()) == argument.choices
        assert (shown[argument.name].default_value is None) == (argument.default is None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["record:=perhaps"], "perhaps"),
        (["robot:=mobile_manipulator"], "give checkpoint:=FOLDER, or policy:=false"),
        (["enable_moton:=false"], "unknown launch argument enable_moton (did you mean enable_motion?)"),
        (["dry_run:=true"], "unknown launch argument dry_run"),
        (["params:=mine.yaml"], "sets enable_motion, which launch arguments overrule"),
        (["robot:=nobodys.yaml", "policy:=false"], "nobodys.yaml"),
    ],
)
def test_what_would_start_something_else_is_refused_before_anything_starts(
    start: Start, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "mine.yaml").write_text("/**/command_node: {ros__parameters: {enable_motion: false}}")
    given = {"robot": "mobile_manipulator", "checkpoint": "somewhere"} if len(arguments) == 1 else {}
    if "checkpoint" in said:
        del given["checkpoint"]
    launched = start("robot", *(f"{name}:={value}" for name, value in given.items()), *arguments)
    assert launched.process.wait(120.0) == 1
    assert said in launched.said and "process started" not in launched.said


def test_a_node_that_cannot_be_configured_ends_the_launch_and_is_named(start: Start, tmp_path: Path) -> None:
    launched = start("robot", "robot:=mobile_manipulator", f"checkpoint:={tmp_path / 'nowhere'}")
    assert launched.process.wait(240.0) == 1
    assert "policy_node could not be configured" in launched.said
    assert "nowhere" in launched.said  # its own words


def test_a_node_that_dies_ends_the_launch_and_is_named(start: Start, checkpoint: Path) -> None:
    launched = start("robot", "robot:=mobile_manipulator", f"checkpoint:={checkpoint}", "autostart:=false")
    client = GraphClient(launched.check)
    try:
        for name in ("command_node", "servo_node", "policy_node"):
            client.state(name)
        client.wait_for_service("set_outcome")
    finally:
        client.close()
    started = re.search(r"\[command_node-\d+\]: process started with pid \[(\d+)\]", launched.said)
    assert started is not None
    os.kill(int(started[1]), signal.SIGKILL)
    assert launched.process.wait(120.0) == 1
    assert "command_node ended with exit code -9" in launched.said
    for name in ("policy_node", "servo_node", "recorder_node"):
        assert re.search(rf"\[{name}-\d+\]: process has finished cleanly", launched.said), name


def test_without_autostart_the_nodes_wait_and_a_file_of_parameters_is_obeyed(
    start: Start, checkpoint: Path, tmp_path: Path
) -> None:
    text = (ROOT / "config" / "nodes" / "robot.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("status_rate: 10.0", "status_rate: 11.0"))
    launched = start(
        "robot", "robot:=mobile_manipulator", f"checkpoint:={checkpoint}", "autostart:=false", "servo:=false",
        "record:=false", "namespace:=a/b", f"params:={tmp_path / 'mine.yaml'}",
    )  # fmt: skip
    client = GraphClient(launched.check, namespace="a/b")
    try:
        assert client.state("command_node") == client.state("policy_node") == 1
        assert parameter(client, "command_node", "status_rate") == 11.0
        nodes = {name for name, namespace in client.node.get_node_names_and_namespaces() if namespace == "/a/b"}
        assert not nodes & {"servo_node", "recorder_node"}
    finally:
        client.close()
    assert launched.interrupt() == 0


def test_a_robot_without_a_policy_in_a_dry_run_is_brought_up_on_this_machine_alone(start: Start) -> None:
    launched = start(
        "robot", "robot:=mobile_manipulator", "policy:=false", "enable_motion:=false", "network:=local",
        "viewers:=true", "record:=false", ROS_AUTOMATIC_DISCOVERY_RANGE="",
    )  # fmt: skip
    client = GraphClient(launched.check)
    try:
        client.wait(lambda: "command_node is active" in launched.said, 240.0, "command_node to be active")
        assert client.state("command_node") == client.state("servo_node") == ACTIVE
        assert parameter(client, "command_node", "enable_motion") is False
        assert "dry run: commands are shown on ~/dry_run" in launched.said
        client.wait(lambda: "marker_node" in client.node.get_node_names(), 60.0, "marker_node")
        assert "policy_node" not in launched.said
        assert "rviz2" in launched.said  # started, or said not to be installed
        environment = environment_of(launched, "command_node")
        assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
        assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("fastdds_local.xml")
    finally:
        client.close()
    assert launched.interrupt() == 0


def test_motion_is_on_unless_a_dry_run_is_asked_for_and_moveit_servo_follows_its_arm_alone(start: Start) -> None:
    launched = start("robot", "robot:=husky_ur5e", "policy:=false", "autostart:=false", "record:=false")
    client = GraphClient(launched.check)
    try:
        assert client.state("command_node") == 1
        assert parameter(client, "command_node", "enable_motion") is True
        assert "servo_node" not in launched.said and "marker_node" not in launched.said
    finally:
        client.close()
    assert launched.interrupt() == 0


def test_servo_node_beside_moveit_servo_is_refused_though_it_was_asked_for(start: Start) -> None:
    launched = start("robot", "robot:=husky_ur5e", "policy:=false", "servo:=true", "record:=false")
    assert launched.process.wait(240.0) == 1
    assert "moveit_servo follows its arm, so servo_node must not run" in launched.said
    assert "servo_node could not be configured" in launched.said and "command_node is active" not in launched.said


def test_gazebo_robot_controllers_and_nodes_start_one_after_the_other(
    start: Start, checkpoint: Path, tmp_path: Path
) -> None:
    log = fake_gazebo_packages.install(tmp_path / "prefix")
    path = f"{tmp_path / 'prefix'}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}"
    launched = start(
        "gazebo", f"checkpoint:={checkpoint}", "namespace:=robot1", "viewers:=true", AMENT_PREFIX_PATH=path
    )
    client = GraphClient(launched.check, namespace="robot1")
    try:
        client.wait(lambda: "policy_node is active" in launched.said, 240.0, "policy_node to be active")
        assert client.state("policy_node") == client.state("command_node") == client.state("servo_node") == ACTIVE
        client.wait_for_service("reset_scene")
    finally:
        client.close()
    told = fake_gazebo_packages.calls(log)
    names = [call["name"] for call in told]
    assert sorted(names) == sorted(
        ["gz", "parameter_bridge", "image_bridge", "robot_state_publisher", "create", "spawner", "spawner", "rviz2"]
    )
    in_order = [call["arguments"] for call in told if call["name"] in ("create", "spawner")]
    assert in_order[0][:4] == ["-topic", "robot_description", "-name", "robot"]
    assert in_order[1][0] == "joint_state_broadcaster"
    assert in_order[2][:4] == ["lift_controller", "arm_controller", "gripper_controller", "base_controller"]
    first_spawned, active = launched.said.index("spawner-"), launched.said.index("servo_node is active")
    assert first_spawned < active  # nothing may move before its controller does
    assert {call["partition"] for call in told} == {"robot1"}
    assert {call["ip"] for call in told} == {"127.0.0.1"}  # the test's environment keeps to this machine
    assert "--headless-rendering" in " ".join(told[names.index("gz")]["arguments"])
    assert "__ns:=/robot1" in told[names.index("parameter_bridge")]["arguments"]
    assert "/intended_motion:=intended_motion" in told[names.index("rviz2")]["arguments"]  # the namespace's, not all's
    assert launched.interrupt() == 0


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ("gz", "Gazebo ended with exit code 3"),
        ("create", "the robot could not be spawned"),
        ("spawner", "joint_state_broadcaster did not start"),
    ],
)
def test_a_step_that_fails_ends_the_launch_and_is_named(
    start: Start, checkpoint: Path, tmp_path: Path, failing: str, said: str
) -> None:
    fake_gazebo_packages.install(tmp_path / "prefix")
    path = f"{tmp_path / 'prefix'}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}"
    launched = start("gazebo", f"checkpoint:={checkpoint}", AMENT_PREFIX_PATH=path, FAILING=failing)
    assert launched.process.wait(240.0) == 1
    assert said in launched.said and "is active" not in launched.said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_namespaced_robots_run_side_by_side_without_a_clash(
    ros_domain_id: int, checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("launch_testing.actions", reason="needs launch_testing: a ROS installation brings it")
    command = [sys.executable, "-m", "launch_testing.launch_test", str(Path(__file__).parent / "two_robots.py")]
    result = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "CHECKPOINT": str(checkpoint)}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-3000:]
