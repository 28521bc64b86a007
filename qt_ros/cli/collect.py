"""`qt-ros collect`: fill a training store from the simulator."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def command(
    out: Annotated[Path, typer.Option(help="Training store to make or to add to.")],
    episodes: Annotated[int, typer.Option(help="How many episodes; those already in the store are not run again.", min=1)],
    source: Annotated[str, typer.Option(help="demonstration, noise (mostly failures) or policy.")] = "demonstration",
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint that acts, with --source policy.")] = None,
    seed: Annotated[int, typer.Option(help="Episode i uses scene seed + i. Training data: 0 to 999999.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0 runs in this one.", min=0)] = 2,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    robot: Annotated[str, typer.Option(help="Name in config/robots or path of a contract.")] = "mobile_manipulator",
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Collect episodes in the simulator, several processes at once. Ctrl-C keeps what is finished; run again to go on.

    Example: qt-ros collect --out data/demos --episodes 4000 --workers 2
    """
    from qt_ros.cli.train import stop_on_interrupt
    from qt_ros.sim.collect import EpisodeResult, Plan, Summary, collect

    plan = Plan(source, tuple(range(seed, seed + episodes)), out, checkpoint, tuple(task or ()), robot)
    begin = time.monotonic()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    ) as progress:  # fmt: skip
        bar = progress.add_task(source, total=episodes, note="")

        def report(result: EpisodeResult, summary: Summary) -> None:
            rate = summary.steps / (time.monotonic() - begin)
            good = sum(r.outcome == "success" for r in summary.results)
            note = f"{good}/{len(summary.results)} succeeded, {rate:.0f} steps/s"
            progress.update(bar, completed=summary.skipped + len(summary.results), note=note)

        summary = collect(plan, workers, report, stop_on_interrupt())
    seconds = time.monotonic() - begin
    print_summary(plan.source, summary, seconds, out, json_output)
    if summary.stopped and summary.skipped + len(summary.results) < episodes:
        raise typer.Exit(130)


def print_summary(source: str, summary, seconds: float, out: Path, as_json: bool) -> None:  # type: ignore[no-untyped-def]
    """What was collected, on standard output."""
    total = len(summary.results)
    good = sum(r.outcome == "success" for r in summary.results)
    if as_json:
        targets = {k: {"success": g, "episodes": n} for k, (g, n) in summary.by_target().items()}
        document = {
            "source": source, "store": str(out), "episodes": total, "success": good, "skipped": summary.skipped,
            "unstable": sum(r.outcome == "unstable" for r in summary.results), "steps": summary.steps,
            "steps_per_second": round(summary.steps / seconds, 1), "seconds": round(seconds, 1), "by_target": targets,
        }  # fmt: skip
        print(json.dumps(document))
        return
    print(f"{total} episodes ({summary.skipped} were there), {good} succeeded, {summary.steps} steps, "
          f"{summary.steps / seconds:.0f} steps/s: {out}")  # fmt: skip
    for name, (g, n) in summary.by_target().items():
        print(f"  {name:<18} {g}/{n}")
