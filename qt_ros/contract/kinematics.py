"""Forward kinematics and Jacobian of the arm from the URDF, by Pinocchio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pinocchio
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.description import UrdfText
from qt_ros.contract.robot import RobotContract
from qt_ros.contract.strict import ConfigError


class Kinematics:
    """Kinematics of ``joints`` from ``base_frame`` to ``tool_frame``; every other joint stays where ``fixed`` puts it.

    ``fixed`` maps joint names to positions (rad or m) for joints outside ``joints`` (default 0). ``coupled`` names the
    ``joints`` that are several in the URDF, moved alike (a telescope): {name: joints of the URDF}; such a position is
    their sum. Positions in m, rotations as 3x3 matrices, twists are linear then angular, in base_frame axes, at the
    tool. Raises ConfigError for unknown names and for what is no URDF.
    """

    def __init__(
        self,
        urdf: Path | UrdfText,
        base_frame: str,
        tool_frame: str,
        joints: Sequence[str],
        fixed: Mapping[str, float] | None = None,
        coupled: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        full = parse_urdf(urdf)
        known = list(full.names)[1:]
        parts = {j: tuple((coupled or {}).get(j, (j,))) for j in joints}
        moved = [part for joint in joints for part in parts[joint]]
        unknown = [j for j in moved if j not in known]
        if unknown:
            raise ConfigError(f"{urdf.name}: no joint {', '.join(unknown)}; it has {', '.join(known)}")
        reference = pinocchio.neutral(full)
        for name, position in (fixed or {}).items():
            if name in known:
                joint = full.joints[full.getJointId(name)]
                if joint.nq == 1:
                    reference[joint.idx_q] = position
        locked = [full.getJointId(n) for n in known if n not in moved]
        self._model = pinocchio.buildReducedModel(full, locked, reference)
        self._data = self._model.createData()
        for frame in (base_frame, tool_frame):
            if not self._model.existFrame(frame):
                raise ConfigError(f"{urdf.name}: no frame {frame!r}")
        self._base = self._model.getFrameId(base_frame)
        self._tool = self._model.getFrameId(tool_frame)
        self.joints: tuple[str, ...] = tuple(joints)
        by_name = [self._model.joints[self._model.getJointId(j)] for j in moved]
        self._q_index = np.array([j.idx_q for j in by_name])
        self._v_index = np.array([j.idx_v for j in by_name])
        if any(j.nq != 1 for j in by_name):
            raise ConfigError(
                f"{urdf.name}: continuous joints cannot be arm joints here; give them limits (type revolute)"
            )
        # (n, moved): which URDF joints make up each joint. None: one each, as for most arms.
        shares = np.array([[float(p in parts[j]) for p in moved] for j in joints])
        self._shares = shares if len(moved) > len(joints) else None
        lower, upper = (
            np.array(a)[self._q_index] for a in (self._model.lowerPositionLimit, self._model.upperPositionLimit)
        )
        velocity = np.array(self._model.velocityLimit)[self._v_index]
        self.lower: NDArray[np.float64] = lower if self._shares is None else self._shares @ lower
        self.upper: NDArray[np.float64] = upper if self._shares is None else self._shares @ upper
        self.velocity: NDArray[np.float64] = velocity if self._shares is None else self._shares @ velocity

    @classmethod
    def of(cls, contract: RobotContract, joints: Sequence[str] | None = None) -> Kinematics:
        """From the contract's base to its tool; ``joints`` (default: the arm's) move, the others are at home."""
        spec = contract.kinematics
        moving = spec.arm_joints if joints is None else joints
        return cls(contract.urdf, spec.base_frame, spec.tool_frame, moving, fixed=spec.home, coupled=spec.coupled)

    def _full(self, q: ArrayLike) -> NDArray[np.float64]:
        q = np.asarray(q, dtype=np.float64)
        if q.shape != (len(self.joints),):
            raise ValueError(f"need {len(self.joints)} joint positions, found shape {q.shape}")
        full = np.empty(self._model.nq)
        full[self._q_index] = q if self._shares is None else (q / self._shares.sum(axis=1)) @ self._shares
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
        if self._shares is not None:
            columns = columns @ (self._shares / self._shares.sum(axis=1, keepdims=True)).T
        return np.vstack([to_base @ columns[:3], to_base @ columns[3:]])


def parse_urdf(urdf: Path | UrdfText) -> pinocchio.Model:
    """A URDF as Pinocchio sees it; ConfigError when it is none."""
    try:
        if isinstance(urdf, UrdfText):
            return pinocchio.buildModelFromXML(str(urdf))
        return pinocchio.buildModelFromUrdf(str(urdf))
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{urdf.name}: no URDF that can be used ({error}); xacro files must be expanded first"
        ) from error
