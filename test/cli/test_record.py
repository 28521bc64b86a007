"""What the operator answers decides what becomes of a bag: kept, labelled, put aside, or deleted where asked for."""

from __future__ import annotations

import contextlib
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
from qt_ros.episodes.bag_metadata import EPISODE_ID, SEED, TASK, read_metadata
from qt_ros.episodes.bag_writer import EpisodeBagWriter

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


def closed_bag(uri: Path) -> Path:
    """A bag as the recorder closes it, without any message."""
    EpisodeBagWriter(uri, custom_data={EPISODE_ID: uri.name}).close()
    return uri


class Client:
    """A graph that did what it was asked, and remembers the labels."""

    def __init__(self, discarded: bool = False, freed: bool = True) -> None:
        self.pressed, self.freed = discarded, freed
        self.labels: list[tuple[str, str, str]] = []
        self.others: list[str] = []

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


class SimClient(Client):
    """A simulated graph whose episode is recorded into ``bag``; Ctrl-C is pressed in mid-episode if ``interrupted``."""

    def __init__(self, bag: Path, error: str = "", interrupted: bool = False) -> None:
        super().__init__()
        self.bag, self.error, self.interrupted, self.begun = bag, error, interrupted, 0

    def reset_scene(self, seed: int, task: str) -> Any:
        return SimpleNamespace(instruction="pick", task="pick_red_cube")

    def other_actors(self) -> list[str]:
        return self.others

    def pause(self, seconds: float, while_: Any) -> None:
        pass

    def begin(self, *_: Any) -> None:
        self.begun += 1

    def check(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt

    def result(self, timeout: float) -> Any:
        self.check()
        return SimpleNamespace(reason="terminate", steps=3, message="")

    def record(self, episode_id: str, timeout: float) -> Any:
        return SimpleNamespace(
            uri=str(self.bag), outcome=1, messages=5, dropped=0, complete=not self.error, error=self.error
        )


def simulated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Walk:
    made = walk(folder, "\n", monkeypatch)
    made.sim, made.seed, made.instruction = True, 40, "pick"
    monkeypatch.setattr(operator_console.Operator, "driving", lambda self: contextlib.nullcontext())
    return made


@pytest.mark.parametrize("error", ["", "one message was bad"])
def test_a_simulated_bag_says_of_which_scene_it_is_also_where_its_recording_had_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    bag = closed_bag(tmp_path / "bags" / "e1")
    assert simulated(tmp_path, monkeypatch)._episode(SimClient(bag, error))
    custom = read_metadata(bag).custom_data
    assert (custom[TASK], custom[SEED]) == ("pick_red_cube", "40")


def test_a_simulated_bag_that_ctrl_c_puts_aside_says_of_which_scene_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, bag = simulated(tmp_path, monkeypatch), closed_bag(tmp_path / "bags" / "e1")
    with pytest.raises(KeyboardInterrupt):
        made._episode(SimClient(bag, interrupted=True))
    assert made.rows[-1].discarded and not bag.exists()
    assert read_metadata(tmp_path / "discarded" / "e1").custom_data[SEED] == "40"


def test_a_bag_that_cannot_say_so_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = simulated(tmp_path, monkeypatch)
    assert made._episode(SimClient(tmp_path / "gone"))
    told = made.console.file.getvalue()  # type: ignore[attr-defined]
    assert "does not say that it is of scene 40 of pick_red_cube, keep it out of training" in told


def test_no_episode_begins_while_somebody_else_acts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, client = simulated(tmp_path, monkeypatch), SimClient(closed_bag(tmp_path / "bags" / "e1"))
    assert made._episode(client)
    client.others = ["/policy_node"]  # found only now
    with pytest.raises(RecordingProblem, match="/policy_node: .*would act too; stop it first"):
        made._episode(client)
    assert client.begun == 1


def test_an_instruction_without_a_task_sets_up_the_scenes_that_it_asks_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(Walk, "run", lambda self, episodes: asked.append(self.task) or 0)
    options = ["record", "--sim", "--input", "joystick", "--out", str(tmp_path), "--instruction"]
    assert main([*options, "pick up the red cube"]) == 0
    assert main([*options, "pick up the red cube", "--task", "pick_blue_ball"]) == 0
    assert asked == ["pick_red_cube", "pick_blue_ball"]


def test_an_instruction_that_no_task_or_several_ask_with_needs_a_task(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["record", "--sim", "--input", "joystick", "--instruction"]
    assert main([*options, "juggle"]) == 2
    assert "asks for 'juggle'" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr("qt_ros.sim.tasks.tasks_of", lambda sentences: ("pick_red_cube", "pick_blue_ball"))
    assert main([*options, "pick"]) == 2
    assert "--task" in capsys.readouterr().err


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
