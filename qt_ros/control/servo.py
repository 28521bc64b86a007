"""Differential inverse kinematics: tool twist in, joint position targets out.

The servo integrates the twist into a target tool pose and follows it with damped least squares, so that errors of
single steps do not add up and the orientation does not drift. Spare freedom of the arm pulls softly to the home
posture. Position and velocity limits of the joints, the workspace box and singularities bound the motion; the target
never runs ahead of what the arm can follow.

Damping near singularities: Nakamura and Hanafusa, J. Dyn. Sys. Meas. Control 108(3), 1986.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import DIMENSIONS, RobotContract
from qt_ros.control import limits

Array = NDArray[np.float64]
_WALL = 1e-3  # m: tracking error that may stick out of the workspace box


@dataclass(frozen=True)
class ServoSettings:
    """Tuning of a servo. Lengths in m, angles in rad, gains in 1/s, `sigma` values of the scaled Jacobian in m.

    `angle_length` weighs rotations against translations (one rad counts as that many metres). Below the smallest
    singular value `sigma_slow` motion towards a singularity slows down, at `sigma_stop` it ends. `max_follow` and
    `max_follow_angle` bound how far the target may lead the joint targets, `max_lead` and `max_lead_angle` how far
    those may lead the measured arm. `joint_margin` is kept to every joint position limit.
    """

    angle_length: float = 0.3
    sigma_slow: float = 0.05
    sigma_stop: float = 0.01
    posture_gain: float = 1.0
    max_follow: float = 0.01
    max_follow_angle: float = 0.05
    max_lead: float = 0.05
    max_lead_angle: float = 0.4
    joint_margin: float = 0.02


class Servo:
    """Cartesian velocity control of the contract's arm joints, one instance per arm.

    Held and followed are the tool's axes that the action space has; an arm with fewer joints leaves the others to
    themselves (Stretch moves its tool sideways with the base). A twist along such an axis is not followed.

    `reset` takes the measured joints as the place to hold; `tick` moves. While the twist is exactly zero the joint
    targets stay exactly as they are.
    """

    def __init__(self, contract: RobotContract, settings: ServoSettings | None = None) -> None:
        spec = contract.kinematics
        self.settings = settings or ServoSettings()
        self.joints = spec.arm_joints
        # Joints that carry the arm (a lift) are not moved here; they are where they were measured, else at home.
        self.carriers = spec.carriers
        self._carried = np.array([spec.home[j] for j in self.carriers])
        self.kinematics = Kinematics.of(contract)
        self._model = Kinematics.of(contract, (*spec.arm_joints, *self.carriers))
        self.limits = contract.limits
        margin = self.settings.joint_margin
        self.lower, self.upper = self.kinematics.lower + margin, self.kinematics.upper - margin
        speeds = [contract.limits.joint_speeds.get(j, contract.limits.joint_speed) for j in spec.arm_joints]
        self.max_speed = np.minimum(self.kinematics.velocity, speeds)
        self.home = np.array([spec.home[j] for j in spec.arm_joints])
        self._weight = np.array([1.0] * 3 + [self.settings.angle_length] * 3)
        present = [axis in contract.action_space.names for axis in DIMENSIONS["arm"]]
        self._axes = np.flatnonzero(present) if any(present) else np.arange(6)
        self._free = np.setdiff1d(np.arange(6), self._axes)
        self._q: Array | None = None
        self.blocked = False

    @property
    def positions(self) -> Array:
        """Current joint targets (n,) in the order of `joints`; RuntimeError before the first `reset`."""
        if self._q is None:
            raise RuntimeError("the servo has no joint positions yet; call reset with the measured ones first")
        return self._q.copy()

    def pose(self) -> tuple[Array, Array]:
        """Tool position (3,) m and rotation (3, 3) in the base frame that the joint targets stand for."""
        return self._fk(self.positions)

    def _fk(self, q: Array) -> tuple[Array, Array]:
        return self._model.fk(np.concatenate([q, self._carried]))

    def _jacobian(self, q: Array) -> Array:
        """Weighted rows (k, n) of the axes that are followed, for the joints that move."""
        full = self._model.jacobian(np.concatenate([q, self._carried]))
        return (self._weight[:, None] * full[:, : len(self.joints)])[self._axes]

    def reset(self, joint_positions: Mapping[str, float]) -> None:
        """Hold here: joint targets and target pose become the measured ones. ValueError for a missing joint or NaN."""
        self._q = self._vector(joint_positions)
        self._carried = self._carriers_of(joint_positions)
        self._p, self._r = self._fk(self._q)
        self.blocked = False

    def far_from(self, measured: Mapping[str, float]) -> bool:
        """True when the joint targets lead the measured arm by more than `max_lead` or `max_lead_angle`."""
        return self._shrink(self.positions, self._vector(measured)) < 1.0

    def tick(self, twist: ArrayLike, dt: float, measured: Mapping[str, float] | None = None) -> Array:
        """Move for `dt` s with `twist` (6,), linear m/s then angular rad/s in base_link axes. Returns targets (n,).

        With `measured` joints the targets stay within `max_lead` of the real arm: pushing against a table does not wind
        up, and `blocked` tells so. Raises `NonFiniteError` for NaN and RuntimeError before `reset`.
        """
        v = limits.finite("arm twist", twist, 6)
        v[self._free] = 0.0
        step = float(limits.finite("dt", dt))
        if step < 0.0:
            raise ValueError(f"dt must not be negative, got {step}")
        q = self.positions
        self.blocked = False
        if step == 0.0 or not v.any():
            return q
        if measured is not None:
            self._be_carried(measured)
            q = self._stay_near(q, self._vector(measured))
        v[:3] = limits.limit_norm(v[:3], self.limits.linear_speed)
        v[3:] = limits.limit_norm(v[3:], self.limits.angular_speed)
        v[:3] = limits.limit_outward(self._p, v[:3], self.limits.workspace_low, self.limits.workspace_high, step)
        p, r = self._fk(q)
        jacobian = self._jacobian(q)
        sigma = _smallest_singular_value(jacobian)
        target = self._integrate(v, step)
        dq = self._solve(q, jacobian, sigma, self._error(target, p, r), step)
        if sigma < self.settings.sigma_slow and self._sigma(q + dq) < sigma:
            span = self.settings.sigma_slow - self.settings.sigma_stop
            target = self._integrate(v * max(0.0, (sigma - self.settings.sigma_stop) / span), step)
            dq = self._solve(q, jacobian, sigma, self._error(target, p, r), step)
        q_next = np.clip(q + dq, np.minimum(self.lower, q), np.maximum(self.upper, q))
        if self._outside(self._fk(q_next)[0]) > max(_WALL, self._outside(p)):
            q_next = q  # a joint or singularity limit bent the path out of the box: wait for a twist that leads back
        self._q = q_next
        self._follow(*target)
        return self.positions

    def _vector(self, joint_positions: Mapping[str, float]) -> Array:
        missing = [j for j in self.joints if j not in joint_positions]
        if missing:
            raise ValueError(f"joint state lacks {', '.join(missing)}; the arm cannot be servoed without them")
        return limits.finite("joint positions", [joint_positions[j] for j in self.joints])

    def _carriers_of(self, joint_positions: Mapping[str, float]) -> Array:
        known = [joint_positions.get(j, at) for j, at in zip(self.carriers, self._carried)]
        return limits.finite("joint positions", known, len(self.carriers))

    def _be_carried(self, joint_positions: Mapping[str, float]) -> None:
        """The lift has moved: the target pose goes along, for it was not the arm that was told to move."""
        carried = self._carriers_of(joint_positions)
        if self._q is None or np.array_equal(carried, self._carried):
            return
        before, turned = self._fk(self._q)
        self._carried = carried
        after, now = self._fk(self._q)
        self._p, self._r = after + (self._p - before), now @ turned.T @ self._r

    def _integrate(self, twist: Array, dt: float) -> tuple[Array, Array]:
        return self._p + twist[:3] * dt, rotation_exp(twist[3:] * dt) @ self._r

    def _error(self, target: tuple[Array, Array], position: Array, rotation: Array) -> Array:
        error = np.concatenate([target[0] - position, rotation_log(target[1] @ rotation.T)])
        return (self._weight * error)[self._axes]

    def _outside(self, position: Array) -> float:
        """Distance (m, largest axis) of the tool from the workspace box; 0 inside."""
        excess = np.maximum(self.limits.workspace_low - position, position - self.limits.workspace_high)
        return float(max(excess.max(), 0.0))

    def _sigma(self, q: Array) -> float:
        return _smallest_singular_value(self._jacobian(q))

    def _solve(self, q: Array, jacobian: Array, sigma: float, error: Array, dt: float) -> Array:
        """Joint step (n,) for the weighted pose error (k,): joints at a limit drop out and the others take over."""
        slow = self.settings.sigma_slow
        damping = 1e-9 + (slow * (1.0 - sigma / slow)) ** 2 if sigma < slow else 1e-9
        low, high = np.minimum(self.lower - q, 0.0), np.maximum(self.upper - q, 0.0)
        posture = self.settings.posture_gain * dt * (self.home - q)
        free = np.ones(len(q), dtype=bool)
        dq = np.zeros(len(q))
        for _ in range(len(q)):
            j = jacobian[:, free]
            rest = error - jacobian[:, ~free] @ dq[~free]
            toward_home = posture[free]
            inverse = np.linalg.inv(j @ j.T + damping * np.eye(len(error)))
            dq[free] = toward_home + j.T @ (inverse @ (rest - j @ toward_home))
            over = free & ((dq < low - 1e-12) | (dq > high + 1e-12))
            if not over.any():
                break
            dq[over] = np.clip(dq, low, high)[over]
            free &= ~over
        return limits.limit_joint_step(dq, self.max_speed, dt)

    def _follow(self, position: Array, rotation: Array) -> None:
        """Keep the target within reach of the joint targets, so that a limit does not store up motion for later."""
        assert self._q is not None
        p, r = self._fk(self._q)
        ahead = np.concatenate([position - p, rotation_log(rotation @ r.T)])
        ahead[self._free] = 0.0
        self._p = p + limits.limit_norm(ahead[:3], self.settings.max_follow)
        self._r = rotation_exp(limits.limit_norm(ahead[3:], self.settings.max_follow_angle)) @ r

    def _shrink(self, q: Array, measured: Array) -> float:
        """Factor in (0, 1] that brings the difference of `q` and `measured` within the allowed lead."""
        p, r = self._fk(q)
        mp, mr = self._fk(measured)
        lead, angle = float(np.linalg.norm(p - mp)), float(np.linalg.norm(rotation_log(r @ mr.T)))
        return min(1.0, self.settings.max_lead / max(lead, 1e-12), self.settings.max_lead_angle / max(angle, 1e-12))

    def _stay_near(self, q: Array, measured: Array) -> Array:
        shrink = self._shrink(q, measured)
        if shrink == 1.0:
            return q
        self.blocked = True
        self._q = measured + shrink * (q - measured)
        self._follow(self._p, self._r)
        return self._q.copy()


def _smallest_singular_value(matrix: Array) -> float:
    return float(np.sqrt(max(np.linalg.eigvalsh(matrix @ matrix.T)[0], 0.0)))


def rotation_exp(vector: Array) -> Array:
    """Rotation vector (3,) rad -> rotation matrix (3, 3) (Rodrigues)."""
    angle = float(np.sqrt(vector @ vector))
    k = np.array([[0.0, -vector[2], vector[1]], [vector[2], 0.0, -vector[0]], [-vector[1], vector[0], 0.0]])
    a = 1.0 if angle < 1e-8 else np.sin(angle) / angle
    b = 0.5 if angle < 1e-8 else (1.0 - np.cos(angle)) / angle**2
    return np.asarray(np.eye(3) + a * k + b * (k @ k))


def rotation_log(matrix: Array) -> Array:
    """Rotation matrix (3, 3) -> rotation vector (3,) rad with an angle in [0, pi)."""
    axis = 0.5 * np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine = float(np.sqrt(axis @ axis))
    angle = float(np.arctan2(sine, 0.5 * (np.trace(matrix) - 1.0)))
    return axis if sine < 1e-8 else axis * (angle / sine)
