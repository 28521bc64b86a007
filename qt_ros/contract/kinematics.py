"""Forward kinematics and Jacobian of the arm from the URDF, by Pinocchio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pinocchio
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.strict import ConfigError


class Kinematics:
    """Kinematics of ``joints`` from ``base_frame`` to ``tool_frame``; every other joint stays where ``fixed`` puts it.

    ``fixed`` maps joint names to positions (rad or m) for joints outside ``joints`` (default 0). Positions in m,
    rotations as 3x3 matrices, twists are linear then angular, in base_frame axes, at the tool. Raises ConfigError for
    unknown names.
    """

    def __init__(
        self,
        urdf: Path,
        base_frame: str,
        tool_frame: str,
        joints: Sequence[str],
        fixed: dict[str, float] | None = None,
    ) -> None:
        full = pinocchio.buildModelFromUrdf(str(urdf))
        known = list(full.names)[1:]
        unknown = [j for j in joints if j not in known]
        if unknown:
            raise ConfigError(f"{urdf.name}: no joint {', '.join(unknown)}; it has {', '.join(known)}")
        reference = pinocchio.neutral(full)
        for name, position in (fixed or {}).items():
            if name in known:
                joint = full.joints[full.getJointId(name)]
                if joint.nq == 1:
                    reference[joint.idx_q] = position
        locked = [full.getJointId(n) for n in known if n not in joints]
        self._model = pinocchio.buildReducedModel(full, locked, reference)
        self._data = self._model.createData()
        for frame in (base_frame, tool_frame):
            if not self._model.existFrame(frame):
                raise ConfigError(f"{urdf.name}: no frame {frame!r}")
        self._base = self._model.getFrameId(base_frame)
        self._tool = self._model.getFrameId(tool_frame)
        self.joints: tuple[str, ...] = tuple(joints)
        by_name = [self._model.joints[self._model.getJointId(j)] for j in joints]
        self._q_index = np.array([j.idx_q for j in by_name])
        self._v_index = np.array([j.idx_v for j in by_name])
        if any(j.nq != 1 for j in by_name):
            raise ConfigError(
                f"{urdf.name}: continuous joints cannot be arm joints here; give them limits (type revolute)"
            )
        self.lower: NDArray[np.float64] = np.array(self._model.lowerPositionLimit)[self._q_index]
        self.upper: NDArray[np.float64] = np.array(self._model.upperPositionLimit)[self._q_index]
        self.velocity: NDArray[np.float64] = np.array(self._model.velocityLimit)[self._v_index]

    def _full(self, q: ArrayLike) -> NDArray[np.float64]:
        q = np.asarray(q, dtype=np.float64)
        if q.shape != (len(self.joints),):
            raise ValueError(f"need {len(self.joints)} joint positions, found shape {q.shape}")
        full = np.empty(self._model.nq)
        full[self._q_index] = q
        return full

    def fk(self, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Joint positions (n,) -> tool position (3,) m and rotation (3, 3) in the base frame."""
        pinocchio.framesForwardKinematics(self._model, self._data, self._full(q))
        pose = self._data.oMf[self._base].actInv(self._data.oMf[self._tool])
        return np.array(pose.translation), np.array(pose.rotation)

    def jacobian(self, q: ArrayLike) -> NDArray[np.float64]:
        """Joint positions (n,) -> Jacobian (6, n) at the tool: linear (m) then angular (rad) rows, base-frame axes."""
        full = pinocchio.computeFrameJacobian(
            self._model, self._data, self._full(q), self._tool, pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )
        pinocchio.updateFramePlacement(self._model, self._data, self._base)
        to_base = np.array(self._data.oMf[self._base].rotation).T
        columns = full[:, self._v_index]
        return np.vstack([to_base @ columns[:3], to_base @ columns[3:]])
