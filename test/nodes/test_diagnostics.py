"""/diagnostics carries what a node reports, under the node's full name, and tells a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402

from qt_ros.control.health import ERROR, WARN, Health  # noqa: E402
from qt_ros.nodes import diagnostics  # noqa: E402
from qt_ros.nodes.diagnostics import Diagnostics  # noqa: E402


class Listener:
    """A node under test and what it says on /diagnostics."""

    def __init__(self, context: Any, **options: Any) -> None:
        self.node = Node("worker", namespace="robot1", context=context, **options)
        self.heard: list[DiagnosticArray] = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.heard.append, 10)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)

    def statuses(self, test: Any) -> dict[str, Any]:
        """The statuses of the first message, from now on, that ``test`` accepts."""
        self.heard.clear()
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.1)
            for array in self.heard:
                found = {s.name: s for s in array.status}
                if test(found):
                    return found
        raise AssertionError(f"heard only {self.heard[-1:]}")

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def listener(ros_context: Any) -> Iterator[Listener]:
    made = Listener(ros_context)
    yield made
    made.close()


def test_what_a_node_reports_is_published_under_its_full_name(listener: Listener) -> None:
    report = [Health("camera", WARN, "slow; look at the driver", {"rate_hz": "3.000"}), Health("commands")]
    made = Diagnostics(listener.node, lambda now: report if now > 0 else [], "stretch")
    found = listener.statuses(bool)
    camera = found["robot1/worker: camera"]
    assert (camera.level, camera.message, camera.hardware_id) == (DiagnosticStatus.WARN, report[0].message, "stretch")
    assert [(v.key, v.value) for v in camera.values] == [("rate_hz", "3.000")]
    assert found["robot1/worker: commands"].level == DiagnosticStatus.OK
    assert listener.heard[-1].header.stamp.sec > 0
    made.close()


def test_a_report_that_fails_is_told_and_does_not_end_the_node(listener: Listener) -> None:
    def fail(now: float) -> list[Health]:
        raise OSError("the disk is gone")

    Diagnostics(listener.node, fail)
    status = listener.statuses(bool)["robot1/worker: diagnostics"]
    assert status.level == DiagnosticStatus.ERROR and "the disk is gone" in status.message


def test_a_simulated_clock_that_is_missing_or_stops_is_told(ros_context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rclpy.parameter import Parameter
    from rosgraph_msgs.msg import Clock

    monkeypatch.setattr(diagnostics, "PERIOD", 0.2)
    listener = Listener(ros_context, parameter_overrides=[Parameter("use_sim_time", value=True)])
    Diagnostics(listener.node, lambda now: [])
    name = "robot1/worker: clock"
    assert listener.statuses(lambda s: name in s)[name].level == DiagnosticStatus.STALE
    clock = listener.node.create_publisher(Clock, "/clock", 10)

    def moved(statuses: dict[str, Any]) -> bool:
        message = Clock()
        message.clock.sec = 5
        clock.publish(message)
        return name in statuses and statuses[name].level == diagnostics.LEVELS[ERROR]

    assert "has not moved" in listener.statuses(moved)[name].message
    listener.close()
