"""`qt-ros experiment` as it is typed, on an experiment in miniature."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from tiny_experiment import CELLS, write_experiment

from qt_ros.cli.experiment import command_line
from qt_ros.cli.main import main
from qt_ros.experiments.work import read_json


@pytest.fixture(autouse=True)
def signal_handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Place:
    """A folder with an experiment, and its command."""

    def __init__(self, root: Path) -> None:
        self.work, self.results = root / "work", root / "results"
        self.path = write_experiment(root / "spec", seeds=[1])

    def __call__(self, *words: str) -> int:
        places = ["--work", str(self.work), "--results", str(self.results)]
        return main(["experiment", str(self.path), *places, *words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """All of it run, from the data on."""
    place = Place(tmp_path_factory.mktemp("experiment"))
    assert place() == 0
    return place


def test_one_command_makes_data_cells_and_tables(finished: Place) -> None:
    document = read_json(finished.results / "tiny.json")
    assert document["missing"] == []
    rows = [(r["method"], r["variant"], r["seed"], r["gradient_steps"]) for r in document["rows"]]
    assert rows == [
        ("q_transformer", "default", 1, 2),
        ("q_transformer", "default", 1, 4),
        ("rt1_bc", "successes", 1, 4),
    ]
    assert all(row["episodes"] + row["unstable"] == 2 and row["commit"] for row in document["rows"])
    names = {path.name for path in finished.results.iterdir()}
    assert names >= {"tiny.md", "tiny.png", "few-data.md", "few-data.json"}
    assert "qt-ros experiment tiny --data" in (finished.results / "few-data.md").read_text(), "few is no experiment"


def test_what_is_finished_is_not_run_again_and_tables_come_out_alike(
    finished: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in finished.results.iterdir() if path.name.startswith("tiny.")}
    assert finished() == 0
    assert "step" not in capsys.readouterr().out
    assert finished("--report-only") == 0
    assert {name: (finished.results / name).read_bytes() for name in before} == before


def test_states_are_listed(finished: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert finished("--list", "--json", "--cell", "rt1_bc") == 0
    states = json.loads(capsys.readouterr().out)
    assert list(states) == ["rt1_bc/successes/1"] and states["rt1_bc/successes/1"].startswith("finished: ")
    assert finished("--list") == 0
    assert "q_transformer/default/1" in capsys.readouterr().out


def test_a_tuning_trial_has_a_table_of_its_own(finished: Place) -> None:
    before = (finished.results / "tiny.json").read_bytes()
    assert finished("--tuning", "--cell", "rt1_bc", "--set", "learning_rate=0.002") == 0
    (row,) = read_json(finished.results / "tiny-tuning.json")["rows"]
    assert (row["method"], row["trial"], row["seed"], row["first_scene"]) == (
        "rt1_bc",
        {"learning_rate": 0.002},
        0,
        1000000,
    )
    assert "learning_rate: 0.002" in (finished.results / "tiny-tuning.md").read_text()
    assert (finished.results / "tiny.json").read_bytes() == before


def test_results_of_another_machine_are_imported(finished: Place, tmp_path: Path) -> None:
    other = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results"), "--report-only"]
    assert main(["experiment", str(finished.path), *other]) == 0
    assert len(read_json(tmp_path / "results" / "tiny.json")["missing"]) == 2
    assert main(["experiment", str(finished.path), *other, "--import", str(finished.work)]) == 0
    names = ["tiny.json", "tiny.md"]
    assert all((tmp_path / "results" / n).read_bytes() == (finished.results / n).read_bytes() for n in names)


def test_interrupted_it_saves_and_the_same_command_goes_on(
    finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(StringIO):
        def write(self, text: str) -> int:
            if "step 2/4" in text and "step 2/4" not in self.getvalue():
                signal.raise_signal(signal.SIGINT)
            return super().write(text)

    place = Place(tmp_path)
    place.work.mkdir()
    (place.work / "data").symlink_to(finished.work / "data")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Interrupted())
        assert place("--cell", "rt1_bc") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert place("--list", "--cell", "rt1_bc", "--json") == 0
    assert "training: 2 of 4 steps" in capsys.readouterr().out
    assert place("--cell", "rt1_bc") == 0
    document = read_json(place.results / "tiny.json")
    assert [row["seed"] for row in document["rows"]] == [1] and len(document["missing"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "loss.alpha=3"), "--set is for --tuning"),
        (("--cell", "iql"), "no such cell"),
        (("--tuning", "--cell", "rt1_bc", "--set", "loss.alpha=3"), "q_transformer's"),
        (("--device", "tricorder"), "torch knows no such device"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path)
    assert place(*words) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert message in told and "Traceback" not in told
    assert not place.work.exists()


def test_a_failed_cell_ends_with_an_error_and_the_tables_say_what_is_missing(
    finished: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path)
    place.path = write_experiment(
        tmp_path / "spec", seeds=[1], cells=[{**CELLS[0], "set": {"model.width": 0}}, CELLS[1]]
    )
    place.work.mkdir()
    (place.work / "data").symlink_to(finished.work / "data")
    assert place() == 1
    assert "failed: q_transformer/default/1" in capsys.readouterr().err
    assert [c["method"] for c in read_json(place.results / "tiny.json")["missing"]] == ["q_transformer"]


def test_an_unknown_experiment_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "cooking"]) == 2
    assert "picking-state" in capsys.readouterr().err


def test_the_command_that_is_noted_names_no_folder_of_this_machine() -> None:
    words = [
        "experiment",
        "picking",
        "--work",
        "/somewhere/work",
        "--jobs",
        "2",
        "--results=/elsewhere",
        "--cell",
        "iql",
    ]
    assert command_line(words) == "qt-ros experiment picking --jobs 2 --cell iql"
