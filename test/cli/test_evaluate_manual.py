"""What `qt-ros evaluate --manual` refuses before it looks for a robot."""

from __future__ import annotations

import math
import os
import pty
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from rich.console import Console  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from qt_ros.cli import main as cli  # noqa: E402
from qt_ros.cli.evaluate_manual import ManualProblem, Sitting  # noqa: E402
from qt_ros.cli.manual_results import Assignment, ManualResults, resume  # noqa: E402
from qt_ros.cli.operator_console import Operator  # noqa: E402
from qt_ros.contract.strict import ConfigError  # noqa: E402
from qt_ros.msg import EpisodeRecord  # noqa: E402
from qt_ros.nodes.demo_client import EpisodeResult  # noqa: E402
from qt_ros.nodes.graph_evaluation import GraphNotReady  # noqa: E402
from qt_ros.nodes.manual_evaluation import Cut  # noqa: E402

ASK = ["--instruction", "pick it up"]
BY_HAND = ["--backend", "ros", "--manual"]


def refused(repository: Path, *options: str) -> tuple[str, BaseException | None]:
    arguments = ["evaluate", str(repository / "checkpoints" / "default"), *options]
    result = CliRunner().invoke(cli.build_app("evaluate"), arguments, env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code != 0
    return result.output, result.exception


def test_without_a_terminal_it_says_how_to_get_one(repository: Path, tmp_path: Path) -> None:
    _, error = refused(repository, *BY_HAND, *ASK, "--results", str(tmp_path / "r.json"))
    assert isinstance(error, ManualProblem) and "no terminal; over SSH use ssh -t" in str(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [[], [*ASK, *ASK]], ids=["nothing to do", "one sentence twice"])
def test_it_needs_instructions_each_once(repository: Path, options: list[str]) -> None:
    _, error = refused(repository, *BY_HAND, *options)
    assert isinstance(error, ConfigError) and "each sentence once" in str(error)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--manual", *ASK], "--backend ros"),
        ([*BY_HAND, *ASK, "--held-out"], "you choose tasks and words"),
        ([*BY_HAND, *ASK, "--operator", " "], "need the name of who judges"),
        (["--backend", "ros", *ASK], "need --manual"),
        (["--results", "r.json"], "need --manual"),
        ([*BY_HAND, *ASK, "--seed", "5"], "draws no scenes with --manual"),
        (["--backend", "ros", "--workers", "2"], "is for --backend embedded"),
        ([*BY_HAND, *ASK, "--robot", "mobile_manipulator"], "is for --backend embedded"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(repository: Path, options: list[str], told: str) -> None:
    output, _ = refused(repository, *options)
    assert told in " ".join(output.replace("\u2502", " ").split())


class Lost:
    """A graph that lost its policy_node in mid-episode, or ends one; the operator presses space while it judges."""

    def __init__(self, keyboard: int, lost: bool) -> None:
        self.keyboard, self.lost, self.pump = keyboard, lost, lambda: None
        self.pressed: list[str] = []

    def attempt(self, *asked: object) -> EpisodeResult:
        ended = EpisodeResult("e", "unknown", "lost_policy", 3, "", math.nan, math.nan)
        if self.lost:
            raise Cut(ended, "nothing from policy_node")
        return ended

    def wait(self, ready: Callable[[], bool]) -> None:
        os.write(self.keyboard, b"f" if self.pressed or self.asked else b"\n")
        self.asked = True
        deadline = time.monotonic() + 60.0
        while not ready():
            assert time.monotonic() < deadline

    asked = False

    def judge(self, *judgement: object) -> EpisodeRecord:
        os.write(self.keyboard, b" ")
        deadline = time.monotonic() + 60.0
        while not self.pressed:
            assert time.monotonic() < deadline, "space was not heard"
            self.pump()
        return EpisodeRecord(episode_id="e", uri="bags/e")


@pytest.mark.parametrize("lost", [True, False], ids=["policy lost", "episode ended"])
def test_space_is_heard_while_a_judgement_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    keyboard, terminal = pty.openpty()
    with os.fdopen(terminal, "r") as line, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", line)
        results = ManualResults("c0ffee", ("push it",), 1)
        sitting = Sitting([Assignment("push it")], results, tmp_path / "r.json", "anna", 30.0, Console(quiet=True))
        graph = Lost(keyboard, lost)
        graph.pump, sitting.operator.estop = sitting._pump, lambda: graph.pressed.append("space")
        if lost:
            with pytest.raises(GraphNotReady, match="nothing from policy_node; what was judged is in"):
                sitting._episode(graph)  # type: ignore[arg-type]
        else:
            sitting._episode(graph)  # type: ignore[arg-type]
    os.close(keyboard)
    assert graph.pressed == ["space"]
    assert [(j.outcome, j.mishap) for j in results.done] == [
        ("mishap", "lost policy_node") if lost else ("failure", "")
    ]


def test_a_judgement_is_kept_when_nobody_waits_for_its_bag(tmp_path: Path) -> None:
    class Impatient(Lost):
        def judge(self, *judgement: object) -> EpisodeRecord:
            raise KeyboardInterrupt

    results = ManualResults("c0ffee", ("push it",), 1)
    ended = EpisodeResult("e", "unknown", "terminate", 3, "", math.nan, math.nan)
    sitting = Sitting.__new__(Sitting)  # no terminal is needed here
    sitting.results, sitting.path, sitting.name = results, tmp_path / "r.json", "anna"
    with pytest.raises(KeyboardInterrupt):
        sitting._add(Impatient(0, False), Assignment("push it"), ended, [0.5], "success", "")  # type: ignore[arg-type]
    again = resume(tmp_path / "r.json", "c0ffee", ["push it"], 1)
    assert [(j.outcome, j.bag, j.value) for j in again.done] == [("success", "", 0.5)]


def test_a_judgement_is_written_though_the_terminal_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard, terminal = pty.openpty()
    with os.fdopen(terminal, "r") as line:
        monkeypatch.setattr("sys.stdin", line)
        operator = Operator(Console(quiet=True), None)
        assert operator.attended
        os.close(keyboard)
        done = False
        with operator.listening():
            done = True
        assert done
