"""Subscriptions that survive what arrives on them, and say so when a publisher cannot reach them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.qos import QoSProfile

QUIET = 1.0  # s between log lines about the same topic


def subscribe(
    node: Node,
    kind: Any,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile,
    on_error: Callable[[str], object] | None = None,
    told: bool = True,
) -> Any:
    """A subscription of ``node`` whose callback cannot end the node.

    Whatever ``callback`` raises (a stamp of more than a second of nanoseconds, arrays of other lengths, unknown
    numbers) is logged, and ``on_error`` gets it as text with the topic's name: it ends the episode, not the node. With
    ``told``, a publisher whose quality of service can never match is logged as an error, for it will not be heard.
    """
    logger = node.get_logger()

    def guarded(message: Any) -> None:
        try:
            callback(message)
        except Exception as error:
            problem = f"{topic}: {type(error).__name__}: {error}"
            logger.error(f"message refused: {problem}", throttle_duration_sec=QUIET)
            tell(problem)

    def tell(problem: str) -> None:
        try:
            if on_error is not None:
                on_error(problem)
        except Exception as error:
            told = f"{topic}: no answer to a refused message: {type(error).__name__}: {error}"
            logger.error(told, throttle_duration_sec=QUIET)

    def incompatible(event: Any) -> None:
        logger.error(
            f"{topic}: a publisher offers a quality of service that cannot reach this node "
            f"(policy {event.last_policy_kind}, {event.total_count} so far); change its settings"
        )

    events = SubscriptionEventCallbacks(incompatible_qos=incompatible if told else lambda event: None)
    try:
        return node.create_subscription(kind, topic, guarded, qos, event_callbacks=events)
    except UnsupportedEventTypeError:  # this middleware does not tell
        return node.create_subscription(kind, topic, guarded, qos)
