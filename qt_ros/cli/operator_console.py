"""The person at the terminal: keys become a joystick while an episode runs, and answers between episodes."""

from __future__ import annotations

import contextlib
import sys
import termios
import time
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.table import Table

from qt_ros.control.keyboard import KeyboardMapping, VirtualStick
from qt_ros.control.terminal import NoTerminal, RawTerminal

JOY_PERIOD = 0.05  # s between two Joy messages


class Operator:
    """``keys``: the keyboard mapping, None with a real joystick; ``steer(axes, buttons)`` publishes Joy, ``estop()``
    presses the emergency stop. Without a terminal nothing is asked: every question has its default for an answer."""

    def __init__(
        self,
        console: Console,
        keys: KeyboardMapping | None,
        steer: Callable[[list[float], list[int]], None] = lambda axes, buttons: None,
        estop: Callable[[], None] = lambda: None,
    ) -> None:
        self.console, self.stick, self.steer, self.estop = console, VirtualStick(keys) if keys else None, steer, estop
        self.attended = sys.stdin.isatty()
        self.gave_up = False
        self._terminal: RawTerminal | None = None
        self._sent = 0.0

    def explain(self, notes: Iterable[str] = ()) -> None:
        """Say what the keys do, after ``notes`` on the mapping."""
        for note in notes:
            self.console.print(note, markup=False, highlight=False, soft_wrap=True)
        if self.stick is None:
            self.console.print("the joystick drives; in this terminal: space = emergency stop, x = give the episode up")
            return
        table = Table(title="keys while an episode runs; any other key stops motion", show_header=False)
        lines = self.stick.mapping.help()
        for left, right in zip(lines[: (len(lines) + 1) // 2], [*lines[(len(lines) + 1) // 2 :], ("", "")]):
            table.add_row(*left, *right)
        self.console.print(table)

    @contextlib.contextmanager
    def driving(self) -> Iterator[None]:
        """While inside, keys drive (or, with a joystick, space is the emergency stop and x gives the episode up)."""
        self.gave_up = False
        if not self.attended:
            yield
            return
        with RawTerminal() as self._terminal:
            try:
                yield
            finally:
                self._terminal = None
                if self.stick is not None:
                    self.stick.release()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """As `driving`, where there still is a terminal: what is done inside is done without one too."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(NoTerminal, termios.error):  # the line was hung up
                stack.enter_context(self.driving())
            yield

    def pump(self) -> None:
        """Read keys and publish Joy when it is time; call it again and again. EOFError when the line was hung up."""
        now = time.monotonic()
        for key in self._terminal.read() if self._terminal is not None else ():
            if self.stick is not None:
                self.stick.type(key, now)
                if self.stick.mapping.roles.get(key) == "estop":
                    self.estop()  # does not wait for a joystick to be read
            elif key == "space":
                self.estop()
            elif key == "x":
                self.gave_up = True
        if self.stick is not None and now - self._sent >= JOY_PERIOD:
            self._sent = now
            self.steer(*self.stick.read(now))

    def ask(self, question: str, default: str = "") -> str:
        """A line of text; an empty one means ``default``. EOFError at the end of the input."""
        if not self.attended:
            return default
        shown = f" [{default}]" if default else ""
        self.console.print(f"{question}{shown}: ", end="", markup=False, highlight=False)
        line = sys.stdin.readline()
        if not line:
            raise EOFError("no more answers")
        return line.strip() or default

    def choose(self, question: str, choices: dict[str, str], default: str) -> str:
        """One of ``choices`` {letter: answer}, asked for until it is one of them."""
        letters = ", ".join(f"{letter} {answer}" for letter, answer in choices.items())
        while True:
            answer = self.ask(f"{question} ({letters})", default).lower()
            if answer in choices:
                return choices[answer]
            if answer in choices.values():
                return answer
            self.console.print(f"{answer!r} is none of them", markup=False)

    def press(self, question: str, keys: dict[str, str], wait: Callable[[Callable[[], bool]], None]) -> str:
        """One of ``keys`` {key: answer}, without Enter; ``wait(ready)`` serves the graph until ``ready()``.

        Space is the emergency stop here too. EOFError when the line was hung up.
        """
        typed: list[str] = []
        with RawTerminal() as terminal:  # before the question: what was typed earlier is no answer to it
            shown = ", ".join(f"{key} = {answer}" for key, answer in keys.items())
            self.console.print(f"{question} ({shown})", markup=False, highlight=False, soft_wrap=True)

            def ready() -> bool:
                for key in terminal.read():
                    if key == "space":
                        self.estop()
                        self.console.print("emergency stop pressed")
                    elif key in keys:
                        typed.append(key)
                return bool(typed)

            wait(ready)
        return keys[typed[0]]
