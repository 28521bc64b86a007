"""The first Ctrl-C ends a node, whenever it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

ROUNDS = 150
HEAD = """
import os, signal, threading
from qt_ros.nodes.stopping import StopSignal
stop = StopSignal()
"""


def started(body: str) -> subprocess.Popen[bytes]:
    """A process of its own: handlers and wake-up pipe belong to a whole process."""
    command = [sys.executable, "-c", HEAD + body]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def told(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=60.0)
    return process.returncode, out.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_ends_the_wait(number: signal.Signals) -> None:
    process = started("print('up', flush=True); stop.wait(); print('left', stop.asked)")
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(number)
    assert told(process) == (0, "left True\n")


def test_a_signal_that_came_before_the_wait_counts() -> None:
    process = started("os.kill(os.getpid(), signal.SIGINT); print(stop.asked); stop.wait(); print(stop.asked)")
    assert told(process) == (0, "False\nTrue\n")


def test_another_thread_can_ask() -> None:
    process = started("threading.Thread(target=stop.ask).start(); stop.wait(); stop.wait(); print('left')")
    assert told(process) == (0, "left\n")


def test_another_signal_is_handled_during_the_wait_and_does_not_end_it() -> None:
    # os.write: a signal may come while the first print is still under way, and print is not reentrant.
    body = """
signal.signal(signal.SIGHUP, lambda *_: (os.write(1, b"line lost\\n"), os.kill(os.getpid(), signal.SIGTERM)))
signal.signal(signal.SIGUSR2, lambda *_: os.write(1, f"seen {stop.asked}\\n".encode()))
print("up", flush=True)
stop.wait()
"""
    process = started(body)
    assert process.stdout is not None
    for number, line in ((None, b"up\n"), (signal.SIGUSR2, b"seen False\n"), (signal.SIGHUP, b"line lost\n")):
        if number is not None:
            process.send_signal(number)
        assert process.stdout.readline() == line
    assert told(process) == (0, "")


def test_a_flood_of_signals_does_not_block_and_one_is_enough() -> None:
    process = started(
        "[os.kill(os.getpid(), signal.SIGINT) for _ in range(70_000)]; stop.ask(); stop.wait(); print('left')"
    )
    assert told(process) == (0, "left\n")


def test_no_first_signal_is_lost_while_the_wait_begins() -> None:
    # The main thread forks again and again, so that Python starts once; a child waits as run() does, beside a thread.
    body = f"""
for _ in range({ROUNDS}):
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        stop = StopSignal()
        def work():
            os.write(go, b"r")
            while not stop.asked:
                sum(range(200))
        thread = threading.Thread(target=work)
        thread.start()
        stop.wait()
        thread.join()
        os._exit(0)
    os.read(ready, 1)
    os.kill(child, signal.SIGINT)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os.close(ready), os.close(go)
"""
    process = started(body)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    lines, last = b"", time.monotonic()
    while process.poll() is None or lines.count(b"\n") < ROUNDS:
        more = process.stdout.read() or b""
        last = time.monotonic() if more else last
        lines += more
        if time.monotonic() - last > 30.0:
            process.kill()
            pytest.fail(f"after {lines.count(b'0')} rounds a signal ended nothing: {lines[-300:]!r}")
        time.sleep(0.02)
    assert lines == b"0\n" * ROUNDS
