"""`qt-ros experiment`: data, warm-up, training and evaluation of every cell of an experiment, and its tables."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from qt_ros.cli.train import parse_settings, print_report, stop_on_interrupt


def command(
    name: Annotated[
        str, typer.Argument(help="Name in config/experiments: picking, skills, scaling, ablations ...; or a YAML.")
    ],
    work: Annotated[Path, typer.Option(help="Folder for data, warm-up, cells.")] = Path("outputs/experiments"),
    cell: Annotated[
        list[str] | None,
        typer.Option(help="Only METHOD, METHOD/VARIANT, METHOD/SEED or METHOD/VARIANT/SEED; may be repeated."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Cells, or collecting processes, side by side.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads of each cell.", min=1)] = 1,
    workers: Annotated[int, typer.Option(help="Processes of each evaluation; 0 is the cell's own.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    autocast: Annotated[
        bool, typer.Option("--autocast", help="Mixed precision (bfloat16): on CUDA, and on CPUs that have it.")
    ] = False,
    data: Annotated[bool, typer.Option("--data", help="Only make and describe the data.")] = False,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Only train every method on its sanity tasks (minutes).")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Only say how far every cell is.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Only write the tables.")] = False,
    import_: Annotated[
        list[Path] | None, typer.Option("--import", help="Work folder of another machine, for its results.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of the tables.")] = Path("docs/results"),
    tuning: Annotated[
        bool, typer.Option("--tuning", help="A tuning trial of the chosen cells: other scenes, a table of its own.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="With --tuning: change one setting, e.g. loss.alpha=20.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines and tables.")] = False,
) -> None:
    """Run an experiment's cells (method/variant/seed) and write docs/results/NAME.md, .png and .json.

    What is finished is not run again; Ctrl-C saves and the same command goes on.

    Example: qt-ros experiment picking-state --jobs 2 --cell q_transformer --cell rt1_bc/successes
    """
    from qt_ros.experiments.cells import all_cells, selected, tuning_cell
    from qt_ros.experiments.data import data_is_made
    from qt_ros.experiments.origin import commit, source
    from qt_ros.experiments.schedule import run_cells
    from qt_ros.experiments.spec import load_experiment
    from qt_ros.experiments.work import Work
    from qt_ros.learning.guards import find_device

    if set_ and not tuning:
        raise typer.BadParameter("--set is for --tuning; a reported change is a variant in the experiment's YAML")
    commit(), source()  # now, while the files are those that were loaded
    console = Console(stderr=True)
    experiment = load_experiment(name)
    place = Work(work, device, threads, workers, jobs, command_line(sys.argv[1:]), autocast=autocast)
    machine = {"threads": threads, "autocast": autocast}
    cells = selected(all_cells(experiment, machine), cell or [])
    if tuning:
        specs = {c.spec.label: c.spec for c in cells}.values()
        cells = [tuning_cell(experiment, spec, parse_settings(set_ or []), machine) for spec in specs]
    if sanity:
        run_sanity(place, results, json_output)
        return
    if list_:
        print_states(cells, place, json_output)
        return
    stopped = stop_on_interrupt()
    if not report_only:
        find_device(device)  # before data are made, which takes a while
        recipes = [experiment.data] if experiment.warm_up is None else [experiment.data, experiment.warm_up.data]
        made = all(data_is_made(r, place) or collect_data(r, place, jobs, stopped, json_output) for r in recipes)
        if made and not data and experiment.warm_up is not None:
            made = warm_up(experiment, place, stopped, json_output) and encode(experiment, place, console, stopped)
        if not made:
            console.print("stopped; the same command goes on from there")
            raise typer.Exit(130)
    failed: list[str] = []
    if not data and not report_only:
        outcomes = run_cells(cells, place, progress_lines(cells, json_output), stopped)
        failed = [name for name, outcome in outcomes.items() if outcome.state == "failed"]
    write_tables(experiment, place, results, import_ or [], json_output, data_only=data, tuning=tuning)
    if failed:
        console.print(f"failed: {', '.join(failed)}; what each said stands above")
        raise typer.Exit(1)
    if stopped():
        console.print("stopped; the same command goes on from there")
        raise typer.Exit(130)


def command_line(words: Sequence[str]) -> str:
    """The command as typed, without folders of this machine."""
    kept = ["qt-ros"]
    places = iter(words)
    for word in places:
        if word in ("--work", "--results", "--import"):
            next(places, None)
        elif not word.startswith(("--work=", "--results=", "--import=")):
            kept.append(word)
    return shlex.join(kept)


def collect_data(recipe: Any, place: Any, jobs: int, stopped: Any, as_json: bool = False) -> bool:
    """Make the data, with a bar or lines of progress."""
    from qt_ros.cli.collect import episode_progress
    from qt_ros.experiments.data import data_is_made, make_data

    made = recipe.base is not None and data_is_made(recipe.base, place)
    total = sum(part.episodes for part in (recipe.parts if made else recipe.all_parts))
    with episode_progress(f"data {recipe.name}", total) as report:
        everything = _Summed()

        def take(part: Any, result: Any, summary: Any) -> None:
            everything.summaries[part.store] = summary
            report(result, everything)

        def training(step: int, steps: int, metrics: dict[str, float]) -> None:
            print_report(step, steps, metrics, as_json)

        return make_data(recipe, place, jobs if jobs > 1 else 0, take, stopped, training)


class _Summed:
    """Summaries of several stores as one, for the progress bar."""

    def __init__(self) -> None:
        self.summaries: dict[str, Any] = {}

    @property
    def skipped(self) -> int:
        return sum(s.skipped for s in self.summaries.values())

    @property
    def results(self) -> list[Any]:
        return [r for s in self.summaries.values() for r in s.results]

    @property
    def steps(self) -> int:
        return sum(s.steps for s in self.summaries.values())

    @property
    def thrown(self) -> int:
        return sum(s.thrown for s in self.summaries.values())


def warm_up(experiment: Any, place: Any, stopped: Any, as_json: bool) -> bool:
    """Warm up the vision side, with lines of progress."""
    from qt_ros.experiments import warm_up as warming

    def report(step: int, metrics: dict[str, float]) -> None:
        print_report(step, experiment.warm_up.gradient_steps, metrics, as_json)

    return warming.warm_up(experiment.warm_up, place, report, stopped)


def encode(experiment: Any, place: Any, console: Console, stopped: Any) -> bool:
    """Encode every frame once, before cells begin that all wait for it."""
    from qt_ros.episodes.store import EpisodeStore
    from qt_ros.experiments.stores import require_whole
    from qt_ros.experiments.warm_up import warmed_up
    from qt_ros.learning.tokens import Stopped, frozen_tokens

    for store in place.stores(experiment.data):  # cells would refuse, but only after hours of encoding
        require_whole(EpisodeStore(store, verify=False))
    init = warmed_up(experiment.warm_up, place)
    assert init is not None  # the warm-up has just ended
    with console.status("encoding every frame once") as status:

        def progress(done: int, total: int) -> None:
            status.update(f"encoding every frame once: {done} of {total}")

        try:
            frozen_tokens(
                place.stores(experiment.data),
                init,
                place.tokens,
                device=place.device,
                progress=progress,
                stopped=stopped,
            )
        except Stopped:
            return False
    return True


def progress_lines(cells: list[Any], as_json: bool) -> Any:
    """A function that prints where a cell stands."""

    def report(cell: Any, text: str, metrics: dict[str, float]) -> None:
        if as_json:
            print(json.dumps({"cell": cell.name, "at": text, **metrics}), flush=True)
            return
        numbers = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        print(f"{cell.name:<40} {text}  {numbers}".rstrip(), flush=True)

    return report


def run_sanity(place: Any, results: Path, as_json: bool) -> None:
    """Train every method on the tasks whose answer is known, and write results/sanity.md and .json."""
    from tempfile import TemporaryDirectory

    from qt_ros.experiments.origin import commit, machine, source
    from qt_ros.experiments.sanity import PAIRS, chance_of_success, document, trained
    from qt_ros.experiments.sanity_page import sanity_page
    from qt_ros.experiments.work import write_json

    chances = {}
    for task, name in PAIRS:
        with TemporaryDirectory() as folder:
            chance = chance_of_success(task, trained(task, name, Path(folder)))
        chances[task.name, name] = chance
        line = json.dumps({"task": task.name, "method": name, "chance": chance})
        print(line if as_json else f"{task.name:<10} {name:<30} {chance:.0%}", flush=True)
    origin = {"commit": commit(), "source": source(), "machine": machine(place.device, place.threads, 1)}
    found = document(chances, origin)
    write_json(results / "sanity.json", found)
    (results / "sanity.md").write_text(sanity_page(found), encoding="utf-8")


def print_states(cells: list[Any], place: Any, as_json: bool) -> None:
    """How far every cell is, on standard output."""
    from qt_ros.experiments.states import state_of

    states = {cell.name: state_of(cell, place) for cell in cells}
    if as_json:
        print(json.dumps(states))
        return
    table = Table("cell", "state")
    for name, state in states.items():
        table.add_row(name, state)
    Console().print(table)


def write_tables(
    experiment: Any, place: Any, results: Path, others: list[Path], as_json: bool, data_only: bool, tuning: bool
) -> None:
    """Pages, plot and JSON of what there is by now, into the folder ``results``."""
    from qt_ros.experiments.data_page import data_page
    from qt_ros.experiments.pages import page
    from qt_ros.experiments.plots import plot
    from qt_ros.experiments.report import collect_results
    from qt_ros.experiments.spec import names
    from qt_ros.experiments.tuning import collect_trials, tuning_page
    from qt_ros.experiments.work import read_json, write_json

    results.mkdir(parents=True, exist_ok=True)
    works = [place.root, *others]
    described: dict[str, Any] = {}
    seen = [experiment.warm_up.data] if experiment.warm_up is not None else []
    for recipe in (*seen, experiment.data):  # the last is told of below
        described = next((found for w in works if (found := read_json(replace(place, root=w).description(recipe)))), {})
        if described:
            described |= {} if recipe.name in names() else {"made_by": experiment.name}
            target = results / f"{recipe.name}-data"
            told = data_page(described)  # nothing is written where it refuses
            write_json(target.with_suffix(".json"), described)
            target.with_suffix(".md").write_text(told, encoding="utf-8")
    if data_only and not described:
        raise typer.BadParameter(f"the data {experiment.data.name} are not made yet; leave out --report-only")
    if data_only:
        page_path = str(results / f"{experiment.data.name}-data.md")
        print(json.dumps({"data": page_path, **described["all"]}) if as_json else page_path)
        return
    if tuning:
        path = results / f"{experiment.name}-tuning.json"
        document = collect_trials(experiment, works, path)
        write_json(path, document)
        path.with_suffix(".md").write_text(tuning_page(document), encoding="utf-8")
        print(
            json.dumps({"results": str(path)})
            if as_json
            else f"{path.with_suffix('.md')}: {len(document['rows'])} trials"
        )
        return
    path = results / f"{experiment.name}.json"
    document = collect_results(experiment, works, path)
    write_json(path, document)
    path.with_suffix(".md").write_text(page(document), encoding="utf-8")
    plot(document, path.with_suffix(".png"))
    if as_json:
        print(json.dumps({"results": str(path), "rows": len(document["rows"]), "missing": len(document["missing"])}))
    else:
        print(f"{path.with_suffix('.md')}: {len(document['rows'])} rows, {len(document['missing'])} cells missing")
