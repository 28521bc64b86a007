"""`qt-ros contract`: show a robot's contract, check it offline or against the running robot, or write a first one."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from qt_ros.contract.check import Finding
    from qt_ros.contract.robot import RobotContract

app = typer.Typer(no_args_is_help=True, help="Show, check or write a robot's contract.")

Robot = Annotated[str, typer.Argument(help="A name in config/robots, or a YAML file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Namespace = Annotated[str, typer.Option(help="Namespace of the robot's topics.")]
SimTime = Annotated[bool, typer.Option("--sim-time", help="Ages are measured on /clock.")]
Seconds = Annotated[float, typer.Option(min=0.5, max=600.0, help="How long to listen, in s.")]
COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@app.command()
def show(robot: Robot, json_output: Json = False) -> None:
    """Show what a contract says: topics, commands, limits and actions.

    Example: qt-ros contract show tiago
    """
    from qt_ros.contract.robot import load_contract

    contract = load_contract(robot)
    if json_output:
        typer.echo(json.dumps(_plain(contract), indent=2))
        return
    from rich.console import Console

    console = Console()
    console.print(f"{contract.robot} ({contract.sha256[:12]}), described by {contract.description}", highlight=False)
    topics = _table("", "name", "topic", "type")
    for spec in contract.observations.values():
        topics.add_row("in", spec.name, spec.topic, spec.type)
    for command in contract.commands.values():
        topics.add_row("out", command.name, command.topic, command.type)
    for call in contract.prepare:
        topics.add_row("call", "prepare", call.service, call.type)
    actions = _table("dimension", "unit", "range", "sent to")
    for d in contract.action_space.dimensions:
        actions.add_row(d.name, d.unit, f"{d.low:g} .. {d.high:g}", d.target)
    console.print(topics)
    console.print(actions)


@app.command()
def check(
    robot: Robot,
    live: Annotated[bool, typer.Option("--live", help="Compare it with the running robot too.")] = False,
    urdf: Annotated[Path | None, typer.Option(help="Expanded URDF, where the description is a topic.")] = None,
    namespace: Namespace = "",
    sim_time: SimTime = False,
    seconds: Seconds = 5.0,
    json_output: Json = False,
) -> None:
    """Check a contract: itself, and with --live what the robot really publishes and takes. Status 1 with an error.

    Example: qt-ros contract check my_robot.yaml --live --seconds 10
    """
    from qt_ros.contract.check import check_contract
    from qt_ros.contract.robot import load_contract

    contract = load_contract(robot)
    if urdf is not None:
        contract = contract.with_description(_read(urdf))
    findings = check_contract(contract)
    if live:
        from qt_ros.contract.live import compare

        facts = _look(namespace, sim_time, seconds, contract)
        if facts.urdf and urdf is None and contract.description_topic:
            findings = [f for f in findings if f.subject != "description"]
        findings += compare(contract, facts)
    _tell(findings, contract.robot, json_output)


@app.command()
def init(
    robot: Annotated[str, typer.Argument(help="Name of the robot.")],
    output: Annotated[Path | None, typer.Option(help="File to write; <robot>.yaml when left out.")] = None,
    urdf: Annotated[Path | None, typer.Option(help="Expanded URDF, where no topic robot_description is there.")] = None,
    namespace: Namespace = "",
    sim_time: SimTime = False,
    seconds: Seconds = 5.0,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json_output: Json = False,
) -> None:
    """Write a first contract from the running robot. It asks nothing; every guessed value says so in a comment.

    Example: qt-ros contract init my_robot --urdf my_robot.urdf
    """
    from qt_ros.contract.check import check_contract
    from qt_ros.contract.draft import draft_contract
    from qt_ros.contract.files import write_atomically
    from qt_ros.contract.robot import parse_contract
    from qt_ros.contract.strict import ConfigError

    target = output or Path(f"{robot}.yaml")
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already; choose another --output, or give --force")
    if urdf is not None:
        _read(urdf)
        urdf = urdf.absolute()
    facts = _look(namespace, sim_time, seconds, None)
    text = draft_contract(facts, robot, urdf)
    write_atomically(target, text.encode())
    contract = parse_contract(text, str(target))
    findings = check_contract(contract if urdf is not None else contract.with_description(facts.urdf))
    guesses = sum("guessed" in line for line in text.splitlines()) - 1  # one line says what the word means
    if not json_output:
        typer.echo(f"{target} written; {guesses} lines say 'guessed': read each, then check it with --live", err=True)
    _tell(findings, contract.robot, json_output, {"file": str(target), "guessed_lines": guesses})


def _look(namespace: str, sim_time: bool, seconds: float, contract: RobotContract | None) -> Any:
    from qt_ros.contract.strict import ConfigError
    from qt_ros.nodes.transport import image_transport, stay_on_this_machine

    for name, value in image_transport().items():
        os.environ.setdefault(name, value)
    stay_on_this_machine(os.environ)
    try:
        from qt_ros.nodes.graph_probe import GraphProbe
    except ImportError as error:
        raise ConfigError(f"ROS is not available here ({error}); source env.sh, or leave --live out") from error
    with GraphProbe(namespace, sim_time) as probe:
        return probe.look(seconds, contract, lambda text: print(text, file=sys.stderr))


def _read(path: Path) -> str:
    from qt_ros.contract.strict import ConfigError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check the path") from error


def _tell(findings: list[Finding], robot: str, json_output: bool, more: dict[str, Any] | None = None) -> None:
    """Print findings; leaves with status 1 when one is an error."""
    from qt_ros.contract.check import worst

    level = worst(findings)
    if json_output:
        told = {"robot": robot, "level": level, **(more or {}), "findings": [f.to_dict() for f in findings]}
        typer.echo(json.dumps(told, indent=2))
    else:
        from rich.console import Console
        from rich.markup import escape

        table = _table("", "where", "found", "what to do")
        for f in findings:
            table.add_row(f"[{COLOURS[f.level]}]{f.level}[/]", escape(f.subject), escape(f.message), escape(f.advice))
        console = Console()
        console.print(f"{escape(robot)}: {level}", highlight=False)
        console.print(table)
    if level == "error":
        raise typer.Exit(1)


def _table(*columns: str) -> Any:
    """A table in which nothing is cut off, however narrow the terminal."""
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _plain(contract: RobotContract) -> dict[str, Any]:
    return {
        "robot": contract.robot,
        "sha256": contract.sha256,
        "description": contract.description,
        "policy_rate": contract.policy_rate,
        "command_rate": contract.command_rate,
        # Without a gripper its positions are NaN, which JSON does not know.
        "kinematics": {k: v for k, v in asdict(contract.kinematics).items() if v == v and v != ""},
        "observations": [asdict(o) for o in contract.observations.values()],
        "commands": [asdict(c) for c in contract.commands.values()],
        "prepare": [asdict(c) for c in contract.prepare],
        "limits": asdict(contract.limits),
        "action_space": contract.action_space.to_config(),
    }
