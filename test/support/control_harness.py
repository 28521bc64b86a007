"""Stands in for everything around command_node and servo_node, on real DDS, with a clock that the test moves by hand.

Nodes under test run as processes with use_sim_time, so no test depends on how fast the machine is. Every wait is for a
message or a service and has a limit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from qt_ros.contract.robot import RobotContract
from qt_ros.msg import CommandStatus, EpisodeStatus, PolicyAction

LIMIT = 120.0  # s on the wall for any one wait: only a broken node takes that long
PATIENCE = 30.0  # s for the answer of a transition, which takes a moment
TICK = 0.02
SIMULATED = {"use_sim_time": True, "status_rate": 50.0, "clock_patience": 60.0}  # parameters of command_node
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}
GOALS = {"configure": "inactive", "activate": "active", "deactivate": "inactive", "cleanup": "unconfigured"}


def to_time(seconds: float) -> Time:
    ns = round(seconds * 1e9)
    return Time(sec=ns // 10**9, nanosec=ns % 10**9)


def seconds(stamp: Time) -> float:
    return stamp.sec + stamp.nanosec * 1e-9


def twist_of(message: TwistStamped) -> list[float]:
    linear, angular = message.twist.linear, message.twist.angular
    return [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]


class Harness:
    """Publishes clock, joints, actions, status, twists and the e-stop; keeps what the nodes publish."""

    def __init__(self, contract: RobotContract, domain: int, check: Callable[[], None]) -> None:
        self.contract, self.check = contract, check
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("test_harness", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.now = 100.0
        self.joints = {j: contract.kinematics.home[j] for j in contract.kinematics.arm_joints}
        self.twists: list[TwistStamped] = []
        self.base: list[TwistStamped] = []
        self.gripper: list[JointTrajectory] = []
        self.trajectories: list[JointTrajectory] = []
        self.statuses: list[CommandStatus] = []
        self.boxes = {"twists": self.twists, "trajectories": self.trajectories, "statuses": self.statuses}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        make = self.node.create_publisher
        self.out = {
            "clock": make(Clock, "/clock", 10),
            "joints": make(JointState, "joint_states", 10),
            "action": make(PolicyAction, "policy_action", 10),
            "status": make(EpisodeStatus, "episode_status", latched),
            "estop": make(Bool, "estop", 10),
            "twist": make(TwistStamped, "servo_node/delta_twist_cmds", 10),
        }
        for kind, topic, box in (
            (TwistStamped, "servo_node/delta_twist_cmds", self.twists),
            (TwistStamped, "cmd_vel", self.base),
            (JointTrajectory, "gripper_controller/joint_trajectory", self.gripper),
            (JointTrajectory, "arm_controller/joint_trajectory", self.trajectories),
            (CommandStatus, "command_status", self.statuses),
        ):
            self.node.create_subscription(kind, topic, box.append, 100)

    def close(self) -> None:
        self.node.destroy_node()
        self._executor.shutdown()
        self.context.try_shutdown()

    # --- waiting ------------------------------------------------------------------------------------------------------

    def until(self, true: Callable[[], Any], what: str, again: Callable[[], None] | None = None) -> None:
        """Spin until ``true()``; ``again`` repeats something every second, for those who joined late."""
        began = said = time.monotonic()
        while not true():
            self.check()
            now = time.monotonic()
            if now > began + LIMIT:
                heard = {name: len(box) for name, box in self.boxes.items()}
                raise TimeoutError(f"waited {LIMIT:g} s for {what}; heard {heard}, time {self.now}")
            if again is not None and now > said + 1.0:
                said = now
                again()
            self._executor.spin_once(timeout_sec=0.05)

    def expect_end(self) -> None:
        """From here on the node under test may end."""
        self.check = lambda: None

    def drain(self) -> None:
        """Take what has already arrived."""
        for _ in range(50):
            self._executor.spin_once(timeout_sec=0.0)

    def call(self, kind: Any, name: str, request: Any, repeat: float = math.inf) -> Any:
        """The answer of a service. ``repeat``: s after which to ask again when none came.

        On a busy machine an answer is lost when the server has not yet found out about this client's ear for it.
        """
        client = self.node.create_client(kind, name)
        try:
            self.until(client.service_is_ready, f"service {name}")
            futures = [client.call_async(request)]
            asked = time.monotonic()

            def ask() -> None:
                nonlocal asked
                if time.monotonic() > asked + repeat:
                    futures.append(client.call_async(request))
                    asked = time.monotonic()

            self.until(lambda: any(f.done() for f in futures), f"an answer of {name}", ask)
            self.repeated = len(futures) > 1
            return next(f for f in futures if f.done()).result()
        finally:
            self.node.destroy_client(client)

    def change(self, node: str, transition: str) -> bool:
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        done = bool(self.call(ChangeState, f"{node}/change_state", request, PATIENCE).success)
        return done or self.repeated and self.state(node) == GOALS[transition]  # it was the first one that did it

    def state(self, node: str) -> str:
        return str(self.call(GetState, f"{node}/get_state", GetState.Request(), repeat=5.0).current_state.label)

    def matched(self, *names: str) -> None:
        """Until a node under test listens to these outputs of the harness (its own twists do not count)."""
        own = {"twist": 1}
        self.until(
            lambda: all(self.out[n].get_subscription_count() > own.get(n, 0) for n in names), f"listeners of {names}"
        )

    def await_state(self, node: str, label: str) -> None:
        self.until(lambda: self.state(node) == label, f"{node} to be {label}")

    # --- time and input -----------------------------------------------------------------------------------------------

    def clock(self, joints: bool = True) -> None:
        """One command period later."""
        self.now = round(self.now + TICK, 6)
        if joints:
            self.publish_joints()
        self.publish_clock()

    def publish_clock(self) -> None:
        self.out["clock"].publish(Clock(clock=to_time(self.now)))

    def publish_joints(self, **changed: float) -> None:
        values = {**self.joints, **changed}
        message = JointState(name=list(values), position=list(values.values()))
        message.header.stamp = to_time(self.now)
        self.out["joints"].publish(message)

    def status(self, episode_id: str, state: int = EpisodeStatus.STATE_RUNNING, reason: int = 0) -> None:
        header = Header(stamp=to_time(self.now))
        self.out["status"].publish(EpisodeStatus(header=header, episode_id=episode_id, state=state, reason=reason))

    def action(
        self,
        episode_id: str,
        step: int,
        age: float = 0.05,
        frame: str = "base_link",
        decided: bool = True,
        **values: float,
    ) -> None:
        """A decision; without bins, as the neutral stop of an episode is, where nobody ``decided``."""
        space = self.contract.action_space
        vector = space.neutral()
        for name, value in values.items():
            vector[space.index(name)] = value
        message = PolicyAction(episode_id=episode_id, step=step, names=list(space.names), values=vector.tolist())
        message.header = Header(stamp=to_time(self.now), frame_id=frame)
        message.bins = [] if not decided else space.encode(np.nan_to_num(vector)).tolist()
        message.observation_stamp = to_time(self.now - age)
        self.out["action"].publish(message)

    def twist(self, values: Any, frame: str = "base_link", age: float = 0.0) -> None:
        message = TwistStamped(header=Header(stamp=to_time(self.now - age), frame_id=frame))
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (float(v) for v in values)
        self.out["twist"].publish(message)

    def estop(self, pressed: bool) -> None:
        self.out["estop"].publish(Bool(data=pressed))

    def reset(self) -> Any:
        return self.call(Trigger, "command_node/reset", Trigger.Request())

    # --- command_node -------------------------------------------------------------------------------------------------

    def tick_commands(self, count: int = 1, joints: bool = True) -> None:
        """``count`` command periods, each seen by command_node before the next begins."""
        for _ in range(count):
            self.clock(joints)
            told = len(self.statuses)
            self.until(
                lambda told=told: any(seconds(s.header.stamp) >= self.now - 1e-6 for s in self.statuses[told:]),
                f"command_node to see the time {self.now}",
                self.publish_clock,
            )

    def await_status(self, state: int, episode_id: str, again: Callable[[], None] | None = None) -> CommandStatus:
        def there() -> bool:
            last = self.statuses[-1] if self.statuses else None
            return last is not None and (last.state, last.episode_id) == (state, episode_id)

        self.until(there, f"command_status {state} of {episode_id}", again)
        return self.statuses[-1]

    def begin(self, episode_id: str) -> None:
        """An episode that command_node follows."""
        self.status(episode_id)
        self.await_status(CommandStatus.STATE_MOVING, episode_id, lambda: self.status(episode_id))

    def move(self, episode_id: str, step: int = 1, **values: float) -> None:
        """An action, until the robot moves for it."""
        self.forget()
        values = values or {"dx": 0.05, "base_turn": 0.1}
        self.offer(episode_id, step, **values)
        self.tick_commands(3)
        self.until(lambda: self.twists and any(twist_of(self.twists[-1])), "motion")

    def offer(self, episode_id: str, step: int, age: float = 0.0, **values: float) -> None:
        """An action, until it is accepted. Steps count from 1 here: 0 also stands for "none yet" in command_status."""
        self.action(episode_id, step, age, **values)

        def accepted() -> bool:
            return (self.statuses[-1].episode_id, self.statuses[-1].step) == (episode_id, step)

        self.until(accepted, f"step {step} to be accepted", lambda: self.action(episode_id, step, age, **values))

    def forget(self) -> None:
        self.drain()
        for box in (self.twists, self.base, self.gripper, self.trajectories):
            box.clear()

    def standing(self) -> bool:
        """The last thing that was commanded is exactly zero, for arm and base."""
        return bool(self.twists and self.base) and not (any(twist_of(self.twists[-1])) or any(twist_of(self.base[-1])))

    # --- servo_node ---------------------------------------------------------------------------------------------------

    def follow(self) -> np.ndarray | None:
        """The arm does what the last trajectory says; its positions (n,), None when none came."""
        if not self.trajectories:
            return None
        last = self.trajectories[-1]
        self.joints.update(dict(zip(last.joint_names, last.points[-1].positions)))
        return np.array(last.points[-1].positions)


@contextmanager
def harness(contract: RobotContract, domain: int, check: Callable[[], None]) -> Iterator[Harness]:
    made = Harness(contract, domain, check)
    try:
        yield made
    finally:
        made.close()
