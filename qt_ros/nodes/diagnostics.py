"""/diagnostics of a node: its health once a second by the wall clock, whatever its own clock does."""

from __future__ import annotations

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from qt_ros.contract.codecs import ns_to_seconds
from qt_ros.control.health import ERROR, STALE, Health
from qt_ros.nodes.lifecycle import EVENT

PERIOD = 1.0  # s
LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE)


class Diagnostics:
    """Publishes what ``report(now)`` says (``now``: s of the node's clock) as '<node>: <name>', until `close`.

    ``hardware``: the robot, for panels that sort by it. A clock that stands still is an error of its own, because all
    ages stand still with it.
    """

    def __init__(self, node: Node, report: Callable[[float], list[Health]], hardware: str = "") -> None:
        self._node, self._report, self._hardware = node, report, hardware
        self._clock_seen = (-1, time.monotonic())
        self._out = node.create_publisher(DiagnosticArray, "/diagnostics", EVENT)
        self._timer = node.create_timer(PERIOD, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """One message with every status of the node."""
        now = self._node.get_clock().now()
        healths = [*self._reported(ns_to_seconds(now.nanoseconds)), *self._clock(now.nanoseconds)]
        name = self._node.get_fully_qualified_name().lstrip("/")
        array = DiagnosticArray(status=[_status(h, name, self._hardware) for h in healths])
        array.header.stamp = now.to_msg()
        self._out.publish(array)

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._out)

    def _reported(self, now: float) -> list[Health]:
        try:
            return self._report(now)
        except Exception as error:  # to watch a node must never end it
            return [Health("diagnostics", ERROR, f"no report: {type(error).__name__}: {error}")]

    def _clock(self, now: int) -> list[Health]:
        wall = time.monotonic()
        if now != self._clock_seen[0]:
            self._clock_seen = (now, wall)
        still = wall - self._clock_seen[1]
        if now == 0:
            return [Health("clock", STALE, "the simulated clock has not begun; is /clock published?")]
        if still > 2 * PERIOD:
            return [Health("clock", ERROR, f"has not moved for {still:.0f} s; is /clock published?")]
        return []


def _status(health: Health, node: str, hardware: str) -> DiagnosticStatus:
    status = DiagnosticStatus(name=f"{node}: {health.name}", hardware_id=hardware, message=health.message)
    status.level = LEVELS[health.level]
    status.values = [KeyValue(key=k, value=v) for k, v in health.values.items()]
    return status
