"""What the operator answers decides what becomes of a bag: kept, labelled, put aside, or deleted where asked for."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from qt_ros.cli import operator_console
from qt_ros.cli.main import main
from qt_ros.cli.operator_console import Operator
from qt_ros.cli.record import RecordingProblem, Row, Walk
from qt_ros.contract.robot import load_contract
from qt_ros.control.keyboard import load_keyboard

CONTRACT = load_contract("mobile_manipulator")


class Answers(io.StringIO):
    """Standard input with a person at it."""

    def isatty(self) -> bool:
        return True


def walk(folder: Path, answers: str, monkeypatch: pytest.MonkeyPatch) -> Walk:
    monkeypatch.setattr(sys, "stdin", Answers(answers))
    made = Walk(CONTRACT, "mobile_manipulator", folder, "teleop_xbox", False, Console(file=io.StringIO(), width=200))
    made.operator_name = "anna"
    return made


class Client:
    """A graph that did what it was asked, and remembers the labels."""

    def __init__(self, discarded: bool = False, freed: bool = True) -> None:
        self.pressed, self.freed = discarded, freed
        self.labels: list[tuple[str, str, str]] = []

    def discarded(self, episode_id: str) -> bool:
        return self.pressed

    def label(self, episode_id: str, outcome: str, operator_name: str) -> None:
        self.labels.append((episode_id, outcome, operator_name))

    def reset_estop(self) -> tuple[bool, str]:
        return self.freed, "emergency stop reset" if self.freed else "still pressed"

    def cancel(self) -> None:
        pass

    def record(self, episode_id: str, timeout: float) -> Any:
        raise TimeoutError("it never began")


def settled(made: Walk, client: Client, folder: Path, outcome: str = "success", reason: str = "terminate") -> Row:
    bag = folder / "bags" / "e1"
    bag.mkdir(parents=True)
    (bag / "e1.mcap").write_bytes(b"data")
    row = Row("e1", "pick", outcome, reason, 9, str(bag))
    made.rows.append(row)
    made._settle(client, row, SimpleNamespace(message="why"))
    return row


@pytest.mark.parametrize(
    ("answer", "pressed", "outcome", "labels"),
    [
        ("\n", "success", "success", []),
        ("f\n", "success", "failure", [("e1", "failure", "anna")]),
        ("juggle\nsuccess\n", "failure", "success", [("e1", "success", "anna")]),
        ("u\n", "failure", "unknown", [("e1", "unknown", "anna")]),
        ("\n", "unknown", "unknown", []),
    ],
)
def test_a_kept_episode_has_the_label_that_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, pressed: str, outcome: str, labels: list[Any]
) -> None:
    client = Client()
    row = settled(walk(tmp_path, answer, monkeypatch), client, tmp_path, pressed)
    assert (row.outcome, row.discarded, client.labels) == (outcome, False, labels)
    assert Path(row.bag) == tmp_path / "bags" / "e1"


def test_a_bag_that_failed_is_told_before_the_question_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, client = walk(tmp_path, "f\n", monkeypatch), Client()
    row = Row("e1", "pick", "success", "terminate", 9, "", error="the disk [data] is full; free some")
    made._settle(client, row, SimpleNamespace(message=""))
    told = made.console.file.getvalue()  # type: ignore[attr-defined]
    assert 0 < told.find("its bag: the disk [data] is full; free some") < told.find("keep it as")
    assert client.labels == [] and row.outcome == "success"


def test_a_discarded_episode_is_put_aside_and_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = settled(walk(tmp_path, "d\n", monkeypatch), Client(), tmp_path)
    assert row.discarded and Path(row.bag) == tmp_path / "discarded" / "e1"
    assert (Path(row.bag) / "e1.mcap").read_bytes() == b"data"
    assert not list((tmp_path / "bags").iterdir())


def test_it_is_deleted_where_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = walk(tmp_path, "d\n", monkeypatch)
    made.delete_discarded = True
    row = settled(made, Client(), tmp_path)
    assert (row.discarded, row.bag) == (True, "")
    assert not list((tmp_path / "bags").iterdir()) and not (tmp_path / "discarded").exists()


def test_the_discard_button_is_the_default_answer_and_can_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settled(walk(tmp_path / "a", "\n", monkeypatch), Client(discarded=True), tmp_path / "a", "unknown").discarded
    kept = settled(walk(tmp_path / "b", "s\n", monkeypatch), Client(discarded=True), tmp_path / "b", "unknown")
    assert (kept.discarded, kept.outcome) == (False, "success")


def test_after_an_emergency_stop_nothing_goes_on_until_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(walk(tmp_path / "a", "\n\n", monkeypatch), Client(), tmp_path / "a", "unknown", "estop")
    with pytest.raises(RecordingProblem, match="still pressed"):
        settled(walk(tmp_path / "b", "\n\n", monkeypatch), Client(freed=False), tmp_path / "b", "unknown", "estop")


def test_the_end_of_the_answers_ends_the_sitting_without_losing_the_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = walk(tmp_path, "", monkeypatch)
    with pytest.raises(EOFError):
        settled(made, Client(), tmp_path)
    assert [row.discarded for row in made.rows] == [False]
    assert (tmp_path / "bags" / "e1").is_dir()


def test_an_episode_that_never_began_leaves_nothing_to_discard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = walk(tmp_path, "", monkeypatch)
    made._abandon(Client(), "e1", "pick")
    assert made.rows == []


def test_without_a_terminal_every_question_has_its_default_and_the_keyboard_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("d\n"))
    made = Walk(CONTRACT, "mobile_manipulator", tmp_path, "teleop_xbox", False, Console(file=io.StringIO()))
    assert not settled(made, Client(), tmp_path).discarded
    with pytest.raises(RecordingProblem, match="needs a terminal"):
        Walk(CONTRACT, "mobile_manipulator", tmp_path, "teleop_keyboard", True, Console(file=io.StringIO()))


def test_a_mapping_or_an_input_that_does_not_exist_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--input", "telepathy"]) == 2
    assert "keyboard, joystick" in capsys.readouterr().err
    assert main(["record", "--input", "joystick", "--mapping", "teleop_gamecube"]) == 2
    assert "teleop_xbox" in capsys.readouterr().err


def test_keys_reach_the_joystick_at_its_rate_and_only_while_an_episode_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    steered: list[list[float]] = []
    typed = ["w"]

    class Terminal:
        def __enter__(self) -> Terminal:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self) -> list[str]:
            return [typed.pop()] if typed else []

    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(operator_console, "RawTerminal", Terminal)
    monkeypatch.setattr(operator_console.time, "monotonic", lambda: now.time)
    monkeypatch.setattr(sys, "stdin", Answers(""))
    keys = load_keyboard("teleop_keyboard", CONTRACT)
    person = Operator(Console(file=io.StringIO()), keys, lambda axes, buttons: steered.append(axes))
    person.pump()
    assert typed == ["w"]  # nobody drives yet: the key is left for the next question
    with person.driving():
        for _ in range(4):
            now.time += 0.03
            person.pump()
    now.time += 0.1
    person.pump()
    assert [any(axes) for axes in steered] == [False, True, True, False]
