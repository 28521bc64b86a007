"""The head camera: off-screen pictures, intrinsics and the projection of points, all from one MuJoCo model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import TracebackType

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.sim.scene import CAMERA, CAMERA_FRAME, quaternion


@dataclass(frozen=True)
class CameraInfo:
    """Pinhole intrinsics in pixels (sensor_msgs/CameraInfo: k row-major 3x3, p row-major 3x4, no distortion)."""

    width: int
    height: int
    frame: str
    fx: float
    fy: float
    cx: float
    cy: float

    @property
    def k(self) -> tuple[float, ...]:
        return (self.fx, 0.0, self.cx, 0.0, self.fy, self.cy, 0.0, 0.0, 1.0)

    @property
    def p(self) -> tuple[float, ...]:
        return (self.fx, 0.0, self.cx, 0.0, 0.0, self.fy, self.cy, 0.0, 0.0, 0.0, 1.0, 0.0)


class HeadCamera:
    """Renders and projects with the head camera of ``model``.

    One renderer is kept per picture size. An OpenGL context belongs to the thread that renders first: call ``render``
    from one thread only.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._id = model.camera(CAMERA).id
        self._position = model.cam_pos[self._id].copy()
        self._quaternion = model.cam_quat[self._id].copy()
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = 0
        self._options.geomgroup[1] = 1  # visuals only
        self._options.sitegroup[:] = 0

    def set_jitter(self, offset: tuple[float, ...]) -> None:
        """Mount error of the camera: ``offset`` = x y z (m) roll pitch yaw (rad) in the optical frame."""
        if len(offset) != 6 or not np.all(np.isfinite(offset)):
            raise ValueError(f"camera offset must be six finite numbers, found {offset}")
        self._model.cam_pos[self._id] = self._position + np.asarray(offset[:3])
        mujoco.mju_mulQuat(self._model.cam_quat[self._id], np.array(quaternion(offset[3:])), self._quaternion)

    def render(self, data: mujoco.MjData, width: int, height: int, camera: str = CAMERA) -> NDArray[np.uint8]:
        """Picture (height, width, 3) uint8 RGB of the present state. Raises ValueError for sizes beyond the buffer."""
        limit = self._model.vis.global_
        if not (0 < width <= limit.offwidth and 0 < height <= limit.offheight):
            raise ValueError(f"picture size {width}x{height} is outside 1x1 .. {limit.offwidth}x{limit.offheight}")
        renderer = self._renderers.get((width, height))
        if renderer is None:
            renderer = mujoco.Renderer(self._model, height, width)
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            self._renderers[(width, height)] = renderer
        renderer.update_scene(data, camera=camera, scene_option=self._options)
        return renderer.render()

    def info(self, width: int, height: int) -> CameraInfo:
        """Intrinsics for a picture of that size (the nominal mount: jitter is an error the robot does not know)."""
        focal = 0.5 * height / math.tan(0.5 * math.radians(self._model.cam_fovy[self._id]))
        return CameraInfo(width, height, CAMERA_FRAME, focal, focal, width / 2.0, height / 2.0)

    def project(self, data: mujoco.MjData, point: ArrayLike, aspect: float = 4.0 / 3.0) -> tuple[float, float, bool]:
        """World point (3,) m -> picture fractions (u right, v down; 0..1 inside the picture) and whether it is in view.

        In view means inside the picture and in front of the camera; it may still be hidden behind something.
        """
        rotation = data.cam_xmat[self._id].reshape(3, 3)
        x, y, z = rotation.T @ (np.asarray(point, dtype=np.float64) - data.cam_xpos[self._id])
        if z > -1e-6:
            return 0.5, 0.5, False
        scale = 0.5 / math.tan(0.5 * math.radians(self._model.cam_fovy[self._id]))
        u, v = 0.5 + scale / aspect * x / -z, 0.5 - scale * y / -z
        return float(u), float(v), bool(0.0 <= u < 1.0 and 0.0 <= v < 1.0)

    def close(self) -> None:
        """Free the OpenGL contexts; ``render`` makes new ones when called again."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def __enter__(self) -> HeadCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
