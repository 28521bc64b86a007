"""Subscriptions to messages as they travel: serialised, with the quality of service their publishers offer."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from qt_ros.episodes.bag_metadata import Qos

LOOK_PERIOD = 0.25  # s on the wall between two looks for publishers


@dataclass(frozen=True)
class RawMessage:
    """One serialised message: absolute topic, CDR bytes, sender's time in ns (0: unknown), sender's number of it."""

    topic: str
    data: bytes
    source_ns: int
    sequence: int | None


def message_class(type_name: str) -> Any:
    """'sensor_msgs/msg/Image' -> its class.

    ValueError when the name is malformed, ImportError when it is not installed.
    """
    package, _, rest = type_name.partition("/")
    kind, _, name = rest.partition("/")
    if not (package and kind and name):
        raise ValueError(f"{type_name!r} is no message type; write it like sensor_msgs/msg/Image")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


class RawTopics:
    """Follows ``topics`` ({name: type}) of a node from the moment somebody publishes them.

    A reliable subscription never matches a best-effort publisher, so the offered quality is looked up first: reliable
    and transient local where every publisher is. ``on_topic(absolute name, type, offered)`` is called once per topic,
    before its first message; ``on_message`` for every message.
    """

    def __init__(
        self,
        node: Node,
        topics: Mapping[str, str],
        on_topic: Callable[[str, str, tuple[Qos, ...]], None],
        on_message: Callable[[RawMessage], None],
        depth: int = 100,
    ) -> None:
        self._node, self._on_topic, self._on_message, self._depth = node, on_topic, on_message, depth
        self.missing = {node.resolve_topic_name(name): type_name for name, type_name in topics.items()}
        for type_name in set(self.missing.values()):
            message_class(type_name)  # fail now rather than when the first publisher shows up
        self._timer = node.create_timer(LOOK_PERIOD, self.look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.look()

    def look(self) -> None:
        """Subscribe to every topic that has a publisher by now."""
        for name, expected in list(self.missing.items()):
            offers = self._node.get_publishers_info_by_topic(name)
            if not offers:
                continue
            del self.missing[name]
            if (wrong := {o.topic_type for o in offers} - {expected}) != set():
                self._node.get_logger().error(
                    f"{name} is published as {', '.join(wrong)}, not {expected}: not recorded"
                )
                continue
            self._on_topic(name, expected, tuple(Qos.of(o.qos_profile) for o in offers))
            self._subscribe(name, expected, [o.qos_profile for o in offers])
        if not self.missing:
            self._timer.cancel()

    def _subscribe(self, name: str, type_name: str, offered: list[QoSProfile]) -> None:
        reliable = all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered)
        latched = all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
        profile = QoSProfile(
            depth=self._depth,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )

        def receive(data: bytes, info: Mapping[str, Any]) -> None:
            number = info.get("publication_sequence_number")
            self._on_message(RawMessage(name, data, int(info.get("source_timestamp") or 0), number))

        callback: Any = receive  # rclpy also calls it with the message's info, whatever its annotation says
        self._node.create_subscription(message_class(type_name), name, callback, profile, raw=True)
