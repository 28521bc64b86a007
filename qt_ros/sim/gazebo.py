"""What Gazebo Sim (Harmonic) is given beside the world: the robot's URDF for one namespace, and poses to set.

The URDF and the SDF are those of the embedded simulator. Neither Gazebo nor ROS is needed here.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from qt_ros.contract.robot import package_root
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.sdf import Model, SdfWorld
from qt_ros.sim.world import SceneSpec

ROBOT_ENTITY = "robot"
"""Name of the spawned robot in Gazebo; its pose is on the gz topic /model/robot/pose."""
CONTROL_PLUGIN = "gz_ros2_control::GazeboSimROS2ControlPlugin"
# The controllers' private topics under the names that the contract gives them, and global ones into the namespace.
REMAPPINGS = (
    "base_controller/cmd_vel:=cmd_vel",
    "base_controller/odom:=odom",
    "/clock:=clock",
    "/tf:=tf",
    "/tf_static:=tf_static",
    "/diagnostics:=diagnostics",
)
PARK_X = -3.0  # m: objects that are not in a scene stand on the floor behind the robot

Pose7 = tuple[float, float, float, float, float, float, float]
"""x y z (m) qx qy qz qw, in the world."""


def gazebo_urdf(urdf: Path, namespace: str = "", controllers: Path | None = None) -> str:
    """The URDF's text with the ros2_control plugin set up for ``namespace``.

    The plugin reads ``controllers`` (or the file that the URDF names, taken relative to the package's share folder).
    Raises ConfigError when the plugin or the file is missing.
    """
    root = ElementTree.parse(urdf).getroot()
    plugin = root.find(f"./gazebo/plugin[@name='{CONTROL_PLUGIN}']")
    parameters = plugin.find("parameters") if plugin is not None else None
    if plugin is None or parameters is None:
        raise ConfigError(f"{urdf}: no <gazebo> plugin {CONTROL_PLUGIN} with <parameters>; Gazebo could not move it")
    path = controllers or package_root() / (parameters.text or "").strip()
    if not path.is_file():
        raise ConfigError(f"{urdf}: controller parameters {path} do not exist")
    parameters.text = str(path)
    ros = ElementTree.SubElement(plugin, "ros")
    if namespace.strip("/"):
        ElementTree.SubElement(ros, "namespace").text = "/" + namespace.strip("/")
    for rule in REMAPPINGS:
        ElementTree.SubElement(ros, "remapping").text = rule
    return ElementTree.tostring(root, encoding="unicode")


def robot_pose(x: float, y: float, yaw: float) -> Pose7:
    """The robot standing on the floor at ``x``, ``y`` (m), looking towards ``yaw`` (rad)."""
    return (x, y, 0.0, 0.0, 0.0, math.sin(yaw / 2.0), math.cos(yaw / 2.0))


def object_poses(world: SdfWorld, scene: SceneSpec) -> dict[str, Pose7]:
    """Where the free objects of ``world`` belong in ``scene``; the others are parked. ConfigError: unknown ones."""
    objects = [model for model in world.models if model.free]
    unknown = sorted(set(scene.objects) - {model.name for model in objects})
    if unknown:
        raise ConfigError(f"the scene names {', '.join(unknown)}, which world {world.name!r} does not have")
    poses: dict[str, Pose7] = {}
    for index, model in enumerate(objects):
        place = scene.objects.get(model.name)
        half = half_height(model)
        if place is None:
            poses[model.name] = robot_pose(PARK_X, 0.2 * index, 0.0)[:2] + (half, 0.0, 0.0, 0.0, 1.0)
        else:
            x, y, _, qx, qy, qz, qw = robot_pose(place.x, place.y, place.yaw)
            poses[model.name] = (x, y, place.z + half, qx, qy, qz, qw)
    return poses


def half_height(model: Model) -> float:
    """Half the height (m) of an object of one upright primitive shape."""
    shape = next(shape for shape in model.links[0].shapes if shape.surface is not None)
    return {"box": lambda s: s[2] / 2.0, "cylinder": lambda s: s[1] / 2.0, "sphere": lambda s: s[0]}[shape.kind](
        shape.size
    )


def pose_request(poses: Mapping[str, Pose7]) -> str:
    """Poses as the text of a gz.msgs.Pose_V, for Gazebo's service set_pose_vector."""
    parts = []
    for name, (x, y, z, qx, qy, qz, qw) in poses.items():
        position = f"position {{ x: {x:.6f} y: {y:.6f} z: {z:.6f} }}"
        orientation = f"orientation {{ x: {qx:.8f} y: {qy:.8f} z: {qz:.8f} w: {qw:.8f} }}"
        parts.append(f'pose {{ name: "{name}" {position} {orientation} }}')
    return " ".join(parts)


def set_poses_command(world: str, poses: Mapping[str, Pose7], timeout_ms: int = 5000) -> list[str]:
    """The command that sets ``poses`` in the running Gazebo; it prints `data: true` when Gazebo took them."""
    return [
        *("gz", "service", "-s", f"/world/{world}/set_pose_vector"),
        *("--reqtype", "gz.msgs.Pose_V", "--reptype", "gz.msgs.Boolean"),
        *("--timeout", str(timeout_ms), "--req", pose_request(poses)),
    ]


def server_arguments(world: Path, headless: bool, verbosity: int) -> str:
    """Arguments of `gz sim`: run at once; headless means server only, with the camera rendered off screen (EGL)."""
    mode = ("-s", "--headless-rendering") if headless else ()
    return " ".join(["-r", *mode, "-v", str(verbosity), _quoted(world)])


def _quoted(path: Path) -> str:
    """For the shell that ros_gz_sim's launch file starts Gazebo with."""
    return "'" + str(path).replace("'", "'\\''") + "'"
