"""One MuJoCo model from the robot's URDF and the kitchen's SDF: the files Gazebo, Pinocchio and RViz read too.

What the files cannot say is decided here: actuators, which shapes may touch, contact softness, the camera's orientation
convention. The base moves on three planar joints held by stiff servos instead of on rolling wheel contacts: soft wheel
contacts creep and rock while the arm moves, and cost four contacts in every step. The wheels still turn as they should.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from qt_ros.contract.robot import package_root
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.sdf import Joint, Link, Model, SdfWorld, Shape, read_sdf

CAMERA = "head_camera"
OVERVIEW = "overview"  # a bystander's view, for pictures
CAMERA_FRAME = "head_camera_optical_frame"
BASE_JOINTS = ("base_x", "base_y", "base_yaw")
WHEEL_JOINTS = ("left_wheel_joint", "right_wheel_joint")
ARM_JOINTS = tuple(f"arm_joint_{i}" for i in range(1, 8))
LIFT_JOINT = "lift_joint"
FINGER_JOINTS = ("left_finger_joint", "right_finger_joint")
FINGER_BODIES = ("left_finger_link", "right_finger_link")

# Collision bits: robot shapes meet objects and furniture, never each other (the servo keeps the arm in its posture);
# objects meet everything; furniture does not meet furniture.
_ROBOT, _OBJECT = 1, 2
_VISUAL_GROUP, _COLLISION_GROUP = 1, 3
_ROLLING_BODIES = ("left_wheel_link", "right_wheel_link", "front_caster_link", "rear_caster_link")

_GEOM_TYPES = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "plane": mujoco.mjtGeom.mjGEOM_PLANE,
}


@dataclass(frozen=True)
class _Servo:
    """Gains of a position servo: stiffness (N/m or Nm/rad), force limit (N or Nm), armature (kg or kg m^2)."""

    stiffness: float
    force: float
    armature: float


_SERVOS = {
    "base_x": _Servo(60000.0, 400.0, 0.0),
    "base_y": _Servo(60000.0, 400.0, 0.0),
    "base_yaw": _Servo(20000.0, 200.0, 0.0),
    "left_wheel_joint": _Servo(20.0, 20.0, 0.01),
    "right_wheel_joint": _Servo(20.0, 20.0, 0.01),
    "lift_joint": _Servo(40000.0, 800.0, 5.0),
    "arm_joint_1": _Servo(4000.0, 150.0, 0.15),
    "arm_joint_2": _Servo(4000.0, 150.0, 0.15),
    "arm_joint_3": _Servo(2500.0, 100.0, 0.10),
    "arm_joint_4": _Servo(2500.0, 100.0, 0.10),
    "arm_joint_5": _Servo(1200.0, 60.0, 0.05),
    "arm_joint_6": _Servo(1200.0, 60.0, 0.05),
    "arm_joint_7": _Servo(600.0, 60.0, 0.05),
    # 50 N over both fingers: 25 N on each side of the object.
    "left_finger_joint": _Servo(4000.0, 50.0, 0.3),
}


def robot_path() -> Path:
    """The robot's URDF."""
    return package_root() / "description" / "mobile_manipulator.urdf"


def kitchen_path() -> Path:
    """The kitchen's SDF world."""
    return package_root() / "description" / "kitchen.sdf"


def build_model(urdf: Path | None = None, sdf: Path | None = None) -> mujoco.MjModel:
    """The compiled simulation model; defaults to the package's robot and kitchen.

    Body and joint names are those of the files; a model of the SDF with a single free link is one body named after the
    model. Raises SdfError for tags the reader does not know and ValueError for a URDF without the expected joints.
    """
    urdf, sdf = urdf or robot_path(), sdf or kitchen_path()
    world = read_sdf(sdf)
    spec = _robot_spec(urdf)
    _set_options(spec, world)
    for model in world.models:
        _add_model(spec, model)
    spec.worldbody.add_camera(
        name=OVERVIEW, pos=(1.9, 1.5, 1.7), fovy=45.0, quat=_look_at((1.9, 1.5, 1.7), (0.35, 0.0, 0.75))
    )
    for light in world.lights:
        spec.worldbody.add_light(
            name=light.name,
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            pos=light.position,
            dir=light.direction,
            diffuse=light.diffuse,
            specular=light.specular,
            castshadow=False,
        )
    return spec.compile()


def _set_options(spec: mujoco.MjSpec, world: SdfWorld) -> None:
    option = spec.option
    option.gravity = world.gravity
    option.timestep = world.timestep
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # Elliptic cones with a high friction-to-normal impedance ratio keep a held object from creeping out of the fingers.
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    option.iterations = 20
    option.ls_iterations = 20
    # Resting objects sleep until something touches them: their contacts cost nothing.
    option.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
    visual = spec.visual
    visual.headlight.ambient = world.ambient
    visual.headlight.diffuse = (0.0, 0.0, 0.0)
    visual.headlight.specular = (0.0, 0.0, 0.0)
    visual.map.znear, visual.map.zfar = 0.02, 10.0
    visual.quality.shadowsize = 0
    # No multisampling: it costs software OpenGL three quarters of its speed; shrinking to policy size smooths enough.
    visual.quality.offsamples = 0
    # Fixed, so that the camera's clipping planes do not depend on where the parked objects are.
    spec.stat.extent, spec.stat.center = 1.0, (0.6, 0.0, 0.7)
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=world.background,
        rgb2=world.background,
        width=8,
        height=8,
    )


def _robot_spec(urdf: Path) -> mujoco.MjSpec:
    """The URDF as an editable spec with base joints, servos, camera and collision rules."""
    root = ElementTree.parse(urdf).getroot()
    # MuJoCo's own compiler settings ride in the URDF; adding them in memory keeps the file free of them.
    extension = ElementTree.SubElement(root, "mujoco")
    ElementTree.SubElement(extension, "compiler", discardvisual="false", fusestatic="false")
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))

    for body in spec.bodies:
        if body.name == "world":
            continue
        body.gravcomp = 1.0
        for geom in body.geoms:
            _set_robot_geom(body.name, geom)
    _add_base_joints(spec.body("base_link"))
    for name, servo in _SERVOS.items():
        joint = spec.joint(name)
        if joint is None:
            raise ConfigError(f"{urdf}: no joint {name!r}; the embedded simulator drives it")
        joint.armature = servo.armature
        actuator = spec.add_actuator(
            name=name,
            target=name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            forcerange=(-servo.force, servo.force),
            forcelimited=mujoco.mjtLimited.mjLIMITED_TRUE,
        )
        actuator.set_to_position(kp=servo.stiffness, dampratio=1.0)
    spec.joint(FINGER_JOINTS[1]).armature = _SERVOS[FINGER_JOINTS[0]].armature
    for equality in spec.equalities:  # the mimic joint; stiff, or the fingers lag each other when squeezing
        equality.solref = (0.008, 1.0)
        equality.solimp = (0.95, 0.99, 0.001, 0.5, 2.0)

    width, height, fovx = _camera_of(root, urdf)
    spec.body(CAMERA_FRAME).add_camera(
        name=CAMERA,
        quat=(0.0, 1.0, 0.0, 0.0),  # MuJoCo looks along -z with y up; the optical frame along +z with y down
        fovy=math.degrees(2.0 * math.atan(math.tan(fovx / 2.0) * height / width)),
    )
    return spec


def _set_robot_geom(body: str, geom: mujoco.MjsGeom) -> None:
    if geom.contype == 0:  # a URDF visual
        geom.group = _VISUAL_GROUP
        return
    geom.group = _COLLISION_GROUP
    geom.contype, geom.conaffinity = (0, 0) if body in _ROLLING_BODIES else (_ROBOT, 0)
    if body in FINGER_BODIES:
        # Rubber pads decide the friction of whatever they touch (priority); six dimensions hold balls from rolling out.
        geom.priority = 1
        geom.condim = 6
        geom.friction = (1.6, 0.02, 0.003)
        geom.solref = (0.01, 1.0)
        geom.solimp = (0.95, 0.99, 0.001, 0.5, 2.0)


def _add_base_joints(base: mujoco.MjsBody) -> None:
    x, y, yaw = BASE_JOINTS
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    base.add_joint(name=x, type=slide, axis=(1.0, 0.0, 0.0))
    base.add_joint(name=y, type=slide, axis=(0.0, 1.0, 0.0))
    base.add_joint(name=yaw, type=hinge, axis=(0.0, 0.0, 1.0))


def _camera_of(root: ElementTree.Element, urdf: Path) -> tuple[int, int, float]:
    """Width, height and horizontal field of view (rad) of the head camera, from the URDF's Gazebo sensor."""
    sensor = root.find(f"./gazebo/sensor[@name='{CAMERA}']/camera")
    texts = [
        None if sensor is None else sensor.findtext(tag) for tag in ("image/width", "image/height", "horizontal_fov")
    ]
    if texts[0] is None or texts[1] is None or texts[2] is None:
        raise ConfigError(f"{urdf}: no gazebo sensor {CAMERA!r} with width, height and horizontal_fov")
    return int(texts[0]), int(texts[1]), float(texts[2])


def _add_model(spec: mujoco.MjSpec, model: Model) -> None:
    """Add one SDF model: welded to the world (static), free (an object), or links on fixed and prismatic joints."""
    frame = spec.worldbody.add_frame(pos=model.pose[:3], quat=quaternion(model.pose[3:]))
    by_child: dict[str, Joint] = {joint.child: joint for joint in model.joints}
    for link in model.links:
        single = len(model.links) == 1
        body = spec.worldbody.add_body(name=model.name if single else link.name, pos=link.pose[:3])
        body.quat = quaternion(link.pose[3:])
        body.set_frame(frame)
        if link.mass > 0.0:
            _set_inertia(body, link)
        joint = by_child.get(link.name)
        if model.free:
            body.add_freejoint(name=f"{model.name}_joint")
        elif joint is not None and joint.kind == "prismatic":
            body.add_joint(
                name=joint.name,
                type=mujoco.mjtJoint.mjJNT_SLIDE,
                axis=joint.axis,
                range=(joint.lower, joint.upper),
                limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                damping=(joint.damping, 0.0, 0.0),
                frictionloss=joint.friction,
            )
        for shape in link.shapes:
            _add_shape(body, shape, model.free)


def _set_inertia(body: mujoco.MjsBody, link: Link) -> None:
    body.mass = link.mass
    body.ipos, body.iquat = link.inertial_pose[:3], quaternion(link.inertial_pose[3:])
    body.fullinertia = link.inertia
    body.explicitinertial = True


def _add_shape(body: mujoco.MjsBody, shape: Shape, is_object: bool) -> None:
    geom = body.add_geom(name=shape.name, type=_GEOM_TYPES[shape.kind], pos=shape.pose[:3])
    geom.quat = quaternion(shape.pose[3:])
    if shape.kind == "box":
        geom.size = [side / 2.0 for side in shape.size]
    elif shape.kind == "cylinder":
        geom.size = (shape.size[0], shape.size[1] / 2.0, 0.0)
    elif shape.kind == "plane":
        geom.size = (shape.size[0] / 2.0, shape.size[1] / 2.0, 1.0)
    else:
        geom.size = (shape.size[0], 0.0, 0.0)
    if shape.surface is None:
        geom.group, geom.contype, geom.conaffinity, geom.mass = _VISUAL_GROUP, 0, 0, 0.0
        geom.rgba = shape.rgba
        return
    geom.group = _COLLISION_GROUP
    geom.contype, geom.conaffinity = (_OBJECT if is_object else 0), _ROBOT | _OBJECT
    geom.friction = (shape.surface.friction, shape.surface.torsional, shape.surface.rolling)
    geom.condim = 6 if is_object and shape.kind == "sphere" else 4
    geom.solref = (0.01, 1.0)


def quaternion(rpy: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Fixed-axis roll, pitch, yaw (rad) -> MuJoCo quaternion (w, x, y, z)."""
    cr, sr = math.cos(rpy[0] / 2.0), math.sin(rpy[0] / 2.0)
    cp, sp = math.cos(rpy[1] / 2.0), math.sin(rpy[1] / 2.0)
    cy, sy = math.cos(rpy[2] / 2.0), math.sin(rpy[2] / 2.0)
    return (
        cr * cp * cy + sr * sp * sy,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
    )


def _look_at(eye: tuple[float, float, float], target: tuple[float, float, float]) -> tuple[float, float, float, float]:
    """Quaternion (w, x, y, z) of a MuJoCo camera at ``eye`` looking at ``target``, upright."""
    back = np.asarray(eye) - np.asarray(target)
    back = back / np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right = right / np.linalg.norm(right)
    matrix = np.column_stack([right, np.cross(back, right), back])
    result = np.empty(4)
    mujoco.mju_mat2Quat(result, matrix.ravel())
    return (float(result[0]), float(result[1]), float(result[2]), float(result[3]))
