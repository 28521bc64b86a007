"""Stands between the robot, the policy and the rest of the graph, and spoils what passes on demand.

Topics come in with ``raw/`` before their names (the nodes are remapped) and go out under their own. What it does is
said on the topic ``fault``, a std_msgs/String of JSON: {"camera": "frozen"|"garbage"|"silent", "joints":
"nan"|"future"|"silent", "actions": "drop"|"delay"|"double", "clock": seconds to add, "malformed": true}; an empty
object heals everything. Run by benchmarks/faults.py.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import deque
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.clock import Clock as RclpyClock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from qt_ros.contract.robot import load_contract
from qt_ros.msg import CommandStatus, EpisodeOutcome, EpisodeStatus, PolicyAction
from qt_ros.nodes.lifecycle import run

DELAY = 0.9  # s on the wall: more than an action may be old
BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class FaultRelay(Node):
    """See the module. Everything passes serialised, and is only opened to be spoiled."""

    def __init__(self) -> None:
        super().__init__("fault_relay")
        contract = load_contract("mobile_manipulator")
        self.fault: dict[str, Any] = {}
        self._random = random.Random(0)
        self._late: deque[tuple[float, bytes]] = deque()
        self._last_image = b""
        camera, joints = contract.observation("image").topic, contract.observation("joint_state").topic
        self._clock_out = self.create_publisher(Clock, "/clock", 10)
        self._image = self.create_publisher(Image, camera, 30)
        self._joints = self.create_publisher(JointState, joints, 100)
        self._action = self.create_publisher(PolicyAction, "policy_action", 10)
        self._odd: list[tuple[Any, Any]] = []  # publishers made only when they are needed, and what they say
        for kind, topic, work in (
            (Clock, "raw/clock", self._on_clock),
            (Image, f"raw/{camera}", self._on_image),
            (JointState, f"raw/{joints}", self._on_joints),
            (PolicyAction, "raw/policy_action", self._on_action),
        ):
            qos = QoSProfile(depth=10) if kind is PolicyAction else BEST_EFFORT
            self.create_subscription(kind, topic, work, qos, raw=True)
        self.create_subscription(String, "fault", self._on_fault, QoSProfile(depth=10))
        self.create_timer(0.01, self._on_timer, clock=RclpyClock(clock_type=ClockType.STEADY_TIME))

    def _now(self) -> float:
        return RclpyClock(clock_type=ClockType.STEADY_TIME).now().nanoseconds * 1e-9

    def _on_fault(self, message: String) -> None:
        self.fault = json.loads(message.data)
        self._random.seed(self.fault.get("seed", 0))
        self.tidy()
        if self.fault.get("malformed"):
            self._say_nonsense()

    def _on_clock(self, data: bytes) -> None:
        if not (shift := self.fault.get("clock", 0.0)):
            self._clock_out.publish(data)
            return
        clock = deserialize_message(data, Clock)
        ns = max(0, clock.clock.sec * 10**9 + clock.clock.nanosec + round(shift * 1e9))
        clock.clock = Time(sec=ns // 10**9, nanosec=ns % 10**9)
        self._clock_out.publish(clock)

    def _on_image(self, data: bytes) -> None:
        how = self.fault.get("camera", "")
        if how == "frozen" and self._last_image:
            self._image.publish(self._last_image)  # the same picture with the same stamp, at the full rate
            return
        if how == "silent":
            return
        if how == "garbage":
            image = deserialize_message(data, Image)
            image.encoding = self._random.choice(["yuv422_yuy2", "rgb8", "", "32FC1"])
            image.data = image.data[: self._random.randrange(len(image.data))]
            data = serialize_message(image)
        self._last_image = data
        self._image.publish(data)

    def _on_joints(self, data: bytes) -> None:
        how = self.fault.get("joints", "")
        if how == "silent":
            return
        if how in ("nan", "future"):
            joints = deserialize_message(data, JointState)
            if how == "nan":
                joints.position[self._random.randrange(len(joints.position))] = math.nan
            else:
                joints.header.stamp.sec += 3600
            data = serialize_message(joints)
        self._joints.publish(data)

    def _on_action(self, data: bytes) -> None:
        how = self.fault.get("actions", "")
        if how == "drop":
            return
        if how == "delay":
            self._late.append((self._now() + DELAY, data))
            return
        self._action.publish(data)
        if how == "double":
            self._action.publish(data)

    def _on_timer(self) -> None:
        while self._late and self._late[0][0] <= self._now():
            self._action.publish(self._late.popleft()[1])

    def _say_nonsense(self) -> None:
        """Messages that no node should send, on every topic that the nodes listen to."""
        never = Time(sec=1, nanosec=4_000_000_000)
        episode = self.fault.get("episode", "")
        action = PolicyAction(episode_id=episode, step=10_000, names=["dx"], values=[math.nan, 1e300], q=[math.nan])
        action.observation_stamp = never
        joints = JointState(name=["arm_joint_1", "arm_joint_2"], position=[0.0])
        joints.header.stamp = never
        image = Image(height=2**31, width=2**31, encoding="rgb8", step=1)
        image.header.stamp = never
        status = CommandStatus(state=CommandStatus.STATE_STOPPED, reason=250, episode_id=episode)
        outcome = EpisodeOutcome(episode_id=episode, outcome=250)
        ended = EpisodeStatus(episode_id="../" + episode, state=200, reason=250)
        ended.header.stamp = never
        for publisher, message in (
            (self._action, action),
            (self._joints, joints),
            (self._image, image),
            (self.create_publisher(CommandStatus, "command_status", 10), status),
            (self.create_publisher(EpisodeOutcome, "episode_outcome", LATCHED), outcome),
            (self.create_publisher(EpisodeStatus, "episode_status", LATCHED), ended),
        ):
            publisher.publish(message)
            if publisher not in (self._action, self._joints, self._image):
                self._odd.append((publisher, message))

    def tidy(self) -> None:
        """Take the publishers of nonsense away."""
        while self._odd:
            self.destroy_publisher(self._odd.pop()[0])


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop."""
    return run(FaultRelay, arguments)


if __name__ == "__main__":
    sys.exit(main())
