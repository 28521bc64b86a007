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


def started(body: str, head: str = HEAD) -> subprocess.Popen[bytes]:
    """A process of its own: handlers and wake-up pipe belong to a whole process."""
    command = [sys.executable, "-c", head + body]
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


DEFERRED = """
import os, signal
from qt_ros.nodes.stopping import DeferredInterrupts
later = DeferredInterrupts()

def swallow():
    # As a library that makes something else of an exception raised inside it.
    try:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
    except KeyboardInterrupt:
        print("swallowed", flush=True)

def say(what):
    os.write(1, what.encode() + b"\\n")

"""


def deferred(body: str) -> tuple[int, str]:
    return told(started(body, DEFERRED))


def test_without_a_block_an_interrupt_is_lost_in_a_library() -> None:
    assert deferred("swallow(); say('goes on')") == (0, "swallowed\ngoes on\n")


def test_an_interrupt_is_raised_at_the_end_of_its_block_or_where_it_is_delivered() -> None:
    body = """
try:
    with later:
        swallow()
        say("in it")
    say("not here")
except KeyboardInterrupt:
    say("after it")
try:
    with later:
        swallow()
        later.deliver()
        say("not here")
except KeyboardInterrupt:
    say("delivered")
say(str(signal.getsignal(signal.SIGINT) is signal.default_int_handler))
"""
    assert deferred(body) == (0, "in it\nafter it\ndelivered\nTrue\n")


def test_only_the_outermost_of_nested_blocks_ends_the_deferral() -> None:
    body = """
try:
    with later:
        with later:
            swallow()
        say("between")
        swallow()
        say("still in it")
except KeyboardInterrupt:
    say("once")
with later:
    say("nothing is left")
"""
    assert deferred(body) == (0, "between\nstill in it\nonce\nnothing is left\n")


def test_another_handler_and_an_ignored_signal_stay_what_they_were() -> None:
    body = """
signal.signal(signal.SIGINT, lambda *_: say("handled"))
with later:
    swallow()
    say("in it")
signal.signal(signal.SIGINT, signal.SIG_IGN)
with later:
    swallow()
say(str(signal.getsignal(signal.SIGINT) is signal.SIG_IGN))
"""
    assert deferred(body) == (0, "in it\nhandled\nTrue\n")


def test_in_another_thread_it_does_nothing() -> None:
    body = """
import threading
def elsewhere():
    with later:
        later.deliver()
    say("left")
thread = threading.Thread(target=elsewhere)
thread.start(); thread.join()
"""
    assert deferred(body) == (0, "left\n")
