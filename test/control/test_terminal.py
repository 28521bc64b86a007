"""Keys are read one by one from a real pseudo-terminal, and it is left as it was found."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.control.terminal import NoTerminal, RawTerminal, split_keys


@pytest.fixture
def line() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    for fd in (ours, theirs):
        try:
            os.close(fd)
        except OSError:
            pass  # closed by the test


def test_letters_arrows_and_named_keys_are_told_apart(line: tuple[int, int]) -> None:
    ours, theirs = line
    with RawTerminal(theirs) as terminal:
        os.write(ours, b"w\x1b[A \r\x7f\x1bOD")
        keys: list[str] = []
        while len(keys) < 6:
            keys += terminal.read(5.0)
    assert keys == ["w", "up", "space", "enter", "backspace", "left"]


def test_the_escape_key_is_told_from_a_sequence_that_is_still_on_its_way(line: tuple[int, int]) -> None:
    ours, theirs = line
    with RawTerminal(theirs) as terminal:
        os.write(ours, b"\x1b")
        keys = terminal.read(5.0)
        assert keys + terminal.read(0.01) == ["escape"]
        os.write(ours, b"\x1b[")
        assert terminal.read(5.0) == []
        os.write(ours, b"B")
        assert terminal.read(5.0) == ["down"]


def test_the_terminal_is_left_as_it_was_also_after_an_error(line: tuple[int, int]) -> None:
    theirs = line[1]
    before = termios.tcgetattr(theirs)
    with pytest.raises(ZeroDivisionError), RawTerminal(theirs):
        during = termios.tcgetattr(theirs)
        raise ZeroDivisionError
    assert during[3] != before[3]
    assert during[3] & termios.ISIG  # Ctrl-C stays Ctrl-C
    assert termios.tcgetattr(theirs) == before


def test_a_line_that_is_hung_up_is_told(line: tuple[int, int]) -> None:
    ours, theirs = line
    with RawTerminal(theirs) as terminal:
        os.close(ours)
        with pytest.raises(EOFError):
            terminal.read(5.0)


def test_what_is_no_terminal_is_refused_with_advice() -> None:
    reading, writing = os.pipe()
    with pytest.raises(NoTerminal, match="joystick"), RawTerminal(reading):
        pass
    os.close(reading)
    os.close(writing)


@given(data=st.binary(max_size=40), cut=st.integers(0, 40))
def test_any_bytes_give_names_and_never_an_error(data: bytes, cut: int) -> None:
    keys, rest = split_keys(data)
    assert rest == b"" and (len(keys) > 0) == (len(data) > 0)
    first, rest = split_keys(data[:cut], more=True)
    assert len(rest) < 16
    second, _ = split_keys(rest + data[cut:])
    assert all(isinstance(key, str) and key for key in (*first, *second))


@given(st.lists(st.sampled_from([b"w", b"\x1b[A", b" ", b"\x1bOC", b"\x1b[3~", b"\r"])), st.data())
def test_keys_survive_being_cut_anywhere(keys: list[bytes], data: st.DataObject) -> None:
    text = b"".join(keys)
    cut = data.draw(st.integers(0, len(text)))
    first, rest = split_keys(text[:cut], more=True)
    assert first + split_keys(rest + text[cut:])[0] == split_keys(text)[0]
    assert len(split_keys(text)[0]) == len(keys)
