"""Processes of a benchmark that talk over DDS: the environment they share, and publishers that begin when told."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT
from qt_ros.contract.robot import package_root

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def set_environment(dds_default: bool = False) -> None:
    """A ROS domain of our own unless one is set, discovery on this machine only, and our Fast DDS profile.

    ``dds_default``: Fast DDS as it comes instead of config/fastdds.xml. Every process started later
    inherits it; call it before rclpy.init.
    """
    if "ROS_DOMAIN_ID" not in os.environ:
        os.environ["ROS_DOMAIN_ID"] = str(secrets.randbelow(100) + 1)
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    for variable in PROFILE_VARIABLES:
        if dds_default:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = str(package_root() / "config" / "fastdds.xml")
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(ROOT) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])


@contextmanager
def own_domain() -> Iterator[None]:
    """A ROS domain that no test or benchmark of this machine uses at the same time: foreign nodes would be faults too.

    The lock files are those of the tests.
    """
    locks = Path(tempfile.gettempdir()) / f"qt_ros_domains_{os.getuid()}"
    locks.mkdir(exist_ok=True)
    if "ROS_DOMAIN_ID" in os.environ:
        set_environment()
        yield
        return
    for domain in range(101, 0, -1):
        with (locks / str(domain)).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            os.environ["ROS_DOMAIN_ID"] = str(domain)
            os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
            set_environment()
            try:
                yield
            finally:
                del os.environ["ROS_DOMAIN_ID"]
            return
    raise RuntimeError("all ROS domain ids are in use; end some of the processes that hold them")


class SensorProcess:
    """A ``benchmarks.sensor_publisher`` process: ready once it has a subscriber, publishing from `go` to `stop`."""

    def __init__(self, topic: str, kind: str, rate: float, *, count: int = 0, **options: Any) -> None:
        command = [sys.executable, "-m", "benchmarks.sensor_publisher", topic, kind, str(rate), "--count", str(count)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)] if value is not True else [f"--{name}"]
        self.topic = topic
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def check(self) -> None:
        """RuntimeError when the process ended although it was needed."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the publisher of {self.topic} ended with status {self.process.returncode}")

    @property
    def ready(self) -> bool:
        """Somebody subscribes."""
        return "ready" in self.lines

    @property
    def report(self) -> dict[str, Any] | None:
        """What it says after its last message, else None."""
        reports = [line for line in self.lines if line.startswith("{")]
        return json.loads(reports[-1]) if reports else None

    def go(self) -> None:
        """Publish from now on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def stop(self) -> dict[str, Any]:
        """End the process and return its report ({} when it never published)."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=5.0)
        return self.report or {}


@contextmanager
def sensors(*processes: SensorProcess) -> Iterator[tuple[SensorProcess, ...]]:
    """Whatever happens inside, no publisher outlives the block."""
    try:
        yield processes
    finally:
        for process in processes:
            process.stop()
