"""What the way of an image through ROS adds to the network's own time, measured on the real policy_node.

A camera process (640x480, its rate from the contract) and a joint-state process publish over DDS; policy_node runs one
episode on them. Of each step: overhead = (stamp of the PolicyAction - stamp of its image) - (encoding + decoding).
It holds the camera's publish call, DDS, rclpy, the wait for the policy's thread, decoding and resizing the picture,
proprioception, and building the message.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.graph import SensorProcess, sensors, set_environment
from benchmarks.report import spread
from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.codecs import stamp_to_ns
from qt_ros.contract.robot import RobotContract

EPISODE = "policy_latency"


def measure_ros(checkpoint: Path, contract: RobotContract, options: argparse.Namespace) -> dict[str, Any]:
    """Run ``options.ros_steps`` policy steps over DDS; medians and 95th percentiles in ms."""
    set_environment(options.dds_default)
    try:
        from qt_ros.nodes.demo_client import GraphClient
    except ImportError as error:
        raise SystemExit(f"--ros needs the workspace: run `make setup`, then `. ./env.sh` ({error})") from None

    camera, joints = contract.observation("image"), contract.observation("joint_state")
    steps, size = options.ros_steps, {"width": camera.width, "height": camera.height}
    with tempfile.TemporaryDirectory(prefix="policy_latency_ros_") as name:
        probe = Path(name) / "network.jsonl"
        group = NodeGroup(Path(name) / "logs", {"QT_ROS_PROBE": str(probe), "ROS_LOG_DIR": name})
        with group.running():
            parameters = {"robot": options.robot, "checkpoint": str(checkpoint.absolute()), "device": options.device}
            group.start("policy_node", {**parameters, "threads": options.threads}, module="benchmarks.policy_probe")
            client = GraphClient(group.check, "policy_latency")
            received: list[tuple[Any, int]] = []
            _subscribe(client, received)
            with sensors(
                SensorProcess(camera.topic, "image", camera.rate, frame=camera.frame, qos=options.camera_qos, **size),
                SensorProcess(joints.topic, "joint_state", joints.rate, robot=options.robot),
            ) as processes:
                client.activate("policy_node")
                client.wait(lambda: all(p.ready for p in processes), 60.0, "policy_node to subscribe")
                for process in processes:
                    process.go()
                client.send("pick up the red cube", EPISODE, max_duration=60.0 + steps / contract.policy_rate)
                limit = 60.0 + 4 * steps / contract.policy_rate
                client.wait(lambda: len(received) >= steps or _ended(received), limit, f"{steps} policy actions")
                if _ended(received):
                    raise RuntimeError(f"the episode ended after {len(received) - 1} steps:\n{group.nodes[0].tail()}")
                client.cancel()
                client.close()
        network = {int(s["step"]): s for s in map(json.loads, probe.read_text(encoding="utf-8").splitlines())}
    return _report(received[:steps], network, camera)


def _ended(received: list[tuple[Any, int]]) -> bool:
    """The neutral stop, which has no Q-values, was published."""
    return any(not len(message.q) for message, _ in received)


def _subscribe(client: Any, received: list[tuple[Any, int]]) -> None:
    from qt_ros.msg import PolicyAction

    client.node.create_subscription(
        PolicyAction, "policy_action", lambda message: received.append((message, time.time_ns())), 100
    )


def _report(received: list[tuple[Any, int]], network: dict[int, dict[str, float]], camera: Any) -> dict[str, Any]:
    parts: dict[str, list[float]] = {
        name: [] for name in ("total", "network", "overhead", "camera_to_node", "inside_node", "stamp_to_received")
    }
    for message, now in received:
        stamp = stamp_to_ns(message.observation_stamp)
        total = (stamp_to_ns(message.header.stamp) - stamp) / 1e6
        own = network[message.step]["network_ms"]
        parts["total"].append(total)
        parts["network"].append(own)
        parts["overhead"].append(total - own)
        parts["camera_to_node"].append(total - message.latency_ms)
        parts["inside_node"].append(message.latency_ms - own)
        parts["stamp_to_received"].append((now - stamp) / 1e6)
    return {
        "steps": len(received),
        "image": [camera.width, camera.height],
        "camera_rate": camera.rate,
        **{f"{name}_ms": spread(values) for name, values in parts.items()},
    }


def table_ros(report: dict[str, Any]) -> Table:
    """One row per part of the way."""
    width, height = report["image"]
    table = Table(title=f"image stamp to published PolicyAction, {width}x{height}, {report['steps']} steps over DDS")
    for column in ("part", "p50 ms", "p95 ms", "max ms"):
        table.add_column(column, justify="left" if column == "part" else "right")
    names = {
        "total": "image stamp to PolicyAction",
        "network": "network (encode + decode)",
        "overhead": "overhead = total - network",
        "camera_to_node": "  camera's publish call, DDS, to the node's callback",
        "inside_node": "  inside the node: wait, decode, resize, state, message",
        "stamp_to_received": "image stamp to receipt of the action elsewhere",
    }
    for key, name in names.items():
        numbers = report[f"{key}_ms"]
        table.add_row(name, *(f"{numbers[mark]:.2f}" for mark in ("p50", "p95", "max")))
    return table
