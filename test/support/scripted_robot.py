"""A robot made of topics only: it publishes what a test tells it to, and remembers what it was commanded."""

from __future__ import annotations

import array
import math
import threading
import time
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TwistStamped
from rcl_interfaces.msg import Log
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool

from qt_ros.contract.robot import load_contract
from qt_ros.msg import CommandStatus, EpisodeStatus, PolicyAction
from qt_ros.sim.pacing import Periodic

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ROSOUT = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)


SPEED = 0.4  # simulated seconds per second: limits in time must hold on a busy machine too
TICK = 0.02  # simulated s


class ScriptedRobot:
    """/clock and joint states at 50 Hz and a camera at 15 Hz, in simulated time, from a thread of its own.

    ``camera``, ``joints``: whether they are published; ``encoding``, ``width``, ``nan_joint``: how they are spoiled.
    """

    def __init__(self) -> None:
        self.contract = load_contract("mobile_manipulator")
        self.heard: dict[str, list[Any]] = {}
        self._arrived = threading.Condition()
        self.context = rclpy.context.Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("scripted_robot", context=self.context)
        self._image_out = self.node.create_publisher(Image, "head_camera/image_raw", 5)
        self._joints_out = self.node.create_publisher(JointState, "joint_states", 10)
        self._estop_out = self.node.create_publisher(Bool, "estop", 10)
        for kind, topic, qos in (
            (TwistStamped, "servo_node/delta_twist_cmds", 50),
            (TwistStamped, "cmd_vel", 50),
            (PolicyAction, "policy_action", 50),
            (CommandStatus, "command_status", 50),
            (EpisodeStatus, "episode_status", LATCHED),
            (Log, "/rosout", ROSOUT),
        ):
            self.heard[topic] = []
            self.node.create_subscription(kind, topic, lambda m, t=topic: self._hear(t, m), qos)
        self._clock_out = self.node.create_publisher(Clock, "/clock", 10)
        self._now = 100.0
        self._image_due = Periodic(15.0)
        self.node.create_timer(TICK / SPEED, self._tick)
        self._pixels = array.array("B", bytes(np.random.default_rng(0).integers(0, 256, 640 * 480 * 3, dtype=np.uint8)))
        self.restore()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def restore(self) -> None:
        """A healthy robot again."""
        self.camera = self.joints = True
        self.encoding, self.width, self.nan_joint = "rgb8", 640, ""

    def estop(self, pressed: bool) -> None:
        self._estop_out.publish(Bool(data=pressed))

    def forget(self) -> None:
        """Drop what was heard so far."""
        with self._arrived:
            for messages in self.heard.values():
                messages.clear()

    def until(self, topic: str, test: Any, what: str, timeout: float = 30.0) -> Any:
        """The first message of ``topic`` (heard since `forget`) that passes ``test``; waits for it."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while True:
                for message in self.heard[topic]:
                    if test(message):
                        return message
                if not self._arrived.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"waited {timeout:g} s for {what}; {topic} said {self.heard[topic][-3:]}")

    def moving(self) -> bool:
        """Whether the newest arm or base command asks for any motion."""
        with self._arrived:
            newest = [self.heard[t][-1].twist for t in ("servo_node/delta_twist_cmds", "cmd_vel") if self.heard[t]]
        return any(
            abs(getattr(part, axis)) > 0.0 for t in newest for part in (t.linear, t.angular) for axis in ("x", "y", "z")
        )

    def until_still(self, timeout: float = 30.0) -> None:
        """Wait until the newest commands ask for no motion: a stop brakes first."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while self.moving():
                if not self._arrived.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"waited {timeout:g} s for the robot to be told to stand still")

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(10)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except rclpy.executors.ExternalShutdownException:
            pass

    def _hear(self, topic: str, message: Any) -> None:
        with self._arrived:
            self.heard[topic].append(message)
            self._arrived.notify_all()

    def _tick(self) -> None:
        self._now += TICK
        stamp = rclpy.time.Time(nanoseconds=round(self._now * 1e9)).to_msg()
        self._clock_out.publish(Clock(clock=stamp))
        if self.joints:
            home = self.contract.kinematics.home
            message = JointState(name=list(home), position=list(home.values()))
            if self.nan_joint:
                message.position[list(home).index(self.nan_joint)] = math.nan
            message.header.stamp = stamp
            self._joints_out.publish(message)
        if self._image_due.due(self._now) and self.camera:
            message = Image(height=480, width=self.width, encoding=self.encoding, step=self.width * 3)
            message.header.frame_id = "head_camera_optical_frame"
            message.header.stamp = stamp
            message.data = self._pixels[: self.width * 480 * 3]
            self._image_out.publish(message)
