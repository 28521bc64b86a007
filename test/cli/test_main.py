"""The command `qt-ros`: quick to answer, lists what there is, explains itself, and says errors in one line."""

from __future__ import annotations

import importlib.machinery
import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import qt_ros
from qt_ros.cli import main as cli


def run_python(code: str, repository: Path) -> str:
    return subprocess.check_output([sys.executable, "-c", code], cwd=repository, text=True)


def test_help_imports_no_heavy_package(repository: Path) -> None:
    code = (
        "import sys\n"
        "from qt_ros.cli.main import main\n"
        "main(['--help'])\n"
        "heavy = {'torch', 'mujoco', 'rclpy', 'cv2', 'pinocchio', 'numpy', 'transformers', 'pyarrow'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    assert run_python(code, repository).splitlines()[-1] == "LOADED []"


def test_it_runs_from_a_plain_checkout_as_a_module(repository: Path) -> None:
    command = [sys.executable, "-m", "qt_ros.cli", "--version"]
    assert subprocess.check_output(command, cwd=repository, text=True).strip() == f"qt_ros {qt_ros.__version__}"


def test_every_listed_subcommand_exists_and_absent_ones_are_not_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.SUBCOMMANDS, "nonesuch", "Not there.")
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "doctor" in shown
    assert "nonesuch" not in shown


def test_an_unknown_subcommand_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["nonesuch"]) == 2
    assert "nonesuch" in capsys.readouterr().err


def leaves(name: str) -> list[list[str]]:
    """The words of every command below a subcommand: [['episodes', 'ls'], ...] or [['doctor']]."""
    app = cli.build_app(name)
    for group in app.registered_groups:
        if group.name == name and group.typer_instance is not None:
            commands = group.typer_instance.registered_commands
            names = [c.name or c.callback.__name__.replace("_", "-") for c in commands if c.callback is not None]
            return [[name, word] for word in names]
    return [[name]]


@pytest.mark.parametrize("name", cli.available())
def test_the_help_of_every_command_shows_an_example_and_json_output(name: str) -> None:
    runner = CliRunner()
    for words in leaves(name):
        result = runner.invoke(cli.build_app(name), [*words, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
        assert result.exit_code == 0, result.output
        assert "Example" in result.output, f"qt-ros {' '.join(words)} --help has no example"
        assert "--json" in result.output, f"qt-ros {' '.join(words)} has no --json"


def attached(**members: object) -> typer.Typer:
    """An app whose subcommand 'train' is a module with the given members."""
    module = types.ModuleType("qt_ros.cli.train")
    for key, value in members.items():
        setattr(module, key, value)
    app = typer.Typer()
    app.callback()(cli.options)
    cli.attach(app, "train", module)
    return app


def test_a_module_may_be_a_function_a_single_command_or_a_group() -> None:
    def command(steps: int = 1) -> None:
        typer.echo(f"trained {steps}")

    single, group = typer.Typer(), typer.Typer()
    single.command()(command)
    group.command("now")(command)
    group.command("later")(command)
    for app, words in (
        (attached(command=command), ["train"]),
        (attached(app=single), ["train"]),
        (attached(app=group), ["train", "now"]),
    ):
        result = CliRunner().invoke(app, [*words, "--steps", "3"])
        assert result.output == "trained 3\n"


def test_a_module_that_defines_no_command_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"qt_ros\.cli\.train must define"):
        attached()


class ExplainedError(ValueError):
    pass


ExplainedError.__module__ = "qt_ros.contract.strict"


def failing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        raise error

    module = types.ModuleType("qt_ros.cli.doctor")
    module.__spec__ = importlib.machinery.ModuleSpec("qt_ros.cli.doctor", None)
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "qt_ros.cli.doctor", module)


def test_an_error_of_ours_is_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("QT_ROS_TRACEBACK", raising=False)
    failing(ExplainedError("robot.yaml: unknown key 'polcy_rate'"), monkeypatch)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "qt-ros: robot.yaml: unknown key 'polcy_rate'\n"


def test_a_file_that_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(PermissionError("no entry"), monkeypatch)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "qt-ros: no entry\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["collect", "--out", "{}/s", "--episodes", "1", "--source", "dreams"], "dreams"),
        (["collect", "--out", "{}/s", "--episodes", "1", "--task", "juggle"], "juggle"),
        (
            ["collect", "--out", "{}/s", "--episodes", "1", "--robot", "no_such_robot", "--workers", "0"],
            "no_such_robot",
        ),
        (["collect", "--out", "{}/s", "--episodes", "1", "--seed", "2000000"], "2000000"),
        (["collect", "--out", "{}/s", "--episodes", "1", "--robot", "{}/slow.yaml", "--workers", "0"], "multiple"),
        (["collect", "--out", "{}/s", "--episodes", "1", "--robot", "{}/elbow.yaml", "--workers", "0"], "elbow"),
        (["demo", "--checkpoint", "{}", "--task", "juggle"], "juggle"),
        (["evaluate", "{}/nothing", "--episodes", "1", "--workers", "0"], "nothing"),
        (["episodes", "info", "{}/nothing"], "nothing"),
        (["episodes", "label", "{}/nothing", "perfect"], "perfect"),
        (["train", "--store", "{}/nothing", "--out", "{}/run", "--set", "freeze_vision=false"], "nothing"),
        (["train", "--store", "{}/nothing", "--out", "{}/run", "--set", "loss.alpha=["], "loss.alpha"),
    ],
)
def test_what_cannot_be_done_as_asked_ends_with_status_2_and_no_traceback(
    words: list[str], told: str, tmp_path: Path, repository: Path
) -> None:
    text = (repository / "config" / "robots" / "mobile_manipulator.yaml").read_text()
    (tmp_path / "slow.yaml").write_text(text.replace("command_rate: 50.0", "command_rate: 52.0"))
    (tmp_path / "elbow.yaml").write_text(text.replace("arm_joint_3", "elbow"))
    (tmp_path / "checkpoint.json").write_text("{}")
    command = [sys.executable, "-m", "qt_ros.cli", *(word.replace("{}", str(tmp_path)) for word in words)]
    done = subprocess.run(command, cwd=repository, text=True, capture_output=True)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr and "Traceback" not in done.stderr


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ZeroDivisionError("a bug"), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


def test_the_traceback_of_an_explained_error_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_ROS_TRACEBACK", "1")
    failing(ExplainedError("why"), monkeypatch)
    with pytest.raises(ExplainedError):
        cli.main(["doctor"])


def test_ctrl_c_ends_with_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(KeyboardInterrupt(), monkeypatch)  # type: ignore[arg-type]
    assert cli.main(["doctor"]) == 130
