"""Keys from a terminal, one by one, also over SSH: termios, no window system.

Ctrl-C stays Ctrl-C. The terminal is put back as it was whatever happens inside the block.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any

_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",  # the same keys in application mode
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\x1b[3~": "delete",
    b"\x1b": "escape",
    b" ": "space",
    b"\r": "enter",
    b"\n": "enter",
    b"\t": "tab",
    b"\x7f": "backspace",
    b"\x08": "backspace",
}
_LONGEST = 16  # bytes of an escape sequence; more than any key sends


class NoTerminal(RuntimeError):
    """Keys were asked for where there is no terminal; the message says what to do."""


def split_keys(data: bytes, more: bool = False) -> tuple[list[str], bytes]:
    """Names of the keys in ``data``, and what is left of a sequence that is still on its way (only with ``more``).

    Letters and digits name themselves; what is not known is 'unknown', one per sequence or byte.
    """
    keys: list[str] = []
    while data:
        size = _size(data)
        if size == 0:
            if more and len(data) < _LONGEST:
                return keys, data
            size = len(data) if data[:1] == b"\x1b" else 1
        head, data = data[:size], data[size:]
        keys.append(_SEQUENCES.get(head) or (chr(head[0]) if head.isascii() and head.isalnum() else "unknown"))
    return keys, b""


def _size(data: bytes) -> int:
    """Bytes of the first key; 0 when it is not complete."""
    if data[0] != 0x1B:
        return 1
    if len(data) == 1:
        return 0
    if data[1:2] == b"O":
        return 3 if len(data) >= 3 else 0
    if data[1:2] != b"[":
        return 1  # escape, then something else
    for i in range(2, len(data)):
        if 0x40 <= data[i] <= 0x7E:  # ECMA-48: the final byte of a control sequence
            return i + 1
    return 0


class RawTerminal:
    """The terminal of ``fd`` (default: standard input) key by key; a context manager. NoTerminal when it is none."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = sys.stdin.fileno() if fd is None else fd
        self._rest = b""
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        if not os.isatty(self.fd):
            raise NoTerminal("standard input is no terminal, so no keys can be read; use a joystick, or ssh -t")
        self._saved = termios.tcgetattr(self.fd)
        tty.setcbreak(self.fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._saved is not None:
            try:
                # FLUSH: keys held down until now are no answer to the next question.
                termios.tcsetattr(self.fd, termios.TCSAFLUSH, self._saved)
            except termios.error:  # the line was hung up: there is nothing left to put back
                pass
            self._saved = None

    def read(self, timeout: float = 0.0) -> list[str]:
        """Keys typed until now, waiting up to ``timeout`` s for the first. EOFError when the line was hung up."""
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if not ready:
            keys, self._rest = split_keys(self._rest)  # nothing more came: it was the escape key itself
            return keys
        try:
            data = os.read(self.fd, 1024)
        except OSError as error:
            raise EOFError("the terminal was closed") from error
        if not data:
            raise EOFError("the terminal was closed")
        keys, self._rest = split_keys(self._rest + data, more=True)
        return keys
