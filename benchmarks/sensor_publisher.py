"""One sensor as a process of its own: publishes numbered messages at a rate, and says how many there were.

    python -m benchmarks.sensor_publisher TOPIC image|joint_state|imu RATE [--count N] [--numbered]

Prints ``ready`` when it has a subscriber, begins at a line on standard input, stops after ``--count`` messages or when
standard input closes, and prints one line of JSON: published, seconds, late_ms (p50, p95, max), cpu_seconds.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import select
import sys
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, Imu, JointState

from benchmarks.report import spread
from qt_ros.contract.robot import load_contract


def make_message(kind: str, width: int, height: int, frame: str, robot: str) -> Any:
    """A message of a kind, filled but for stamp and number."""
    if kind == "image":
        pixels = np.random.default_rng(0).integers(0, 256, height * width * 3, dtype=np.uint8)
        message = Image(height=height, width=width, encoding="rgb8", step=width * 3)
        message.data = array.array("B", pixels.tobytes())
    elif kind == "joint_state":
        home = load_contract(robot).kinematics.home
        message = JointState(name=list(home), position=list(home.values()), velocity=[0.0] * len(home))
    else:
        message = Imu()
    message.header.frame_id = frame
    return message


def wait_for_input(seconds: float) -> str | None:
    """A line from standard input, "" when it is closed, None when nothing came within ``seconds``."""
    if not select.select([sys.stdin], [], [], max(0.0, seconds))[0]:
        return None
    return sys.stdin.readline()


def publish(publisher: Any, message: Any, clock: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Publish on a fixed grid of times; a message that is late goes out at once, none is left out."""
    late: list[float] = []
    cpu, start = time.process_time(), time.monotonic()
    while not options.count or len(late) < options.count:
        due = start + len(late) / options.rate
        line = wait_for_input(due - time.monotonic()) if due > time.monotonic() else None
        if line == "":
            break
        late.append(max(0.0, time.monotonic() - due) * 1e3)
        if options.numbered:
            message.header.frame_id = f"{len(late) - 1:010d}"
        if options.kind == "image":
            message.data[0] = len(late) % 256  # no two pictures of a real camera are the same
        message.header.stamp = clock.now().to_msg()
        publisher.publish(message)
    seconds = time.monotonic() - start
    report = {"published": len(late), "seconds": round(seconds, 3), "cpu_seconds": time.process_time() - cpu}
    return {**report, "late_ms": spread(late or [0.0])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topic")
    parser.add_argument("kind", choices=("image", "joint_state", "imu"))
    parser.add_argument("rate", type=float)
    parser.add_argument("--count", type=int, default=0, help="messages to publish; 0: until standard input closes")
    parser.add_argument("--numbered", action="store_true", help="put the message's number into header.frame_id")
    parser.add_argument("--frame", default="")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--robot", default="mobile_manipulator")
    parser.add_argument("--qos", choices=("best_effort", "reliable"), default="best_effort")
    parser.add_argument("--depth", type=int, default=5)
    options = parser.parse_args()
    rclpy.init()
    node = rclpy.create_node(f"sensor_{os.getpid()}")
    message = make_message(options.kind, options.width, options.height, options.frame, options.robot)
    qos = QoSProfile(depth=options.depth, reliability=ReliabilityPolicy[options.qos.upper()])
    publisher = node.create_publisher(type(message), options.topic, qos)
    line = None
    while publisher.get_subscription_count() == 0 and line != "":
        line = wait_for_input(0.02)
    print("ready", flush=True)
    if line is None:
        line = wait_for_input(3600.0)
    if line:
        report = publish(publisher, message, node.get_clock(), options)
        if options.qos == "reliable":
            publisher.wait_for_all_acked(Duration(seconds=10))
        print(json.dumps(report), flush=True)
    while wait_for_input(3600.0):  # stay until told to go, so that nothing on the way is lost with us
        pass
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
