"""Many episodes in parallel processes, into a training store or only counted.

Every episode depends on its seed alone: the scene, the noise and the latencies come from it, so the number of workers
and interruptions change nothing but the order. Seeds: see ``qt_ros.sim.rollout`` (training, tuning, test).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.manifest import Manifest
from qt_ros.episodes.parts import merge_manifests, part_files, read_part
from qt_ros.episodes.store import StoreWriter
from qt_ros.sim.demonstrator import DART, NOISE, Demonstrator, NoiseSpec
from qt_ros.sim.flaws import FLAWS_OF
from qt_ros.sim.privileged import PRIVILEGED_NAMES, SKILL_STATE_NAMES, privileged_state, skill_state
from qt_ros.sim.rollout import MAX_STEPS, Rollout
from qt_ros.sim.store_guard import CollectError, alone, require_settings
from qt_ros.sim.tasks import Task, default_tasks, draw_task, find_task, load_tasks, other_tasks, sample_scene
from qt_ros.sim.world import SceneSpec, World

SOURCES = ("demonstration", "noise", "policy")
_SHARD_EPISODES = 32

PolicySees = tuple[NDArray[np.uint8], Mapping[str, float], NDArray[np.float32] | None]
"""Arguments of `Policy.step`."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    ``source``: 'demonstration' (scripted, ``DART`` noise), 'noise' (scripted, ``NOISE``) or 'policy' (``checkpoint``).
    ``tasks``: names to draw from by seed (empty = the default ones; see `draw_task`). ``noise`` replaces the source's
    noise. ``wrong_instruction``: the policy is told to do something else in the scene than what is scored.
    ``held_out``: instructions never trained on. ``out``: store to add to (None = keep nothing). ``image_size``:
    (height, width) of recorded frames; a policy brings its own. ``flaws``: those that a noise episode may have (empty =
    all that its skill knows), in their shares; a skill that knows none of them has all.
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

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise CollectError(f"unknown source {self.source!r}; use one of {', '.join(SOURCES)}")
        if (self.source == "policy") != (self.checkpoint is not None):
            raise CollectError("source 'policy' needs a checkpoint, the scripted sources take none")
        if self.wrong_instruction and (self.out is not None or self.source != "policy"):
            raise CollectError("wrong_instruction is for evaluating a policy; such episodes are not kept")
        unknown = sorted(set(self.tasks) - set(load_tasks()))
        if unknown:
            raise CollectError(f"unknown task(s) {', '.join(unknown)}; known: {', '.join(load_tasks())}")
        known = dict.fromkeys(name for shares in FLAWS_OF.values() for name in shares)
        if unknown := sorted(set(self.flaws) - set(known)):
            raise CollectError(f"unknown flaw(s) {', '.join(unknown)}; known: {', '.join(known)}")
        if self.side_by_side < 1 or (self.side_by_side > 1 and self.source != "policy"):
            raise CollectError(f"side_by_side must be at least 1, and 1 without a policy; found {self.side_by_side}")
        if self.flaws and self.source != "noise":
            raise CollectError(f"flaws are for source 'noise', not {self.source!r}")

    @property
    def skills(self) -> bool:
        """Whether there is more than picking among the tasks: then the privileged state holds what all skills need."""
        return any(find_task(name).skill != "pick" for name in self.tasks or default_tasks())


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
    """Results so far; ``skipped`` were in the store already."""

    results: list[EpisodeResult] = field(default_factory=list)
    skipped: int = 0
    stopped: bool = False

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
        instruction = instruction_for(task, scene, seed, plan.wrong_instruction, plan.held_out)
        self.world.reset(scene)
        script, detail, source, checkpoint = None, "", plan.source, ""
        if self.policy is not None:
            self.policy.reset(instruction)
            source, checkpoint = "autonomous", self.policy.info.id
        else:
            script = Demonstrator(
                self.world,
                task,
                plan.noise or default_noise(plan.source),
                np.random.default_rng([seed, 3]),
                flaws=plan.flaws,
            )
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
        value = float("nan") if episode.q_values is None else float(episode.q_values[0, 0])
        return episode, EpisodeResult(
            seed, task.name, task.target, instruction, episode.outcome, episode.reason, len(episode), detail, value
        )


def default_noise(source: str) -> NoiseSpec:
    """The noise of a scripted source that is not told otherwise."""
    return DART if source == "demonstration" else NOISE


def instruction_for(task: Task, scene: SceneSpec, seed: int, wrong: bool = False, held_out: bool = False) -> str:
    """What to tell the policy: the scene's own words, held-out words, or words for something else to do there."""
    if not wrong and not held_out:
        return scene.instruction
    rng = np.random.default_rng([seed, 5])
    if wrong:
        others = other_tasks(task, list(scene.objects))
        if not others:
            raise CollectError(f"scene {seed} holds only {task.target}; a wrong instruction needs another object")
        task = others[int(rng.integers(len(others)))]
    return str(rng.choice(task.held_out if held_out else task.instructions))


def collect(
    plan: Plan,
    workers: int = 1,
    on_result: Callable[[EpisodeResult, Summary], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Summary:
    """Run the plan in ``workers`` processes (0: in this one) and return what happened.

    Episodes that are in the store already are skipped. ``on_result`` is called for each episode; when ``stopped()``
    turns true the workers finish the episode at hand, put everything on disk and end. Raises CollectError when a worker
    failed, when another process collects into the store, or when the store was collected with other settings.
    """
    summary, seeds = Summary(), plan.seeds

    def take(result: EpisodeResult) -> None:
        summary.results.append(result)
        if on_result is not None:
            on_result(result, summary)

    with ExitStack() as stack:
        if plan.out is not None:
            settings = _settings(plan)
            plan.out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone(plan.out / ".collect.lock"))
            done = _ids_on_disk(plan.out)
            require_settings(plan.out, settings, empty=not done)
            prefix = plan.source if plan.checkpoint is None else f"policy-{settings['checkpoint'][:8]}"
            seeds = tuple(s for s in plan.seeds if f"{prefix}-{s:07d}" not in done)
            summary.skipped = len(plan.seeds) - len(seeds)
        if seeds and workers == 0:
            _run(replace(plan, seeds=seeds), 0, take, stopped)
        elif seeds:
            _run_parallel(plan, seeds, workers, take, stopped)
        summary.stopped = stopped()
        if plan.out is not None and part_files(plan.out):
            merge_manifests(plan.out)
    return summary


def _settings(plan: Plan) -> dict[str, Any]:
    """What must be the same for all episodes of a store, resolved, for JSON; seeds may differ."""
    noise = plan.noise or default_noise(plan.source)
    flaws = {"flaws": list(plan.flaws)} if plan.flaws else {}  # stores of before have no such entry
    return flaws | {
        "source": plan.source,
        "tasks": list(plan.tasks or default_tasks()),
        "noise": None if plan.source == "policy" else asdict(noise),
        "held_out": plan.held_out,
        "max_steps": plan.max_steps,
        "checkpoint": "" if plan.checkpoint is None else _checkpoint_id(plan.checkpoint),
    }


def _checkpoint_id(checkpoint: Path) -> str:
    from qt_ros.model.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint)[1].id


def _ids_on_disk(root: Path) -> set[str]:
    """Ids of all episodes whose shard is finished, merged or not."""
    return {e.id for part in part_files(root) for e in read_part(part).episodes}


def _privileged_names(plan: Plan) -> tuple[str, ...]:
    """What a store keeps of the privileged state: all of it, but a store begun without it goes on without."""
    assert plan.out is not None
    parts = part_files(plan.out)
    if parts:
        return Manifest.from_json(parts[0].read_bytes(), str(parts[0])).privileged_names
    return SKILL_STATE_NAMES if plan.skills else PRIVILEGED_NAMES


def _run(plan: Plan, worker: int, take: Callable[[EpisodeResult], None], stopped: Callable[[], bool]) -> None:
    maker = EpisodeMaker(plan)
    makers = [maker] + [EpisodeMaker(plan, maker.policy.beside()) for _ in range(plan.side_by_side - 1)]
    writer = None
    stack = ExitStack()
    if plan.out is not None:
        prefix = f"{plan.source}-{worker}"
        # A worker may outlive a parent that was killed; nobody else may write its part until it has ended.
        stack.enter_context(alone(plan.out / f".{prefix}.lock"))
        writer = StoreWriter(
            plan.out, maker.contract, maker.image_size, shard_episodes=_SHARD_EPISODES, prefix=prefix, merge=False,
            privileged_names=_privileged_names(plan),
        )  # fmt: skip
    try:
        for episode, result in _episodes(plan, makers, stopped):
            if writer is not None and episode is not None:
                writer.add(episode if writer.manifest.privileged_names else replace(episode, privileged=None))
            take(result)
    finally:
        if writer is not None:
            writer.close()
        stack.close()
        for each in makers:
            each.world.close()


def _episodes(
    plan: Plan, makers: Sequence[EpisodeMaker], stopped: Callable[[], bool]
) -> Iterator[tuple[Episode | None, EpisodeResult]]:
    """The plan's episodes as they end, one of each maker at a time; no episode where the physics failed."""
    from qt_ros.sim.side_by_side import Running, advance

    seeds = iter(plan.seeds)
    running: dict[int, Running] = {}
    while True:
        for place, maker in enumerate(makers):
            while place not in running and not stopped() and (seed := next(seeds, None)) is not None:
                run = Running(seed, maker.steps(seed), maker.policy)
                if run.resume(None):
                    running[place] = run
                else:
                    yield _outcome(plan, run)
        if not running:
            return
        advance(list(running.values()), len(makers))
        for place, run in list(running.items()):
            if run.waiting is None:
                del running[place]
                yield _outcome(plan, run)


def _outcome(plan: Plan, run: Any) -> tuple[Episode | None, EpisodeResult]:
    if run.made is not None:
        made: tuple[Episode, EpisodeResult] = run.made
        return made
    task = draw_task(plan.tasks, run.seed)
    return None, EpisodeResult(run.seed, task.name, task.target, "", "unstable", "fault", 0, str(run.failed))


def _run_parallel(
    plan: Plan, seeds: tuple[int, ...], workers: int, take: Callable[[EpisodeResult], None], stopped: Callable[[], bool]
) -> None:
    context = multiprocessing.get_context("spawn")  # OpenGL and torch do not survive a fork
    workers = min(workers, len(seeds))
    error = ""
    running: dict[Any, Any] = {}  # our end of a worker's pipe: its process
    with _single_threaded():
        for worker in range(workers):
            ours, theirs = context.Pipe()
            share = replace(plan, seeds=seeds[worker::workers])
            process = context.Process(target=_worker, args=(share, worker, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the worker's end is the only one, and its death is seen
            running[ours] = process
    try:
        while running:
            if stopped() or error:
                _tell_to_stop(running)
            ready: list[Any] = wait(list(running), timeout=0.2)
            for pipe in ready:
                try:
                    item = pipe.recv()
                except (EOFError, OSError):
                    process = running.pop(pipe)
                    process.join()
                    if process.exitcode != 0:
                        error = error or f"{process.name} ended with status {process.exitcode}; was it out of memory?"
                    continue
                if isinstance(item, str):
                    error = error or item
                else:
                    take(item)
    finally:
        _tell_to_stop(running)
        for process in running.values():
            process.join()
    if error:
        raise CollectError(error)


def _tell_to_stop(running: dict[Any, Any]) -> None:
    for pipe in running:
        try:
            pipe.send(None)
        except OSError:  # it has ended already
            pass


def _worker(plan: Plan, worker: int, pipe: Any) -> None:
    """Results go into the pipe; anything that comes out of it, or its end, means stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says when to stop
    try:
        _run(plan, worker, pipe.send, pipe.poll)
    except BaseException as error:
        ours = type(error).__module__.split(".")[0] == "qt_ros"  # its message says all there is to say
        pipe.send(str(error) if ours else f"worker {worker}:\n{traceback.format_exc()}")
    finally:
        pipe.close()


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started inside use one thread each: they share the cores already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: "1" for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
