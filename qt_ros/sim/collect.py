"""Many episodes in parallel processes, into a training store or only counted.

Every episode depends on its seed alone: the scene, the noise and the latencies come from it, so the number of workers
and interruptions change nothing but the order. Seeds: see ``qt_ros.sim.seeds`` (training, tuning, test).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from qt_ros.episodes.episode import Episode
from qt_ros.episodes.manifest import read_manifest_file
from qt_ros.episodes.parts import merge_manifests, part_files, read_part
from qt_ros.episodes.store import StoreWriter
from qt_ros.sim.episode_maker import SOURCES, EpisodeMaker, EpisodeResult, Plan, Summary, default_noise
from qt_ros.sim.flaws import CLEAN
from qt_ros.sim.privileged import PRIVILEGED_NAMES, SKILL_STATE_NAMES
from qt_ros.sim.store_guard import (
    CollectError,
    alone,
    note_simulator,
    require_no_orphans,
    require_settings,
    simulator_sha256,
)
from qt_ros.sim.tasks import default_tasks, draw_task

_SHARD_EPISODES = 32


def collect(
    plan: Plan,
    workers: int = 1,
    on_result: Callable[[EpisodeResult, Summary], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Summary:
    """Run the plan in ``workers`` processes (0: in this one) and return what happened.

    Episodes that are in the store already are skipped. ``on_result`` is called for each episode; when ``stopped()``
    turns true the workers finish the episode at hand, put everything on disk and end. Raises CollectError when a worker
    failed, when another process collects into the store, or when the store was collected with other settings. Logs a
    warning when episodes are added to a store that another simulator began (see `simulator_sha256`).
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
            require_no_orphans(plan.out, SOURCES)
            done = _ids_on_disk(plan.out)
            require_settings(plan.out, settings, empty=not done)
            prefix = plan.source if plan.checkpoint is None else f"policy-{settings['checkpoint'][:8]}"
            seeds = tuple(s for s in plan.seeds if f"{prefix}-{s:07d}" not in done)
            summary.skipped = len(plan.seeds) - len(seeds)
            if seeds:
                note_simulator(plan.out, simulator_sha256(), empty=not done)
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
    special: dict[str, Any] = {"flaws": list(plan.flaws)} if plan.flaws else {}  # stores of before have no such entries
    special |= {} if plan.keep == "all" else {"keep": plan.keep}
    special |= {"paraphrases": True} if plan.paraphrases else {}
    return special | {
        "source": plan.source,
        "tasks": list(plan.tasks or default_tasks()),
        "noise": None if plan.source == "policy" and noise == CLEAN else asdict(noise),
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
        return read_manifest_file(parts[0]).privileged_names
    return SKILL_STATE_NAMES if plan.skills else PRIVILEGED_NAMES


def _run(plan: Plan, worker: int, take: Callable[[EpisodeResult], None], stopped: Callable[[], bool]) -> None:
    maker = EpisodeMaker(plan)
    makers = [maker] + [EpisodeMaker(plan, maker.policy.beside()) for _ in range(plan.side_by_side - 1)]
    writer = None
    if plan.out is not None:
        writer = StoreWriter(
            plan.out, maker.contract, maker.image_size, shard_episodes=_SHARD_EPISODES,
            prefix=f"{plan.source}-{worker}", merge=False, privileged_names=_privileged_names(plan),
        )  # fmt: skip
    try:
        for episode, result in _episodes(plan, makers, stopped):
            if writer is not None and episode is not None and plan.keeps(episode.outcome):
                writer.add(episode if writer.manifest.privileged_names else replace(episode, privileged=None))
            take(result)
    finally:
        if writer is not None:
            writer.close()
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
