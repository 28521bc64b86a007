"""MoveIt Servo and gripper actions as outputs, over DDS, against servers that speak their interfaces.

Where moveit_msgs and control_msgs are not installed, packages with the same definitions are built for the test.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import reserved_domain
from far_side import ActingPolicy, FarSide
from lifecycle_msgs.msg import Transition
from rclpy.qos import DurabilityPolicy, QoSProfile
from robots import ARM_LINE, write
from standin_interfaces import build
from std_msgs.msg import Bool, String

from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.robot import load_contract

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),  # a compiler on a busy machine
    pytest.mark.skipif(
        shutil.which("colcon") is None or shutil.which("cmake") is None, reason="needs colcon and CMake"
    ),
]
ALL = QoSProfile(
    depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL
)  # what is told once drowns in what is repeated
HOME = load_contract("mobile_manipulator").kinematics.home
SERVERS = str(Path(__file__).parents[1] / "support")
GRIPPER = "gripper_controller/joint_trajectory, type: trajectory_msgs/msg/JointTrajectory, joints: [left_finger_joint]"
STATE = "float64 position\nfloat64 effort\nbool stalled\nbool reached_goal\n"
PARALLEL_STATE = "sensor_msgs/JointState state\nbool stalled\nbool reached_goal\n"
PACKAGES = {
    "moveit_msgs": {
        "srv/ServoCommandType.srv": (
            "int8 JOINT_JOG=0\nint8 TWIST=1\nint8 POSE=2\nint8 command_type\n---\nbool success\n"
        )
    },
    "control_msgs": {
        "msg/GripperCommand.msg": "float64 position\nfloat64 max_effort\n",
        "action/GripperCommand.action": f"GripperCommand command\n---\n{STATE}---\n{STATE}",
        "action/ParallelGripperCommand.action": (
            f"sensor_msgs/JointState command\n---\n{PARALLEL_STATE}---\nsensor_msgs/JointState state\n"
        ),
    },
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    missing = {name: files for name, files in PACKAGES.items() if importlib.util.find_spec(name) is None}
    if not missing:
        return {}
    return build(tmp_path_factory.mktemp("interfaces"), missing, {"control_msgs": ["action_msgs", "sensor_msgs"]})


@pytest.fixture
def group(environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[NodeGroup, int]]:
    with reserved_domain() as domain:
        own = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        made = NodeGroup(tmp_path / "logs", {**environment, **own})
        made.environment["PYTHONPATH"] = SERVERS + ":" + made.environment.get("PYTHONPATH", "")
        with pytest.MonkeyPatch.context() as patch, made.running():
            for name, value in own.items():
                patch.setenv(name, value)
            yield made, domain


@pytest.mark.parametrize(
    ("gripper", "expected"),
    [
        ("gripper/gripper_cmd, type: control_msgs/action/GripperCommand, max_effort: 40.0", "grip 0 40"),
        (
            "parallel/gripper_cmd, type: control_msgs/action/ParallelGripperCommand, joints: [left_finger_joint]",
            "parallel ['left_finger_joint'] [0.0] []",
        ),
    ],
)
def test_moveit_servo_is_switched_before_it_gets_twists_and_the_gripper_gets_goals(
    group: tuple[NodeGroup, int], tmp_path: Path, gripper: str, expected: str
) -> None:
    nodes, domain = group
    path = write(tmp_path, (ARM_LINE, ARM_LINE.replace("zero}", "zero, follower: moveit_servo}")), (GRIPPER, gripper))
    space = load_contract(path).action_space
    with FarSide(domain, nodes.check, HOME, "joint_states") as far:
        told: list[str] = []
        far.node.create_subscription(String, "told", lambda m: told.append(m.data), ALL)
        nodes.start("third_party", module="third_party_servers")
        process = nodes.start("command_node", {"robot": path})
        far.await_state("command_node", "unconfigured")
        assert far.change("command_node", Transition.TRANSITION_CONFIGURE), process.tail(50)
        assert far.change("command_node", Transition.TRANSITION_ACTIVATE), process.tail(50)
        far.until(lambda: told, "the switch")
        assert told[0] == "switch 1"

        policy = ActingPolicy(far, space, dx=0.03, gripper=1.0)
        far.said.append(policy)
        try:
            far.until(lambda: "twist followed in base_link" in told and expected in told, "a followed twist and a goal")
        except TimeoutError as error:
            raise AssertionError(f"{error}; told {told[-5:]}, {[s.message for s in policy.statuses[-3:]]}") from error
        assert "twist ignored" not in told, "nothing was sent before the switch"


def test_an_estop_while_the_gripper_closes_cancels_the_goal_and_asks_for_the_measured_position(
    group: tuple[NodeGroup, int], tmp_path: Path
) -> None:
    nodes, domain = group
    slow = "slow/gripper_cmd, type: control_msgs/action/GripperCommand, max_effort: 40.0"
    path = write(tmp_path, (GRIPPER, slow))
    with FarSide(domain, nodes.check, HOME, "joint_states") as far:
        told: list[str] = []
        far.node.create_subscription(String, "told", lambda m: told.append(m.data), ALL)
        button = far.node.create_publisher(Bool, "estop", 10)
        nodes.start("third_party", module="third_party_servers")
        process = nodes.start("command_node", {"robot": path, "autostart": True})
        far.await_state("command_node", "active")
        far.said.append(ActingPolicy(far, load_contract(path).action_space, dx=0.01, gripper=1.0))

        began: list[float] = []

        def close() -> None:  # 1 cm/s from the first goal on: five seconds
            if "travel 0.000 40" in told:
                began.append(time.monotonic())
                far.joints["left_finger_joint"] = max(0.0, 0.05 - 0.01 * (began[-1] - began[0]))

        far.said.append(close)
        far.until(lambda: far.joints["left_finger_joint"] < 0.048, "a goal, and a gripper on its way")
        far.said.append(lambda: button.publish(Bool(data=True)))
        far.until(lambda: "cancel" in told, "the goal to be canceled")
        far.until(lambda: told[-1].startswith("travel 0.0") and told[-1] != "travel 0.000 40", "the position to hold")
        position = float(told[-1].split()[1])
        assert 0.0 < position < 0.05, process.tail(50)
