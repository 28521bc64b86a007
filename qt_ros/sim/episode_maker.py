"""Single episodes of a plan: what to run, and one episode from its seed alone."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.episode import Episode
from qt_ros.sim.demonstrator import CLEAN, DART, NOISE, Demonstrator, NoiseSpec
from qt_ros.sim.exploring import Explorer
from qt_ros.sim.flaws import FLAWS_OF
from qt_ros.sim.privileged import PRIVILEGED_NAMES, privileged_state, skill_state
from qt_ros.sim.rollout import MAX_STEPS, Rollout
from qt_ros.sim.store_guard import CollectError
from qt_ros.sim.tasks import Task, default_tasks, draw_task, find_task, load_tasks, other_tasks, sample_scene
from qt_ros.sim.world import SceneSpec, World

SOURCES = ("demonstration", "noise", "policy")
KEEP = ("all", "failures", "successes")

PolicySees = tuple[NDArray[np.uint8], Mapping[str, float], NDArray[np.float32] | None]
"""Arguments of `Policy.step`."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    ``source``: 'demonstration' (scripted, ``DART`` noise), 'noise' (scripted, ``NOISE``) or 'policy' (``checkpoint``).
    ``tasks``: names to draw from by seed (empty = the default ones; see `draw_task`). ``noise`` replaces the source's
    noise; a policy has none unless given (see `Explorer`). ``wrong_instruction``: the policy is told to do something
    else in the scene than what is scored. ``held_out``: instructions never trained on. ``out``: store to add to (None =
    keep nothing). ``image_size``: (height, width) of recorded frames; a policy brings its own. ``flaws``: those that a
    noise episode may have (empty = all that its skill knows), in their shares; a skill that knows none of them has all.
    ``side_by_side``: robots that each worker runs at the same time, of which a policy decides for all at once, which is
    quicker; what an episode comes to depends on its seed, and in the last bits of the policy's numbers on how many
    there are. ``keep``: 'failures' or 'successes' adds only those to the store; the others are run and reported alike.
    ``paraphrases``: ask by one of the task's many paraphrases, drawn by the seed, in place of the scene's words.
    """

    source: str
    seeds: tuple[int, ...]
    out: Path | None = None
    checkpoint: Path | None = None
    tasks: tuple[str, ...] = ()
    robot: str = "mobile_manipulator"
    noise: NoiseSpec | None = None
    wrong_instruction: bool = False
    held_out: bool = False
    max_steps: int = MAX_STEPS
    image_size: tuple[int, int] = (96, 128)
    flaws: tuple[str, ...] = ()
    side_by_side: int = 1
    keep: str = "all"
    paraphrases: bool = False

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise CollectError(f"unknown source {self.source!r}; use one of {', '.join(SOURCES)}")
        if (self.source == "policy") != (self.checkpoint is not None):
            raise CollectError("source 'policy' needs a checkpoint, the scripted sources take none")
        if self.wrong_instruction and (self.out is not None or self.source != "policy"):
            raise CollectError("wrong_instruction is for evaluating a policy; such episodes are not kept")
        if self.paraphrases and (self.wrong_instruction or self.held_out):
            raise CollectError("paraphrases are words to train on; leave out held_out and wrong_instruction")
        if self.source == "policy" and self.noise is not None:
            try:
                self.noise.require_for_policy()
            except ValueError as error:
                raise CollectError(str(error)) from error
        unknown = sorted(set(self.tasks) - set(load_tasks()))
        if unknown:
            raise CollectError(f"unknown task(s) {', '.join(unknown)}; known: {', '.join(load_tasks())}")
        known = dict.fromkeys(name for shares in FLAWS_OF.values() for name in shares)
        if unknown := sorted(set(self.flaws) - set(known)):
            raise CollectError(f"unknown flaw(s) {', '.join(unknown)}; known: {', '.join(known)}")
        if self.side_by_side < 1 or (self.side_by_side > 1 and self.source != "policy"):
            raise CollectError(f"side_by_side must be at least 1, and 1 without a policy; found {self.side_by_side}")
        if self.keep not in KEEP:
            raise CollectError(f"keep must be one of {', '.join(KEEP)}, found {self.keep!r}")
        if self.flaws and self.source != "noise":
            raise CollectError(f"flaws are for source 'noise', not {self.source!r}")

    @property
    def skills(self) -> bool:
        """Whether there is more than picking among the tasks: then the privileged state holds what all skills need."""
        return any(find_task(name).skill != "pick" for name in self.tasks or default_tasks())

    def keeps(self, outcome: str) -> bool:
        """Whether an episode of that outcome is added to the store."""
        return self.keep == "all" or outcome == {"failures": "failure", "successes": "success"}[self.keep]


@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode.

    ``outcome`` may be 'unstable' (physics failed, nothing kept). ``detail``: the flaw drawn for a noise episode, or
    what went wrong. ``value``: the policy's value of the first state (NaN for scripted ones).
    """

    seed: int
    task: str
    target: str
    instruction: str
    outcome: str
    reason: str
    steps: int
    detail: str = ""
    value: float = float("nan")


@dataclass
class Summary:
    """Results so far; ``skipped`` were in the store already. ``thrown``: episodes that were not kept, where those do
    not stand in ``results``."""

    results: list[EpisodeResult] = field(default_factory=list)
    skipped: int = 0
    stopped: bool = False
    thrown: int = 0

    @property
    def steps(self) -> int:
        return sum(r.steps for r in self.results)

    def by_target(self) -> dict[str, tuple[int, int]]:
        """{object: (successes, episodes)}."""
        return _counts((r.target, r) for r in self.results)

    def by_skill(self) -> dict[str, tuple[int, int]]:
        """{skill: (successes, episodes)}."""
        return _counts((find_task(r.task).skill, r) for r in self.results)


def _counts(results: Iterable[tuple[str, EpisodeResult]]) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    for key, r in results:
        good, total = counts.get(key, (0, 0))
        counts[key] = (good + (r.outcome == "success"), total + 1)
    return dict(sorted(counts.items()))


class EpisodeMaker:
    """Runs the episodes of a plan one by one. ``policy``: the plan's, where it is loaded already."""

    def __init__(self, plan: Plan, policy: Any = None) -> None:
        self.plan = plan
        self.contract: RobotContract = load_contract(plan.robot)
        self.policy = policy
        image_size = plan.image_size
        if plan.checkpoint is not None:
            from qt_ros.control.policy import Policy  # torch: only where a policy acts

            if policy is None:
                self.policy = Policy.load(plan.checkpoint, self.contract, threads=1, privileged=True)
            image_size = self.policy.image_size
        sees = self.policy is None or self.policy.model.config.vision != "state"
        if not sees and plan.wrong_instruction:
            raise CollectError(
                "this policy is told the state of the object to pick and hears no words; leave out wrong_instruction"
            )
        self.world = World(self.contract)
        self.rollout = Rollout(
            self.world, self.contract, image_size, render=sees or plan.out is not None,
            skills=plan.skills,
        )  # fmt: skip
        self.image_size, self.sees = image_size, sees
        self._prefix = plan.source if self.policy is None else f"policy-{self.policy.info.id[:8]}"

    def episode_id(self, seed: int) -> str:
        """Name of the episode that ``seed`` gives under this plan."""
        return f"{self._prefix}-{seed:07d}"

    def _sees(self, image: NDArray[np.uint8], joints: Mapping[str, float], task: Task) -> PolicySees:
        """With the privileged state in the place of the picture where the policy acts on that."""
        if self.sees:
            return image, joints, None
        if self.policy.model.config.state_size == len(PRIVILEGED_NAMES):  # it was trained to pick and no more
            return image, joints, privileged_state(self.world, task.target)
        return image, joints, skill_state(self.world, task)

    def run(self, seed: int) -> tuple[Episode, EpisodeResult]:
        """The episode of ``seed``. Raises SimulationError when the physics failed."""
        steps = self.steps(seed)
        asked: Any = None
        while True:
            try:
                seen = steps.send(asked)
            except StopIteration as end:
                made: tuple[Episode, EpisodeResult] = end.value
                return made
            asked = self.policy.step(*seen)

    def steps(self, seed: int) -> Generator[PolicySees, Any, tuple[Episode, EpisodeResult]]:
        """`run` that pauses whenever it needs an action: yields what `Policy.step` takes, is sent what it gives."""
        plan = self.plan
        task = draw_task(plan.tasks, seed)
        scene = sample_scene(task, seed)
        instruction = instruction_for(task, scene, seed, plan.wrong_instruction, plan.held_out, plan.paraphrases)
        self.world.reset(scene)
        script, explorer, detail, source, checkpoint = None, None, "", plan.source, ""
        noise, rng = plan.noise or default_noise(plan.source), np.random.default_rng([seed, 3])
        if self.policy is not None:
            self.policy.reset(instruction)
            source, checkpoint = "autonomous", self.policy.info.id
            explorer = Explorer(self.contract.action_space, noise, rng) if noise != CLEAN else None
        else:
            script = Demonstrator(self.world, task, noise, rng, flaws=plan.flaws)
            detail = script.flaw
        steps = self.rollout.steps(
            task, scene, reset=False, max_steps=plan.max_steps, episode_id=self.episode_id(seed), source=source,
            instruction=instruction, checkpoint=checkpoint,
        )  # fmt: skip
        asked: Any = None
        while True:
            try:
                image, joints = steps.send(asked)
            except StopIteration as end:
                episode: Episode = end.value
                break
            if script is not None:
                asked = script.act()
            else:
                asked = yield self._sees(image, joints, task)
                asked = explorer.disturb(asked) if explorer is not None else asked
        value = float("nan") if episode.q_values is None else float(episode.q_values[0, 0])
        return episode, EpisodeResult(
            seed, task.name, task.target, instruction, episode.outcome, episode.reason, len(episode), detail, value
        )


def default_noise(source: str) -> NoiseSpec:
    """The noise of a source that is not told otherwise: none where a policy acts."""
    return {"demonstration": DART, "noise": NOISE}.get(source, CLEAN)


def instruction_for(
    task: Task, scene: SceneSpec, seed: int, wrong: bool = False, held_out: bool = False, paraphrases: bool = False
) -> str:
    """What to tell the policy: the scene's own words, one of the task's paraphrases, held-out words, or words for
    something else to do there."""
    if not wrong and not held_out and not paraphrases:
        return scene.instruction
    rng = np.random.default_rng([seed, 5])
    if wrong:
        others = other_tasks(task, list(scene.objects))
        if not others:
            raise CollectError(f"scene {seed} holds only {task.target}; a wrong instruction needs another object")
        task = others[int(rng.integers(len(others)))]
    return str(rng.choice(task.held_out if held_out else task.paraphrases if paraphrases else task.instructions))
