"""Many cells, one after the other or side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from qt_ros.episodes.files import locked_or
from qt_ros.experiments.cells import Cell
from qt_ros.experiments.run import CellError, run_cell
from qt_ros.experiments.work import Work

Report = Callable[[Cell, str, dict[str, float]], None]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: 'finished', 'stopped', or 'failed' with a message."""

    state: str
    message: str = ""


def run_cells(
    cells: Sequence[Cell], work: Work, report: Report, stopped: Callable[[], bool] = lambda: False
) -> dict[str, Outcome]:
    """Run ``cells`` in this order, ``work.jobs`` of them at a time; outcomes by name.

    A cell that fails does not keep the others from running. When ``stopped()`` turns true, the cells under way save
    what they have and no other is begun.
    """
    if work.jobs > 1 and len(cells) > 1:
        return _side_by_side(cells, work, report, stopped)
    outcomes = {}
    for cell in cells:
        if stopped():
            break
        outcomes[cell.name] = _run(cell, work, partial(report, cell), stopped)
        report(cell, _told(outcomes[cell.name]), {})
    return outcomes


def _told(outcome: Outcome) -> str:
    return outcome.state + (f": {outcome.message}" if outcome.message else "")


def _run(
    cell: Cell, work: Work, report: Callable[[str, dict[str, float]], None], stopped: Callable[[], bool]
) -> Outcome:
    try:
        with _alone(cell, work):
            return Outcome("finished" if run_cell(cell, work, report, stopped) else "stopped")
    except Exception as error:
        ours = type(error).__module__.split(".")[0] == "qt_ros"  # its message says all there is to say
        return Outcome("failed", str(error) if ours else traceback.format_exc())


@contextmanager
def _alone(cell: Cell, work: Work) -> Iterator[None]:
    """CellError where another process runs the cell: with other settings, it would be moved aside while it writes."""
    folder = work.root / cell.directory
    folder.parent.mkdir(parents=True, exist_ok=True)
    busy = CellError(
        f"{folder}: another process runs this cell; wait for it, or choose other cells or another --work folder"
    )
    with locked_or(folder.with_name(f".{folder.name}.lock"), busy):
        yield


def _side_by_side(cells: Sequence[Cell], work: Work, report: Report, stopped: Callable[[], bool]) -> dict[str, Outcome]:
    context = multiprocessing.get_context("spawn")  # OpenGL, CUDA and torch do not survive a fork
    waiting, outcomes = list(cells), dict[str, Outcome]()
    running: dict[Any, tuple[Cell, Any]] = {}  # our end of a pipe: the cell and its process

    def begin() -> None:
        cell = waiting.pop(0)
        ours, theirs = context.Pipe()
        with _threads(work.threads):
            process = context.Process(target=_process, args=(cell, work, theirs))
            process.start()
        theirs.close()  # so that the process's end is the only one, and its death is seen
        running[ours] = (cell, process)

    told = False
    try:
        while running or (waiting and not stopped()):
            while waiting and len(running) < work.jobs and not stopped():
                begin()
            if stopped() and not told:
                told = True
                _tell(running)
            ready: list[Any] = wait(list(running), timeout=0.5)
            for pipe in ready:
                cell, process = running[pipe]
                try:
                    item = pipe.recv()
                except (EOFError, OSError):
                    del running[pipe]
                    process.join()
                    if cell.name not in outcomes:
                        outcomes[cell.name] = Outcome(
                            "failed", f"its process ended with status {process.exitcode}; was it out of memory?"
                        )
                    report(cell, _told(outcomes[cell.name]), {})
                    continue
                if isinstance(item, Outcome):
                    outcomes[cell.name] = item
                else:
                    report(cell, *item)
    finally:
        _tell(running)
        for _, process in running.values():
            process.join()
    return outcomes


def _tell(running: dict[Any, Any]) -> None:
    for pipe in running:
        try:
            pipe.send(None)
        except OSError:  # it has ended already
            pass


def _process(cell: Cell, work: Work, pipe: Any) -> None:
    """Reports and at last the outcome go into the pipe; anything that comes out of it, or its end, means stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says when to stop
    stop = False

    def stopped() -> bool:
        nonlocal stop
        stop = stop or pipe.poll()
        return stop

    def report(text: str, metrics: dict[str, float]) -> None:
        try:
            pipe.send((text, metrics))
        except OSError:  # the parent is gone: stopped() will say so
            pass

    outcome = _run(cell, work, report, stopped)
    try:
        pipe.send(outcome)
    except OSError:
        pass
    pipe.close()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Processes started inside compute on ``count`` threads."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update({name: str(count) for name in _THREADS})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
