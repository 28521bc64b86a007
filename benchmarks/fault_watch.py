"""Watches a graph from outside while benchmarks/faults.py spoils it: are the commands in bounds, does a policy stand
behind them, does the robot stand still?

It reads what the controllers get, what command_node gets of the policy, and what the simulator measured (its topics
before they are spoiled), in a thread of its own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from trajectory_msgs.msg import JointTrajectory

from benchmarks.fault_judge import LATE, MotionJudge, too_sudden
from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract
from qt_ros.control.shaper import BRAKE_TIME
from qt_ros.msg import CommandStatus, EpisodeRecord, EpisodeStatus, PolicyAction

LATCHED = QoSProfile(depth=20, durability=DurabilityPolicy.TRANSIENT_LOCAL)
MEASURED = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMANDS = QoSProfile(depth=200)
TOOL_SLACK = 0.03  # m: how far the simulated arm may swing past where it was sent
STILL = (0.05, 0.02)  # rad/s of a joint, m/s (or rad/s) of the base: less is standing
STANDS_WITHIN = 0.2  # s from a loss to zero commands, as the safety case says
LATE_TICKS = 0.1  # s: what a loaded machine may take longer for the ticks of that
SWINGS = 0.5  # s in which the simulated robot comes to rest after its last command, base and arm


def _seconds(stamp: Any) -> float:
    return float(stamp.sec + stamp.nanosec * 1e-9)


class Watch:
    """``problems`` since the last `take`; what was heard last; and the ways to spoil things."""

    def __init__(self, contract: RobotContract) -> None:
        self.contract, spec = contract, contract.kinematics
        self._joints = (*spec.arm_joints, *spec.carriers)
        self._model = Kinematics(contract.urdf, spec.base_frame, spec.tool_frame, self._joints, fixed=spec.home)
        self.problems: list[str] = []
        self.status: EpisodeStatus | None = None
        self.command: CommandStatus | None = None
        self.records: dict[str, EpisodeRecord] = {}
        self.ended: dict[str, int] = {}  # episode: reason, of all that the policy ended
        self.steps: dict[str, int] = {}
        self._speed = (0.0, 0.0)  # fastest measured joint, base
        self._last: dict[str, tuple[float, np.ndarray]] = {}
        allowed, brakes = contract.limits.max_action_age + STANDS_WITHIN + LATE_TICKS, STANDS_WITHIN + LATE_TICKS
        self._commanded = {name: MotionJudge(f"{name} command", allowed, brakes) for name in ("arm", "base")}
        self._measured = {
            name: MotionJudge(f"the {name}", allowed + SWINGS, brakes + SWINGS) for name in ("arm", "base")
        }
        self._sent = MotionJudge("arm setpoint", allowed, brakes)  # by the clock of what is measured: it has no stamp
        self._setpoint: np.ndarray | None = None
        self._grip: tuple[float, ...] = ()
        self._told_at = self._time = float("-inf")  # s: when a controller was told anything new, the newest joints
        self._changed = threading.Condition()
        self.context = rclpy.context.Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("fault_watch", context=self.context)
        bound = contract.limits
        arm = (
            (slice(0, 3), bound.linear_speed, bound.linear_acceleration),
            (slice(3, 6), bound.angular_speed, bound.angular_acceleration),
        )
        base = (
            (slice(0, 1), bound.base_linear_speed, bound.base_linear_acceleration),
            (slice(5, 6), bound.base_angular_speed, bound.base_angular_acceleration),
        )
        commands = contract.commands
        for kind, topic, work, qos in (
            (TwistStamped, commands["arm"].topic, lambda m: self._on_twist("arm", m, arm), COMMANDS),
            (TwistStamped, commands["base"].topic, lambda m: self._on_twist("base", m, base), COMMANDS),
            (JointTrajectory, "arm_controller/joint_trajectory", self._on_trajectory, COMMANDS),
            (JointTrajectory, commands["gripper"].topic, self._on_gripper, COMMANDS),
            (JointState, f"raw/{contract.observation('joint_state').topic}", self._on_joints, MEASURED),
            (Odometry, "odom", self._on_odom, MEASURED),
            (PolicyAction, "policy_action", self._on_action, COMMANDS),
            (EpisodeStatus, "episode_status", self._on_status, LATCHED),
            (CommandStatus, "command_status", self._on_command, COMMANDS),
            (EpisodeRecord, "episode_record", self._on_record, LATCHED),
        ):
            self.node.create_subscription(kind, topic, self._locked(work), qos)
        self._fault = self.node.create_publisher(String, "fault", 10)
        self._estop = self.node.create_publisher(Bool, "estop", MEASURED)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._thread.join(10.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def spoil(self, text: str) -> None:
        """Tell the relay what to do. A leap of the clock concerns commands only: what is measured is not spoiled."""
        for judge in self._commanded.values():
            judge.ordered = json.loads(text).get("clock", 0.0)
        self._fault.publish(String(data=text))

    def press(self, pressed: bool) -> None:
        """The e-stop button."""
        self._estop.publish(Bool(data=pressed))

    def take(self) -> list[str]:
        """The problems since the last time."""
        judges = [*self._commanded.values(), self._sent, *self._measured.values()]
        self.until(lambda: all([judge.settled() for judge in judges]), 2 * LATE)
        with self._changed:
            problems, self.problems = self.problems, []
            return [p for judge in judges for p in judge.problems()] + problems

    def gave_way(self) -> list[str]:
        """What was measured to move although no controller was told anything new, since the last time."""
        with self._changed:
            return [told for judge in self._measured.values() for told in judge.passive()]

    def unheard(self) -> list[str]:
        """The streams of which nothing came since the last time: nobody judges those."""
        silent = []
        with self._changed:
            for judge in (*self._commanded.values(), *self._measured.values()):
                silent += [] if judge.heard else [judge.what]
                judge.heard = 0
            commanded = self._commanded.values()
            silent += [] if all(judge.states_heard for judge in commanded) else ["command_node's state"]
            for judge in commanded:
                judge.states_heard = 0
        return silent

    def longest(self) -> dict[str, float]:
        """Seconds from the last action to the last motion that it explains, at most, since the last time."""
        told = {}
        with self._changed:
            for judge in (*self._commanded.values(), self._sent, *self._measured.values()):
                told[judge.what], judge.longest = round(judge.longest, 3), 0.0
        return told

    def until(self, true: Callable[[], Any], timeout: float) -> bool:
        """Wait for something heard here; False when it did not come."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not true():
                left = deadline - time.monotonic()
                if left <= 0.0:
                    return False
                self._changed.wait(min(left, 0.2))
            return True

    def still(self) -> bool:
        """Whether the simulated robot was measured to stand, by its own sensors."""
        return self._speed[0] < STILL[0] and self._speed[1] < STILL[1]

    def zero(self) -> bool:
        """Whether the last command to arm and base was to stand."""
        return not any(v.any() for _, v in self._last.values())

    # --- what is heard ------------------------------------------------------------------------------------------------

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass

    def _locked(self, work: Callable[[Any], None]) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            with self._changed:
                work(message)
                self._changed.notify_all()

        return receive

    def _on_twist(self, name: str, message: TwistStamped, parts: Any) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        v = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        now = _seconds(message.header.stamp)
        if not np.isfinite(v).all():
            self.problems.append(f"{name}: command {v.tolist()} is not finite")
            return
        before, old = self._last.get(name, (now, np.zeros(6)))
        tick = 1.0 / self.contract.command_rate
        elapsed = max(now - before, tick) if now >= before else 2 * tick
        for part, speed, acceleration in parts:
            if np.linalg.norm(v[part]) > speed * 1.001 + 1e-6:
                self.problems.append(f"{name}: speed {np.linalg.norm(v[part]):.3f} beyond {speed}")
            if told := too_sudden(old[part], v[part], elapsed, speed, acceleration, BRAKE_TIME):
                self.problems.append(f"{name}: {told}")
        if now < before:  # command_node has noticed that time began anew: later than what is measured does, by chance
            for judge in (self._sent, *self._measured.values()):
                judge.excuse(now)
        self._last[name] = (now, v)
        if name == "base" and v.any():
            self._told_at = self._time
        self._commanded[name].saw(now, bool(v.any()), str(v.round(3).tolist()))

    def _on_trajectory(self, message: JointTrajectory) -> None:
        names, model = list(message.joint_names), self._model
        for point in message.points:
            for joint, position in zip(names, point.positions, strict=True):
                i = self._joints.index(joint)
                if not model.lower[i] - 1e-6 <= position <= model.upper[i] + 1e-6:  # false for NaN too
                    self.problems.append(f"{joint}: sent to {position}, range {model.lower[i]} .. {model.upper[i]}")
            before, self._setpoint = self._setpoint, np.array(point.positions)
            moving = before is None or before.shape != self._setpoint.shape or bool((before != self._setpoint).any())
            self._sent.saw(self._time, moving)
            if moving:
                self._told_at = self._time

    def _on_gripper(self, message: JointTrajectory) -> None:
        spec = self.contract.kinematics
        low, high = sorted((spec.gripper_open, spec.gripper_closed))
        for point in message.points:
            if not all(low - 1e-9 <= p <= high + 1e-9 for p in point.positions):
                self.problems.append(f"gripper: sent to {list(point.positions)}, range {low} .. {high}")
            before, self._grip = self._grip, tuple(point.positions)
            self._told_at = self._time if before != self._grip else self._told_at

    def _on_joints(self, message: JointState) -> None:
        positions = dict(zip(message.name, message.position))
        velocities = dict(zip(message.name, message.velocity))
        if not all(j in positions for j in self._joints):
            return
        speed, joint = max((abs(velocities.get(j, np.inf)), j) for j in self._joints)  # not measured is not standing
        self._speed = (speed, self._speed[1])
        self._time = _seconds(message.header.stamp)
        self._told_at = min(self._told_at, self._time)  # a simulation that began anew
        how = f"{joint} {speed:.3f} rad/s{self._since()}"
        self._measured["arm"].saw(self._time, speed > STILL[0], how, self._time - self._told_at > SWINGS)
        tool = self._model.fk([positions[j] for j in self._joints])[0]
        bound = self.contract.limits
        outside = float(np.maximum(bound.workspace_low - tool, tool - bound.workspace_high).max())
        if outside > TOOL_SLACK:
            self.problems.append(f"tool measured {outside:.3f} m outside the workspace")

    def _on_odom(self, message: Odometry) -> None:
        twist = message.twist.twist
        self._speed = (self._speed[0], max(abs(twist.linear.x), abs(twist.angular.z)))
        how = f"{twist.linear.x:.3f} m/s, {twist.angular.z:.3f} rad/s{self._since()}"
        passive = self._time - self._told_at > SWINGS
        self._measured["base"].saw(_seconds(message.header.stamp), self._speed[1] > STILL[1], how, passive)

    def _since(self) -> str:
        return f", {self._time - self._told_at:.2f} s after a controller was told anything new"

    def _on_action(self, message: PolicyAction) -> None:
        if not message.q or tuple(message.names) != self.contract.action_space.names:
            return  # the neutral action at an episode's end, or nonsense: nothing may move because of it
        self.steps[message.episode_id] = message.step + 1
        for judge in (*self._commanded.values(), self._sent, *self._measured.values()):
            judge.acted(_seconds(message.observation_stamp))

    def _on_status(self, message: EpisodeStatus) -> None:
        self.status = message
        if message.state == EpisodeStatus.STATE_ENDED:
            self.ended[message.episode_id] = message.reason

    def _on_command(self, message: CommandStatus) -> None:
        self.command = message
        stamp, stops = _seconds(message.header.stamp), message.state == CommandStatus.STATE_STOPPED
        for judge in self._commanded.values():
            if stops:
                judge.stopped(stamp, LATE_TICKS if message.estop else STANDS_WITHIN + LATE_TICKS)
            else:
                judge.freed()

    def _on_record(self, message: EpisodeRecord) -> None:
        self.records[message.episode_id] = message
