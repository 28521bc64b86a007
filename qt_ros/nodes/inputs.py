"""Subscriptions that survive what arrives on them, and say so when a publisher cannot reach them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile

from qt_ros.control.health import Stream

QUIET = 1.0  # s between log lines about the same topic


def subscribe(
    node: Node,
    kind: Any,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile,
    on_error: Callable[[str], object] | None = None,
    told: bool = True,
    stream: Stream | None = None,
) -> Any:
    """A subscription of ``node`` whose callback cannot end the node.

    Whatever ``callback`` raises (a stamp of more than a second of nanoseconds, arrays of other lengths, unknown
    numbers) is logged, and ``on_error`` gets it as text with the topic's name: it ends the episode, not the node. With
    ``told``, a publisher whose quality of service can never match is logged as an error, for it will not be heard.
    ``stream`` gets the publisher's number of every message, and so knows how many were lost.
    """
    logger, said = node.get_logger(), -math.inf

    def guarded(message: Any) -> None:
        nonlocal said
        try:
            callback(message)
        except Exception as error:
            problem = f"{topic}: {type(error).__name__}: {error}"
            if (now := time.monotonic()) - said >= QUIET:  # rclpy's throttle would count all topics as one
                said = now
                logger.error(f"message refused: {problem}")
            tell(problem)

    def tell(problem: str) -> None:
        try:
            if on_error is not None:
                on_error(problem)
        except Exception as error:
            told = f"{topic}: no answer to a refused message: {type(error).__name__}: {error}"
            logger.error(told, throttle_duration_sec=QUIET)

    def counted(message: Any, info: Mapping[str, Any]) -> None:
        assert stream is not None
        stream.numbered(info.get("publication_sequence_number"))
        guarded(message)

    def incompatible(event: Any) -> None:
        told = f"{topic}: a publisher cannot be heard by this node ({event.total_count} so far)"
        logger.error(f"{told}; {_advice(event, qos)}")

    events = SubscriptionEventCallbacks(incompatible_qos=incompatible if told else lambda event: None)
    receive: Any = guarded if stream is None else counted  # rclpy counts the arguments
    try:
        return node.create_subscription(kind, topic, receive, qos, event_callbacks=events)
    except UnsupportedEventTypeError:  # this middleware does not tell
        return node.create_subscription(kind, topic, receive, qos)


def _advice(event: Any, qos: QoSProfile) -> str:
    """What the publisher has to change; only the last policy that did not match is told."""
    name = QoSPolicyKind(event.last_policy_kind).name.lower()
    asked = getattr(qos, name, None)
    return f"its {name} is less than is asked for; set its {name} to {getattr(asked, 'name', asked)}"
