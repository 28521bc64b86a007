"""A client of the whole graph: brings the nodes up, sets scenes, sends instructions, and waits for what comes of them.

Every wait is for an event (a state, a service, a message, a result) and has a limit; none is a sleep. Used by `qt-ros
demo` and by the graph tests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions

from qt_ros.action import ExecuteInstruction
from qt_ros.contract.codecs import stamp_to_ns
from qt_ros.episodes.episode import outcome_name, reason_name
from qt_ros.msg import CommandStatus, EpisodeRecord
from qt_ros.nodes.lifecycle import EVENT
from qt_ros.nodes.stopping import DeferredInterrupts
from qt_ros.srv import ResetScene

PATIENCE = 180.0  # s: loading a network on a busy machine takes its time
ASK_AGAIN = 2.0  # s
ANSWER = 30.0  # s for a goal to be accepted or not
CANCELLATION = 10.0  # s for a cancellation to be answered
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class GoalRejected(RuntimeError):
    """policy_node did not accept the instruction; its log says why."""


class GoalUnanswered(TimeoutError):
    """The goal was sent and no answer came: it may be acted on all the same."""


@dataclass(frozen=True)
class EpisodeResult:
    """How one execute_instruction ended. Latencies in ms from image receipt to published action."""

    episode_id: str
    outcome: str
    reason: str
    steps: int
    message: str
    latency_ms_p50: float
    latency_ms_p95: float


class GraphClient:
    """One rclpy node with plain, waiting calls. ``check`` is called while waiting and may raise (a node died).

    A Ctrl-C during a call takes effect between two looks at the graph (at most 0.05 s later), never inside rclpy.
    """

    def __init__(
        self, check: Callable[[], None] = lambda: None, name: str = "demo_client", namespace: str = ""
    ) -> None:
        self.check = check
        self._interrupts = DeferredInterrupts()
        self._records: dict[str, EpisodeRecord] = {}
        self._goal: Any = None
        self._asked: Any = None  # of a goal that was sent: the answer to come
        self.context = Context()
        with self._interrupts:
            rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
            self.node = Node(name, namespace=namespace, context=self.context)
            self._executor = SingleThreadedExecutor(context=self.context)
            self._executor.add_node(self.node)
            self.node.create_subscription(EpisodeRecord, "episode_record", self._on_record, LATCHED)
            self._actions = ActionClient(self.node, ExecuteInstruction, "execute_instruction")
            self._reset = self.node.create_client(ResetScene, "reset_scene")

    def close(self) -> None:
        """Leave the graph."""
        with self._interrupts:
            self._executor.shutdown()
            self.node.destroy_node()
            rclpy.try_shutdown(context=self.context)

    # --- waiting -----------------------------------------------------------------------------------------------------

    def wait(self, ready: Callable[[], Any], timeout: float, what: str) -> None:
        """Serve callbacks until ``ready()`` is true; TimeoutError names ``what``."""
        deadline = time.monotonic() + timeout
        with self._interrupts:
            while not ready():
                self._interrupts.deliver()
                self.check()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"waited {timeout:g} s for {what}")
                self._executor.spin_once(timeout_sec=0.05)

    def wait_for_service(self, name: str, timeout: float = PATIENCE) -> None:
        """Wait until someone serves ``name``."""
        # Counted, not looked up by name: a service that only has clients, such as ours, has a name too.
        self.wait(lambda: self.node.count_services(name) > 0, timeout, f"service {name}")

    def wait_for_links(self, links: Iterable[tuple[str, str, str]], timeout: float = PATIENCE) -> None:
        """Wait until each (publishing node, topic, subscribing node) is there.

        Where command_node is among them, until its clock has begun too: before that it follows no episode.
        """
        links = list(links)

        def missing() -> list[tuple[str, str, str]]:
            return [link for link in links if not self._linked(*link)]

        try:
            self.wait(lambda: not missing(), timeout, "the nodes to find each other")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; missing: {', '.join(' -> '.join(link) for link in missing())}") from None
        if any("command_node" in (source, target) for source, _, target in links):
            self.wait_for_commands(timeout)

    def wait_for_commands(self, timeout: float = PATIENCE) -> CommandStatus:
        """Its status, as soon as command_node says how things stand by a clock that has begun."""
        heard: list[CommandStatus] = []
        with self._interrupts:
            subscription = self.node.create_subscription(CommandStatus, "command_status", heard.append, EVENT)
            try:
                begun = "command_node's clock to begin"
                self.wait(lambda: any(stamp_to_ns(m.header.stamp) for m in heard), timeout, begun)
            finally:
                self.node.destroy_subscription(subscription)
        return heard[-1]

    def _linked(self, source: str, topic: str, target: str) -> bool:
        name = self.node.resolve_topic_name(topic)
        sources = {i.node_name for i in self.node.get_publishers_info_by_topic(name)}
        return source in sources and target in {i.node_name for i in self.node.get_subscriptions_info_by_topic(name)}

    def call(self, client: Any, request: Any, timeout: float, what: str) -> Any:
        """Call a service and wait for its response."""
        with self._interrupts:
            self.wait(client.service_is_ready, timeout, what)
            future = client.call_async(request)
            self.wait(future.done, timeout, what)
            return future.result()

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def state(self, name: str, timeout: float = PATIENCE) -> int:
        """Lifecycle state of node ``name`` (lifecycle_msgs/State)."""
        answers: list[Any] = []
        asked = -math.inf

        def known() -> bool:
            # Asked again now and then: the first answer may be owed by a node of that name that was killed.
            nonlocal asked
            if client.service_is_ready() and time.monotonic() - asked > ASK_AGAIN:
                asked = time.monotonic()
                answers.append(client.call_async(GetState.Request()))
            return any(answer.done() for answer in answers)

        with self._interrupts:
            client = self.node.create_client(GetState, f"{name}/get_state")
            try:
                self.wait(known, timeout, f"the state of {name}")
                return int(next(a for a in answers if a.done()).result().current_state.id)
            finally:
                self.node.destroy_client(client)

    def change_state(self, name: str, transition: int, timeout: float = PATIENCE) -> bool:
        """Ask for a transition (lifecycle_msgs/Transition); False when the node refused or failed."""
        request = ChangeState.Request(transition=Transition(id=transition))
        with self._interrupts:
            client = self.node.create_client(ChangeState, f"{name}/change_state")
            try:
                return bool(self.call(client, request, timeout, f"{name} to change its state").success)
            finally:
                self.node.destroy_client(client)

    def activate(self, name: str, timeout: float = PATIENCE) -> None:
        """Bring ``name`` to active from wherever it is; RuntimeError when it refuses."""
        if self.state(name, timeout) == State.PRIMARY_STATE_UNCONFIGURED:
            if not self.change_state(name, Transition.TRANSITION_CONFIGURE, timeout):
                raise RuntimeError(f"{name} could not be configured; its log says why")
        if self.state(name, timeout) == State.PRIMARY_STATE_INACTIVE:
            if not self.change_state(name, Transition.TRANSITION_ACTIVATE, timeout):
                raise RuntimeError(f"{name} could not be activated; its log says why")

    # --- episodes ----------------------------------------------------------------------------------------------------

    def reset_scene(self, seed: int, task: str = "", instruction_for: str = "") -> Any:
        """Set the simulated scene up; RuntimeError with the simulator's words when it refuses."""
        request = ResetScene.Request(seed=seed, task=task, instruction_for=instruction_for)
        response = self.call(self._reset, request, PATIENCE, "the scene to be set up")
        if not response.success:
            raise RuntimeError(f"sim_node refused the scene: {response.message}")
        return response

    def execute(
        self,
        instruction: str,
        episode_id: str = "",
        max_duration: float = 0.0,
        on_step: Callable[[int, float], None] = lambda step, value: None,
        timeout: float = 300.0,
    ) -> EpisodeResult:
        """Run one instruction to its end. ``on_step(step, state value)`` follows it. Raises GoalRejected."""
        self.send(instruction, episode_id, max_duration, on_step)
        return self.result(timeout)

    def send(
        self,
        instruction: str,
        episode_id: str = "",
        max_duration: float = 0.0,
        on_step: Callable[[int, float], None] = lambda step, value: None,
    ) -> None:
        """Send one instruction and wait until it is accepted.

        Raises GoalRejected, GoalUnanswered, and TimeoutError when nobody takes goals.
        """
        self.wait(self._actions.server_is_ready, 30.0, "the action execute_instruction")
        goal = ExecuteInstruction.Goal(instruction=instruction, episode_id=episode_id, max_duration=max_duration)
        self._goal = None
        with self._interrupts:
            self._asked = self._actions.send_goal_async(goal, lambda m: on_step(m.feedback.step, m.feedback.value))
        try:
            accepted = self._answered(ANSWER)
        except TimeoutError as error:
            raise GoalUnanswered(str(error)) from error
        if not accepted:
            raise GoalRejected(f"policy_node rejected {instruction!r}; its log says why")

    def _answered(self, timeout: float) -> bool:
        """Wait for the answer to the goal sent last; whether it was accepted."""
        self.wait(self._asked.done, timeout, "an answer to the goal")
        handle, self._asked = self._asked.result(), None
        self._goal = handle if handle is not None and handle.accepted else None
        return self._goal is not None

    def result(self, timeout: float = 300.0) -> EpisodeResult:
        """Wait for the end of the instruction sent last."""
        with self._interrupts:
            future = self._goal.get_result_async()
            self.wait(future.done, timeout, "the episode to end")
            self._goal = None
        result = future.result().result
        return EpisodeResult(
            episode_id=result.episode_id,
            outcome=outcome_name(result.outcome),
            reason=reason_name(result.reason),
            steps=result.steps,
            message=result.message,
            latency_ms_p50=float(result.latency_ms_p50),
            latency_ms_p95=float(result.latency_ms_p95),
        )

    def takes_goals(self) -> bool:
        """Whether somebody is known to serve execute_instruction."""
        return bool(self._actions.server_is_ready())

    def cancel(self) -> None:
        """Cancel the instruction sent last, if it still runs, and wait for the answer.

        One that is not answered yet may run already, and can be cancelled as soon as it is: that is waited for.
        """
        if self._asked is not None:
            self._answered(CANCELLATION)
        if self._goal is not None:
            with self._interrupts:
                future = self._goal.cancel_goal_async()
                self.wait(future.done, CANCELLATION, "the cancellation")

    def record(self, episode_id: str, timeout: float = 30.0) -> EpisodeRecord:
        """Wait until the recorder says what became of the episode's bag."""
        self.wait(lambda: episode_id in self._records, timeout, f"the bag of episode {episode_id}")
        return self._records[episode_id]

    def _on_record(self, record: EpisodeRecord) -> None:
        self._records[record.episode_id] = record
