"""The command `qt-ros`: finds the subcommand, imports its module and runs it.

A subcommand is a module `qt_ros/cli/<name>.py` with either
    app: typer.Typer         a group of commands, or a single command when it holds just one, or
    command(...)             a function with typer annotations.
`qt-ros --help` imports none of them, so that it answers at once on a machine where torch takes seconds to import.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import typer

import qt_ros

# Module and subcommand of the same name, and what `qt-ros --help` says about it. An absent module is not listed.
SUBCOMMANDS = {
    "doctor": "Say what this machine has, and what is missing.",
    "demo": "Run the closed loop in simulation: instructions in, actions out, one bag per episode.",
    "record": "Record a person's demonstrations, by keyboard or joystick.",
    "collect": "Let the scripted demonstrator fill a training store in the simulator.",
    "pretrain": "Train the vision encoder to point at the named object, before the Q-function.",
    "train": "Train a Q-Transformer from a training store.",
    "experiment": "Train and evaluate every cell of an experiment, and write its tables.",
    "improve": "Rounds of improvement: collect, judge, learn, compare, keep the better policy.",
    "evaluate": "Measure a checkpoint's success rate in the simulator or on a robot.",
    "episodes": "List, inspect, check and label recorded episodes; build training stores from bags.",
    "contract": "Show, check or write a robot's contract, offline or against the running robot.",
    "security": "Write SROS 2 policies for the nodes; say what this machine can protect.",
}

HELP = """Q-Transformer on ROS 2: run it, record it, train it.

Example: qt-ros doctor
"""


def available() -> list[str]:
    """Names of the subcommands whose module exists, in the order of SUBCOMMANDS. Imports none of them."""
    return [name for name in SUBCOMMANDS if importlib.util.find_spec(f"qt_ros.cli.{name}") is not None]


def single_callback(app: typer.Typer) -> Callable[..., Any] | None:
    """The function of an app that consists of just one command, else None."""
    if len(app.registered_commands) == 1 and not app.registered_groups and app.registered_callback is None:
        return app.registered_commands[0].callback
    return None


def attach(app: typer.Typer, name: str, module: ModuleType) -> None:
    """Adds the subcommand that `module` defines. Raises TypeError when it defines none."""
    group = getattr(module, "app", None)
    function = getattr(module, "command", None)
    if isinstance(group, typer.Typer):
        function = single_callback(group)
        if function is None:
            app.add_typer(group, name=name, short_help=SUBCOMMANDS[name])
            return
    if not callable(function):
        raise TypeError(f"{module.__name__} must define `app`, a typer.Typer, or a function `command`")
    app.command(name, short_help=SUBCOMMANDS[name])(function)


def attach_listed(app: typer.Typer, name: str) -> None:
    """Adds a subcommand by its name and short help only, for `qt-ros --help`."""

    def listed() -> None:
        raise RuntimeError(f"{name} was listed, not loaded")

    app.command(name, short_help=SUBCOMMANDS[name])(listed)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qt_ros {qt_ros.__version__}")
        raise typer.Exit()


def options(
    version: bool = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def build_app(chosen: str | None = None) -> typer.Typer:
    """The app with the subcommand `chosen` really loaded and all others only listed."""
    app = typer.Typer(
        name="qt-ros", help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    app.callback()(options)
    for name in available():
        if name == chosen:
            attach(app, name, importlib.import_module(f"qt_ros.cli.{name}"))
        else:
            attach_listed(app, name)
    return app


def explained_status(error: BaseException) -> int:
    """Exit status for an error whose message is meant for the person at the keyboard; 0 when it is a bug.

    2: one of our own types, raised because what was asked for cannot be done. 1: the system refused a file.
    """
    if type(error).__module__.split(".")[0] == "qt_ros":
        return 2
    return 1 if isinstance(error, OSError) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `qt-ros` with the given arguments (default: the process's) and returns its exit status.

    Errors that qt_ros raises to tell the user something are shown as one line; QT_ROS_TRACEBACK=1 shows where from.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in given if not word.startswith("-")), None)
    try:
        result = build_app(chosen)(given, prog_name="qt-ros", standalone_mode=True)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return stop.code or 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        status = explained_status(error)
        if os.environ.get("QT_ROS_TRACEBACK") or not status:
            raise
        print(f"qt-ros: {error}", file=sys.stderr)
        return status
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    raise SystemExit(main())
