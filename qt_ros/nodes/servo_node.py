"""servo_node (lifecycle): follows tool twists with the arm, as MoveIt Servo would on the same topics.

Takes servo_node/delta_twist_cmds (TwistStamped in the base frame, m/s and rad/s) and joint states, publishes joint
targets as the contract's ``arm_joints`` says: trajectories of one point (arm_controller/joint_trajectory where it does
not say), or arrays for position controllers. A twist that is old, in another frame or not finite is not followed and
the arm holds; without fresh joint states nothing moves. The thinking is in qt_ros.control.servo_loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from qt_ros.contract.codecs import decode_joint_positions, ns_to_seconds, stamp_to_ns
from qt_ros.contract.interfaces import needs_servo
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.control.gripper import GripperLimits
from qt_ros.control.health import WARN, Health, Stream
from qt_ros.control.servo_loop import ServoLoop, Setpoint
from qt_ros.nodes.diagnostics import Diagnostics
from qt_ros.nodes.inputs import subscribe
from qt_ros.nodes.lifecycle import COMMAND, SENSOR, LifecycleNode, run
from qt_ros.nodes.outputs import ArrayOutput, joint_output
from qt_ros.nodes.parameters import AUTOSTART, ROBOT, Parameter, ParameterTable
from qt_ros.nodes.preparation import robot_contract

PARAMETERS = ParameterTable(
    ROBOT,
    AUTOSTART,
    Parameter(
        "twist_timeout", 0.1, "A twist older than this is not followed.", unit="s", low=0.01, high=1.0, safety="above"
    ),
    Parameter("horizon", 2.0, "time_from_start of the trajectory point, in command periods.", low=1.0, high=20.0),
    Parameter(
        "velocities",
        False,
        "Send joint velocities too; needs allow_nonzero_velocity_at_trajectory_end in the arm's controller.",
    ),
    Parameter(
        "trajectory_topic",
        "arm_controller/joint_trajectory",
        "Where the arm's controller listens, if the contract does not say.",
    ),
)
PATIENCE = Duration(seconds=0.5)  # for the acknowledgement of the last setpoint
QUIET = 1.0  # s between log lines about the same thing
WATCH_PERIOD = 0.05  # s on the wall


class ServoNode(LifecycleNode):
    """Parameters, topics and the timer; see the module."""

    def __init__(self) -> None:
        super().__init__("servo_node", PARAMETERS)
        self.loop: ServoLoop | None = None
        self._active = False
        self._made: list[tuple[Callable[[Any], Any], Any]] = []  # how to destroy what on_configure made

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._refuse_other_follower(load_contract(self.settings.robot))
        contract = robot_contract(self, self.settings.robot)
        self.loop = ServoLoop(contract, self.settings.twist_timeout)
        horizon, topic = self.settings.horizon / contract.command_rate, self.settings.trajectory_topic
        make, log = self._command_publisher, self.get_logger()
        self._out = joint_output(contract, make, topic, horizon, self.settings.velocities, log)
        self._vector = self._out.vector if isinstance(self._out, ArrayOutput) else None
        inputs: list[tuple[Any, str, Any, Any]] = [
            (TwistStamped, contract.commands["arm"].topic, self._on_twist, COMMAND),
            (JointState, contract.observation("joint_state").topic, self._on_joints, SENSOR),
        ]
        self._gripper = GripperLimits(contract)
        if self._vector is not None and self._gripper.joint in self._vector.others:
            # The controller owns the gripper too, and one array must not undo what another one says.
            inputs.append((JointTrajectory, contract.commands["gripper"].topic, self._on_gripper, COMMAND))
        for kind, topic, callback, qos in inputs:
            subscription = subscribe(self, kind, topic, callback, qos, self._on_odd_message)
            self._made.append((self.destroy_subscription, subscription))
        joints = contract.observation("joint_state")
        self._twists = Stream(contract.commands["arm"].topic, contract.command_rate)
        self._joints, self._joint_max_age = Stream(joints.topic, joints.rate), joints.max_age
        self._made.append((Diagnostics.close, Diagnostics(self, self.health, contract.robot)))
        self._clock_seen = self.get_clock().now().nanoseconds
        self._ticks = self.create_timer(1.0 / contract.command_rate, self._tick)
        watch = self.create_timer(WATCH_PERIOD, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._made += [(self.destroy_timer, timer) for timer in (self._ticks, watch)]
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        if self.loop is not None:
            self.loop.forget()
            if self._vector is not None:
                self._vector.forget()
        self._active = True
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._deactivate()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._deactivate()
        return super().on_shutdown(state)

    def release(self) -> None:
        self.loop = None
        while self._made:
            destroy, entity = self._made.pop()
            destroy(entity)

    def _refuse_other_follower(self, contract: RobotContract) -> None:
        """Two nodes that follow the same twists would both command the arm."""
        if needs_servo(contract):
            return
        arm = contract.commands.get("arm")
        why = f"{arm.follower} follows its arm" if arm is not None else "it commands no arm"
        raise ConfigError(
            f"robot {contract.robot}: {why}, so servo_node must not run; launch with servo:=auto or servo:=false, or "
            f"take `follower` out of the contract's arm command if servo_node is to follow it"
        )

    def _command_publisher(self, kind: Any, topic: str, _: str) -> Any:
        publisher = self.create_lifecycle_publisher(kind, topic, COMMAND)
        self._made.append((self.destroy_lifecycle_publisher, publisher))
        return publisher

    def _deactivate(self) -> None:
        """Hold where the arm is, delivered before the publisher falls silent."""
        if self._active and self.loop is not None:
            self._publish(self.loop.stop())
            self._out.wait_for_all_acked(PATIENCE)
        self._active = False

    # --- inputs -------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return ns_to_seconds(self.get_clock().now().nanoseconds)

    def _on_twist(self, message: TwistStamped) -> None:
        if self.loop is None or not self._active:
            return
        self._twists.seen(self._now())
        linear, angular = message.twist.linear, message.twist.angular
        twist = (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z)
        stamp = ns_to_seconds(stamp_to_ns(message.header.stamp))
        self.loop.offer_twist(message.header.frame_id, twist, stamp, self._now())

    def _on_odd_message(self, _: str) -> None:
        """A twist that is not followed, or anything else nobody expected: the arm holds."""
        if self.loop is not None and self._active:
            self._publish(self.loop.stop())

    def _on_joints(self, message: JointState) -> None:
        if self.loop is None:
            return
        self._joints.seen(self._now())
        try:
            others = self._vector.others if self._vector is not None else ()
            positions = decode_joint_positions(message, (*self.loop.joints, *self.loop.servo.carriers, *others))
            stamp = ns_to_seconds(stamp_to_ns(message.header.stamp))
            if self._vector is not None and abs(self._now() - stamp) <= self._joint_max_age:
                self._vector.measure(positions)
            self.loop.offer_joints(positions, stamp)
        except ValueError as error:  # a joint state that is no use counts as none: it goes stale
            self.get_logger().error(f"joint state refused: {error}", throttle_duration_sec=QUIET)

    def _on_gripper(self, message: JointTrajectory) -> None:
        """The gripper's entry of the array; with an arm that stands still, one array just for it."""
        if self.loop is None or not self._active or self._vector is None:
            return
        try:
            target = dict(zip(message.joint_names, message.points[-1].positions, strict=True))[self._gripper.joint]
            self._vector.set(self._gripper.joint, self._gripper.clip(target))
        except (ValueError, KeyError, IndexError) as error:
            self.get_logger().error(f"gripper command refused: {error}", throttle_duration_sec=QUIET)
            return
        if not self.loop.moving:
            self._publish(self.loop.resting(self._now()))

    # --- output -------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.loop is None or not self._active or not self.get_clock().now().nanoseconds:
            return  # not active, or a simulated clock that has not begun
        self._publish(self.loop.tick(self._now()))
        if self.loop.problem:
            self.get_logger().warning(self.loop.problem, throttle_duration_sec=5.0)
        if self.loop.blocked:
            self.get_logger().warning("the arm does not follow; is it blocked?", throttle_duration_sec=QUIET)

    def _watch(self) -> None:
        """Where system time was set back, the tick would come when it is back where it was."""
        before, self._clock_seen = self._clock_seen, self.get_clock().now().nanoseconds
        if self._clock_seen < before:
            self._ticks.reset()

    def _publish(self, setpoint: Setpoint | None) -> None:
        if setpoint is None or self.loop is None:
            return
        self._out.publish(setpoint)

    def health(self, now: float) -> list[Health]:
        """What /diagnostics says: whether the arm follows, and how its inputs come."""
        arm = Health("arm", message="following" if self._active else "inactive; activate the node")
        if self.loop is not None and self._active and self.loop.problem:
            arm.worsen(WARN, self.loop.problem)
        if self.loop is not None and self._active and self.loop.blocked:
            arm.worsen(WARN, "the arm does not follow; is it blocked, or its controller inactive?")
        twists = self._twists.health(now, needed=self._twists.age(now) < 1.0)  # none come between episodes
        return [arm, twists, self._joints.health(now, self._joint_max_age)]


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run(ServoNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
