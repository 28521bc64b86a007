"""The far side of a contract: the robot's drivers and servers as one small rclpy node, on wall time.

It says everything again and again until it has heard what a test waits for, so slow machines only make it take longer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from qt_ros.contract.actions import ActionSpace
from qt_ros.msg import CommandStatus, EpisodeStatus, PolicyAction

LIMIT = 120.0  # s for any one wait
PERIOD = 0.02
PATIENCE = 30.0  # s for the answer of a transition, which takes a moment
GOALS = {
    Transition.TRANSITION_CONFIGURE: "inactive",
    Transition.TRANSITION_ACTIVATE: "active",
    Transition.TRANSITION_DEACTIVATE: "inactive",
    Transition.TRANSITION_CLEANUP: "unconfigured",
}
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class FarSide:
    """Publishes ``joints`` as measured, calls ``said`` every period, keeps what it hears in ``heard[topic]``."""

    def __init__(self, domain: int, check: Callable[[], None], joints: dict[str, float], joint_topic: str) -> None:
        self.check, self.joints = check, dict(joints)
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("far_side", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._joints_out = self.node.create_publisher(JointState, joint_topic, 10)
        self.heard: dict[str, list[Any]] = {}
        self.said: list[Callable[[], None]] = [self.publish_joints]

    def __enter__(self) -> FarSide:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def describe(self, urdf: str, topic: str = "robot_description") -> None:
        """As robot_state_publisher does."""
        self._description = self.node.create_publisher(String, topic, LATCHED)
        self._description.publish(String(data=urdf))

    def listen(self, kind: Any, topic: str) -> list[Any]:
        box = self.heard.setdefault(topic, [])
        self.node.create_subscription(kind, topic, box.append, 100)
        return box

    def stamp(self) -> Any:
        return self.node.get_clock().now().to_msg()

    def publish_joints(self) -> None:
        message = JointState(name=list(self.joints), position=list(self.joints.values()))
        message.header.stamp = self.stamp()
        self._joints_out.publish(message)

    def until(self, true: Callable[[], Any], what: str) -> None:
        """Say everything every period until ``true()``."""
        began = said = time.monotonic()
        while not true():
            self.check()
            now = time.monotonic()
            if now > began + LIMIT:
                raise TimeoutError(f"waited {LIMIT:g} s for {what}")
            if now >= said + PERIOD:
                said = now
                for say in self.said:
                    say()
            self._executor.spin_once(timeout_sec=0.005)

    def call(self, kind: Any, service: str, request: Any, repeat: float = math.inf) -> Any:
        """The answer of a service. ``repeat``: s after which to ask again when none came.

        On a busy machine an answer is lost when the server has not yet found out about this client's ear for it.
        """
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready, f"service {service}")
        futures: list[Any] = []
        asked = 0.0

        def answered() -> bool:
            nonlocal asked
            if not futures or time.monotonic() > asked + repeat:
                futures.append(client.call_async(request))
                asked = time.monotonic()
            return any(f.done() for f in futures)

        self.until(answered, f"an answer of {service}")
        self.node.destroy_client(client)
        self.repeated = len(futures) > 1
        return next(f for f in futures if f.done()).result()

    def change(self, node: str, transition: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition
        done = bool(self.call(ChangeState, f"{node}/change_state", request, PATIENCE).success)
        return done or self.repeated and self.state(node) == GOALS[transition]  # it was the first one that did it

    def state(self, node: str) -> str:
        return str(self.call(GetState, f"{node}/get_state", GetState.Request(), repeat=5.0).current_state.label)

    def await_state(self, node: str, label: str) -> None:
        self.until(lambda: self.state(node) == label, f"{node} to be {label}")


class ActingPolicy:
    """policy_node's side: one action after the other, in an episode that begins anew when it was stopped.

    A busy machine may be late once; what was stopped stays stopped, so the next try is another episode.
    """

    def __init__(self, far: FarSide, space: ActionSpace, frame: str = "base_link", **values: float) -> None:
        self._far, self._space, self._frame = far, space, frame
        self._values = space.neutral()
        for name, value in values.items():
            self._values[space.index(name)] = value
        self.statuses = far.listen(CommandStatus, "command_status")
        self._episodes = far.node.create_publisher(EpisodeStatus, "episode_status", LATCHED)
        self._actions = far.node.create_publisher(PolicyAction, "policy_action", 10)
        self._number = self._step = 0
        self._start = far.stamp()

    def __call__(self) -> None:
        """Say that the episode runs, and the next action."""
        last = self.statuses[-1] if self.statuses else None
        if last is not None and (last.state, last.episode_id) == (last.STATE_STOPPED, f"e{self._number}"):
            self._number, self._step, self._start = self._number + 1, 0, self._far.stamp()
        status = EpisodeStatus(episode_id=f"e{self._number}", state=EpisodeStatus.STATE_RUNNING, step=self._step)
        status.header.stamp, status.start = self._far.stamp(), self._start
        self._episodes.publish(status)
        self._step += 1
        action = PolicyAction(episode_id=status.episode_id, step=self._step, names=list(self._space.names))
        action.values, action.observation_stamp = self._values.tolist(), self._far.stamp()
        action.bins = self._space.encode(self._values).tolist()
        action.header.stamp, action.header.frame_id = self._far.stamp(), self._frame
        self._actions.publish(action)
