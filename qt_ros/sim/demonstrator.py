"""A scripted demonstrator: picks any object, from privileged state, through the policy's own action space.

It is a function of the present state only (tool, target, fingers, contact), so that what it does can be learned from an
image and proprioception: far from the object it moves at full speed, close to it in proportion to the distance; it
comes down only as far as it is above the object (a funnel), and any disturbance is answered by the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.actions import ActionSpace
from qt_ros.sim.world import World

Array = NDArray[np.float64]
_REACH = 0.01  # m outside the workspace box from which an object can still be grasped
_OPENING_SPEED = 0.02  # m/s: a finger that moves out faster is letting go
_FLIP_HEIGHT = 0.03  # m: from higher up a dropped ball rolls away for good


class HasTarget(Protocol):
    """A task or a scene: anything that names the object to pick."""

    @property
    def target(self) -> str: ...


@dataclass(frozen=True)
class GraspState:
    """What the demonstrator acts on. Positions (3,) in m in base_link axes.

    ``tool`` and ``target`` (the object's grasp point), ``closedness`` 0 open .. 1 closed as measured, ``held``: both
    fingers touch the target and are not opening, ``lifted``: its height above where it rested, ``lost``: it left the
    workspace.
    """

    tool: Array
    target: Array
    closedness: float
    held: bool
    lifted: float
    lost: bool = False


@dataclass(frozen=True)
class GraspSettings:
    """Lengths in m, gains per policy step.

    ``gain``: share of the remaining distance asked for per step (the previous action is still acting when the next
    frame is taken, hence well below 1). The tool keeps ``clearance`` above the grasp point while it is more than
    ``funnel_wide`` away sideways, and is all the way down within ``funnel_narrow``. Fingers close within ``close_side``
    and ``close_height``; above ``open_enough`` (closedness) they are not lowered over an object, above ``empty`` they
    hold nothing. ``lift``: how high to raise the object. ``resolution``: motions are multiples of it (0 = any).
    """

    gain: float = 0.6
    clearance: float = 0.085
    funnel_narrow: float = 0.010
    funnel_wide: float = 0.045
    close_side: float = 0.014
    close_height: float = 0.012
    open_enough: float = 0.35
    empty: float = 0.97
    lift: float = 0.11
    resolution: float = 0.005


@dataclass(frozen=True)
class GraspAction:
    """``motion`` (3,) m per policy step in base_link axes; ``close`` or open the fingers; ``terminate`` the episode."""

    motion: Array
    close: bool
    terminate: bool


def grasp_action(state: GraspState, settings: GraspSettings, step: float) -> GraspAction:
    """The next move of a pick. ``step`` is the largest displacement per axis and policy step in m."""
    if state.lost:
        return GraspAction(np.zeros(3), close=False, terminate=True)
    if state.held:
        if state.lifted >= settings.lift:
            return GraspAction(np.zeros(3), close=True, terminate=True)
        return GraspAction(np.array([0.0, 0.0, step]), close=True, terminate=False)
    error = state.target - state.tool
    side = math.hypot(error[0], error[1])
    missed = state.closedness >= settings.empty
    if side <= settings.close_side and abs(error[2]) <= settings.close_height and not missed:
        return GraspAction(np.zeros(3), close=True, terminate=False)
    funnel = (side - settings.funnel_narrow) / (settings.funnel_wide - settings.funnel_narrow)
    height = settings.clearance * min(max(funnel, 0.0), 1.0)
    if state.closedness > settings.open_enough:
        height = settings.clearance  # closed fingers would come down on the object
    motion = settings.gain * error
    motion[2] = settings.gain * (error[2] + height)
    too_low = error[2] + height
    if too_low > 0.0:  # beside the object and low: rise first, or the fingers push it away
        motion[:2] *= max(0.0, 1.0 - too_low / (0.6 * settings.clearance))
        motion[2] = min(2.0 * motion[2], step)
    return GraspAction(_on_grid(np.clip(motion, -step, step), settings.resolution), close=False, terminate=False)


def _on_grid(motion: Array, resolution: float) -> Array:
    return motion if resolution <= 0.0 else np.round(motion / resolution) * resolution


@dataclass(frozen=True)
class NoiseSpec:
    """How far an episode departs from the rule. Chances are per policy step unless said otherwise; all 0: never.

    ``burst``: begin up to ``burst_steps`` steps of one random motion, from which the rule recovers. ``flip``: the
    fingers do the opposite once. ``flawed``: chance per episode of one flaw of FLAWS that mostly spoils it. ``stray``:
    chance per episode that rotations and the base, which no pick needs, move a little at some steps.
    """

    burst: float = 0.0
    burst_steps: int = 3
    flip: float = 0.0
    flawed: float = 0.0
    stray: float = 0.0


CLEAN = NoiseSpec()
DART = NoiseSpec(burst=0.05, flip=0.01)
"""Disturbances injected while demonstrating, as DART does (Laskey et al., CoRL 2017)."""
NOISE = NoiseSpec(burst=0.08, flip=0.02, flawed=1.0, stray=0.3)

FLAWS: dict[str, float] = {
    "wrong_object": 0.34,  # a perfect pick of something else
    "aside": 0.20,  # grasps next to the object
    "early": 0.08,  # terminates too soon, at any moment
    "hasty": 0.06,  # terminates as soon as it holds the object, before lifting it
    "drop": 0.08,  # opens the fingers once lifted
    "open": 0.06,  # never closes the fingers
    "random": 0.10,  # most actions are random
    "sloppy": 0.08,  # many bursts and flips; often succeeds in the end
}
"""Share of every flaw among flawed episodes."""


class Demonstrator:
    """Acts in ``world`` towards the target of ``task`` (any object with a ``target`` name); one instance per episode.

    ``act()`` gives the action for the present state, (D,) float64 in SI units of the action space, exactly on bin
    centres. With noise it is random, by ``rng`` alone. ``flaw`` names the flaw drawn for this episode ('' = none),
    among ``flaws`` where some are given.
    """

    def __init__(
        self,
        world: World,
        task: HasTarget,
        noise: NoiseSpec = CLEAN,
        rng: np.random.Generator | None = None,
        settings: GraspSettings | None = None,
        flaws: Sequence[str] = (),
    ) -> None:
        self.world, self.noise = world, noise
        self.settings = settings or GraspSettings()
        self.space: ActionSpace = world.contract.action_space
        self.target = task.target
        self.flaw = ""
        self._rng = rng if rng is not None else np.random.default_rng(0)
        self._motion = [self.space.index(name) for name in ("dx", "dy", "dz")]
        self._step = float(self.space.high[self._motion].min())
        self._burst_left = 0
        self._burst_motion: Array = np.zeros(3)
        self._offset: Array = np.zeros(3)
        self._patience = math.inf
        self._steps = 0
        self._random_share = 0.0
        self._dropped = False
        self._burst, self._flip = noise.burst, noise.flip
        self._stray = noise.stray > 0.0 and self._rng.random() < noise.stray
        if noise.flawed > 0.0 and self._rng.random() < noise.flawed:
            self._draw_flaw({name: FLAWS[name] for name in flaws} or FLAWS)

    def state(self) -> GraspState:
        """The privileged state the rule looks at."""
        world, name, spec = self.world, self.target, self.world.contract.kinematics
        limits = world.contract.limits
        target = world.object_pose(name, "base_link")[:3]
        low, high = np.array(limits.workspace_low) - _REACH, np.array(limits.workspace_high) + _REACH
        opening = np.sign(spec.gripper_open - spec.gripper_closed) * world.joint_velocities()[spec.gripper_joint]
        return GraspState(
            tool=world.tool_pose("base_link")[:3],
            target=target + self._offset,
            closedness=spec.closedness(world.joint_positions()[spec.gripper_joint]),
            held=all(world.finger_contacts(name)) and opening < _OPENING_SPEED,
            lifted=float(world.object_pose(name)[2]) - world.rest_height(name),
            lost=bool(np.any(target < low) or np.any(target > high)),
        )

    def act(self) -> Array:
        """The next action (D,), SI units, on bin centres."""
        state = self.state()
        action = self._spoil(grasp_action(state, self.settings, self._step), state)
        self._steps += 1
        values = self.space.neutral()
        values[self.space.index("terminate")] = 1.0 if action.terminate else 0.0
        values[self.space.index("gripper")] = 1.0 if action.close else 0.0
        values[self._motion] = action.motion
        if self._stray and not action.terminate and self._rng.random() < 0.2:
            values += self._stray_motion()
        return self.space.decode(self.space.encode(values))

    def _draw_flaw(self, shares: Mapping[str, float]) -> None:
        rng = self._rng
        self.flaw = str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))
        others = sorted(name for name in self.world.scene.objects if name != self.target)
        if self.flaw == "wrong_object" and not others:
            self.flaw = "aside"
        self._patience = float(rng.integers(14, 36))
        if self.flaw == "wrong_object":
            self.target = str(rng.choice(others))
            self._patience = math.inf
        elif self.flaw == "aside":
            angle, side = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.03, 0.09)
            self._offset = np.array([side * math.cos(angle), side * math.sin(angle), rng.uniform(0.0, 0.02)])
        elif self.flaw == "early":
            self._patience = float(rng.integers(0, 14))
        elif self.flaw == "random":
            self._random_share = float(rng.uniform(0.4, 1.0))
        elif self.flaw == "sloppy":
            self._burst, self._flip = 0.20, 0.06
            self._patience = math.inf

    def _spoil(self, action: GraspAction, state: GraspState) -> GraspAction:
        rng = self._rng
        motion, close, terminate = action.motion, action.close, action.terminate
        if self._steps >= self._patience:
            return GraspAction(np.zeros(3), close, terminate=True)
        if self.flaw == "open":
            close = False
        if self.flaw == "hasty" and state.held:
            return GraspAction(np.zeros(3), close=True, terminate=True)
        if self.flaw == "drop":
            self._dropped |= state.held and state.lifted > 0.06
            if self._dropped:
                over = not state.held and state.closedness < 0.3
                return GraspAction(np.zeros(3), close=False, terminate=over)
        if terminate:
            return action
        if self._burst_left == 0 and rng.random() < self._burst:
            self._burst_left = int(rng.integers(1, self.noise.burst_steps + 1))
            self._burst_motion = rng.uniform(-self._step, self._step, 3)
        if self._burst_left > 0:
            self._burst_left -= 1
            motion = self._burst_motion
        if self._random_share > 0.0 and rng.random() < self._random_share:
            motion, close = rng.uniform(-self._step, self._step, 3), bool(rng.random() < 0.3)
        if rng.random() < self._flip and not (state.held and state.lifted > _FLIP_HEIGHT):
            close = not close
        return GraspAction(motion, close, terminate=False)

    def _stray_motion(self) -> Array:
        """A random third of the range in every arm rotation and base dimension."""
        stray = np.zeros(self.space.size)
        for i, dimension in enumerate(self.space.dimensions):
            if dimension.target in ("arm", "base") and i not in self._motion:
                stray[i] = self._rng.uniform(dimension.low, dimension.high) / 3.0
        return stray
