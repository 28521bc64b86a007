"""Waiting for SIGINT or SIGTERM so that the first one counts, and Ctrl-C at times that suit.

A `threading.Event` set by a handler misses one now and then: what comes after Python's last look for signals and before
the wait itself is noticed by the next signal only, and a handler that interrupts `Event.wait` at the wrong place waits
for a lock that its own thread holds. Here the interpreter's C handler writes the signal's number into a pipe, at once
and without a lock (`signal.set_wakeup_fd`), and the main thread waits for that pipe.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)
_ASKED = 0  # in the pipe beside signals' numbers, which begin with 1


class StopSignal:
    """From its construction on, in the main thread, SIGINT and SIGTERM do nothing but end `wait`.

    Handlers of other signals that are installed from Python run as usual, also during `wait`.
    """

    def __init__(self) -> None:
        self._asked = False
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in STOPS:
            signal.signal(number, lambda *_: None)  # with the default action nothing would be written

    @property
    def asked(self) -> bool:
        """Whether a signal has ended `wait`, or `ask` was called."""
        return self._asked

    def ask(self) -> None:
        """As a signal does; from any thread."""
        self._asked = True
        try:
            os.write(self._writer, bytes([_ASKED]))
        except BlockingIOError:  # full: there is enough to wake up for
            pass

    def wait(self) -> None:
        """Until a signal comes, came since the construction, or somebody calls `ask`. In the main thread."""
        while not self._asked:
            select.select([self._reader], [], [])
            try:
                heard = os.read(self._reader, 512)
            except BlockingIOError:
                continue
            self._asked = self._asked or any(number in (_ASKED, *STOPS) for number in heard)


class DeferredInterrupts:
    """A block in which SIGINT is only noted: its handler runs at `deliver`, or at the block's end.

    Python's own handler raises KeyboardInterrupt wherever the program is. In the middle of rclpy's C++ code that
    becomes another error ("Unable to convert call argument to Python object") or nothing at all. Blocks may be nested:
    the outermost counts. Outside the main thread, and where SIGINT is ignored, it does nothing.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._handler: Callable[[int, FrameType | None], Any] | None = None
        self._noted: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> DeferredInterrupts:
        handler = signal.getsignal(signal.SIGINT)
        if self._depth == 0 and callable(handler) and threading.current_thread() is threading.main_thread():
            self._handler = handler
            signal.signal(signal.SIGINT, self._note)
        self._depth += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            try:
                self.deliver()
            finally:
                self._handler = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = number, frame

    def deliver(self) -> None:
        """Run the handler, if a SIGINT was noted."""
        if self._noted is not None and self._handler is not None:
            noted, self._noted = self._noted, None
            self._handler(*noted)
