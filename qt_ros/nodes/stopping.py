"""Waiting for SIGINT or SIGTERM so that the first one counts.

A `threading.Event` set by a handler misses one now and then: what comes after Python's last look for signals and before
the wait itself is noticed by the next signal only, and a handler that interrupts `Event.wait` at the wrong place waits
for a lock that its own thread holds. Here the interpreter's C handler writes the signal's number into a pipe, at once
and without a lock (`signal.set_wakeup_fd`), and the main thread waits for that pipe.
"""

from __future__ import annotations

import os
import select
import signal

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
