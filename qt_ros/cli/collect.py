"""`qt-ros collect`: fill a training store from the simulator."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

REPORT_EVERY = 100  # episodes between two lines where no bar can be drawn


def command(
    out: Annotated[Path, typer.Option(help="Training store to make or to add to.")],
    episodes: Annotated[int, typer.Option(help="How many; those already in the store are not run again.", min=1)],
    source: Annotated[str, typer.Option(help="demonstration, noise (mostly failures) or policy.")] = "demonstration",
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint that acts, with --source policy.")] = None,
    seed: Annotated[int, typer.Option(help="Episode i uses scene seed + i; training range 0 to 999999.", min=0)] = 0,
    any_seed: Annotated[
        bool, typer.Option("--any-seed", help="Allow scenes of the tuning and test ranges; do not train on them.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes; 0 runs in this one.", min=0)] = 2,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            help="Change one setting of the source's noise, e.g. --noise burst=0.1; may be repeated. A policy has none "
            "unless asked: burst, burst_steps, flip."
        ),
    ] = None,
    skill: Annotated[
        list[str] | None, typer.Option(help="Only the tasks of this skill; may be repeated; all: every skill.")
    ] = None,
    no_noise: Annotated[
        bool, typer.Option("--no-noise", help="Demonstrations without the disturbances they recover from.")
    ] = False,
    paraphrases: Annotated[
        bool, typer.Option("--paraphrases", help="Ask in many more ways than scenes do, so that language is learned.")
    ] = False,
    image_size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH of the frames kept, 96x128 if absent; a policy brings its own.")
    ] = None,
    robot: Annotated[str, typer.Option(help="Name in config/robots or path of a contract.")] = "mobile_manipulator",
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Collect episodes in the simulator, several processes at once. Ctrl-C keeps what is finished; run again to go on.

    Example: qt-ros collect --out data/demos --episodes 4000 --workers 2
    """
    from qt_ros.cli.train import stop_on_interrupt
    from qt_ros.sim.collect import collect
    from qt_ros.sim.episode_maker import Plan, default_noise
    from qt_ros.sim.flaws import CLEAN
    from qt_ros.sim.store_guard import require_training_seeds
    from qt_ros.sim.tasks import select_tasks

    if image_size is not None and checkpoint is not None:
        raise typer.BadParameter("--image-size is for scripted sources; a policy's frames have the size it sees")
    size = parse_size(image_size) if image_size is not None else None
    if not any_seed:
        require_training_seeds(range(seed, seed + episodes))
    tasks = select_tasks(task or (), skill or ())
    plan = Plan(source, tuple(range(seed, seed + episodes)), out, checkpoint, tasks, robot, paraphrases=paraphrases)
    if size is not None:
        plan = replace(plan, image_size=size)
    if noise:
        plan = replace(plan, noise=parse_noise(noise, default_noise(source)))
    if no_noise:
        if source != "demonstration" or noise:
            raise typer.BadParameter("--no-noise is for --source demonstration, and without --noise")
        plan = replace(plan, noise=CLEAN)
    begin = time.monotonic()
    with episode_progress(source, episodes) as report:
        summary = collect(plan, workers, report, stop_on_interrupt())
    seconds = time.monotonic() - begin
    print_summary(plan.source, summary, seconds, out, json_output)
    if summary.stopped and summary.skipped + len(summary.results) < episodes:
        raise typer.Exit(130)


def parse_size(text: str) -> tuple[int, int]:
    """``"300x400"`` -> (height 300, width 400). typer.BadParameter for anything else."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise typer.BadParameter(f"--image-size needs HEIGHTxWIDTH such as 300x300, found {text!r}")
    return int(match[1]), int(match[2])


def parse_noise(entries: Sequence[str], default: Any) -> Any:
    """The NoiseSpec ``default`` with ``entries`` changed; typer.BadParameter where it says what is wrong with them."""
    try:
        return default.changed(entries)
    except ValueError as error:
        raise typer.BadParameter(f"--noise {error}") from error


@contextmanager
def episode_progress(title: str, total: int) -> Iterator[Callable[[Any, Any], None]]:
    """A function to call with every EpisodeResult and the Summary so far: a bar on a terminal, else some lines."""
    console = Console(stderr=True)
    begin = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, TextColumn("{task.fields[note]}"), console=console, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task(title, total=total, note="")
        told = -1

        def report(result: Any, summary: Any) -> None:
            nonlocal told
            done = summary.skipped + len(summary.results)
            good = sum(r.outcome == "success" for r in summary.results)
            rate = summary.steps / (time.monotonic() - begin)
            thrown = f", {summary.thrown} thrown away" if summary.thrown else ""
            note = f"{good}/{len(summary.results)} succeeded{thrown}, {rate:.0f} steps/s"
            progress.update(bar, completed=done, note=note)
            if not console.is_terminal and done != told and (done % REPORT_EVERY == 0 or done == total):
                told = done
                console.print(f"{title}: {done}/{total}, {note}", soft_wrap=True)

        yield report


def print_summary(source: str, summary: Any, seconds: float, out: Path, as_json: bool) -> None:
    """What was collected, on standard output; ``summary`` is a Summary."""
    total = len(summary.results)
    good = sum(r.outcome == "success" for r in summary.results)
    if as_json:
        targets, skills = (
            {k: {"success": g, "episodes": n} for k, (g, n) in counts.items()}
            for counts in (summary.by_target(), summary.by_skill())
        )
        document = {
            "source": source, "store": str(out), "episodes": total, "success": good, "skipped": summary.skipped,
            "unstable": sum(r.outcome == "unstable" for r in summary.results), "steps": summary.steps,
            "steps_per_second": round(summary.steps / seconds, 1), "seconds": round(seconds, 1), "by_target": targets,
            "by_skill": skills,
        }  # fmt: skip
        print(json.dumps(document))
        return
    print(f"{total} episodes ({summary.skipped} were there), {good} succeeded, {summary.steps} steps, "
          f"{summary.steps / seconds:.0f} steps/s: {out}")  # fmt: skip
    skills = summary.by_skill()
    for name, (g, n) in (skills if len(skills) > 1 else summary.by_target()).items():
        print(f"  {name:<18} {g}/{n}")
