"""What Gazebo is given: the URDF for a namespace, scenes as poses, and configuration that agrees with the contract."""

from __future__ import annotations

import math
import re
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yaml

from qt_ros.contract.robot import load_contract, package_root
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.gazebo import (
    ROBOT_ENTITY,
    gazebo_urdf,
    object_poses,
    pose_request,
    robot_pose,
    server_arguments,
    set_poses_command,
)
from qt_ros.sim.scene import kitchen_path, robot_path
from qt_ros.sim.sdf import read_sdf
from qt_ros.sim.tasks import load_tasks, sample_scene
from qt_ros.sim.world import Placement, SceneSpec, World

CONTRACT = load_contract("mobile_manipulator")
CONFIG = package_root() / "config" / "gazebo"
OBJECTS = [model.name for model in read_sdf(kitchen_path()).models if model.free]


def control_plugin(text: str) -> ElementTree.Element:
    found = ElementTree.fromstring(text).find("./gazebo/plugin[@filename='gz_ros2_control-system']")
    assert found is not None
    return found


def test_the_controller_parameters_become_an_absolute_path_that_exists() -> None:
    path = Path(control_plugin(gazebo_urdf(robot_path())).findtext("parameters") or "")
    assert path.is_absolute() and path.is_file()


@pytest.mark.parametrize("given", ["robot1", "/robot1", "/robot1/"])
def test_the_plugin_gets_the_namespace(given: str) -> None:
    assert control_plugin(gazebo_urdf(robot_path(), given)).findtext("ros/namespace") == "/robot1"


def test_without_a_namespace_there_is_no_tag_for_it() -> None:
    assert control_plugin(gazebo_urdf(robot_path())).find("ros/namespace") is None


def test_the_rest_of_the_description_stays_as_it_is() -> None:
    before, after = ElementTree.parse(robot_path()).getroot(), ElementTree.fromstring(gazebo_urdf(robot_path(), "a"))
    for tag in ("link", "joint", "ros2_control"):
        ours = [ElementTree.tostring(e) for e in before.findall(tag)]
        assert ours and ours == [ElementTree.tostring(e) for e in after.findall(tag)]


def test_a_robot_without_the_plugin_is_refused(tmp_path: Path) -> None:
    bare = tmp_path / "bare.urdf"
    bare.write_text("<robot name='bare'><link name='base_link'/></robot>")
    with pytest.raises(ConfigError, match="GazeboSimROS2ControlPlugin"):
        gazebo_urdf(bare)


def test_missing_controller_parameters_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing.yaml do"):
        gazebo_urdf(robot_path(), controllers=tmp_path / "nothing.yaml")


@pytest.mark.parametrize("seed", [0, 7, 2_000_003])
def test_a_scene_puts_every_object_where_the_embedded_simulator_puts_it(seed: int) -> None:
    scene = sample_scene(None, seed)
    world = World(CONTRACT)
    world.reset(scene)
    poses = object_poses(read_sdf(kitchen_path()), scene)
    assert sorted(poses) == sorted(world.objects) == sorted(OBJECTS)
    for name in scene.objects:
        ours = world.object_pose(name)
        np.testing.assert_allclose(poses[name][:3], ours[:3], atol=2e-3, err_msg=name)  # it has settled there
        assert abs(np.dot(poses[name][3:], ours[3:])) > 0.9999, name


def test_objects_that_are_not_in_the_scene_are_parked_apart_from_each_other() -> None:
    poses = object_poses(read_sdf(kitchen_path()), SceneSpec())
    spots = np.array([pose[:2] for pose in poses.values()])
    assert np.all(spots[:, 0] < -2.0)
    assert np.min(np.diff(np.sort(spots[:, 1]))) > 0.1


def test_a_scene_with_an_unknown_object_is_refused() -> None:
    with pytest.raises(ConfigError, match="teapot"):
        object_poses(read_sdf(kitchen_path()), SceneSpec(objects={"teapot": Placement(0.5, 0.0, 0.7)}))


def test_a_request_says_every_pose_once() -> None:
    text = pose_request({"red_cube": robot_pose(0.5, -0.25, math.pi), "robot": robot_pose(0.0, 0.0, 0.0)})
    assert re.findall(r'name: "(\w+)"', text) == ["red_cube", "robot"]
    numbers = [float(n) for n in re.findall(r"[xyzw]: (-?[\d.]+)", text)]
    np.testing.assert_allclose(numbers, [0.5, -0.25, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], atol=1e-6)
    assert text.count("{") == text.count("}") == 6


def test_poses_are_set_in_the_world_of_that_name() -> None:
    command = set_poses_command("kitchen", {"robot": robot_pose(0.0, 0.0, 0.0)})
    assert command[:4] == ["gz", "service", "-s", "/world/kitchen/set_pose_vector"]
    assert command[command.index("--reqtype") + 1] == "gz.msgs.Pose_V"


def test_headless_means_server_only_with_the_camera_rendered() -> None:
    words = shlex.split(server_arguments(Path("/a b/world's.sdf"), True, 3))
    assert words == ["-r", "-s", "--headless-rendering", "-v", "3", "/a b/world's.sdf"]
    assert "-s" not in shlex.split(server_arguments(Path("w.sdf"), False, 1))


# --- configuration files ----------------------------------------------------------------------------------------------


def controllers() -> dict[str, dict[str, object]]:
    document = yaml.safe_load((CONFIG / "controllers.yaml").read_text())
    return {name.rpartition("/")[2]: value["ros__parameters"] for name, value in document.items()}


def test_every_controller_of_the_manager_has_a_type_and_every_other_block_is_a_controller() -> None:
    blocks = controllers()
    named = {name for name, value in blocks["controller_manager"].items() if isinstance(value, dict)}
    assert named == set(blocks) - {"controller_manager"}
    assert all("/" in blocks["controller_manager"][name]["type"] for name in named)  # type: ignore[index]


def test_the_controllers_move_exactly_the_joints_that_take_commands() -> None:
    root = ElementTree.parse(robot_path()).getroot()
    commanded = {j.get("name") for j in root.findall("./ros2_control/joint") if j.find("command_interface") is not None}
    blocks = controllers()
    moved = [joint for block in blocks.values() for joint in block.get("joints", [])]  # type: ignore[attr-defined]
    base = blocks["base_controller"]
    moved += [*base["left_wheel_names"], *base["right_wheel_names"]]  # type: ignore[misc]
    assert sorted(moved) == sorted(str(name) for name in commanded)
    assert tuple(blocks["arm_controller"]["joints"]) == CONTRACT.kinematics.arm_joints  # type: ignore[arg-type]
    assert blocks["gripper_controller"]["joints"] == list(CONTRACT.commands["gripper"].joints)


def test_the_base_controller_knows_the_robot_and_keeps_the_contract_s_limits() -> None:
    base, limits = controllers()["base_controller"], CONTRACT.limits
    root = ElementTree.parse(robot_path()).getroot()
    wheels = {side: root.find(f"./joint[@name='{side}_wheel_joint']/origin") for side in ("left", "right")}
    places = {side: [float(w) for w in origin.get("xyz", "").split()] for side, origin in wheels.items()}  # type: ignore[union-attr]
    assert base["wheel_separation"] == places["left"][1] - places["right"][1]
    assert base["wheel_radius"] == places["left"][2]
    assert base["linear.x.max_velocity"] == limits.base_linear_speed
    assert base["angular.z.max_velocity"] == limits.base_angular_speed
    assert base["linear.x.max_acceleration"] == limits.base_linear_acceleration
    assert base["angular.z.max_acceleration"] == limits.base_angular_acceleration


def test_the_controllers_listen_where_the_contract_sends() -> None:
    assert CONTRACT.commands["gripper"].topic == "gripper_controller/joint_trajectory"
    assert f"base_controller/cmd_vel:={CONTRACT.commands['base'].topic}" in gazebo_urdf(robot_path())


def test_the_controllers_keep_the_simulator_s_time() -> None:
    assert controllers()["controller_manager"]["update_rate"] == 1.0 / read_sdf(kitchen_path()).timestep
    assert controllers()["joint_state_broadcaster"]["update_rate"] == CONTRACT.observation("joint_state").rate


def test_the_bridge_carries_clock_camera_and_every_pose_one_way_under_relative_names() -> None:
    entries = {entry["ros_topic_name"]: entry for entry in yaml.safe_load((CONFIG / "bridge.yaml").read_text())}
    wanted = {"clock", "head_camera/camera_info"} | {f"entities/{name}/pose" for name in (ROBOT_ENTITY, *OBJECTS)}
    assert set(entries) == wanted
    assert all(entry["direction"] == "GZ_TO_ROS" for entry in entries.values())
    for name in (ROBOT_ENTITY, *OBJECTS):
        assert entries[f"entities/{name}/pose"]["gz_topic_name"] == f"/model/{name}/pose"
    known = {"ros_topic_name", "gz_topic_name", "ros_type_name", "gz_type_name", "direction", "lazy"}
    assert all(set(entry) <= known for entry in entries.values())


def test_every_task_is_about_an_object_that_the_bridge_carries() -> None:
    assert {task.target for task in load_tasks().values() if task.skill == "pick"} <= set(OBJECTS)
