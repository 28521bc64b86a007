"""A goal is cancelled though its sender was interrupted before it had an answer: it runs by then, or is about to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy")

import rclpy  # noqa: E402
from rclpy.action import ActionServer, CancelResponse, GoalResponse  # noqa: E402
from rclpy.callback_groups import ReentrantCallbackGroup  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import MultiThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402

from qt_ros.action import ExecuteInstruction  # noqa: E402
from qt_ros.nodes.demo_client import GraphClient  # noqa: E402

PATIENCE = 60.0


class Policy:
    """A policy_node that takes its time with the answer to a goal, and runs until it is cancelled."""

    def __init__(self, accepts: bool) -> None:
        self.accepts = accepts
        self.asked, self.may_answer, self.cancelled = threading.Event(), threading.Event(), threading.Event()
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = Node("policy_node", context=self._context)
        self._server = ActionServer(
            self._node,
            ExecuteInstruction,
            "execute_instruction",
            self._run,
            goal_callback=self._goal,
            cancel_callback=self._cancel,
            callback_group=ReentrantCallbackGroup(),
        )
        self._executor = MultiThreadedExecutor(4, context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def _goal(self, goal: ExecuteInstruction.Goal) -> GoalResponse:
        self.asked.set()
        assert self.may_answer.wait(PATIENCE)
        return GoalResponse.ACCEPT if self.accepts else GoalResponse.REJECT

    def _cancel(self, handle: object) -> CancelResponse:
        self.cancelled.set()
        return CancelResponse.ACCEPT

    def _run(self, handle: object) -> ExecuteInstruction.Result:
        self.cancelled.wait(PATIENCE)
        handle.abort()  # type: ignore[attr-defined]
        return ExecuteInstruction.Result()

    def close(self) -> None:
        self.may_answer.set()
        self.cancelled.set()
        self._executor.shutdown()
        self._thread.join(PATIENCE)
        self._server.destroy()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)


@pytest.fixture(params=[True, False], ids=["accepted", "rejected"])
def policy(ros_domain_id: int, request: pytest.FixtureRequest) -> Iterator[Policy]:
    made = Policy(request.param)
    yield made
    made.close()


def test_a_goal_without_an_answer_yet_is_cancelled_once_it_has_one(policy: Policy) -> None:
    client = GraphClient()

    def interrupted() -> None:
        if policy.asked.is_set():
            raise KeyboardInterrupt

    client.check = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            client.send("pick up the red cube")
        client.check = lambda: None
        policy.may_answer.set()
        client.cancel()
        assert policy.cancelled.is_set() == policy.accepts, "what was rejected needs no cancellation"
    finally:
        client.close()


def test_ctrl_c_while_waiting_does_not_get_lost_inside_the_library(ros_domain_id: int) -> None:
    def ready() -> bool:  # as rclpy's C++ code, which makes a RuntimeError of an exception that is raised inside it
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("Unable to convert call argument to Python object") from None
        return False

    client = GraphClient()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            client.wait(ready, PATIENCE, "nothing")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
        client.close()
