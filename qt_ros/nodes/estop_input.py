"""The emergency stop of a node: button topic, press and reset services. It counts in every lifecycle state."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, Empty
from std_srvs.srv import Trigger

from qt_ros.control.estop import EStop
from qt_ros.nodes.inputs import subscribe

TOPIC = "estop"  # of the button: pressed or not
PRESS_TOPIC = "estop_press"  # of consoles and joysticks: every message is a press
# Room for what a fast button says while a transition waits for services of the robot: a press must not be pushed out by
# the releases after it.
DEPTH = 1000
BUTTON = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)  # hears every publisher
# To a best-effort subscription nothing is sent again, and a button may speak only once.
RELIABLE_BUTTON = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_BUTTON = QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)  # and what was said before us


class EStopInput:
    """Feeds ``estop`` from the topics estop (std_msgs/Bool, true: pressed) and estop_press (std_msgs/Empty), and from
    the services ~/estop and ~/reset.

    ``heed()`` is called after everything that may have latched it. A message that cannot be read latches it too. A
    reliable button is heard twice, which changes nothing; once is enough.
    """

    def __init__(self, node: Node, estop: EStop, heed: Callable[[], None]) -> None:
        self.estop, self._heed, self._node = estop, heed, node
        self._follows_latched = False
        for kind, topic, heard in ((Bool, TOPIC, self._on_button), (Empty, PRESS_TOPIC, self._on_press)):
            subscribe(node, kind, topic, heard, BUTTON, self._on_odd_button)
            # Not told: best-effort publishers cannot match it, and are heard by the other one.
            subscribe(node, kind, topic, heard, RELIABLE_BUTTON, self._on_odd_button, told=False)
        node.create_service(Trigger, "~/estop", self._on_trigger)
        node.create_service(Trigger, "~/reset", self._on_reset)

    def watch(self) -> None:
        """Let a button that fell silent count as pressed, and look for one that latches; call it often."""
        if not self._follows_latched:
            self._look()
        self.estop.watch(time.monotonic())
        self._heed()

    def _look(self) -> None:
        """What a latching button said before we came is only heard by asking for it, and only from such a button."""
        offers = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(TOPIC))
        if any(o.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offers):
            self._follows_latched = True
            subscribe(self._node, Bool, TOPIC, self._on_button, LATCHED_BUTTON, self._on_odd_button, told=False)

    def _on_button(self, message: Bool) -> None:
        self.estop.press(message.data, time.monotonic())
        self._heed()

    def _on_press(self, _: Empty) -> None:
        self.estop.tap(time.monotonic())
        self._heed()

    def _on_odd_button(self, problem: str) -> None:
        self.estop.trigger(problem)
        self._heed()

    def _on_trigger(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.estop.trigger("the service ~/estop was called")
        self._heed()
        response.success, response.message = True, "emergency stop latched; call the reset service to go on"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self.estop.reset(time.monotonic())
        self._node.get_logger().info(response.message)
        return response
