"""Node processes of a graph: started with their own logs, watched, and always stopped again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from qt_ros.nodes.transport import image_transport, stay_on_this_machine

_PR_SET_PDEATHSIG = 1


class NodeDied(RuntimeError):
    """A node ended although it was needed; the message names it and shows the tail of its log."""


@dataclass
class NodeProcess:
    """One running node: its name, its log file and the process."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    _sink: IO[bytes]

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log."""
        text = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in text[-lines:]) or "    (the log is empty)"

    @property
    def running(self) -> bool:
        return self.process.poll() is None


class NodeGroup:
    """Starts nodes as separate processes and stops them in the order in which they were started.

    Each runs in a session of its own, so that Ctrl-C in the terminal reaches only us and we decide who stops first (the
    policy before the robot, the recorder last: it still has a bag to close). Should we die without a chance to say so,
    the kernel sends them SIGINT (Linux).
    """

    def __init__(self, log_folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log_folder = log_folder
        self.environment = {**image_transport(), **os.environ, **(environment or {})}
        stay_on_this_machine(self.environment)
        self.nodes: list[NodeProcess] = []
        self._interrupted = False
        log_folder.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        remap: Mapping[str, str] | None = None,
        module: str = "",
        parameter_file: Path | None = None,
    ) -> NodeProcess:
        """Start ``qt_ros.nodes.<name>`` (or ``module``) with ROS parameters and remappings."""
        command = [sys.executable, "-m", module or f"qt_ros.nodes.{name}", "--ros-args", "-r", f"__node:={name}"]
        if parameter_file is not None:
            command += ["--params-file", str(parameter_file)]
        for key, value in (parameters or {}).items():
            command += ["-p", f"{key}:={_yaml(value)}"]
        for source, target in (remap or {}).items():
            command += ["-r", f"{source}:={target}"]
        log = self.log_folder / f"{name}.log"
        sink = log.open("wb")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=self.environment,
            start_new_session=True,
            preexec_fn=_stop_with_parent,
        )
        node = NodeProcess(name, log, process, sink)
        self.nodes.append(node)
        return node

    def check(self) -> None:
        """Raise NodeDied for the first node that is not running any more, and a KeyboardInterrupt that got lost."""
        if self._interrupted:
            raise KeyboardInterrupt
        for node in self.nodes:
            if not node.running:
                code = node.process.returncode
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                raise NodeDied(f"{node.name} ended ({how}); the end of {node.log}:\n{node.tail()}")

    def stop(self, grace: float = 10.0, recorder_grace: float = 60.0) -> list[str]:
        """Stop all nodes, oldest first: SIGINT, then SIGTERM after ``grace`` s, then SIGKILL.

        The recorder gets ``recorder_grace`` s, for its bag is lost when it is killed while it writes. Returns the names
        of those that did not stop when asked.
        """
        stubborn = []
        for node in self.nodes:
            asked = recorder_grace if node.name == "recorder_node" else grace
            for signal_, patience in ((signal.SIGINT, asked), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
                if not node.running:
                    break
                if signal_ == signal.SIGTERM:
                    stubborn.append(node.name)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(node.process.pid, signal_)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    node.process.wait(timeout=patience)
            node._sink.close()
        self.nodes.clear()
        return stubborn

    @contextlib.contextmanager
    def running(self) -> Iterator[NodeGroup]:
        """Whatever happens inside, no node outlives the block; a second Ctrl-C does not cut the stopping short.

        A KeyboardInterrupt that is raised where Python or a library swallows it (a destructor, a callback) is raised
        again by `check`, until `heard`.
        """
        with self._noting_interrupts():
            try:
                yield self
            finally:
                with _without_interrupts():
                    self.stop()

    def heard(self) -> None:
        """The KeyboardInterrupt was caught: `check` need not repeat it."""
        self._interrupted = False

    @contextlib.contextmanager
    def _noting_interrupts(self) -> Iterator[None]:
        old = signal.getsignal(signal.SIGINT)
        if not callable(old) or threading.current_thread() is not threading.main_thread():
            yield  # ignored, or not delivered here
            return

        def note(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            old(number, frame)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, old)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    try:
        old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: no signal is delivered here anyway
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


def _stop_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _yaml(value: Any) -> str:
    """A parameter value as ROS arguments parse it (YAML); text is quoted so that '7' or 'true' stay text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_yaml(v) for v in value) + "]"
    return "'" + str(value).replace("'", "''") + "'"
