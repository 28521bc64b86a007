"""Many episodes in parallel processes, into a training store or only counted.

Every episode depends on its seed alone: the scene, the noise and the latencies come from it, so the number of workers
and interruptions change nothing but the order. Seeds: see ``qt_ros.sim.rollout`` (training, tuning, test).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.manifest import Manifest
from qt_ros.episodes.parts import merge_manifests, part_files, read_part
from qt_ros.episodes.store import StoreWriter
from qt_ros.sim.demonstrator import DART, NOISE, Demonstrator, NoiseSpec
from qt_ros.sim.privileged import PRIVILEGED_NAMES, privileged_state
from qt_ros.sim.rollout import MAX_STEPS, Rollout
from qt_ros.sim.store_guard import CollectError, alone, require_settings
from qt_ros.sim.tasks import Task, find_task, load_tasks, sample_scene
from qt_ros.sim.world import SceneSpec, SimulationError, World

SOURCES = ("demonstration", "noise", "policy")
_SHARD_EPISODES = 32


@dataclass(frozen=True)
class Plan:
    """What to run.

    ``source``: 'demonstration' (scripted, ``DART`` noise), 'noise' (scripted, ``NOISE``) or 'policy' (``checkpoint``).
    ``tasks``: names to draw from by seed (empty = all). ``noise`` replaces the source's noise. ``wrong_instruction``:
    the policy is told to pick another object of the scene than the one scored. ``held_out``: instructions never trained
    on. ``out``: store to add to (None = keep nothing). ``image_size``: (height, width) of recorded frames; a policy
    brings its own.
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
        counts: dict[str, tuple[int, int]] = {}
        for r in self.results:
            good, total = counts.get(r.target, (0, 0))
            counts[r.target] = (good + (r.outcome == "success"), total + 1)
        return dict(sorted(counts.items()))


class EpisodeMaker:
    """Runs the episodes of a plan one by one; one per process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.contract: RobotContract = load_contract(plan.robot)
        self.policy: Any = None
        image_size = plan.image_size
        if plan.checkpoint is not None:
            from qt_ros.control.policy import Policy  # torch: only where a policy acts

            self.policy = Policy.load(plan.checkpoint, self.contract, threads=1, privileged=True)
            image_size = self.policy.image_size
        sees = self.policy is None or self.policy.model.config.vision != "state"
        if not sees and plan.wrong_instruction:
            raise CollectError(
                "this policy is told the state of the object to pick and hears no words; leave out wrong_instruction"
            )
        self.world = World(self.contract)
        self.rollout = Rollout(self.world, self.contract, image_size, render=sees or plan.out is not None)
        self.image_size, self.sees = image_size, sees
        self._prefix = plan.source if self.policy is None else f"policy-{self.policy.info.id[:8]}"

    def episode_id(self, seed: int) -> str:
        """Name of the episode that ``seed`` gives under this plan."""
        return f"{self._prefix}-{seed:07d}"

    def _actor(self, target: str) -> Any:
        """The policy's step, with the privileged state in the place of the picture where it acts on that."""
        if self.sees:
            return self.policy.step
        return lambda image, joints: self.policy.step(image, joints, privileged_state(self.world, target))

    def run(self, seed: int) -> tuple[Episode, EpisodeResult]:
        """The episode of ``seed``. Raises SimulationError when the physics failed."""
        plan = self.plan
        task = draw_task(plan.tasks, seed)
        scene = sample_scene(task, seed)
        instruction = instruction_for(task, scene, seed, plan.wrong_instruction, plan.held_out)
        self.world.reset(scene)
        detail = ""
        if self.policy is not None:
            self.policy.reset(instruction)
            actor, source, checkpoint = self._actor(scene.target), "autonomous", self.policy.info.id
        else:
            default = DART if plan.source == "demonstration" else NOISE
            script = Demonstrator(self.world, scene, plan.noise or default, np.random.default_rng([seed, 3]))
            detail, source, checkpoint = script.flaw, plan.source, ""

            def actor(image: Any, joints: Any) -> Any:
                return script.act()

        episode = self.rollout.run(
            task, scene, actor, reset=False, max_steps=plan.max_steps, episode_id=self.episode_id(seed), source=source,
            instruction=instruction, checkpoint=checkpoint,
        )  # fmt: skip
        value = float("nan") if episode.q_values is None else float(episode.q_values[0, 0])
        return episode, EpisodeResult(
            seed, task.name, task.target, instruction, episode.outcome, episode.reason, len(episode), detail, value
        )


def draw_task(names: Sequence[str], seed: int) -> Task:
    """The task of an episode: drawn by ``seed`` among ``names`` (empty = all)."""
    known = list(names) or list(load_tasks())
    return find_task(known[int(np.random.default_rng([seed, 1]).integers(len(known)))])


def instruction_for(task: Task, scene: SceneSpec, seed: int, wrong: bool = False, held_out: bool = False) -> str:
    """What to tell the policy: the scene's own words, held-out words, or words for another object that stands there."""
    if not wrong and not held_out:
        return scene.instruction
    rng = np.random.default_rng([seed, 5])
    if wrong:
        others = [t for t in load_tasks().values() if t.target != task.target and t.target in scene.objects]
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
    noise = plan.noise or (DART if plan.source == "demonstration" else NOISE)
    return {
        "source": plan.source,
        "tasks": list(plan.tasks) or list(load_tasks()),
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


def _privileged_names(root: Path) -> tuple[str, ...]:
    """What a store keeps of the privileged state: all of it, but a store begun without it goes on without."""
    parts = part_files(root)
    return Manifest.from_json(parts[0].read_bytes(), str(parts[0])).privileged_names if parts else PRIVILEGED_NAMES


def _run(plan: Plan, worker: int, take: Callable[[EpisodeResult], None], stopped: Callable[[], bool]) -> None:
    maker = EpisodeMaker(plan)
    writer = None
    stack = ExitStack()
    if plan.out is not None:
        prefix = f"{plan.source}-{worker}"
        # A worker may outlive a parent that was killed; nobody else may write its part until it has ended.
        stack.enter_context(alone(plan.out / f".{prefix}.lock"))
        writer = StoreWriter(
            plan.out, maker.contract, maker.image_size, shard_episodes=_SHARD_EPISODES, prefix=prefix, merge=False,
            privileged_names=_privileged_names(plan.out),
        )  # fmt: skip
    try:
        for seed in plan.seeds:
            if stopped():
                break
            try:
                episode, result = maker.run(seed)
            except SimulationError as error:
                task = draw_task(plan.tasks, seed)
                take(EpisodeResult(seed, task.name, task.target, "", "unstable", "fault", 0, str(error)))
                continue
            if writer is not None:
                writer.add(episode if writer.manifest.privileged_names else replace(episode, privileged=None))
            take(result)
    finally:
        if writer is not None:
            writer.close()
        stack.close()
        maker.world.close()


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
