"""command_node (lifecycle): turns policy actions into arm, gripper and base commands at the command rate.

Follows the running episode's PolicyActions through qt_ros.control.commander: limits of speed, acceleration and
workspace, a maximum action age of its own, a latched e-stop. Every stop publishes zero twist and zero cmd_vel, leaves
the gripper as it is, and is named in command_status. Nothing is published on the command topics unless the node is
active.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from qt_ros.contract.codecs import NonFiniteObservation, decode_joint_positions, ns_to_seconds, stamp_to_ns
from qt_ros.contract.robot import load_contract
from qt_ros.control.commander import Commander, EStop
from qt_ros.control.health import Health, Stream, command_health
from qt_ros.control.shaper import Command
from qt_ros.episodes.episode import TERMINAL_REASONS, reason_name
from qt_ros.msg import CommandStatus, EpisodeStatus, PolicyAction
from qt_ros.nodes.diagnostics import Diagnostics
from qt_ros.nodes.lifecycle import COMMAND, EVENT, LATCHED, SENSOR, LifecycleNode, run
from qt_ros.nodes.parameters import AUTOSTART, ROBOT, Parameter, ParameterTable
from qt_ros.nodes.policy_messages import reason_code

PARAMETERS = ParameterTable(
    ROBOT,
    AUTOSTART,
    Parameter("status_rate", 10.0, "Rate of command_status between changes.", unit="Hz", low=0.1, high=50.0),
    Parameter("gripper_time", 0.05, "time_from_start of gripper trajectories.", unit="s", low=0.001, high=10.0),
    Parameter("clock_patience", 2.0, "A clock that stands still so long stops motion.", unit="s", low=0.1, high=60.0),
)
STATES = {
    "idle": CommandStatus.STATE_IDLE,
    "moving": CommandStatus.STATE_MOVING,
    "stopped": CommandStatus.STATE_STOPPED,
}
ZERO = Command(np.zeros(6), None, (0.0, 0.0), None)
ZEROS_AFTER_STOP = 3  # more zeros on the ticks after the first
WATCH_PERIOD = 0.1  # s on the wall
PATIENCE = Duration(seconds=0.5)  # for the acknowledgement of the last zeros


class CommandNode(LifecycleNode):
    """Parameters, topics and timers; see the module."""

    def __init__(self) -> None:
        super().__init__("command_node", PARAMETERS)
        self.commander: Commander | None = None
        self.estop = EStop()
        self._made: list[tuple[Callable[[Any], Any], Any]] = []  # how to destroy what on_configure made
        # The button counts in every state of the node, so these two are not tied to its lifecycle.
        self.create_subscription(Bool, "estop", self._on_estop, EVENT)
        self.create_service(Trigger, "~/reset", self._on_reset)

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        contract = load_contract(self.settings.robot)
        self._frame, self._spec = contract.kinematics.base_frame, contract.kinematics
        commands = contract.commands
        self._gripper_joints = list(commands["gripper"].joints or [self._spec.gripper_joint])
        self._arm_out = self._command_publisher(TwistStamped, commands["arm"].topic)
        self._gripper_out = self._command_publisher(JointTrajectory, commands["gripper"].topic)
        self._base_out = self._command_publisher(TwistStamped, commands["base"].topic)
        self._status_out = self.create_publisher(CommandStatus, "command_status", EVENT)
        self._made.append((self.destroy_publisher, self._status_out))
        joints = contract.observation("joint_state").topic
        for kind, topic, callback, qos in (
            (PolicyAction, "policy_action", self._on_action, EVENT),
            (EpisodeStatus, "episode_status", self._on_episode, LATCHED),
            (JointState, joints, self._on_joints, SENSOR),
        ):
            self._made.append((self.destroy_subscription, self.create_subscription(kind, topic, callback, qos)))
        wall = Clock(clock_type=ClockType.STEADY_TIME)  # goes on when the node's clock stops
        for period, work, clock in (
            (1.0 / contract.command_rate, self._tick, self.get_clock()),
            (1.0 / self.settings.status_rate, self._report, wall),
            (WATCH_PERIOD, self._watch, wall),
        ):
            self._made.append((self.destroy_timer, self.create_timer(period, work, clock=clock)))
        self._settled: tuple[str, ...] = ("idle", "", "")
        self._zeros_left = 0
        self._gripper_sent = ("", -1)
        self._age = 0.0
        self._clock_seen = (0, time.monotonic())
        self._streams = [
            Stream("ticks", contract.command_rate),
            Stream(joints, contract.observation("joint_state").rate),
        ]
        self._actions = Stream("policy_action", contract.policy_rate)
        self._made.append((Diagnostics.close, Diagnostics(self, self.health, contract.robot)))
        self.commander = Commander(contract, self.estop)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        if self.commander is not None:
            self.commander.activate(self._now())
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._deactivate()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._deactivate()
        return super().on_shutdown(state)

    def release(self) -> None:
        self.commander = None
        while self._made:
            destroy, entity = self._made.pop()
            destroy(entity)

    def _deactivate(self) -> None:
        """Zero, named, and delivered before the publishers fall silent."""
        if self.commander is None:
            return
        self.commander.deactivate(self._now())
        self._settle()
        self._publish(ZERO)
        for publisher in (self._arm_out, self._base_out, self._status_out):
            publisher.wait_for_all_acked(PATIENCE)

    def _command_publisher(self, kind: Any, topic: str) -> Any:
        publisher = self.create_lifecycle_publisher(kind, topic, COMMAND)
        self._made.append((self.destroy_lifecycle_publisher, publisher))
        return publisher

    # --- inputs -------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return ns_to_seconds(self.get_clock().now().nanoseconds)

    def _on_estop(self, message: Bool) -> None:
        self.estop.press(message.data)
        if self.commander is not None:
            self.commander.press_estop(message.data, self._now())
            self._settle()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self.estop.reset()
        self.get_logger().info(response.message)
        return response

    def _on_episode(self, message: EpisodeStatus) -> None:
        if self.commander is None:
            return
        now = self._now()
        if message.state == EpisodeStatus.STATE_RUNNING:
            self.commander.begin(message.episode_id, now)
        elif message.state == EpisodeStatus.STATE_ENDED:
            self.commander.end(message.episode_id, reason_name(message.reason), now)
        else:
            self.commander.idle(now)
        self._settle()

    def _on_action(self, message: PolicyAction) -> None:
        if self.commander is None:
            return
        self._actions.seen(self._now())
        self.commander.act(
            message.episode_id,
            message.step,
            message.names,
            message.values,
            message.header.frame_id,
            ns_to_seconds(stamp_to_ns(message.observation_stamp)),
            self._now(),
        )
        self._settle()

    def _on_joints(self, message: JointState) -> None:
        if self.commander is None:
            return
        self._streams[1].seen(self._now())
        try:
            positions = decode_joint_positions(message, self.commander.joints)
            self.commander.observe_joints(positions, ns_to_seconds(stamp_to_ns(message.header.stamp)))
        except NonFiniteObservation as error:
            self.commander.stop("non_finite", str(error), self._now())
        except ValueError as error:
            self.commander.stop("fault", str(error), self._now())
        self._settle()

    # --- outputs ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.commander is None or not self.get_clock().now().nanoseconds:
            return  # a simulated clock that has not begun
        self._streams[0].seen(self._now())
        command = self.commander.tick(self._now())
        self._age = command.action_age or 0.0
        if self.commander.shaper.running:
            self._publish(command)
        elif self._zeros_left > 0:
            self._zeros_left -= 1
            self._publish(ZERO)
        self._settle()

    def _watch(self) -> None:
        """A clock that stopped takes the tick with it, and the last command would stay in force."""
        wall, now = time.monotonic(), self.get_clock().now().nanoseconds
        if self.commander is None or now != self._clock_seen[0] or not self.commander.shaper.running:
            self._clock_seen = (now, wall)
        elif wall - self._clock_seen[1] > self.settings.clock_patience:
            told = f"the clock has not moved for {self.settings.clock_patience:g} s; is /clock published?"
            self.commander.stop("fault", told, self._now())
            self._settle()

    def _settle(self) -> None:
        """Tell every change; a stop goes out as zeros before anything else happens."""
        commander = self.commander
        if commander is None or (state := (commander.state, commander.reason, commander.episode_id)) == self._settled:
            return
        self._settled = state
        if commander.reason:
            self._publish(ZERO)
            self._zeros_left = ZEROS_AFTER_STOP
            told = f"episode {commander.episode_id}: stopped, {commander.reason}. {commander.message}"
            if commander.reason in TERMINAL_REASONS:  # two calls: rclpy wants one severity per line of code
                self.get_logger().info(told)
            else:
                self.get_logger().warning(told)
        self._report()

    def _publish(self, command: Command) -> None:
        stamp = self.get_clock().now().to_msg()
        arm, base = TwistStamped(), TwistStamped()
        for message in (arm, base):
            message.header.stamp, message.header.frame_id = stamp, self._frame
        linear, angular = arm.twist.linear, arm.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = command.arm_twist.tolist()
        base.twist.linear.x, base.twist.angular.z = command.base
        self._arm_out.publish(arm)
        self._base_out.publish(base)
        if command.gripper is not None and self.commander is not None:
            action = (self.commander.episode_id, self.commander.step)
            if action != self._gripper_sent:
                self._gripper_sent = action
                self._gripper_out.publish(self._gripper_message(command.gripper))

    def _gripper_message(self, closedness: float) -> JointTrajectory:
        point = JointTrajectoryPoint(positions=[self._spec.gripper_position(closedness)] * len(self._gripper_joints))
        point.time_from_start = Duration(seconds=self.settings.gripper_time).to_msg()
        return JointTrajectory(joint_names=self._gripper_joints, points=[point])

    def _report(self) -> None:
        commander = self.commander
        if commander is None:
            return
        message = CommandStatus(state=STATES[commander.state], reason=reason_code(commander.reason))
        message.header.stamp = self.get_clock().now().to_msg()
        message.episode_id, message.step = commander.episode_id, max(0, commander.step)
        message.action_age_s, message.message = self._age, commander.message
        self._status_out.publish(message)

    def health(self, now: float) -> list[Health]:
        """What /diagnostics says: what is commanded, why it stopped, and how inputs and ticks come."""
        c = self.commander
        if c is None:
            return []
        state = command_health(c.state, c.reason, c.message, c.episode_id, self._age, self.estop.latched, c.active)
        limits = (0.0, c.joint_max_age)
        streams = [s.health(now, limit) for s, limit in zip(self._streams, limits, strict=True)]
        return [state, self._actions.health(now, needed=c.state == "moving"), *streams]


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run(CommandNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
