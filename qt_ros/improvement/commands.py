"""Running `qt-ros` in a process of its own: what was run stands in the report, word for word."""

from __future__ import annotations

import ctypes
import os
import selectors
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qt_ros.improvement.settings import ImprovementError, Interrupted

_PR_SET_PDEATHSIG = 1
_TAIL = 15  # lines of a log that an error shows


def told(words: Sequence[str]) -> str:
    """The command as one would type it."""
    return shlex.join(["qt-ros", *words])


def run_command(
    words: Sequence[str],
    log: Path,
    *,
    on_line: Callable[[str], None] = lambda line: None,
    stopped: Callable[[], bool] = lambda: False,
    keep_open: Sequence[int] = (),
) -> None:
    """Run ``qt-ros *words`` to its end; ``on_line`` gets each line of its standard output, ``log`` all the rest.

    When ``stopped()`` turns true it is interrupted as by Ctrl-C and awaited; then Interrupted is raised, unless it had
    reached its end. ``keep_open``: file descriptors that the process inherits. ImprovementError with the end of the log
    when it failed. It never outlives this process by more than it needs to save.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    asked = False
    with open(log, "ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "qt_ros.cli", *words],
            stdout=subprocess.PIPE,
            stderr=sink,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal reaches us alone, and we say when to stop
            preexec_fn=_stop_with_parent,
            pass_fds=tuple(keep_open),
        )
        assert process.stdout is not None
        pending = b""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while True:
                    if stopped() and not asked:
                        asked = True
                        _interrupt(process)
                    if not selector.select(timeout=0.2):
                        continue
                    data = os.read(process.stdout.fileno(), 1 << 16)
                    if not data:
                        break
                    *lines, pending = (pending + data).split(b"\n")
                    for line in lines:
                        on_line(line.decode(errors="replace"))
            status = process.wait()
        finally:
            if process.poll() is None:  # an error on our side, or a second Ctrl-C
                _interrupt(process)
                process.wait()
            process.stdout.close()
    if asked and status != 0:
        raise Interrupted
    if status != 0:
        raise ImprovementError(f"`{told(words)}` ended with status {status}; the end of {log}:\n{_tail(log)}")


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    try:
        process.send_signal(signal.SIGINT)
    except ProcessLookupError:
        pass


def _stop_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _tail(log: Path) -> str:
    return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-_TAIL:])
