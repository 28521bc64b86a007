from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mujoco
import numpy as np
import pinocchio
import pytest

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import load_contract
from qt_ros.sim.scene import ARM_JOINTS, CAMERA_FRAME, FINGER_BODIES, LIFT_JOINT, build_model, kitchen_path, robot_path
from qt_ros.sim.sdf import SdfError

FRAMES = ("tool0", "head_camera_link", CAMERA_FRAME, *FINGER_BODIES)


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_model()


def test_forward_kinematics_agree_with_pinocchio(model: mujoco.MjModel) -> None:
    arm = pinocchio.buildModelFromUrdf(str(robot_path()))
    arm_data, data = arm.createData(), mujoco.MjData(model)
    rng = np.random.default_rng(0)
    joints = (LIFT_JOINT, *ARM_JOINTS, "left_finger_joint", "right_finger_joint")
    worst = 0.0
    for _ in range(1000):
        q = pinocchio.neutral(arm)
        for name in joints:
            joint = arm.joints[arm.getJointId(name)]
            value = rng.uniform(arm.lowerPositionLimit[joint.idx_q], arm.upperPositionLimit[joint.idx_q])
            q[joint.idx_q] = value
            data.joint(name).qpos[0] = value
        for name in ("base_x", "base_y", "base_yaw"):  # poses in base_link must not depend on where the base stands
            data.joint(name).qpos[0] = rng.uniform(-2.0, 2.0)
        mujoco.mj_kinematics(model, data)
        pinocchio.framesForwardKinematics(arm, arm_data, q)
        base = data.body("base_link")
        turn = base.xmat.reshape(3, 3)
        for frame in FRAMES:
            expected = arm_data.oMf[arm.getFrameId(frame)]
            body = data.body(frame)
            worst = max(worst, np.abs(turn.T @ (body.xpos - base.xpos) - expected.translation).max())
            worst = max(worst, np.abs(turn.T @ body.xmat.reshape(3, 3) - expected.rotation).max())
    assert worst < 1e-6


def test_the_contracts_kinematics_and_the_model_agree_at_home(model: mujoco.MjModel) -> None:
    contract = load_contract("mobile_manipulator")
    spec = contract.kinematics
    arm = Kinematics(contract.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=spec.home)
    data = mujoco.MjData(model)
    for name, value in spec.home.items():
        data.joint(name).qpos[0] = value
    mujoco.mj_kinematics(model, data)
    position, rotation = arm.fk([spec.home[name] for name in spec.arm_joints])
    assert data.body("tool0").xpos == pytest.approx(position, abs=1e-6)
    assert data.body("tool0").xmat.reshape(3, 3) == pytest.approx(rotation, abs=1e-6)
    assert rotation[:, 2] == pytest.approx([0.0, 0.0, -1.0], abs=1e-3), "the hand points straight down at home"


def test_home_of_the_contract_is_where_gazebo_starts() -> None:
    home = load_contract("mobile_manipulator").kinematics.home
    root = ElementTree.parse(robot_path()).getroot()
    starts = {
        str(joint.get("name")): float(param.text or "nan")
        for joint in root.iterfind("./ros2_control/joint")
        for param in joint.iterfind("./state_interface/param[@name='initial_value']")
    }
    assert starts == pytest.approx(home)


def test_every_link_has_a_plausible_inertia() -> None:
    root = ElementTree.parse(robot_path()).getroot()
    total = 0.0
    for link in root.iterfind("link"):
        inertial = link.find("inertial")
        if inertial is None:
            assert link.find("collision") is None, f"{link.get('name')} has a body but no mass"
            continue
        mass = inertial.find("mass")
        inertia = inertial.find("inertia")
        assert mass is not None and inertia is not None
        total += float(mass.get("value", "nan"))
        m = {key: float(value) for key, value in inertia.attrib.items()}
        matrix = np.array(
            [[m["ixx"], m["ixy"], m["ixz"]], [m["ixy"], m["iyy"], m["iyz"]], [m["ixz"], m["iyz"], m["izz"]]]
        )
        a, b, c = np.linalg.eigvalsh(matrix)
        assert a > 0.0 and a + b >= c * (1 - 1e-6), link.get("name")
    assert 60.0 < total < 90.0


def test_mimic_and_fixed_joints_take_no_command() -> None:
    root = ElementTree.parse(robot_path()).getroot()
    commanded = {
        str(joint.get("name"))
        for joint in root.iterfind("./ros2_control/joint")
        if joint.find("command_interface") is not None
    }
    assert commanded == {"left_wheel_joint", "right_wheel_joint", LIFT_JOINT, *ARM_JOINTS, "left_finger_joint"}


def test_fixed_frames_survive_compilation(model: mujoco.MjModel) -> None:
    for frame in FRAMES:
        assert model.body(frame).id > 0


def test_robot_does_not_collide_with_itself_but_with_objects_and_table(model: mujoco.MjModel) -> None:
    def collide(one: int, other: int) -> bool:
        return bool(
            model.geom_contype[one] & model.geom_conaffinity[other]
            or model.geom_contype[other] & model.geom_conaffinity[one]
        )

    def shapes(body: str) -> list[int]:
        first, count = int(model.body(body).geomadr[0]), int(model.body(body).geomnum[0])
        return [g for g in range(first, first + count) if model.geom_contype[g] or model.geom_conaffinity[g]]

    finger, hand, table, cube = (shapes(body)[0] for body in ("left_finger_link", "hand_link", "table", "red_cube"))
    assert collide(finger, table) and collide(finger, cube) and collide(cube, table) and collide(hand, cube)
    assert not collide(finger, hand)


def test_a_robot_without_a_driven_joint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "robot.urdf"
    path.write_text(robot_path().read_text().replace('"lift_joint"', '"other_joint"'))
    with pytest.raises(ValueError, match="lift_joint"):
        build_model(urdf=path)


def test_an_unknown_tag_in_the_kitchen_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "kitchen.sdf"
    path.write_text(kitchen_path().read_text().replace("<scene>", "<scene><fog/>", 1))
    with pytest.raises(SdfError, match="<fog>"):
        build_model(sdf=path)
