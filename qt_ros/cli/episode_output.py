"""How the commands of `qt-ros episodes` print: tables and prose for people, or one JSON document."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
"""The option of every command that has something to tell."""

COLOURS = {"success": "green", "failure": "red"}


def console() -> Console:
    """Standard output, as wide as the terminal is now."""
    return Console()


def say(line: str) -> None:
    """One line of prose, in rich's markup; paths in it are never broken.

    What is not ours (a path, an instruction, a name) must have been escaped.
    """
    Console(soft_wrap=True, highlight=False).print(line)


def show_json(document: Any) -> None:
    """``document``, of plain JSON values, on standard output and nothing else."""
    typer.echo(json.dumps(document, indent=1))


def coloured(outcome: str) -> str:
    """An outcome in rich's markup; what is neither success nor failure has no colour."""
    colour = COLOURS.get(outcome)
    return outcome if colour is None else f"[{colour}]{outcome}[/]"


def number(value: float | None, form: str) -> str:
    """``value`` in a cell of a table, by the format ``form``; empty where it is not known."""
    return "" if value is None else format(value, form)
