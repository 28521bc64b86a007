"""The simulated world: physics, the robot's joints as a controller sees them, and ground truth for scoring.

Frames: world (z up, floor at 0); base_link coincides with it after ``reset`` unless the scene starts the robot
elsewhere. odom is where base_link was at the reset. Quaternions are (x, y, z, w).
Commands are position targets for the servos of qt_ros.sim.scene; nothing is attached or moved by hand between resets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.camera import CameraInfo, HeadCamera
from qt_ros.sim.scene import (
    ARM_JOINTS,
    BASE_JOINTS,
    CAMERA,
    FINGER_BODIES,
    FINGER_JOINTS,
    LIFT_JOINT,
    WHEEL_JOINTS,
    build_model,
    quaternion,
)

CHUNK = 0.02  # s: base and gripper targets are ramped this often
FINGER_SPEED = 0.15  # m/s of each finger: closes from fully open in a third of a second
SETTLE_TIME = 0.4  # s of physics inside reset
_PARK_X = -3.0  # m: objects that are not in a scene rest on the floor behind the robot, asleep
HANDLE = "drawer_handle"  # the drawer's knob: has a pose, a size and contacts as objects have
DRAWER_JOINT = "drawer_joint"
_BASE_LEAD = 0.05  # m or rad the base reference may run ahead of the base (something blocks it)


class SimulationError(RuntimeError):
    """The physics became unstable (non-finite or huge accelerations); reset the world."""


@dataclass(frozen=True)
class Placement:
    """Where an object stands at the start: x, y (m, world), z of the surface below it (m), yaw (rad)."""

    x: float
    y: float
    z: float
    yaw: float = 0.0


@dataclass(frozen=True)
class SceneSpec:
    """Everything that varies from episode to episode. Objects not named are not in the scene.

    ``near``: the second object or place that the task is about. ``base``: where the robot stands at the start, x y (m)
    and yaw (rad) in the world. ``drawer``: how far it is open (m).
    """

    seed: int = 0
    task: str = ""
    target: str = ""
    instruction: str = ""
    objects: Mapping[str, Placement] = field(default_factory=dict)
    joints: Mapping[str, float] = field(default_factory=dict)  # start positions; the contract's home where not given
    light_direction: tuple[float, float, float] = (0.3, 0.2, -0.93)
    light_intensity: float = 1.0  # factor on the lights' colours
    ambient_intensity: float = 1.0
    camera_offset: tuple[float, ...] = (0.0,) * 6  # x y z (m) roll pitch yaw (rad), optical frame
    near: str = ""
    base: tuple[float, float, float] = (0.0, 0.0, 0.0)
    drawer: float = 0.0


@dataclass(frozen=True)
class Odometry:
    """Base pose in the odom frame (m, rad) and its speed (m/s forward, rad/s counter-clockwise)."""

    x: float
    y: float
    yaw: float
    forward: float
    turn: float


class World:
    """One robot in one kitchen. ``reset`` before anything else. Same scene and same commands give the same motion."""

    def __init__(self, contract: RobotContract | None = None) -> None:
        self.contract = contract or load_contract("mobile_manipulator")
        self.model = build_model()
        self.data = mujoco.MjData(self.model)
        self.camera = HeadCamera(self.model)
        self.scene = SceneSpec()
        m = self.model
        free = int(mujoco.mjtJoint.mjJNT_FREE)
        self._object_q = {
            m.body(m.jnt_bodyid[j]).name: int(m.jnt_qposadr[j]) for j in range(m.njnt) if m.jnt_type[j] == free
        }
        self.objects: tuple[str, ...] = tuple(self._object_q)
        self.joints: tuple[str, ...] = (*WHEEL_JOINTS, LIFT_JOINT, *ARM_JOINTS, *FINGER_JOINTS)
        self._q = {name: int(m.joint(name).qposadr[0]) for name in (*BASE_JOINTS, *self.joints)}
        self._v = {name: int(m.joint(name).dofadr[0]) for name in (*BASE_JOINTS, *self.joints)}
        self._u = {m.actuator(i).name: i for i in range(m.nu)}
        self._handle = int(m.geom(f"{HANDLE}_collision").id)
        self._drawer = int(m.joint(DRAWER_JOINT).qposadr[0])
        self.drawer_range = (float(m.joint(DRAWER_JOINT).range[0]), float(m.joint(DRAWER_JOINT).range[1]))
        self._fingers = tuple(int(m.body(name).id) for name in FINGER_BODIES)
        self._tool = int(m.body("tool0").id)
        self._base = int(m.body("base_link").id)
        self._track = float(m.body(WHEEL_JOINTS[0].replace("joint", "link")).pos[1]) * 2.0
        self._wheel_radius = float(m.body(WHEEL_JOINTS[0].replace("joint", "link")).pos[2])
        self._light = (m.light_diffuse.copy(), m.light_specular.copy(), m.vis.headlight.ambient.copy())
        self._time_offset = 0.0
        self.reset(SceneSpec())

    # --- episodes

    def reset(self, scene: SceneSpec) -> None:
        """Set the world up as ``scene`` says, let it settle, start the clock at 0. ValueError for unknown names."""
        unknown = sorted(set(scene.objects) - set(self.objects))
        if unknown:
            raise ConfigError(f"scene names unknown object(s) {', '.join(unknown)}; known: {', '.join(self.objects)}")
        if not self.drawer_range[0] <= _finite(scene.drawer, "drawer") <= self.drawer_range[1]:
            raise ConfigError(f"scene opens the drawer {scene.drawer} m; it goes from {self.drawer_range}")
        self.scene = scene
        self._set_look(scene)  # first: lights that never move are placed by mj_resetData and not by mj_forward
        mujoco.mj_resetData(self.model, self.data)
        self._place_objects(scene)
        start = {**self.contract.kinematics.home, **scene.joints}
        if FINGER_JOINTS[0] in start:
            start[FINGER_JOINTS[1]] = start[FINGER_JOINTS[0]]
        for name, position in start.items():
            if name not in self._q:
                raise ConfigError(f"scene sets unknown joint {name!r}; known: {', '.join(self.joints)}")
            self.data.qpos[self._q[name]] = position
            if name in self._u:
                self.data.ctrl[self._u[name]] = position
        for name, position in zip(BASE_JOINTS, scene.base, strict=True):
            self.data.qpos[self._q[name]] = self.data.ctrl[self._u[name]] = _finite(position, name)
        self.data.qpos[self._drawer] = scene.drawer
        self._base_target = np.array(scene.base, dtype=np.float64)
        self._base_speed = (0.0, 0.0)
        self._finger_target = float(start[FINGER_JOINTS[0]])
        self._time_offset = 0.0
        mujoco.mj_forward(self.model, self.data)
        self.step(SETTLE_TIME)
        self._time_offset = self.data.time
        self._rest = {name: self.object_pose(name)[:3] for name in (*scene.objects, HANDLE)}

    def _set_look(self, scene: SceneSpec) -> None:
        m = self.model
        diffuse, specular, ambient = self._light
        direction = np.asarray(scene.light_direction, dtype=np.float64)
        m.light_dir[:] = direction / np.linalg.norm(direction)
        m.light_diffuse[:] = diffuse * scene.light_intensity
        m.light_specular[:] = specular * scene.light_intensity
        m.vis.headlight.ambient[:] = ambient * scene.ambient_intensity
        self.camera.set_jitter(scene.camera_offset)

    def _place_objects(self, scene: SceneSpec) -> None:
        for index, (name, address) in enumerate(self._object_q.items()):
            place = scene.objects.get(name) or Placement(_PARK_X, 0.2 * index, 0.0)
            height = place.z + self.half_size(name)[2]
            self.data.qpos[address : address + 3] = (place.x, place.y, height)
            self.data.qpos[address + 3 : address + 7] = quaternion((0.0, 0.0, place.yaw))

    # --- time and commands

    @property
    def time(self) -> float:
        """Simulated seconds since the reset."""
        return float(self.data.time - self._time_offset)

    def step(self, dt: float) -> None:
        """Advance by ``dt`` seconds, a multiple of the physics step (else ValueError). SimulationError if unstable."""
        steps = round(dt / self.model.opt.timestep)
        if steps < 1 or abs(steps * self.model.opt.timestep - dt) > 1e-9:
            raise ValueError(f"dt {dt} s is not a positive multiple of the physics step {self.model.opt.timestep} s")
        chunk = max(1, round(CHUNK / self.model.opt.timestep))
        while steps > 0:
            now = min(chunk, steps)
            self._ramp(now * self.model.opt.timestep)
            mujoco.mj_step(self.model, self.data, nstep=now)
            steps -= now
        # A step ends with new joint positions but the body poses of its start; pictures and poses should show the end.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        if any(self.data.warning[int(w)].number for w in _UNSTABLE):
            raise SimulationError(
                f"physics became unstable at {self.time:.3f} s of scene seed {self.scene.seed}; reset the world"
            )

    def set_arm_target(self, positions: Mapping[str, float]) -> None:
        """Position targets (rad; lift m) of arm joints and lift, clipped to limits; joints not named keep theirs."""
        for name, position in positions.items():
            if name not in ARM_JOINTS and name != LIFT_JOINT:
                raise ValueError(f"no arm joint {name!r}; known: {', '.join((*ARM_JOINTS, LIFT_JOINT))}")
            low, high = self.model.joint(name).range
            self.data.ctrl[self._u[name]] = min(max(_finite(position, name), low), high)

    def set_gripper(self, closedness: float) -> None:
        """Target of both fingers: 0 open .. 1 closed (clipped). Their speed and force are limited."""
        spec = self.contract.kinematics
        self._finger_target = spec.gripper_position(min(max(_finite(closedness, "gripper"), 0.0), 1.0))

    def set_base(self, forward: float, turn: float) -> None:
        """Base speed from now on: m/s forward, rad/s counter-clockwise."""
        self._base_speed = (_finite(forward, "forward"), _finite(turn, "turn"))

    def _ramp(self, dt: float) -> None:
        """Move gripper and base targets by what ``dt`` seconds allow."""
        ctrl, finger = self.data.ctrl, self._u[FINGER_JOINTS[0]]
        step = FINGER_SPEED * dt
        ctrl[finger] += min(max(self._finger_target - ctrl[finger], -step), step)

        forward, turn = self._base_speed
        target = self._base_target
        measured = np.array([self.data.qpos[self._q[name]] for name in BASE_JOINTS])
        middle = target[2] + 0.5 * turn * dt
        target += (forward * math.cos(middle) * dt, forward * math.sin(middle) * dt, turn * dt)
        np.clip(target, measured - _BASE_LEAD, measured + _BASE_LEAD, out=target)
        for name, value in zip(BASE_JOINTS, target, strict=True):
            ctrl[self._u[name]] = value
        for name, side in zip(WHEEL_JOINTS, (-0.5, 0.5), strict=True):
            ctrl[self._u[name]] += (forward + side * self._track * turn) / self._wheel_radius * dt

    # --- what the robot measures

    def joint_positions(self) -> dict[str, float]:
        """Measured positions (rad, m) of wheels, lift, arm and fingers."""
        return {name: float(self.data.qpos[self._q[name]]) for name in self.joints}

    def joint_velocities(self) -> dict[str, float]:
        """Measured velocities (rad/s, m/s) of the same joints."""
        return {name: float(self.data.qvel[self._v[name]]) for name in self.joints}

    def odom(self) -> Odometry:
        """Base pose since the reset, in the odom frame, and speed."""
        x, y, yaw = (float(self.data.qpos[self._q[name]]) for name in BASE_JOINTS)
        vx, vy, turn = (float(self.data.qvel[self._v[name]]) for name in BASE_JOINTS)
        forward = vx * math.cos(yaw) + vy * math.sin(yaw)
        x0, y0, yaw0 = self.scene.base
        cos, sin, dx, dy = math.cos(yaw0), math.sin(yaw0), x - x0, y - y0
        return Odometry(cos * dx + sin * dy, cos * dy - sin * dx, yaw - yaw0, forward, turn)

    def render(self, width: int, height: int, camera: str = CAMERA) -> NDArray[np.uint8]:
        """Picture (height, width, 3) uint8 RGB of the head camera (or ``overview``) now. One thread only."""
        return self.camera.render(self.data, width, height, camera)

    def camera_info(self, width: int, height: int) -> CameraInfo:
        """Intrinsics of the head camera for that picture size."""
        return self.camera.info(width, height)

    def project(self, point: ArrayLike) -> tuple[float, float, bool]:
        """World point (3,) -> (u, v, in view) as fractions of the 4:3 head camera picture; see HeadCamera.project."""
        return self.camera.project(self.data, point)

    # --- ground truth, for scoring and the scripted demonstrator only

    def object_pose(self, name: str, frame: str = "world") -> NDArray[np.float64]:
        """Pose (7,) x y z qx qy qz qw of an object's centre (or HANDLE's) in ``frame`` (world or base_link)."""
        if name == HANDLE:
            quat = np.empty(4)
            mujoco.mju_mat2Quat(quat, self.data.geom_xmat[self._handle])
            return self._in_frame(self.data.geom_xpos[self._handle], quat, frame)
        if name not in self._object_q:
            raise ValueError(f"no object {name!r}; known: {', '.join(self.objects)}, {HANDLE}")
        return self._pose(int(self.model.body(name).id), frame)

    def tool_pose(self, frame: str = "base_link") -> NDArray[np.float64]:
        """Pose (7,) of tool0 in ``frame`` (base_link or world)."""
        return self._pose(self._tool, frame)

    def body_pose(self, name: str, frame: str = "world") -> NDArray[np.float64]:
        """Pose (7,) of any body of robot or kitchen, such as 'drawer'. KeyError for an unknown one."""
        return self._pose(int(self.model.body(name).id), frame)

    def to_base(self, point: ArrayLike) -> NDArray[np.float64]:
        """A point (3,) m of the world in base_link axes and origin."""
        turn = self.data.xmat[self._base].reshape(3, 3)
        return turn.T @ (np.asarray(point, dtype=np.float64) - self.data.xpos[self._base])

    def half_size(self, name: str) -> NDArray[np.float64]:
        """Half extents (3,) m of an object (or HANDLE) along its own axes."""
        m = self.model
        geom = self._handle if name == HANDLE else int(m.body(name).geomadr[0])
        return m.geom_aabb[geom, 3:].copy()

    def rest_height(self, name: str) -> float:
        """Height (m) of the object's centre after the reset, standing on its support."""
        return float(self.rest_position(name)[2])

    def rest_position(self, name: str) -> NDArray[np.float64]:
        """Where (3,) m, world, the object's centre was after the reset. ValueError for one not in this scene."""
        if name not in self._rest:
            raise ValueError(f"object {name!r} is not in this scene; it has {', '.join(self.scene.objects) or 'none'}")
        return self._rest[name].copy()

    def object_speed(self, name: str) -> float:
        """How fast (m/s) the object's centre moves."""
        address = int(self.model.joint(f"{name}_joint").dofadr[0])
        return float(np.linalg.norm(self.data.qvel[address : address + 3]))

    def drawer_opening(self) -> float:
        """How far (m) the drawer is open."""
        return float(self.data.qpos[self._drawer])

    def finger_contacts(self, name: str) -> tuple[bool, bool]:
        """Whether the left and the right finger touch the object (or HANDLE) now."""
        contact = self.data.contact
        geoms = contact.geom[: self.data.ncon] if self.data.ncon else np.empty((0, 2), int)
        if name == HANDLE:
            geoms = geoms[(geoms == self._handle).any(axis=1)]
        pairs = [{int(a), int(b)} for a, b in self.model.geom_bodyid[geoms]]
        body = int(self.model.geom_bodyid[self._handle]) if name == HANDLE else int(self.model.body(name).id)
        left, right = ({body, finger} for finger in self._fingers)
        return left in pairs, right in pairs

    def close(self) -> None:
        """Free the OpenGL contexts."""
        self.camera.close()

    def _pose(self, body: int, frame: str) -> NDArray[np.float64]:
        return self._in_frame(self.data.xpos[body], self.data.xquat[body], frame)

    def _in_frame(self, position: NDArray[np.float64], quat: NDArray[np.float64], frame: str) -> NDArray[np.float64]:
        """World position (3,) and quaternion (4,) w x y z -> pose (7,) in ``frame``."""
        if frame == "base_link":
            inverse, turned, product = np.empty(4), np.empty(3), np.empty(4)
            mujoco.mju_negQuat(inverse, self.data.xquat[self._base])
            mujoco.mju_rotVecQuat(turned, position - self.data.xpos[self._base], inverse)
            mujoco.mju_mulQuat(product, inverse, quat)
            position, quat = turned, product
        elif frame != "world":
            raise ValueError(f"unknown frame {frame!r}; known: world, base_link")
        return np.concatenate([position, quat[1:], quat[:1]])


_UNSTABLE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name}: {value} is not finite; nothing was commanded")
    return float(value)
