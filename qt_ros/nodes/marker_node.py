"""marker_node: the intended motion as markers for RViz and Foxglove, in the robot's base frame.

Follows policy_action, episode_status and joint states, publishes intended_motion (MarkerArray): an arrow for the tool's
next displacement, an arrow and an arc for the base's, the workspace box, a bar per action dimension for its Q-value,
and words for what cannot be drawn. It commands nothing; a graph without it drives alike.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from geometry_msgs.msg import Point
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from qt_ros.contract.codecs import decode_joint_positions
from qt_ros.contract.kinematics import Kinematics
from qt_ros.control.preview import box_edges, intention
from qt_ros.episodes.episode import reason_name
from qt_ros.msg import EpisodeStatus, PolicyAction
from qt_ros.nodes.inputs import subscribe
from qt_ros.nodes.lifecycle import EVENT, LATCHED, SENSOR, run
from qt_ros.nodes.parameters import ROBOT, Parameter, ParameterTable
from qt_ros.nodes.preparation import robot_contract

PARAMETERS = ParameterTable(
    ROBOT,
    Parameter("rate", 5.0, "Rate of intended_motion.", unit="Hz", low=0.5, high=50.0),
    Parameter("arrow_scale", 1.0, "Length of the tool's arrow; 1: the displacement itself.", low=0.1, high=20.0),
)
BLUE, ORANGE, GREY, WHITE, RED = (
    ColorRGBA(r=r, g=g, b=b, a=a)
    for r, g, b, a in ((0.2, 0.5, 1.0, 1.0), (1.0, 0.6, 0.1, 1.0), (0.6, 0.6, 0.6, 0.6), (1.0, 1.0, 1.0, 1.0),
                       (1.0, 0.3, 0.3, 1.0))
)  # fmt: skip
BAR = 0.3  # m for a Q-value of 1
BARS_AT = (-0.4, -0.5, 1.0)  # m: where the row of bars begins, behind the robot
STATES = {EpisodeStatus.STATE_IDLE: "idle", EpisodeStatus.STATE_RUNNING: "running", EpisodeStatus.STATE_ENDED: "ended"}


class MarkerNode(Node):
    """Parameters, topics and the timer; see the module."""

    def __init__(self) -> None:
        super().__init__("marker_node")
        self.settings = PARAMETERS.declare(self)
        self.contract = robot_contract(self, self.settings.robot)
        spec = self.contract.kinematics
        self._joints = (*spec.arm_joints, *spec.carriers)
        self._kinematics = Kinematics.of(self.contract, self._joints)
        self._positions = {j: spec.home[j] for j in spec.carriers}  # counts where no lift is reported
        self._action: PolicyAction | None = None
        self._status: EpisodeStatus | None = None
        self._out = self.create_publisher(MarkerArray, "intended_motion", EVENT)
        subscribe(self, PolicyAction, "policy_action", self._on_action, EVENT)
        subscribe(self, EpisodeStatus, "episode_status", self._on_status, LATCHED)
        subscribe(self, JointState, self.contract.observation("joint_state").topic, self._on_joints, SENSOR)
        self.create_timer(1.0 / self.settings.rate, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_action(self, message: PolicyAction) -> None:
        if not all(map(math.isfinite, (*message.values, *message.q))):
            raise ValueError("values or q are not finite")
        self._action = message

    def _on_status(self, message: EpisodeStatus) -> None:
        self._status = message

    def _on_joints(self, message: JointState) -> None:
        try:
            self._positions.update(decode_joint_positions(message, self._joints))
        except ValueError as error:  # nothing depends on it here: the nodes that move the robot stop by themselves
            self.get_logger().warning(f"joint state left out: {error}", throttle_duration_sec=5.0)

    def _publish(self) -> None:
        tool = None
        if all(j in self._positions for j in self._joints):
            tool = self._kinematics.fk([self._positions[j] for j in self._joints])[0]
        limits, stamp = self.contract.limits, self.get_clock().now().to_msg()
        markers = [self._lines("workspace", box_edges(limits.workspace_low, limits.workspace_high), GREY)]
        markers += [self._words(tool)]
        markers += self._motion(tool) + self._bars()
        for marker in markers:
            marker.header.stamp, marker.header.frame_id = stamp, self.contract.kinematics.base_frame
        self._out.publish(MarkerArray(markers=markers))

    def _running(self) -> bool:
        return self._status is not None and self._status.state == EpisodeStatus.STATE_RUNNING

    def _motion(self, tool: Any) -> list[Marker]:
        """Arrows of the last action while its episode runs; otherwise what takes them away."""
        action = self._action
        if action is None or not self._running() or tool is None:
            return [Marker(ns=name, action=Marker.DELETE) for name in ("tool", "base", "turn")]
        meant = intention(dict(zip(action.names, action.values, strict=False)))
        end = tuple(t + self.settings.arrow_scale * d for t, d in zip(tool, meant.tool, strict=True))
        result = [self._arrow("tool", tool, end, BLUE), self._arrow("base", (0.0, 0.0, 0.0), meant.base, ORANGE)]
        if not meant.arc:
            return [*result, Marker(ns="turn", action=Marker.DELETE)]
        turn = self._lines("turn", list(meant.arc), ORANGE)
        turn.type = Marker.LINE_STRIP
        return [*result, turn]

    def _bars(self) -> list[Marker]:
        """One bar per action dimension, as high as the Q-value of its chosen bin, with its name below."""
        action = self._action
        if action is None or len(action.q) != len(action.names):
            return []  # the stop at the end has none, nor has a person's action: the last bars stay
        result = []
        for i, (name, q) in enumerate(zip(action.names, action.q, strict=True)):
            x, y, z = BARS_AT[0], BARS_AT[1] + 0.1 * i, BARS_AT[2]
            bar = Marker(ns="q", id=i, type=Marker.CUBE, color=BLUE)
            bar.pose.position = _point((x, y, z + 0.5 * BAR * q))
            bar.scale.x, bar.scale.y, bar.scale.z = 0.06, 0.06, max(0.002, BAR * q)
            result += [bar, self._text("q names", i, f"{name}\n{q:.2f}", (x, y, z - 0.06), 0.03)]
        return result

    def _words(self, tool: Any) -> Marker:
        """Episode, and what the last action means beside motion, above the tool (above the base while unknown)."""
        status, lines = self._status, []
        if status is not None:
            ended = f": {_reason(status.reason)}" if status.state == EpisodeStatus.STATE_ENDED else ""
            lines.append(f"{status.instruction} ({STATES.get(status.state, 'unknown')}{ended}, step {status.step})")
        if self._action is not None and self._running():
            lines.append(intention(dict(zip(self._action.names, self._action.values, strict=False))).words)
        at = (0.0, 0.0, 1.5) if tool is None else (tool[0], tool[1], tool[2] + 0.25)
        words = self._text("episode", 0, "\n".join(lines) or "no episode yet", at, 0.05)
        words.color = WHITE if status is None or status.state != EpisodeStatus.STATE_ENDED else RED
        return words

    def _text(self, name: str, number: int, text: str, at: Any, height: float) -> Marker:
        marker = Marker(ns=name, id=number, type=Marker.TEXT_VIEW_FACING, text=text, color=WHITE)
        marker.pose.position, marker.scale.z = _point(at), height
        return marker

    def _arrow(self, name: str, start: Any, end: Any, colour: ColorRGBA) -> Marker:
        marker = Marker(ns=name, type=Marker.ARROW, color=colour, points=[_point(start), _point(end)])
        marker.scale.x, marker.scale.y = 0.008, 0.016  # shaft and head diameter; lengths come from the points
        return marker

    def _lines(self, name: str, points: list[Any], colour: ColorRGBA) -> Marker:
        marker = Marker(ns=name, type=Marker.LINE_LIST, color=colour, points=[_point(p) for p in points])
        marker.scale.x = 0.004
        return marker


def _reason(value: int) -> str:
    """Its name; a number of which this version knows none is shown as it is."""
    try:
        return reason_name(value)
    except ValueError as error:
        return str(error)


def _point(at: Any) -> Point:
    return Point(x=float(at[0]), y=float(at[1]), z=float(at[2]))


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run(MarkerNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
