"""What `qt-ros evaluate --manual` refuses before it looks for a robot."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from qt_ros.cli import main as cli
from qt_ros.cli.evaluate_manual import ManualProblem
from qt_ros.contract.strict import ConfigError

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
    ],
)
def test_options_that_would_have_no_effect_are_refused(repository: Path, options: list[str], told: str) -> None:
    output, _ = refused(repository, *options)
    assert told in " ".join(output.replace("\u2502", " ").split())
