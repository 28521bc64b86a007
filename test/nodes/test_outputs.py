"""Robots unlike the simulated one, over DDS: a description from a topic, position arrays, plain twists, services first.

The far side (driver, servers) is a node of the test; the nodes under test are processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from far_side import ActingPolicy, FarSide
from geometry_msgs.msg import Twist, TwistStamped
from lifecycle_msgs.msg import Transition
from robots import telescope_contract, telescope_urdf, write
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.robot import load_contract

HOME = load_contract("mobile_manipulator").kinematics.home
TELESCOPE_HOME = telescope_contract().kinematics.home


@pytest.fixture
def group(ros_domain_id: int, tmp_path: Path) -> Iterator[NodeGroup]:
    with NodeGroup(tmp_path / "logs").running() as made:
        yield made


def twist_message(far: FarSide, **linear: float) -> TwistStamped:
    message = TwistStamped()
    message.header.stamp, message.header.frame_id = far.stamp(), "base_link"
    for axis, value in linear.items():
        setattr(message.twist.linear, axis, value)
    return message


def test_a_telescope_is_driven_by_position_arrays(group: NodeGroup, ros_domain_id: int, tmp_path: Path) -> None:
    """Stretch's way: URDF from a topic, arm and gripper in one array, the other joints stay where they are."""
    path = tmp_path / "telescope.yaml"
    path.write_text(telescope_contract().text, encoding="utf-8")
    spec = telescope_contract().commands["arm_joints"]
    index = {name: i for i, name in enumerate(spec.joints)}
    with FarSide(ros_domain_id, group.check, TELESCOPE_HOME, "stretch/joint_states") as far:
        far.describe(telescope_urdf())
        arrays = far.listen(Float64MultiArray, spec.topic)
        twists = far.node.create_publisher(TwistStamped, "servo_node/delta_twist_cmds", 1)
        gripper = far.node.create_publisher(JointTrajectory, "servo_node/gripper", 1)
        group.start("servo_node", {"robot": str(path), "autostart": True})
        far.await_state("servo_node", "active")

        def grip() -> None:
            point = JointTrajectoryPoint(positions=[0.1])
            gripper.publish(JointTrajectory(joint_names=["joint_gripper_finger_left"], points=[point]))

        far.said.append(grip)
        far.until(lambda: arrays, "an array for the gripper alone")
        far.said.remove(grip)
        first = list(arrays[-1].data)
        expected = [TELESCOPE_HOME.get(name, 0.0) for name in spec.joints]
        expected[index["joint_gripper_finger_left"]] = 0.1
        assert first == pytest.approx(expected), "the arm stays, the gripper goes where it was told"

        arrays.clear()

        def drive() -> None:  # outwards and up; along x, which this arm cannot do alone, nothing is asked of it
            twists.publish(twist_message(far, x=0.1, y=-0.1, z=0.05))
            if arrays:
                data = arrays[-1].data
                far.joints.update({n: data[i] for n, i in index.items() if n in ("wrist_extension", "joint_lift")})

        far.said.append(drive)
        far.until(lambda: arrays and arrays[-1].data[index["wrist_extension"]] > 0.13, "the telescope to go out")
        last = list(arrays[-1].data)
        assert last[index["joint_lift"]] > TELESCOPE_HOME["joint_lift"]
        assert last[index["joint_wrist_yaw"]] == pytest.approx(0.0, abs=1e-6), "yaw is held, not used to move along x"
        for name in ("joint_gripper_finger_left", "joint_head_pan", "joint_head_tilt"):
            assert last[index[name]] == pytest.approx(first[index[name]])
        assert last[-2:] == [0.0, 0.0]


class Modes:
    """A driver with a mode that must be switched on first, as Stretch has, and a service that may refuse."""

    def __init__(self, far: FarSide) -> None:
        self.calls: list[str] = []
        self.refuse = True
        far.node.create_service(Trigger, "switch_to_navigation_mode", self._navigate)
        far.node.create_service(SetBool, "stream", self._stream)

    def _navigate(self, _: Any, response: Any) -> Any:
        self.calls.append("navigation")
        response.success, response.message = not self.refuse, "runstopped" if self.refuse else ""
        return response

    def _stream(self, request: Any, response: Any) -> Any:
        self.calls.append(f"stream {request.data}")
        response.success = True
        return response


PREPARE = """prepare:
  - {service: switch_to_navigation_mode, type: std_srvs/srv/Trigger}
  - {service: stream, type: std_srvs/srv/SetBool, request: {data: true}}
limits:"""


def test_services_are_called_in_order_before_motion_and_the_base_gets_plain_twists(
    group: NodeGroup, ros_domain_id: int, tmp_path: Path
) -> None:
    path = write(
        tmp_path,
        ("limits:", PREPARE),
        ("cmd_vel, type: geometry_msgs/msg/TwistStamped", "stretch/cmd_vel, type: geometry_msgs/msg/Twist"),
        ("gripper_controller/joint_trajectory, type: trajectory_msgs/msg/JointTrajectory",
         "gripper/commands, type: std_msgs/msg/Float64MultiArray"),
    )  # fmt: skip
    contract = load_contract(path)
    with FarSide(ros_domain_id, group.check, HOME, "joint_states") as far:
        base, gripper = far.listen(Twist, "stretch/cmd_vel"), far.listen(Float64MultiArray, "gripper/commands")
        modes = Modes(far)
        process = group.start("command_node", {"robot": path})
        far.await_state("command_node", "unconfigured")
        assert far.change("command_node", Transition.TRANSITION_CONFIGURE), process.tail(50)
        assert not far.change("command_node", Transition.TRANSITION_ACTIVATE)
        assert modes.calls == ["navigation"], "after a refusal nothing else is called"
        assert "switch_to_navigation_mode refused: runstopped" in process.tail(50)
        assert far.state("command_node") == "inactive"
        modes.refuse = False
        assert far.change("command_node", Transition.TRANSITION_ACTIVATE), process.tail(50)
        assert modes.calls[1:] == ["navigation", "stream True"]

        far.said.append(ActingPolicy(far, contract.action_space, base_forward=0.05, gripper=1.0))
        far.until(lambda: any(m.linear.x > 0.1 for m in base) and gripper, "a moving base and a gripper command")
        assert list(gripper[-1].data) == [0.0], "closed"
