"""`qt-ros evaluate`: success rate of a checkpoint, in the embedded simulator without ROS or on a running ROS graph."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

USES = {"tuning": ", to choose by", "test": ", to report; choose nothing by them"}
"""What results in scenes of a range may be used for."""


class Backend(str, Enum):
    """Where episodes run."""

    embedded = "embedded"
    ros = "ros"


def command(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    episodes: Annotated[
        int | None, typer.Option(help="How many episodes, one scene each; 300 if absent, --manual: 10.", min=1)
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="First scene. From 0: training scenes; from 1000000: tuning scenes, to choose by; from 2000000: test "
            "scenes, to report and choose nothing by.",
            min=0,
        ),
    ] = 2_000_000,
    workers: Annotated[int, typer.Option(help="Processes; 0 runs in this one.", min=0)] = 2,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    skill: Annotated[
        list[str] | None, typer.Option(help="Only the tasks of this skill; may be repeated; all: every skill.")
    ] = None,
    wrong_instruction: Annotated[
        bool, typer.Option("--wrong-instruction", help="Ask for something else in the scene than what is scored.")
    ] = False,
    held_out: Annotated[bool, typer.Option("--held-out", help="Use wordings that were never trained on.")] = False,
    robot: Annotated[str, typer.Option(help="Name in config/robots or path of a contract.")] = "mobile_manipulator",
    backend: Annotated[
        Backend,
        typer.Option(help="embedded: MuJoCo in worker processes. ros: the simulator or robot that runs on ROS now."),
    ] = Backend.embedded,
    namespace: Annotated[str, typer.Option(help="With --backend ros: the namespace that the nodes run in.")] = "",
    manual: Annotated[
        bool, typer.Option("--manual", help="With --backend ros: you set the scenes up and judge the episodes.")
    ] = False,
    instruction: Annotated[
        list[str] | None, typer.Option(help="With --manual: what the robot is asked; may be repeated.")
    ] = None,
    instructions: Annotated[
        Path | None, typer.Option(help="With --manual: YAML list 'instructions' of {instruction: ..., setup: ...}.")
    ] = None,
    operator: Annotated[
        str | None, typer.Option(help="With --manual: your name, for the labels; the login name if absent.")
    ] = None,
    max_duration: Annotated[
        float, typer.Option(min=0.0, help="With --manual: longest episode in s; 0: as policy_node has it.")
    ] = 0.0,
    results: Annotated[
        Path | None, typer.Option(help="With --manual: file of the judgements; give it again to go on.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Run a checkpoint in seeded scenes and print its success rate per skill and task with 95% Wilson intervals.

    Example: qt-ros evaluate runs/picking/checkpoint --episodes 300

    With --backend ros nothing is started: sim.launch.py or gazebo.launch.py with this checkpoint runs already.

    Example: qt-ros evaluate checkpoints/default --backend ros --episodes 20

    On a robot you set the scenes up and judge: with --manual, while robot.launch.py with this checkpoint runs.

    Example: qt-ros evaluate CHECKPOINT --backend ros --manual --instruction "pick up the red cube" --episodes 10
    """
    if backend is Backend.ros:
        _refuse_given(context, ("workers", "robot"), "is for --backend embedded: what runs on ROS has its own")
    by_hand = (instruction, instructions, operator, max_duration, results)
    if manual:
        if backend is not Backend.ros:
            raise typer.BadParameter("a person judges episodes of --backend ros", param_hint="--manual")
        if task or skill or wrong_instruction or held_out:
            raise typer.BadParameter("you choose tasks and words with --instruction", param_hint="--manual")
        _refuse_given(context, ("seed",), "draws no scenes with --manual: you set them up")
        named = (instruction or [], instructions)
        _by_hand(checkpoint, episodes or 10, named, operator, max_duration, results, namespace, json_output)
        return
    if any(by_hand):
        raise typer.BadParameter(
            "--instruction, --instructions, --operator, --max-duration and --results need --manual"
        )
    episodes = episodes or 300
    from qt_ros.cli.collect import episode_progress
    from qt_ros.cli.train import stop_on_interrupt
    from qt_ros.sim.seeds import scenes_of
    from qt_ros.sim.tasks import select_tasks

    if namespace and backend is not Backend.ros:
        raise typer.BadParameter("a namespace is for --backend ros", param_hint="--namespace")
    tasks = select_tasks(task or (), skill or ())
    stopped = stop_on_interrupt()
    same: dict[str, Any] = {
        "seed": seed,
        "tasks": tasks,
        "wrong_instruction": wrong_instruction,
        "held_out": held_out,
        "stopped": stopped,
    }
    with episode_progress("evaluate", episodes) as report:
        if backend is Backend.ros:
            from qt_ros.nodes.graph_evaluation import evaluate_graph

            evaluation = evaluate_graph(checkpoint, episodes, namespace=namespace, on_result=report, **same)
        else:
            from qt_ros.sim.evaluation import evaluate

            evaluation = evaluate(checkpoint, episodes, robot=robot, workers=workers, on_result=report, **same)
    scenes = scenes_of(range(seed, seed + episodes))
    if json_output:
        settings = {"checkpoint": str(checkpoint), "seed": seed, "held_out": held_out, "backend": backend.value}
        settings |= {"scenes": scenes, "wrong_instruction": wrong_instruction}
        print(json.dumps({**settings, **evaluation.to_dict()}))
    else:
        print_table(evaluation)
        print(f"scenes {seed} to {seed + episodes - 1}: {scenes}{USES.get(scenes, '')}")
    if stopped():
        raise typer.Exit(130)


def _refuse_given(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """BadParameter for an option that was given and would change nothing."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(why, param_hint=f"--{name}")


def _by_hand(
    checkpoint: Path,
    episodes: int,
    named: tuple[list[str], Path | None],
    operator: str | None,
    max_duration: float,
    results: Path | None,
    namespace: str,
    json_output: bool,
) -> None:
    from qt_ros.cli.episode_labels import login_name
    from qt_ros.cli.evaluate_manual import evaluate_by_hand, print_results, to_document
    from qt_ros.cli.manual_results import Assignment, load_assignments
    from qt_ros.cli.train import stop_on_interrupt

    stopped = stop_on_interrupt()
    name = login_name() if operator is None else operator
    if not name.strip():
        raise typer.BadParameter("labels need the name of who judges", param_hint="--operator")
    sentences, file = named
    assignments = [*map(Assignment, sentences), *(load_assignments(file) if file is not None else ())]
    so_far, path = evaluate_by_hand(
        checkpoint,
        episodes,
        assignments,
        results=results,
        operator=name,
        max_duration=max_duration,
        namespace=namespace,
        stopped=stopped,
        console=Console(stderr=json_output),
    )
    if json_output:
        print(json.dumps(to_document(so_far, path, checkpoint, name)))
    else:
        print_results(so_far, path, Console())
    if stopped():
        raise typer.Exit(130)


def print_table(evaluation: Any) -> None:
    """Rates per task, per skill where there are several, and overall, on standard output; ``evaluation`` is an
    Evaluation."""
    skills = evaluation.by_skill()
    tables = [("task", {**evaluation.by_task(), "all": evaluation.overall})]
    if len(skills) > 1:
        tables.append(("skill", {**skills, "all": evaluation.overall}))
    for title, rows in tables:
        table = Table(title, "success", "episodes", "rate", "95% interval")
        for name, rate in rows.items():
            low, high = rate.interval
            table.add_row(name, str(rate.success), str(rate.episodes), f"{rate.rate:.1%}", f"{low:.1%} to {high:.1%}")
        Console().print(table)
    if evaluation.unstable:
        print(f"{evaluation.unstable} episodes left out: their physics became unstable")
