"""What leaves for the robot's controllers, in the types that the contract names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.action import ActionClient
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from qt_ros.contract.commands import NO_JOINT
from qt_ros.contract.robot import RobotContract
from qt_ros.control.joint_vector import JointVector
from qt_ros.control.servo_loop import Setpoint
from qt_ros.nodes.preparation import installed_class

LEAVES = 0.1  # s within which a request has left this process; nothing tells when

MakePublisher = Callable[[Any, str, str], Any]
"""(message class, topic, name of the command) -> a publisher that is silent unless its node is active."""


class NoOutput:
    """For what a robot does not have: nothing is sent."""

    def publish(self, _: Any) -> None:
        pass

    def hold(self, _: float) -> None:
        pass

    def wait_for_all_acked(self, patience: Duration) -> None:
        pass


def base_output(contract: RobotContract, make: MakePublisher) -> BaseOutput | NoOutput:
    """The base of the contract, if it has one."""
    return BaseOutput(contract, make) if "base" in contract.commands else NoOutput()


class BaseOutput:
    """Base velocities: TwistStamped, or Twist for drivers that take nothing else."""

    def __init__(self, contract: RobotContract, make: MakePublisher) -> None:
        spec = contract.commands["base"]
        self._stamped = spec.type.endswith("TwistStamped")
        self._out = make(TwistStamped if self._stamped else Twist, spec.topic, "base")

    def publish(self, message: TwistStamped) -> None:
        """Send a velocity, m/s and rad/s in the base frame."""
        self._out.publish(message if self._stamped else message.twist)

    def wait_for_all_acked(self, patience: Duration) -> None:
        """Until it has been delivered."""
        self._out.wait_for_all_acked(patience)


class GripperOutput(Protocol):
    """A gripper that is told where to go."""

    def publish(self, position: float) -> None:
        """Send the gripper joint to ``position``, rad or m."""

    def hold(self, position: float) -> None:
        """End what it is doing: it was measured at ``position`` and stays there."""

    def wait_for_all_acked(self, patience: Duration) -> None:
        """Until it has been delivered."""


def gripper_output(
    node: Node,
    contract: RobotContract,
    make: MakePublisher,
    travel_time: float,
    made: list[tuple[Any, Any]],
    dry_run: bool = False,
) -> GripperOutput:
    """The gripper of the contract, if it has one.

    ``made`` gets what has to be destroyed; ``travel_time`` in s is for trajectories. In a dry run a trajectory shows
    what an action would be asked for.
    """
    spec = contract.commands.get("gripper")
    if spec is None:
        return NoOutput()
    if "/action/" in spec.type and not dry_run:
        gripper = GripperAction(node, contract)
        made.append((lambda client: client.destroy(), gripper.client))
        return gripper
    return GripperTopic(contract, make, travel_time)


class GripperTopic:
    """A gripper behind a joint trajectory or position controller."""

    def __init__(self, contract: RobotContract, make: MakePublisher, travel_time: float) -> None:
        spec = contract.commands["gripper"]
        self._joints = list(spec.joints or [contract.kinematics.gripper_joint])
        self._time = Duration(seconds=travel_time).to_msg()
        self._trajectory = not spec.type.endswith("Float64MultiArray")
        self._out = make(JointTrajectory if self._trajectory else Float64MultiArray, spec.topic, "gripper")

    def publish(self, position: float) -> None:
        positions = [position] * len(self._joints)
        if self._trajectory:
            point = JointTrajectoryPoint(positions=positions, time_from_start=self._time)
            self._out.publish(JointTrajectory(joint_names=self._joints, points=[point]))
        else:
            zeroed = [0.0 if j == NO_JOINT else p for j, p in zip(self._joints, positions, strict=True)]
            self._out.publish(Float64MultiArray(data=zeroed))

    def hold(self, position: float) -> None:
        self.publish(position)

    def wait_for_all_acked(self, patience: Duration) -> None:
        self._out.wait_for_all_acked(patience)


class GripperAction:
    """A gripper action server; a newer goal replaces the one before, as these controllers do.

    `hold` cancels what was asked for, which is how these controllers stop, and asks for the present position as well:
    that holds with a server that knows no cancelling.
    """

    def __init__(self, node: Node, contract: RobotContract) -> None:
        spec = contract.commands["gripper"]
        self._joints = list(spec.joints or [contract.kinematics.gripper_joint])
        self._max_effort, self._log, self._name = spec.max_effort, node.get_logger(), spec.topic
        kind = installed_class(spec.type, spec.topic)
        self._goal, self._parallel = kind.Goal, spec.type.endswith("ParallelGripperCommand")
        self.client = ActionClient(node, kind, spec.topic)
        self._asked = self._void = 0  # goals sent so far; those up to `_void` are to be canceled
        self._newest: Any = None  # handle of the newest goal that was accepted
        self._held_at: float | None = None  # s of the monotonic clock

    def publish(self, position: float) -> None:
        if not self.client.server_is_ready():
            self._log.error(f"{self._name}: no gripper action server; start it", throttle_duration_sec=1.0)
            return
        goal = self._goal()
        if self._parallel:
            goal.command.name, goal.command.position = self._joints, [position] * len(self._joints)
            goal.command.effort = [self._max_effort] * len(self._joints) if self._max_effort else []
        else:
            goal.command.position, goal.command.max_effort = position, self._max_effort
        self._asked += 1
        number = self._asked
        self.client.send_goal_async(goal).add_done_callback(lambda answer: self._on_answer(number, answer))

    def _on_answer(self, number: int, answer: Any) -> None:
        if answer.exception() is not None or not answer.result().accepted:
            self._log.error(f"{self._name}: the gripper refused a goal", throttle_duration_sec=1.0)
        elif number <= self._void:  # stopped before the server said yes
            answer.result().cancel_goal_async()
        else:
            self._newest = answer.result()

    def hold(self, position: float) -> None:
        self._void, newest, self._newest = self._asked, self._newest, None
        self._held_at = time.monotonic()
        try:
            if newest is not None:
                newest.cancel_goal_async()
        finally:
            self.publish(position)

    def wait_for_all_acked(self, patience: Duration) -> None:
        """Until a hold of just now has left, as far as one can know."""
        held_at, self._held_at = self._held_at, None
        if held_at is None:
            return
        left = min(LEAVES, patience.nanoseconds / 1e9) - (time.monotonic() - held_at)
        if left > 0.0:
            time.sleep(left)


class JointOutput(Protocol):
    """Where servo_node sends the arm's joint targets."""

    def publish(self, setpoint: Setpoint) -> None:
        """Send joint targets."""

    def wait_for_all_acked(self, patience: Duration) -> None:
        """Until they have been delivered."""


class TrajectoryOutput:
    """All arm joints in a trajectory of one point, to be reached ``horizon`` s after its arrival."""

    def __init__(self, joints: tuple[str, ...], publisher: Any, horizon: float, velocities: bool) -> None:
        self._joints, self._out, self._velocities = list(joints), publisher, velocities
        self._time = Duration(seconds=horizon).to_msg()

    def publish(self, setpoint: Setpoint) -> None:
        point = JointTrajectoryPoint(positions=setpoint.positions.tolist(), time_from_start=self._time)
        if self._velocities:
            point.velocities = setpoint.velocities.tolist()
        # Stamp zero: start on arrival. A stamp would make the controller skip what it received late.
        self._out.publish(JointTrajectory(joint_names=self._joints, points=[point]))

    def wait_for_all_acked(self, patience: Duration) -> None:
        self._out.wait_for_all_acked(patience)


class ArrayOutput:
    """Joint targets for a position controller: numbers without names, in its own order."""

    def __init__(self, vector: JointVector, publisher: Any, log: Any) -> None:
        self.vector, self._out, self._log = vector, publisher, log

    def publish(self, setpoint: Setpoint) -> None:
        data = self.vector.array(setpoint.positions)
        if data is None:
            told = f"nothing is sent: the position of {', '.join(self.vector.missing)} is not known yet"
            self._log.warning(told, throttle_duration_sec=1.0)
        else:
            self._out.publish(Float64MultiArray(data=data))

    def wait_for_all_acked(self, patience: Duration) -> None:
        self._out.wait_for_all_acked(patience)


def joint_output(
    contract: RobotContract, make: MakePublisher, default_topic: str, horizon: float, velocities: bool, log: Any
) -> TrajectoryOutput | ArrayOutput:
    """Where the contract's ``arm_joints`` go; trajectories on ``default_topic`` where it does not say."""
    spec = contract.commands.get("arm_joints")
    arm = contract.kinematics.arm_joints
    if spec is not None and spec.type.endswith("Float64MultiArray"):
        return ArrayOutput(JointVector(spec.joints, arm), make(Float64MultiArray, spec.topic, "arm_joints"), log)
    topic = default_topic if spec is None else spec.topic
    return TrajectoryOutput(arm, make(JointTrajectory, topic, "arm_joints"), horizon, velocities)
