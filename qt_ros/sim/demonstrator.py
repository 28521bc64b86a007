"""A scripted demonstrator of every skill: acts from privileged state, through the policy's own action space.

Without noise it is a function of the present state only (see ``qt_ros.sim.skill_rules``), so that what it does can be
learned from an image and proprioception. Noise and flaws are drawn by a random generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.actions import ActionSpace
from qt_ros.sim.flaws import CLEAN, DART, FLAWS, FLAWS_OF, NOISE, Burst, NoiseSpec
from qt_ros.sim.grasping import GraspSettings, GraspState, Move, grasp_action
from qt_ros.sim.skill_rules import RULES, Carry, Fetch, Rule
from qt_ros.sim.task_file import Task, find_task
from qt_ros.sim.world import HANDLE, SceneSpec, World

__all__ = [
    "CLEAN",
    "DART",
    "FLAWS",
    "NOISE",
    "Demonstrator",
    "GraspSettings",
    "GraspState",
    "NoiseSpec",
    "grasp_action",
]

Array = NDArray[np.float64]
_FLIP_HEIGHT = 0.03  # m: from higher up a dropped ball rolls away for good
_PATIENCE = {"pick": (14, 36), "pick_from_drawer": (14, 36)}  # policy steps after which a flawed episode is given up
_LONG_PATIENCE = (20, 50)


class HasTask(Protocol):
    """A scene: names the task, the object to act on and what it goes to."""

    @property
    def task(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def near(self) -> str: ...


class Demonstrator:
    """Acts in ``world`` as ``task`` (or the task of a scene) asks; one instance per episode.

    ``act()`` gives the action for the present state, (D,) float64 in SI units of the action space, exactly on bin
    centres. With noise it is random, by ``rng`` alone. ``flaw`` names the flaw drawn for this episode ('' = none),
    among ``flaws`` where some are given; ``target`` is the object it really acts on.
    """

    def __init__(
        self,
        world: World,
        task: Task | HasTask,
        noise: NoiseSpec = CLEAN,
        rng: np.random.Generator | None = None,
        settings: GraspSettings | None = None,
        flaws: Sequence[str] = (),
    ) -> None:
        self.world, self.noise = world, noise
        self.skill = task.skill if isinstance(task, Task) else find_task(task.task).skill if task.task else "pick"
        self.rule: Rule = RULES[self.skill](world, task.target, task.near, settings)
        self.space: ActionSpace = world.contract.action_space
        self.flaw = ""
        self._rng = rng if rng is not None else np.random.default_rng(0)
        self._motion = [self.space.index(name) for name in ("dx", "dy", "dz")]
        self._base = [self.space.index(name) for name in ("base_forward", "base_turn")]
        self._step = self.rule.step
        self._patience = math.inf
        self._steps = 0
        self._random_share = 0.0
        self._dropped = False
        self._burst: Burst[Move] = Burst(noise.burst, noise.burst_steps, self._rng)
        self._flip = noise.flip
        self._stray = noise.stray > 0.0 and self._rng.random() < noise.stray
        if noise.flawed > 0.0 and self._rng.random() < noise.flawed:
            known = FLAWS_OF[self.skill]
            self._draw_flaw(task, settings, {name: known[name] for name in flaws if name in known} or known)

    @property
    def target(self) -> str:
        return self.rule.target

    def act(self) -> Array:
        """The next action (D,), SI units, on bin centres."""
        state = self.rule.grasp()
        action = self._spoil(self.rule.move(state), state)
        self._steps += 1
        values = self.space.neutral()
        values[self.space.index("terminate")] = 1.0 if action.terminate else 0.0
        values[self.space.index("gripper")] = 1.0 if action.close else 0.0
        values[self._motion] = action.motion
        values[self._base] = action.base
        if self._stray and not action.terminate and self._rng.random() < 0.2:
            values += self._stray_motion()
        return self.space.decode(self.space.encode(values))

    # --- flaws

    def _draw_flaw(self, task: Task | HasTask, settings: GraspSettings | None, shares: Mapping[str, float]) -> None:
        rng = self._rng
        self.flaw = str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))
        others = self._others(task)
        if self.flaw == "wrong_object" and not others:
            self.flaw = "aside"
        self._patience = float(rng.integers(*_PATIENCE.get(self.skill, _LONG_PATIENCE)))
        if self.flaw == "wrong_object":
            rule = RULES["pick" if task.target == HANDLE else self.skill]
            self.rule = rule(self.world, str(rng.choice(others)), task.near, settings)
            self._patience = math.inf
        elif self.flaw == "wrong_place":
            self._lead_astray(others)
        elif self.flaw == "stay" and isinstance(self.rule, Fetch):
            self.rule.stays = True
        elif self.flaw == "aside":
            angle, side = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.03, 0.09)
            self.rule.offset = np.array([side * math.cos(angle), side * math.sin(angle), rng.uniform(0.0, 0.02)])
        elif self.flaw == "early":
            self._patience = float(rng.integers(0, 14))
        elif self.flaw == "random":
            self._random_share = float(rng.uniform(0.4, 1.0))
        elif self.flaw == "sloppy":
            self._burst.chance, self._flip = 0.20, 0.06
            self._patience = math.inf

    def _others(self, task: Task | HasTask) -> list[str]:
        """Objects that the wrong one can be: at the drawer those on the cabinet, which it need not be open for."""
        scene: SceneSpec = self.world.scene
        there = sorted(name for name in scene.objects if name not in (task.target, task.near))
        if HANDLE in (task.target, task.near) and self.skill != "pick_from_drawer":
            top = max((place.z for place in scene.objects.values()), default=0.0)
            there = [name for name in there if scene.objects[name].z == top]
        return there

    def _lead_astray(self, others: list[str]) -> None:
        """Another goal: another object where there is one, or a place aside."""
        rng, rule = self._rng, self.rule
        assert isinstance(rule, Carry)
        if self.skill == "move_near" and others and rng.random() < 0.5:
            rule.near = str(rng.choice(others))
            return
        angle, side = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.12, 0.25)
        rule.astray = side * np.array([math.cos(angle), math.sin(angle)])

    def _spoil(self, action: Move, state: GraspState) -> Move:
        rng = self._rng
        motion, close, base = action.motion, action.close, action.base
        if self._steps >= self._patience:
            return Move(np.zeros(3), close, terminate=True)
        if self.flaw == "open":
            close = False
        if self.flaw == "hasty" and state.held:
            return Move(np.zeros(3), close=True, terminate=True)
        if self.flaw == "drop":
            self._dropped |= state.held and self.rule.progress(state) > 0.06
            if self._dropped:
                over = not state.held and state.closedness < 0.3
                return Move(np.zeros(3), close=False, terminate=over)
        if action.terminate:
            return action
        if (burst := self._burst.next(self._random_move)) is not None:
            motion, base = burst.motion, burst.base
        if self._random_share > 0.0 and rng.random() < self._random_share:
            motion, base = (move := self._random_move()).motion, move.base
            close = bool(rng.random() < 0.3)
        if rng.random() < self._flip and not (state.held and state.lifted > _FLIP_HEIGHT):
            close = not close
        return Move(motion, close, terminate=False, base=base)

    def _random_move(self) -> Move:
        """Any displacement of the tool, and of the base where the skill uses it."""
        motion = self._rng.uniform(-self._step, self._step, 3)
        if self.skill != "fetch":
            return Move(motion, close=False, terminate=False)
        forward, turn = self._rng.uniform(self.space.low[self._base], self.space.high[self._base])
        return Move(motion, close=False, terminate=False, base=(float(forward), float(turn)))

    def _stray_motion(self) -> Array:
        """A random third of the range in every arm rotation and base dimension."""
        stray = np.zeros(self.space.size)
        for i, dimension in enumerate(self.space.dimensions):
            if dimension.target in ("arm", "base") and i not in self._motion:
                stray[i] = self._rng.uniform(dimension.low, dimension.high) / 3.0
        return stray
