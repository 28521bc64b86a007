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
from benchmarks.report import Idle, spread
from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.codecs import stamp_to_ns
from qt_ros.contract.robot import RobotContract

EPISODE = "policy_latency"
MOST_EPISODES = 20


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
            group.start(
                "policy_node",
                {**parameters, "threads": options.threads, "outcome_wait": 0.0, "shadow": True},
                module="benchmarks.policy_probe",
            )
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
                idle = Idle()
                reasons = _episodes(client, received, steps, 60.0 + 4 * steps / contract.policy_rate)
                busy = {"cut_short": reasons, "machine_idle_cores": idle.cores()}
                client.close()
        network = {(s["episode"], s["step"]): s for s in map(json.loads, probe.read_text("utf-8").splitlines())}
    actions = [(message, now) for message, now in received if len(message.q)]  # the others are neutral stops
    return {**_report(actions[:steps], network, camera), **busy}


def _episodes(client: Any, received: list[tuple[Any, int]], steps: int, limit: float) -> list[str]:
    """Run episodes until there are ``steps`` actions: one, or more when the machine is so busy that the camera goes
    stale. Returns the reasons of those that ended by themselves."""
    reasons: list[str] = []
    while (missing := steps - sum(1 for message, _ in received if len(message.q))) > 0:
        if len(reasons) > MOST_EPISODES:
            raise RuntimeError(f"{len(reasons)} episodes ended early ({', '.join(reasons)}); is the machine too busy?")
        have = len(received)
        client.send("pick up the red cube", f"{EPISODE}_{len(reasons)}", max_duration=limit)

        def done(have: int = have, missing: int = missing) -> bool:
            new = received[have:]
            return len(new) >= missing or any(not len(message.q) for message, _ in new)

        client.wait(done, limit, f"{missing} policy actions")
        client.cancel()
        result = client.result()
        if result.reason in ("fault", "bad_image", "non_finite"):  # not for want of time: it would happen again
            raise RuntimeError(f"policy_node ended the episode: {result.reason}, {result.message}")
        if result.reason != "canceled":
            reasons.append(result.reason)
    return reasons


def _subscribe(client: Any, received: list[tuple[Any, int]]) -> None:
    from qt_ros.msg import PolicyAction

    client.node.create_subscription(
        PolicyAction, "policy_action", lambda message: received.append((message, time.time_ns())), 100
    )


def _report(received: list[tuple[Any, int]], network: dict[tuple[str, int], Any], camera: Any) -> dict[str, Any]:
    parts: dict[str, list[float]] = {
        name: [] for name in ("total", "network", "overhead", "camera_to_node", "inside_node", "stamp_to_received")
    }
    for message, now in received:
        stamp = stamp_to_ns(message.observation_stamp)
        total = (stamp_to_ns(message.header.stamp) - stamp) / 1e6
        own = network[message.episode_id, message.step]["network_ms"]
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
    table.caption = f"idle meanwhile: {report['machine_idle_cores']} cores"
    if report["cut_short"]:
        table.caption += f"; {len(report['cut_short'])} episode(s) ended early: {', '.join(report['cut_short'])}"
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
