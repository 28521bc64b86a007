"""`qt-ros demo` as a user runs it: episodes end to end over DDS, bags others can read, a clean end whatever happens.

The checkpoint is untrained: what counts here is the loop, not the success.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from domains import reserved_domain
from rosbags.highlevel import AnyReader

from qt_ros.contract.robot import load_contract
from qt_ros.episodes.bag import find_bags, is_complete
from qt_ros.episodes.bag_metadata import COMPLETE, REASON, SEED, TASK, read_metadata
from qt_ros.episodes.from_bag import episode_from_bag
from qt_ros.sim.tasks import find_task

CONTRACT = load_contract("mobile_manipulator")
NODES = ("policy_node", "command_node", "servo_node", "sim_node", "recorder_node")


def demo(checkpoint: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-u",
        "-m",
        "qt_ros.cli.main",
        "demo",
        "--checkpoint",
        str(checkpoint),
        "--out",
        str(folder),
    ]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def node_processes(folder: Path) -> list[int]:
    """Processes whose parameters name ``folder`` or that log there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in environment and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def until(true: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if true():
            return
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        pause.wait(0.05)
    process.kill()
    raise AssertionError(process.communicate()[0])


@pytest.fixture(autouse=True)
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with reserved_domain() as number:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield


def test_episodes_run_end_to_end_and_their_bags_can_be_read_by_others(checkpoint: Path, tmp_path: Path) -> None:
    results = tmp_path / "out.json"
    options = ["--episodes", "3", "--seed", "7", "--max-duration", "3", "--json", str(results), "--wrong-instruction"]
    options += ["--real-time-factor", "0.6"]  # limits in time must hold on a busy machine too
    process = demo(checkpoint, tmp_path / "demo", *options)
    output = process.communicate(timeout=280)[0]
    assert process.returncode == 0, output
    document = json.loads(results.read_text())
    assert document["success_rate"] == 0.0
    assert len(document["episodes"]) == 3
    assert len({find_task(e["task"]).target for e in document["episodes"]}) == 3
    for episode in document["episodes"]:
        assert episode["outcome"] == "failure"
        assert episode["reason"] == "timeout"
        assert episode["steps"] > 5
        assert 0.0 < episode["latency_ms_p50"] <= episode["latency_ms_p95"]
        target = find_task(episode["task"]).target.replace("_", " ")
        assert target not in episode["instruction"]  # asked for something else than what is scored
        check_bag(Path(episode["bag"]), episode)
    page = (Path(document["episodes"][0]["bag"]).parents[1] / "index.html").read_text()
    assert page.count("<svg") == 3
    assert page.count("data:image/jpeg") > 20
    assert node_processes(tmp_path) == []


def check_bag(bag: Path, episode: dict[str, object]) -> None:
    custom = read_metadata(bag).custom_data
    assert (custom[TASK], custom[SEED], custom[COMPLETE]) == (episode["task"], str(episode["seed"]), "true")
    counts: Counter[str] = Counter()
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            counts[connection.topic] += 1
            if counts[connection.topic] == 1:
                reader.deserialize(raw, connection.msgtype)
    for topic in (
        "/head_camera/image_raw", "/head_camera/camera_info", "/joint_states", "/odom", "/policy_action",
        "/servo_node/delta_twist_cmds", "/arm_controller/joint_trajectory", "/gripper_controller/joint_trajectory",
        "/cmd_vel", "/episode_status", "/episode_outcome", "/command_status",
    ):  # fmt: skip
        assert counts[topic] > 0, (topic, counts)
    assert counts["/policy_action"] == int(str(episode["steps"])) + 1  # and the neutral stop
    again = episode_from_bag(bag, CONTRACT)
    assert (len(again), again.reason, again.outcome) == (episode["steps"], "timeout", "failure")
    moved = np.abs(again.proprio[-1, :3] - again.proprio[0, :3]).max()
    assert moved > 0.02  # the untrained policy asks for motion, and the robot moves


def test_ctrl_c_leaves_no_process_and_no_broken_bag(checkpoint: Path, tmp_path: Path) -> None:
    process = demo(checkpoint, tmp_path / "demo", "--episodes", "5", "--max-duration", "20")
    until(lambda: bool(list(tmp_path.rglob("*.mcap"))), process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 130, output
    assert node_processes(tmp_path) == []
    (bag,) = find_bags([tmp_path])
    assert is_complete(bag)
    assert read_metadata(bag).custom_data[REASON] == "canceled"


@pytest.mark.parametrize("victim", ["sim_node"])
def test_a_node_that_dies_is_reported_by_name_and_the_demo_fails(checkpoint: Path, tmp_path: Path, victim: str) -> None:
    process = demo(checkpoint, tmp_path / "demo", "--episodes", "5", "--max-duration", "20")
    until(lambda: bool(list(tmp_path.rglob("*.mcap"))), process)
    for pid in node_processes(tmp_path):
        if f"qt_ros.nodes.{victim}" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 1, output
    assert re.search(rf"{victim} ended \(signal SIGKILL\)", output)
    assert "scene: seed" in output  # the tail of its log
    assert node_processes(tmp_path) == []
    assert all(is_complete(bag) for bag in find_bags([tmp_path]))


def test_without_a_checkpoint_it_says_what_to_do(tmp_path: Path) -> None:
    process = demo(tmp_path / "absent", tmp_path / "demo")
    output = process.communicate(timeout=100)[0]
    assert process.returncode != 0
    assert "--checkpoint" in output
