"""command_node (lifecycle): turns policy actions into arm, gripper and base commands at the command rate.

Follows the running episode's PolicyActions through qt_ros.control.commander: limits of speed, acceleration, workspace
and gripper, a maximum action age of its own, a latched e-stop. Every stop brakes to zero twist and zero cmd_vel within
0.2 s (the e-stop at once), holds the gripper, and is named in command_status: a gripper that travels is sent to where
it is, one that stands (at its goal, or on an object) keeps its last command. Nothing is published on the command topics
unless the node is active; with enable_motion:=false nothing ever is, and the commands can be seen on
~/dry_run/arm, ~/dry_run/base and ~/dry_run/gripper.
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

from qt_ros.contract.check import check_limits
from qt_ros.contract.codecs import NonFiniteObservation, decode_joint_positions, ns_to_seconds, stamp_to_ns
from qt_ros.control.commander import Commander
from qt_ros.control.estop import EStop
from qt_ros.control.health import Health, Stream, command_health
from qt_ros.control.shaper import Command
from qt_ros.episodes.episode import TERMINAL_REASONS, reason_name
from qt_ros.msg import CommandStatus, EpisodeStatus, PolicyAction
from qt_ros.nodes.command_messages import command_status, twist_messages
from qt_ros.nodes.diagnostics import Diagnostics
from qt_ros.nodes.estop_input import EStopInput
from qt_ros.nodes.inputs import subscribe
from qt_ros.nodes.lifecycle import COMMAND_OUT, EVENT, SENSOR, STATUS, LifecycleNode, run
from qt_ros.nodes.outputs import base_output, gripper_output
from qt_ros.nodes.parameters import AUTOSTART, ROBOT, Parameter, ParameterTable
from qt_ros.nodes.preparation import prepare, robot_contract

PARAMETERS = ParameterTable(
    ROBOT,
    AUTOSTART,
    Parameter("status_rate", 10.0, "Rate of command_status between changes.", unit="Hz", low=0.1, high=50.0),
    Parameter("gripper_time", 0.05, "time_from_start of gripper trajectories.", unit="s", low=0.001, high=10.0),
    Parameter(
        "clock_patience",
        2.0,
        "A clock that stands still so long stops motion.",
        unit="s",
        low=0.1,
        high=60.0,
        safety="above",
    ),
    Parameter("enable_motion", True, "False: a dry run. Commands are shown on ~/dry_run, nothing goes to the robot."),
    Parameter(
        "estop_timeout",
        0.0,
        "An e-stop button silent for so long counts as pressed; 0: it speaks only when pressed.",
        unit="s",
        low=0.0,
        high=10.0,
    ),
)
ZERO = Command(np.zeros(6), None, (0.0, 0.0), None)
ZEROS_AFTER_STOP = 3  # more zeros on the ticks after the first
WATCH_PERIOD = 0.05  # s on the wall
BRAKE_PATIENCE = 0.1  # s on the wall without a tick of the clock: braking is cut short
PATIENCE = Duration(seconds=0.5)  # for the acknowledgement of the last zeros


class CommandNode(LifecycleNode):
    """Parameters, topics and timers; see the module."""

    def __init__(self) -> None:
        super().__init__("command_node", PARAMETERS)
        self.commander: Commander | None = None
        self.estop = EStop()
        self._made: list[tuple[Callable[[Any], Any], Any]] = []  # how to destroy what on_configure made
        self._button = EStopInput(self, self.estop, self._heed_estop)

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        contract = robot_contract(self, self.settings.robot)
        self._frame, make = contract.kinematics.base_frame, self._command_publisher
        self._arm_out, self._base_out = (
            make(TwistStamped, contract.commands["arm"].topic, "arm"),
            base_output(contract, make),
        )
        for finding in check_limits(contract):
            if finding.level in ("warning", "error"):
                self.get_logger().warning(f"contract: {finding.subject}: {finding.message}; {finding.advice}")
        dry_run = not self.settings.enable_motion
        self._gripper_out = gripper_output(self, contract, make, self.settings.gripper_time, self._made, dry_run)
        if dry_run:
            self.get_logger().warning("dry run: commands are shown on ~/dry_run, nothing is sent to the robot")
        self._status_out = self.create_publisher(CommandStatus, "command_status", EVENT)
        self._made.append((self.destroy_publisher, self._status_out))
        for spec in contract.observations.values():
            if spec.on_stale == "ignore" and spec.kind != "text":
                self.get_logger().warning(f"the contract ignores how old {spec.topic} is (on_stale: ignore)")
        for kind, topic, callback, qos in (
            # First, for rclpy serves them in this order: with both waiting, an action before its episode is lost.
            (EpisodeStatus, "episode_status", self._on_episode, STATUS),
            (PolicyAction, "policy_action", self._on_action, EVENT),
            (JointState, contract.observation("joint_state").topic, self._on_joints, SENSOR),
        ):
            entity = subscribe(self, kind, topic, callback, qos, self._on_odd_message)
            self._made.append((self.destroy_subscription, entity))
        wall = Clock(clock_type=ClockType.STEADY_TIME)  # goes on when the node's clock stops
        self._ticks = self.create_timer(1.0 / contract.command_rate, self._tick)
        report = self.create_timer(1.0 / self.settings.status_rate, self._report, clock=wall)
        watch = self.create_timer(WATCH_PERIOD, self._watch, clock=wall)
        self._made += [(self.destroy_timer, timer) for timer in (self._ticks, report, watch)]
        self._settled: tuple[str, ...] = ("idle", "", "")
        self._zeros_left = 0
        self._gripper_sent = ("", -1, 0.0)
        self._period = 1.0 / contract.command_rate
        self._ticked = time.monotonic()
        self._clock_seen = (self.get_clock().now().nanoseconds, self._ticked)
        self.estop.timeout = self.settings.estop_timeout
        self._streams = [
            Stream("ticks", contract.command_rate),
            Stream(contract.observation("joint_state").topic, contract.observation("joint_state").rate),
        ]
        self._actions = Stream("policy_action", contract.policy_rate)
        self._made.append((Diagnostics.close, Diagnostics(self, self.health, contract.robot)))
        self.commander = Commander(contract, self.estop)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self.commander is not None and self.settings.enable_motion:
            prepare(self, self.commander.contract)
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
        """Brake to zero, named, and delivered before the publishers fall silent. No clock is trusted to tick for it."""
        if self.commander is None:
            return
        self.commander.deactivate(self._now())
        self._settle()
        while self.commander.shaper.braking:
            self._publish(self.commander.shaper.brake(self._period))
            time.sleep(self._period)
        self._publish(ZERO)
        for publisher in (self._arm_out, self._base_out, self._gripper_out, self._status_out):
            publisher.wait_for_all_acked(PATIENCE)

    def _command_publisher(self, kind: Any, topic: str, name: str) -> Any:
        topic = topic if self.settings.enable_motion else f"~/dry_run/{name}"
        publisher = self.create_lifecycle_publisher(kind, topic, COMMAND_OUT)
        self._made.append((self.destroy_lifecycle_publisher, publisher))
        return publisher

    # --- inputs -------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return ns_to_seconds(self.get_clock().now().nanoseconds)

    def _heed_estop(self) -> None:
        if self.commander is not None and self.estop.latched:
            was_braking = self.commander.shaper.braking
            self.commander.heed_estop(self._now())
            if was_braking:
                self._publish(ZERO)
            self._settle()

    def _on_odd_message(self, problem: str) -> None:
        if self.commander is not None:
            self.commander.stop("fault", problem, self._now())
            self._settle()

    def _on_episode(self, message: EpisodeStatus) -> None:
        if self.commander is None:
            return
        now = self._now()
        if message.state == EpisodeStatus.STATE_RUNNING:
            stamp, start = (ns_to_seconds(stamp_to_ns(t)) for t in (message.header.stamp, message.start))
            self.commander.begin(message.episode_id, now, message.step, stamp, start)
        elif message.state == EpisodeStatus.STATE_ENDED:
            self.commander.end(message.episode_id, reason_name(message.reason), now)
        else:
            self.commander.idle(now)
        self._settle()

    def _on_action(self, message: PolicyAction) -> None:
        if self.commander is None:
            return
        self._actions.seen(self._now())
        if not self.commander.knows(message.episode_id):
            told = f"step {message.step} of episode {message.episode_id} is dropped: nothing on episode_status says yet"
            self.get_logger().warning(f"{told} that it has begun", throttle_duration_sec=1.0)
        self.commander.act(
            message.episode_id,
            message.step,
            message.names,
            message.values,
            message.header.frame_id,
            ns_to_seconds(stamp_to_ns(message.observation_stamp)),
            self._now(),
            len(message.bins) > 0,  # none: the neutral stop, also where no dimension says that it ends the episode
        )
        self._settle()

    def _on_joints(self, message: JointState) -> None:
        if self.commander is None:
            return
        gripper = self.commander.contract.kinematics.gripper_joint
        self._streams[1].seen(self._now())
        try:
            positions = decode_joint_positions(message, (*self.commander.joints, gripper))
            effort = dict(zip(message.name, message.effort)).get(gripper)
            self.commander.observe_joints(positions, ns_to_seconds(stamp_to_ns(message.header.stamp)), effort)
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
        before, self._ticked = self._ticked, time.monotonic()
        command = self.commander.tick(self._now(), self._ticked - before)
        if self.commander.shaper.running or command.moving:
            self._publish(command)
        elif self._zeros_left > 0:
            self._zeros_left -= 1
            self._publish(ZERO)
        self._settle()

    def _watch(self) -> None:
        """A clock that stopped or was set back takes the tick with it, and the last command would stay in force."""
        wall, now = time.monotonic(), self.get_clock().now().nanoseconds
        self._button.watch()
        if self.commander is None:
            return
        shaper, stood = self.commander.shaper, wall - self._clock_seen[1]
        if (back := self._clock_seen[0] - now) > 0:
            self._ticks.reset()  # of system time it would come when that is back where it was
            told = f"the clock was set back by {ns_to_seconds(back):.2f} s; let it be set before the robot moves only"
            self.commander.stop("fault", told, self._now())
            self._settle()
        if now != self._clock_seen[0] or not (shaper.running or shaper.braking):
            self._clock_seen = (now, wall)
        elif shaper.braking and stood > BRAKE_PATIENCE:
            shaper.halt()
            self._publish(ZERO)
        elif shaper.running and stood > self.settings.clock_patience:
            told = f"the clock has not moved for {self.settings.clock_patience:g} s; is /clock published?"
            self.commander.stop("fault", told, self._now())
            self._settle()

    def _settle(self) -> None:
        """Tell every change; a stop that need not brake goes out as zeros before anything else happens."""
        commander = self.commander
        if commander is None:
            return
        changed = (state := (commander.state, commander.reason, commander.episode_id)) != self._settled
        if changed and commander.reason and not commander.shaper.braking:
            self._publish(ZERO)
        if (position := commander.take_grip_stop()) is not None:
            self._hold_gripper(position)
        if not changed:
            return
        self._settled = state
        if commander.reason:
            self._zeros_left = ZEROS_AFTER_STOP
            told = f"episode {commander.episode_id}: stopped, {commander.reason}. {commander.message}"
            if commander.reason in TERMINAL_REASONS:  # two calls: rclpy wants one severity per line of code
                self.get_logger().info(told)
            else:
                self.get_logger().warning(told)
        self._report()

    def _hold_gripper(self, position: float) -> None:
        """Whatever a gripper's driver makes of it, the rest of a stop goes on."""
        try:
            self._gripper_out.hold(position)
        except Exception as error:
            told = f"the gripper could not be held, it goes on to where it was sent: {type(error).__name__}: {error}"
            self.get_logger().error(told)

    def _publish(self, command: Command) -> None:
        arm, base = twist_messages(command, self._frame, self.get_clock().now().to_msg())
        self._arm_out.publish(arm)
        self._base_out.publish(base)
        if command.gripper is not None:
            self._grip(command.gripper)

    def _grip(self, closedness: float) -> None:
        """Once per action, and again where the limit of force ends the closing."""
        commander = self.commander
        assert commander is not None
        try:
            position = commander.close_to(closedness, self._now())
        except ValueError as error:
            commander.stop("fault", str(error), self._now())
            return
        if (sent := (commander.episode_id, commander.step, position)) != self._gripper_sent:
            self._gripper_sent = sent
            self._gripper_out.publish(position)

    def _report(self) -> None:
        if self.commander is not None:
            now = self.get_clock().now()
            self.commander.hear_clock(ns_to_seconds(now.nanoseconds))
            standing, dry_run = self.commander.standing, not self.settings.enable_motion
            self._status_out.publish(command_status(standing, dry_run, now.to_msg()))

    def health(self, now: float) -> list[Health]:
        """What /diagnostics says: what is commanded, why it stopped, and how inputs and ticks come."""
        c = self.commander
        if c is None:
            return []
        n = c.standing
        state = command_health(n.state, n.reason, n.message, n.episode_id, n.action_age, n.estop, c.active)
        limits = (0.0, c.joint_max_age)
        streams = [s.health(now, limit) for s, limit in zip(self._streams, limits, strict=True)]
        return [state, self._actions.health(now, needed=n.state == "moving"), *streams]


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run(CommandNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
