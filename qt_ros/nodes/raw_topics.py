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

    A reliable subscription never matches a best-effort publisher, so the offered quality is looked up: reliable and
    transient local where every publisher is. A publisher that comes later and offers less is told of and lowers it for
    all. ``on_topic(absolute name, type, offered)`` is called once per topic, before its first message; ``on_message``
    for every message. Up to ``depth`` messages of a topic wait while the node is kept from reading, of large ones
    (images, clouds) ``large_depth``.
    """

    def __init__(
        self,
        node: Node,
        topics: Mapping[str, str],
        on_topic: Callable[[str, str, tuple[Qos, ...]], None],
        on_message: Callable[[RawMessage], None],
        depth: int = 2000,
        large_depth: int = 100,
    ) -> None:
        self._node, self._on_topic, self._on_message = node, on_topic, on_message
        self._depth, self._large_depth = depth, large_depth
        self.missing = {node.resolve_topic_name(name): type_name for name, type_name in topics.items()}
        self._followed: dict[str, _Followed] = {}
        for type_name in set(self.missing.values()):
            message_class(type_name)  # fail now rather than when the first publisher shows up
        self._timer = node.create_timer(LOOK_PERIOD, self.look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.look()

    def look(self) -> None:
        """Subscribe to every topic that has a publisher by now, and to those with new ones as they need it."""
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
            reliable, latched = _common([o.qos_profile for o in offers])
            self._followed[name] = _Followed(expected, reliable, latched)
            self._subscribe(name)
        for name, followed in self._followed.items():
            self._lower(name, followed)

    def _lower(self, name: str, followed: _Followed) -> None:
        reliable, latched = _common([o.qos_profile for o in self._node.get_publishers_info_by_topic(name)])
        reliable, latched = reliable and followed.reliable, latched and followed.latched
        if (reliable, latched) == (followed.reliable, followed.latched):
            return
        self._node.get_logger().warning(
            f"{name}: a new publisher offers less than the others (reliable {reliable}, latched {latched}); "
            f"all are recorded that way from now on"
        )
        followed.reliable, followed.latched = reliable, latched
        old = followed.subscription
        self._subscribe(name)
        self._node.destroy_subscription(old)

    def _subscribe(self, name: str) -> None:
        followed = self._followed[name]
        large = followed.type_name.endswith(("Image", "CompressedImage", "PointCloud2"))
        profile = QoSProfile(
            depth=self._large_depth if large else self._depth,
            reliability=ReliabilityPolicy.RELIABLE if followed.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if followed.latched else DurabilityPolicy.VOLATILE,
        )

        def receive(data: bytes, info: Mapping[str, Any]) -> None:
            number = info.get("publication_sequence_number")
            self._on_message(RawMessage(name, data, int(info.get("source_timestamp") or 0), number))

        callback: Any = receive  # rclpy also calls it with the message's info, whatever its annotation says
        kind = message_class(followed.type_name)
        followed.subscription = self._node.create_subscription(kind, name, callback, profile, raw=True)


@dataclass
class _Followed:
    """A topic with its subscription and what that asks for."""

    type_name: str
    reliable: bool
    latched: bool
    subscription: Any = None


def _common(offered: list[QoSProfile]) -> tuple[bool, bool]:
    """Whether all of ``offered`` are reliable, and whether all are latched; (True, True) of none."""
    return (
        all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered),
        all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered),
    )
