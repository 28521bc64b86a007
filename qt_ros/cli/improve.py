"""`qt-ros improve`: rounds of acting, judging, learning and choosing; `qt-ros improve report`: what they brought."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

app = typer.Typer()
LINE_EVERY = 10  # per cent of a phase between two lines where no bar can be drawn

Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@app.callback(invoke_without_command=True)
def improve(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Folder of the run; one that was begun there goes on.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How many rounds in all; those that are done stay done.", min=1)] = 1,
    checkpoint: Annotated[Path | None, typer.Option(help="Policy to begin with.")] = None,
    store: Annotated[
        list[Path] | None, typer.Option(help="Training store that every round learns from too; may be repeated.")
    ] = None,
    episodes: Annotated[int | None, typer.Option(help="Collected per round; 0: only bags. 500 if absent.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="First training scene of round 1; the next round goes on from there. 600000.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps per round; 3000 if absent.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change one of the checkpoint's training settings: key=value.")
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(help="Disturb the policy while it collects, as `qt-ros collect` does, e.g. --noise burst=0.1."),
    ] = None,
    bags: Annotated[
        list[Path] | None, typer.Option(help="Recorded and labelled episodes to take in; may be repeated.")
    ] = None,
    without_failures: Annotated[
        bool, typer.Option("--without-failures", help="Learn from new successes only, to see what failures bring.")
    ] = False,
    twin: Annotated[
        Path | None, typer.Option(help="Run of the same rounds: what is the same there is not done again.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="in_process, or ros: collect through the nodes, over DDS.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only this task; may be repeated. Absent: all that the first checkpoint learned."),
    ] = None,
    skill: Annotated[
        list[str] | None, typer.Option(help="Only the tasks of this skill; may be repeated; all: every skill.")
    ] = None,
    choice_episodes: Annotated[
        int | None,
        typer.Option(help="Tuning scenes per round for the choice; 200 if absent, 0: the new policy is kept unseen."),
    ] = None,
    choice_seed: Annotated[int | None, typer.Option(help="First of the tuning scenes; 1000000 if absent.")] = None,
    test_episodes: Annotated[
        int | None, typer.Option(help="Test scenes for the numbers in the end; 300 if absent, 0: none.")
    ] = None,
    test_seed: Annotated[int | None, typer.Option(help="First of the test scenes; 2000000 if absent.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that simulate; 0: this one.", min=0)] = 2,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, cuda:1 ...")] = "cpu",
    robot: Annotated[str | None, typer.Option(help="Name in config/robots or path of a contract.")] = None,
    allow_other_contract: Annotated[
        bool,
        typer.Option("--allow-other-contract", help="Take stores of another contract with the same action space."),
    ] = False,
    json_output: Json = False,
) -> None:
    """Let a policy improve from what it does: collect, judge, learn, compare, keep the better one.

    Ctrl-C is safe: the same command, or one with --dir alone, goes on.

    Example: qt-ros improve --dir runs/better --rounds 2 --checkpoint runs/weak/checkpoint --store stores/few
    """
    if context.invoked_subcommand is not None:
        return
    if folder is None:
        raise typer.BadParameter("--dir is needed: the folder of the run")
    from qt_ros.cli.train import stop_on_interrupt
    from qt_ros.improvement.phases import Context
    from qt_ros.improvement.report import run_document, run_page
    from qt_ros.improvement.rounds import alone, begin, run
    from qt_ros.improvement.settings import ImprovementError, Interrupted, Settings, full_path
    from qt_ros.improvement.state import load_state
    from qt_ros.learning.guards import find_device
    from qt_ros.model.checkpoint import read_info
    from qt_ros.sim.asked import choose_tasks
    from qt_ros.sim.tasks import select_tasks

    find_device(device)  # training comes hours after the first episodes
    folder = folder.absolute()
    given: dict[str, Any] = {
        "episodes": episodes, "seed": seed, "steps": steps, "backend": backend, "choice_episodes": choice_episodes,
        "choice_seed": choice_seed, "test_episodes": test_episodes, "test_seed": test_seed, "robot": robot,
        "tasks": select_tasks(task or (), skill or ()) or None, "changes": tuple(set_) if set_ else None,
        "noise": tuple(noise) if noise else None,
        "stores": tuple(full_path(s) for s in store) if store else None,
        "with_failures": False if without_failures else None,
        "allow_other_contract": True if allow_other_contract else None,
        "checkpoint": full_path(checkpoint) if checkpoint else None,
        "checkpoint_id": read_info(checkpoint).id if checkpoint else None,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    with alone(folder) as lock:
        before = load_state(folder)
        if before is None and not (checkpoint and store):
            raise ImprovementError(f"no run was begun in {folder}; give the start with --checkpoint and --store")
        if before is None and checkpoint is not None:  # once, for all rounds
            given["tasks"] = choose_tasks(checkpoint, task or (), skill or ())
        known = {} if before is None else {k: getattr(before.settings, k) for k in before.settings.to_dict()}
        state = begin(folder, Settings(**{**known, **given}), rounds, twin)
        state.commands.append(shlex.join(["qt-ros", *sys.argv[1:]]))
        with phase_progress() as progress:
            work = Context(
                state, tuple(bags or ()), None if twin is None else twin.absolute(), workers, device, progress,
                stop_on_interrupt(), (lock,),
            )  # fmt: skip
            try:
                run(work, rounds)
            except Interrupted:
                Console(stderr=True).print("stopped; the same command goes on from there", soft_wrap=True)
                raise typer.Exit(130) from None
    if json_output:
        print(json.dumps(run_document(state)))
    else:
        print(run_page(state))
    Console(stderr=True).print(f"policy: {state.policies[-1][0]}\nreports: {folder}", soft_wrap=True)


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs of the same rounds, finished or not, in any order: with all new episodes, with "
            "--without-failures, with --episodes 0; several of a kind differ by --set seed=N."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where improvement.md, .json and .svg go.")] = Path("docs/results"),
    json_output: Json = False,
) -> None:
    """Write what rounds of improvement brought and what the failures contributed, with a plot; says what is missing.

    Example: qt-ros improve report runs/better runs/better-without runs/nothing-new --out docs/results
    """
    from qt_ros.improvement.results import NAME, write_results

    document = write_results([folder.absolute() for folder in folders], out)
    if json_output:
        print(json.dumps(document))
        return
    for what in document["missing"]:
        print(f"missing: {what}")
    print(out / f"{NAME}.md")


@contextmanager
def phase_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A function to call with a phase's name, how much of it is done and of how much: bars, or lines without a
    terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars: dict[str, Any] = {}
    said: dict[str, int] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done, total=total)
            if console.is_terminal:
                return
            part = 100 * done // max(1, total) // LINE_EVERY
            if said.get(what) != part:
                said[what] = part
                console.print(f"{what}: {done}/{total}", soft_wrap=True)

        yield show
