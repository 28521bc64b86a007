"""A subscription survives its callback, and also what is to be done about what the callback raised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Bool

from qt_ros.nodes.inputs import subscribe
from qt_ros.nodes.lifecycle import EVENT, serve_until

PATIENCE = 60.0  # s


@pytest.fixture
def spun(ros_context: Any) -> Iterator[tuple[Node, Callable[[Callable[[], object]], bool]]]:
    """A node, and what spins it until something holds."""
    node, executor = rclpy.create_node("inputs", context=ros_context), SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    yield node, lambda true: serve_until(executor, true, PATIENCE)
    executor.shutdown()
    node.destroy_node()


@pytest.mark.parametrize("answer_fails", [False, True])
def test_whatever_a_message_does_the_next_one_is_heard(spun: Any, answer_fails: bool) -> None:
    node, until = spun
    heard: list[bool] = []
    problems: list[str] = []

    def hear(message: Bool) -> None:
        heard.append(message.data)
        if message.data:
            raise ValueError("no such thing")

    def answer(problem: str) -> None:
        problems.append(problem)
        if answer_fails:
            raise RuntimeError("nor an answer to it")

    subscribe(node, Bool, "said", hear, EVENT, answer)
    out = node.create_publisher(Bool, "said", EVENT)
    assert until(out.get_subscription_count)
    out.publish(Bool(data=True))
    assert until(lambda: problems)
    assert problems == ["said: ValueError: no such thing"]
    out.publish(Bool(data=False))
    assert until(lambda: len(heard) == 2) and heard == [True, False]
