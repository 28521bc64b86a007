"""Gazebo and MuJoCo simulate the same thing: the files as the real SDF parser reads them, and the compiled model."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray
from sdf_parser import Body, bodies, check, floats, pose_matrix, printed

from qt_ros.contract.robot import load_contract
from qt_ros.sim.scene import CAMERA, build_model, kitchen_path, robot_path
from qt_ros.sim.world import World

WITHOUT_MASS = {"tool0", "head_camera_optical_frame"}  # frames, not bodies: Gazebo's converter drops them
SAME = {"rtol": 1e-6, "atol": 1e-7}
GEOM_KINDS = {
    int(mujoco.mjtGeom.mjGEOM_BOX): "box",
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): "cylinder",
    int(mujoco.mjtGeom.mjGEOM_SPHERE): "sphere",
    int(mujoco.mjtGeom.mjGEOM_PLANE): "plane",
}


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_model()


@pytest.fixture(scope="module")
def data(model: mujoco.MjModel) -> mujoco.MjData:
    """All joints at zero, objects where the world file puts them."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    return data


@pytest.fixture(scope="module")
def robot() -> ElementTree.Element:
    return printed(robot_path()).find("model")  # type: ignore[return-value]


@pytest.fixture(scope="module")
def kitchen() -> ElementTree.Element:
    return printed(kitchen_path()).find("world")  # type: ignore[return-value]


def rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.empty(9)
    mujoco.mju_quat2Mat(result, quaternion)
    return result.reshape(3, 3)


def assert_same_pose(model: mujoco.MjModel, data: mujoco.MjData, name: str, body: Body) -> None:
    at = model.body(name).id
    np.testing.assert_allclose(data.xpos[at], body.pose[:3, 3], **SAME, err_msg=name)
    np.testing.assert_allclose(data.xmat[at].reshape(3, 3), body.pose[:3, :3], **SAME, err_msg=name)


def assert_same_mass(model: mujoco.MjModel, data: mujoco.MjData, name: str, body: Body) -> None:
    at = model.body(name).id
    assert body.mass > 0.0
    np.testing.assert_allclose(model.body_mass[at], body.mass, **SAME, err_msg=name)
    np.testing.assert_allclose(data.xipos[at], body.centre, **SAME, err_msg=name)
    turn = data.ximat[at].reshape(3, 3)
    inertia = turn @ np.diag(model.body_inertia[at]) @ turn.T
    np.testing.assert_allclose(inertia, body.inertia, rtol=1e-4, atol=1e-9, err_msg=name)


def assert_same_shapes(model: mujoco.MjModel, data: mujoco.MjData, name: str, body: Body) -> None:
    found = []
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] != model.body(name).id or model.geom_group[geom] != 3:
            continue
        kind, half = GEOM_KINDS[int(model.geom_type[geom])], model.geom_size[geom]
        sizes = {
            "box": 2.0 * half,
            "cylinder": (half[0], 2.0 * half[1]),
            "sphere": half[:1],
            "plane": 2.0 * half[:2],
        }
        size = tuple(np.round(np.asarray(sizes[kind], dtype=float), 6))
        found.append((kind, size, tuple(np.round(data.geom_xpos[geom], 5) + 0.0)))
    wanted = [(k, tuple(np.round(s, 6)), tuple(np.round(p[:3, 3], 5) + 0.0)) for k, s, p in body.shapes]
    assert sorted(found) == sorted(wanted), name


@pytest.mark.parametrize("path", [kitchen_path(), robot_path()], ids=["kitchen", "robot"])
def test_the_real_parser_finds_the_file_valid(path) -> None:  # type: ignore[no-untyped-def]
    said = check(path)
    assert "Valid." in said
    assert "Warning" not in said and "Error Code" not in said


def test_the_real_parser_refuses_a_broken_world(tmp_path) -> None:  # type: ignore[no-untyped-def]
    broken = tmp_path / "broken.sdf"
    broken.write_text(kitchen_path().read_text().replace("<parent>cabinet_body</parent>", "<parent>nobody</parent>"))
    assert "Valid." not in check(broken)


def test_the_robot_has_the_same_bodies_at_the_same_poses(
    model: mujoco.MjModel, data: mujoco.MjData, robot: ElementTree.Element
) -> None:
    theirs = bodies(robot)
    base = model.body("base_link").rootid[0]
    ours = {model.body(i).name for i in range(model.nbody) if model.body_rootid[i] == base}
    assert ours - WITHOUT_MASS == set(theirs)
    for name, body in theirs.items():
        assert_same_pose(model, data, name, body)
        assert_same_mass(model, data, name, body)
        assert_same_shapes(model, data, name, body)


def test_the_robot_has_the_same_joints_with_the_same_axes_limits_and_damping(
    model: mujoco.MjModel, data: mujoco.MjData, robot: ElementTree.Element
) -> None:
    kinds = {"revolute": mujoco.mjtJoint.mjJNT_HINGE, "prismatic": mujoco.mjtJoint.mjJNT_SLIDE}
    theirs = {str(j.get("name")): j for j in robot.findall("joint") if j.get("type") != "fixed"}
    world = World(load_contract("mobile_manipulator"))
    assert set(world.joints) == set(theirs)
    links = bodies(robot)
    for name, joint in theirs.items():
        ours, axis = model.joint(name), joint.find("axis")
        assert ours.type[0] == int(kinds[str(joint.get("type"))]), name
        assert model.body(ours.bodyid[0]).name == joint.findtext("child")
        assert model.body(model.body_parentid[ours.bodyid[0]]).name == joint.findtext("parent")
        turned = links[str(joint.findtext("child"))].pose[:3, :3] @ floats(axis, "xyz")
        np.testing.assert_allclose(data.xaxis[ours.id], turned, **SAME, err_msg=name)
        lower, upper = (floats(axis.find("limit"), tag, "0")[0] for tag in ("lower", "upper"))  # type: ignore[union-attr]
        if ours.limited[0]:
            np.testing.assert_allclose(ours.range, (lower, upper), **SAME, err_msg=name)
        else:
            assert lower < -1e15 and upper > 1e15, name
        np.testing.assert_allclose(ours.damping[0], floats(axis.find("dynamics"), "damping", "0")[0], err_msg=name)  # type: ignore[union-attr]


def test_the_head_camera_has_the_same_intrinsics_and_the_same_view(
    model: mujoco.MjModel, data: mujoco.MjData, robot: ElementTree.Element
) -> None:
    link = next(e for e in robot.findall("link") if e.find("sensor[@name='head_camera']") is not None)
    sensor = link.find("sensor[@name='head_camera']")
    camera = sensor.find("camera")  # type: ignore[union-attr]
    width, height = (int(camera.findtext(f"image/{side}")) for side in ("width", "height"))  # type: ignore[union-attr,arg-type]
    spec = load_contract("mobile_manipulator").observation("image")
    assert (width, height) == (spec.width, spec.height)
    assert floats(sensor, "update_rate") == [spec.rate]
    assert sensor.findtext("topic") == spec.topic  # type: ignore[union-attr]
    assert camera.findtext("optical_frame_id") == spec.frame  # type: ignore[union-attr]
    focal = 0.5 * width / math.tan(0.5 * floats(camera, "horizontal_fov")[0])  # Gazebo's own formula, square pixels
    info = World(load_contract("mobile_manipulator")).camera_info(width, height)
    np.testing.assert_allclose((info.fx, info.fy, info.cx, info.cy), (focal, focal, width / 2, height / 2), rtol=1e-9)

    pose = bodies(robot)[str(link.get("name"))].pose @ pose_matrix(floats(sensor, "pose"))
    at = model.camera(CAMERA).id
    axes = data.cam_xmat[at].reshape(3, 3)
    np.testing.assert_allclose(data.cam_xpos[at], pose[:3, 3], atol=1e-6)
    np.testing.assert_allclose(-axes[:, 2], pose[:3, 0], atol=1e-6)  # MuJoCo looks along -z, Gazebo along x
    np.testing.assert_allclose(axes[:, 1], pose[:3, 2], atol=1e-6)  # up: y there, z here


def test_the_kitchen_has_the_same_bodies_shapes_and_joint(
    model: mujoco.MjModel, data: mujoco.MjData, kitchen: ElementTree.Element
) -> None:
    models = kitchen.findall("model")
    assert len(models) == 13
    for element in models:
        links = bodies(element, pose_matrix(floats(element, "pose")))
        for link, body in links.items():
            name = str(element.get("name")) if len(links) == 1 else link
            assert_same_pose(model, data, name, body)
            assert_same_shapes(model, data, name, body)
            if element.findtext("static") != "true":
                assert_same_mass(model, data, name, body)
    limit = kitchen.find("model/joint[@name='drawer_joint']/axis/limit")
    drawer = model.joint("drawer_joint")
    np.testing.assert_allclose(drawer.range, [floats(limit, tag)[0] for tag in ("lower", "upper")])


def test_time_and_gravity_are_the_same(model: mujoco.MjModel, kitchen: ElementTree.Element) -> None:
    assert floats(kitchen.find("physics"), "max_step_size") == [model.opt.timestep]
    assert floats(kitchen, "gravity") == list(model.opt.gravity)


def test_gazebo_loads_what_the_graph_needs(kitchen: ElementTree.Element, robot: ElementTree.Element) -> None:
    assert {str(plugin.get("filename")) for plugin in kitchen.findall("plugin")} == {
        "gz-sim-physics-system",
        "gz-sim-user-commands-system",
        "gz-sim-scene-broadcaster-system",
        "gz-sim-contact-system",
        "gz-sim-sensors-system",
    }
    publisher = "plugin[@filename='gz-sim-pose-publisher-system']"
    free = [m for m in kitchen.findall("model") if m.find(publisher) is not None]
    assert len(free) == 10
    for element in (*free, robot):
        flags = element.find(publisher)
        assert flags is not None
        told = [flags.findtext(f"publish_{what}_pose") for what in ("link", "model", "nested_model")]
        assert told == ["false", "true", "true"]
