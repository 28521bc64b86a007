"""Small robots for tests: a URDF of our own with a telescope, and contracts made from the shipped ones."""

from __future__ import annotations

from pathlib import Path

from facts import VOLATILE, add

from qt_ros.contract.graph_facts import Endpoint, GraphFacts, Heard, Topic
from qt_ros.contract.robot import RobotContract, load_contract, package_root, parse_contract

TELESCOPE = ("stage_1", "stage_2", "stage_3", "stage_4")


def telescope_urdf() -> str:
    """A lift, a telescope of four stages towards -y, and a wrist that yaws: what Stretch is, in boxes of our own."""
    joints = [("joint_lift", "prismatic", "0 0 1", 0.0, 1.1, "0 0 0.2")]
    joints += [(name, "prismatic", "0 -1 0", 0.0, 0.13, "0 -0.05 0") for name in reversed(TELESCOPE)]
    joints += [("joint_wrist_yaw", "revolute", "0 0 1", -1.75, 4.0, "0 -0.1 0")]
    side = [("joint_gripper_finger_left", "revolute", "0 0 1", -0.6, 0.6, "wrist"),
            ("joint_head_pan", "revolute", "0 0 1", -3.9, 1.5, "base_link"),
            ("joint_head_tilt", "revolute", "0 1 0", -1.5, 0.8, "base_link")]  # fmt: skip
    text, parent = ['<robot name="telescope"><link name="base_link"/>'], "base_link"
    for name, kind, axis, low, high, origin in joints:
        child = "wrist" if name == "joint_wrist_yaw" else f"link_{name}"
        text.append(_joint(name, kind, parent, child, axis, low, high, origin))
        parent = child
    for name, kind, axis, low, high, carrier in side:
        text.append(_joint(name, kind, carrier, f"link_{name}", axis, low, high, "0 0 0"))
    text.append('<link name="link_grasp_center"/><joint name="grasp" type="fixed"><parent link="wrist"/>')
    text.append('<child link="link_grasp_center"/><origin xyz="0 -0.2 0"/></joint></robot>')
    return "\n".join(text)


def arm_urdf(lift: bool = False) -> str:
    """Six turning joints, a flange, and nothing to grip with; on a column that slides where ``lift``."""
    joints = [("lift", "prismatic", "0 0 1", 0.0, 0.5, "0 0 0.1")] if lift else []
    axes = ("0 0 1", "0 1 0", "0 1 0", "0 0 1", "0 1 0", "0 0 1")
    joints += [(f"joint_{i + 1}", "revolute", axis, -3.0, 3.0, "0 0 0.2") for i, axis in enumerate(axes)]
    text, parent = ['<robot name="arm"><link name="base_link"/>'], "base_link"
    for name, kind, axis, low, high, origin in joints:
        text.append(_joint(name, kind, parent, f"link_{name}", axis, low, high, origin))
        parent = f"link_{name}"
    text.append(f'<link name="flange"/><joint name="end" type="fixed"><parent link="{parent}"/>')
    text.append('<child link="flange"/><origin xyz="0 0 0.1"/></joint></robot>')
    return "\n".join(text)


def arm_facts(lift: bool = False) -> GraphFacts:
    """What is seen of that arm while it runs: its joints bent, one trajectory controller, a camera."""
    facts = GraphFacts(urdf=arm_urdf(lift))
    bent = [0.1, 0.6, 0.8, 0.2, 0.9, 0.1]
    positions = {f"joint_{i + 1}": angle for i, angle in enumerate(bent)} | ({"lift": 0.2} if lift else {})
    states = Heard(50, 100.0, 0.01, 0.005, ("",), {"joints": list(positions), "positions": positions})
    add(facts, "joint_states", "sensor_msgs/msg/JointState", "joint_state_broadcaster", states)
    image = Heard(50, 30.0, 0.04, 0.02, ("camera_optical_frame",), {"sizes": [(640, 480)], "encodings": ["rgb8"]})
    add(facts, "camera/image_raw", "sensor_msgs/msg/Image", "camera", image)
    facts.controllers = {"arm_controller": [f"joint_{i + 1}" for i in range(6)]}
    name = "/arm_controller/joint_trajectory"
    facts.topics[name] = Topic(
        name, [], [Endpoint("arm_controller", "trajectory_msgs/msg/JointTrajectory", **VOLATILE)]
    )
    return facts


def _joint(name: str, kind: str, parent: str, child: str, axis: str, low: float, high: float, origin: str) -> str:
    return (
        f'<link name="{child}"/><joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{origin}"/><axis xyz="{axis}"/>'
        f'<limit lower="{low}" upper="{high}" velocity="1.0" effort="1.0"/></joint>'
    )


def telescope_contract() -> RobotContract:
    """The shipped contract of Stretch, with the stages of our own telescope for its."""
    text = load_contract("stretch").text
    stages = "joint_arm_l3, joint_arm_l2, joint_arm_l1, joint_arm_l0"
    assert stages in text
    return parse_contract(text.replace(stages, ", ".join(reversed(TELESCOPE)))).with_description(telescope_urdf())


def shipped_urdf() -> str:
    return (package_root() / "description" / "mobile_manipulator.urdf").read_text(encoding="utf-8")


def variant(*changes: tuple[str, str], base: str = "mobile_manipulator") -> RobotContract:
    """A shipped contract with pieces of its text replaced."""
    return parse_contract(variant_text(*changes, base=base))


def variant_text(*changes: tuple[str, str], base: str = "mobile_manipulator") -> str:
    text = load_contract(base).text
    for old, new in changes:
        assert old in text, f"{base}.yaml has no {old!r}"
        text = text.replace(old, new, 1)
    return text


def write(folder: Path, *changes: tuple[str, str], base: str = "mobile_manipulator") -> str:
    """A variant as a file; its path."""
    path = folder / "robot.yaml"
    path.write_text(variant_text(*changes, base=base), encoding="utf-8")
    return str(path)


ARM_LINE = next(line for line in load_contract("mobile_manipulator").text.splitlines() if "name: arm," in line)
