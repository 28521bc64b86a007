from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qt_ros.improvement import commands
from qt_ros.improvement.commands import run_command, told
from qt_ros.improvement.settings import ImprovementError, Interrupted

SCRIPT = """
import os, signal, sys
what = sys.argv[1]
print("begun", flush=True)
if what == "fail":
    print("the disk is full", file=sys.stderr)
    sys.exit(1)
if what == "wait":
    def leave(*_):
        os.write(1, b"saved\\n")  # print may be under way
        sys.exit(130)
    signal.signal(signal.SIGINT, leave)
    print("ready", flush=True)
    while True:
        signal.pause()
"""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A short script in the place of `qt-ros`, started the same way."""
    real = subprocess.Popen

    def popen(words: list[str], **options: object) -> subprocess.Popen[bytes]:
        assert words[:3] == [sys.executable, "-m", "qt_ros.cli"]
        return real([sys.executable, "-c", SCRIPT, *words[3:]], **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(commands.subprocess, "Popen", popen)


def test_every_line_is_handed_on_and_a_command_is_told_as_it_is_typed(tmp_path: Path) -> None:
    lines: list[str] = []
    run_command(["do"], tmp_path / "log", on_line=lines.append)
    assert lines == ["begun"]
    assert told(["train", "--out", "my runs/a"]) == "qt-ros train --out 'my runs/a'"


def test_a_failure_shows_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(ImprovementError, match="status 1.*\n.*the disk is full"):
        run_command(["fail"], tmp_path / "log")


def test_who_is_asked_to_stop_lets_the_command_save_first(tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(Interrupted):
        run_command(["wait"], tmp_path / "log", on_line=lines.append, stopped=lambda: "ready" in lines)
    assert lines == ["begun", "ready", "saved"]


def test_the_command_ends_with_whoever_started_it(tmp_path: Path) -> None:
    read, write = os.pipe()

    def second_interrupt(line: str) -> None:
        if line == "ready":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_command(["wait"], tmp_path / "log", on_line=second_interrupt, keep_open=[write])
    os.close(write)
    assert os.read(read, 1) == b"", "no process holds the other end open"
    os.close(read)
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
