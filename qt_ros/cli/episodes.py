"""`qt-ros episodes`: look at recorded episodes, check, label and mend them, and build training stores from them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from qt_ros.cli.episode_labels import label, labels
from qt_ros.cli.episode_listing import info, list_episodes
from qt_ros.cli.episode_output import Json, console, number, say, show_json

app = typer.Typer(no_args_is_help=True, help="Recorded episodes (bags) and training stores.")
app.command("label")(label)
app.command("labels")(labels)
app.command("ls")(list_episodes)
app.command("info")(info)

Paths = Annotated[list[Path], typer.Argument(help="Bags, or folders in which to look for bags.")]
Robot = Annotated[str, typer.Option(help="Name in config/robots or path of a contract.")]
Namespace = Annotated[str | None, typer.Option(help="Namespace of the robot, where a bag holds several.")]


@app.command()
def audit(
    paths: Paths,
    robot: Robot = "mobile_manipulator",
    namespace: Namespace = None,
    strict: Annotated[bool, typer.Option(help="Exit with status 1 when any bag has a problem.")] = False,
    json_output: Json = False,
) -> None:
    """Check bags: counts, rates, gaps, stamps out of order and losses per topic, against the robot's contract.

    Example: qt-ros episodes audit bags/ --strict
    """
    from qt_ros.contract.robot import load_contract
    from qt_ros.episodes.audit import audit as audit_bag
    from qt_ros.episodes.bag import find_bags

    contract = load_contract(robot)
    audits = []
    bags = find_bags(paths)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for uri in progress.track(bags, description="reading"):
            audits.append(audit_bag(uri, contract, namespace=namespace))
    if json_output:
        show_json([a.to_dict() for a in audits])
    for result in audits if not json_output else ():
        title = escape(f"{result.uri}: {result.instruction!r}, {result.outcome} ({result.reason})")
        table = Table("topic", "messages", "Hz", "expected", "largest gap s", "missing", "lost", "dropped", title=title)
        for t in result.topics:
            table.add_row(
                t.topic,
                str(t.messages),
                number(t.mean_rate, ".1f"),
                number(t.expected_rate, "g"),
                number(t.largest_gap, ".3f"),
                number(t.missing, "d"),
                number(t.lost_in_transport, "d"),
                str(t.dropped),
            )
        console().print(table)
        for problem in result.problems:
            say(f"[yellow]{escape(problem)}")
        for warning in result.warnings:
            say(f"warning: {escape(warning)}")
    if strict and any(a.problems for a in audits):
        raise typer.Exit(1)


@app.command()
def build(
    paths: Paths,
    store: Annotated[Path, typer.Option(help="Folder of the training store; made when missing, else continued.")],
    robot: Robot = "mobile_manipulator",
    height: Annotated[int, typer.Option(min=8, help="Height of the stored frames in pixels.")] = 96,
    width: Annotated[int, typer.Option(min=8, help="Width of the stored frames in pixels.")] = 128,
    namespace: Namespace = None,
    source: Annotated[str | None, typer.Option(help="demonstration, noise, autonomous or teleop: of all bags.")] = None,
    with_unknown: Annotated[
        bool, typer.Option(help="Also take episodes that nobody labelled (not trained on).")
    ] = False,
    other_contract: Annotated[bool, typer.Option(help="Also take bags of another contract, same actions.")] = False,
    any_seed: Annotated[
        bool, typer.Option("--any-seed", help="Also take episodes in tuning and test scenes; do not train on them.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Build a training store from bags. Run it again after an interruption or with new bags: it goes on from there.

    Example: qt-ros episodes build bags/ --store data/autonomous
    """
    from qt_ros.contract.robot import load_contract
    from qt_ros.episodes.bag import BagError, find_bags
    from qt_ros.episodes.build import build_store
    from qt_ros.sim.seeds import outside_training

    contract = load_contract(robot)
    bags = find_bags(paths)
    refused = 0

    def accept(episode: Any) -> None:
        nonlocal refused
        if not any_seed and (problem := outside_training(episode.seed)):
            refused += 1
            raise BagError(problem)

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("building", total=len(bags))
        report = build_store(
            bags,
            store,
            contract,
            (height, width),
            outcomes=("success", "failure", "unknown") if with_unknown else ("success", "failure"),
            namespace=namespace,
            source=source,
            allow_other_contract=other_contract,
            accept=accept,
            progress=lambda _: progress.advance(task),
        )
    if json_output:
        show_json({**report.to_dict(), "outside_training": refused})
    else:
        for uri, problem in report.skipped.items():
            say(f"[yellow]left out[/] {escape(uri)}: {escape(problem)}")
        added, present, skipped = len(report.added), len(report.present), len(report.skipped)
        relabelled = f" ({len(report.relabelled)} of them labelled otherwise since)" if report.relabelled else ""
        say(f"{escape(str(store))}: {added} added, {present} were there{relabelled}, {skipped} left out")
        if refused:
            say(f"{refused} of them are in tuning or test scenes; --any-seed takes them, for a store not trained on")


@app.command()
def recover(
    paths: Paths,
    force: Annotated[bool, typer.Option(help="Also cut bags that are closed but damaged inside.")] = False,
    json_output: Json = False,
) -> None:
    """Make bags of a killed recorder valid again, in place, up to their last complete record.

    Example: qt-ros episodes recover bags/
    """
    from qt_ros.episodes.bag import BagError, find_bags
    from qt_ros.episodes.bag import recover as recover_bag

    rows: list[dict[str, Any]] = []
    for uri in find_bags(paths):
        try:
            rows.append({**asdict(recover_bag(uri, force=force)), "uri": str(uri), "error": ""})
        except (BagError, OSError) as error:
            rows.append({"uri": str(uri), "needed": True, "messages": 0, "bytes_cut": 0, "error": str(error)})
    if json_output:
        show_json(rows)
    for row in rows if not json_output else ():
        if row["error"]:
            say(f"[red]not recovered[/] {escape(row['error'])}")
        elif row["needed"]:
            say(f"recovered {escape(row['uri'])}: {row['messages']} messages, {row['bytes_cut']} bytes cut off")
    if not json_output:
        say(f"{len(rows)} bags, {sum(r['needed'] for r in rows)} needed it")
    if any(r["error"] for r in rows):
        raise typer.Exit(1)


@app.command()
def merge(
    store: Annotated[Path, typer.Argument(help="Folder of the training store.")], json_output: Json = False
) -> None:
    """Write the manifest of a store whose writers were interrupted before they could.

    Example: qt-ros episodes merge data/demos
    """
    from qt_ros.episodes.store import merge_manifests

    merged = merge_manifests(store)
    if json_output:
        show_json({"store": str(store), "episodes": len(merged.episodes), "shards": len(merged.shards)})
    else:
        say(f"{escape(str(store))}: {len(merged.episodes)} episodes in {len(merged.shards)} shards")


@app.command()
def index(
    store: Annotated[str, typer.Argument(help="Training store: a folder or any fsspec URL.")],
    cache: Annotated[Path | None, typer.Option(help="Folder for indexes that cannot lie beside their store.")] = None,
    json_output: Json = False,
) -> None:
    """Index a store for streaming, which checks every shard; a store that grew gets its new shards indexed.

    Example: qt-ros episodes index data/demos
    """
    from qt_ros.learning.streaming import open_store_index

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("indexing")
        found = open_store_index(store, cache, progress=lambda n, of: progress.update(task, completed=n, total=of))
    if json_output:
        facts = {"episodes": len(found.lengths), "steps": found.steps, "index": f"{found.home.url}/{found.folder}"}
        show_json({"store": store, **facts, "damaged_shards": [asdict(s) for s in found.skipped]})
        return
    for shard in found.skipped:
        say(f"[yellow]left out[/] {escape(shard.file)}, {shard.episodes} episodes ({escape(shard.names)}): "
            f"{escape(shard.problem)}")  # fmt: skip
    say(f"{escape(store)}: {len(found.lengths)} episodes, {found.steps} steps")
