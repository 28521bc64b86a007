"""`qt-ros episodes ls` and `info`: which episodes there are, in bags and training stores, and what is known of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from qt_ros.cli.episode_output import Json, coloured, console, number, say, show_json


def list_episodes(
    paths: Annotated[
        list[Path], typer.Argument(help="Bags, or folders in which to look for bags; or training stores.")
    ],
    json_output: Json = False,
) -> None:
    """List episodes: what was asked, how it went, how long, how big; of a training store with their ids.

    Example: qt-ros episodes ls bags/
    """
    from qt_ros.episodes.bag import find_bags
    from qt_ros.episodes.manifest import MANIFEST

    stores = [path for path in paths if (path / MANIFEST).is_file()]
    if stores:
        if len(stores) < len(paths):
            raise typer.BadParameter(f"{stores[0]} is a training store, others are not: list them one after the other")
        list_stores(stores, json_output)
        return
    rows = [summary(uri) for uri in find_bags(paths)]
    if json_output:
        show_json(rows)
        return
    table = Table("bag", "instruction", "outcome", "reason", "seconds", "messages", "MB")
    for row in rows:
        table.add_row(
            escape(row["bag"]),
            escape(row["instruction"]),
            coloured(row["outcome"]),
            f"[red]{escape(row['problem'])}"
            if row["problem"]
            else ", ".join([row["reason"], *["[yellow]dry run[/]"] * row["dry_run"]]),
            f"{row['seconds']:.1f}",
            str(row["messages"]),
            f"{row['bytes'] / 1e6:.1f}",
        )
    console().print(table)
    successes = sum(row["outcome"] == "success" for row in rows)
    say(f"{len(rows)} episodes, {successes} successes")


def info(
    path: Annotated[Path, typer.Argument(help="One bag, or one training store.")],
    json_output: Json = False,
) -> None:
    """Show all that is known of one bag or one training store.

    Example: qt-ros episodes info bags/2026-01-01_12-00-00
    """
    from qt_ros.episodes.bag_labels import bag_labels
    from qt_ros.episodes.bag_metadata import read_metadata
    from qt_ros.episodes.manifest import MANIFEST

    if (path / MANIFEST).is_file():
        store_info(path, json_output)
        return
    metadata = read_metadata(path)
    row = summary(path)
    if json_output:
        described, given = [asdict(t) for t in metadata.topics], [asdict(entry) for entry in bag_labels(path)]
        show_json({**row, "custom_data": metadata.custom_data, "topics": described, "labels": given})
        return
    facts = Table(show_header=False)
    for key, value in {**row, **metadata.custom_data}.items():
        if key not in ("topics",) and "\n" not in str(value):
            facts.add_row(key, escape(str(value)))
    topics = Table("topic", "type", "messages", "reliability", "durability")
    for topic in metadata.topics:
        qos = topic.qos[0] if topic.qos else {}
        reliability, durability = str(qos.get("reliability", "")), str(qos.get("durability", ""))
        topics.add_row(topic.name, topic.type, str(topic.message_count), reliability, durability)
    console().print(facts)
    console().print(topics)


def summary(uri: Path) -> dict[str, Any]:
    """One line about a bag; a broken one is listed too, with its ``problem``."""
    from qt_ros.episodes import bag_metadata as keys
    from qt_ros.episodes.bag import is_complete

    row: dict[str, Any] = {"bag": str(uri), "episode_id": "", "instruction": "", "outcome": "unknown", "reason": ""}
    row |= {
        "dry_run": False,
        "seconds": 0.0,
        "messages": 0,
        "bytes": sum(f.stat().st_size for f in uri.glob("*.mcap")),
        "problem": "",
    }
    try:
        metadata = keys.read_metadata(uri)
        if not is_complete(uri):
            row["problem"] = "cut off; recover it"
    except keys.BagError as error:
        row["problem"] = "not closed; recover it" if "recover" in str(error) else str(error)
        return row
    custom = metadata.custom_data
    return row | {
        "episode_id": custom.get(keys.EPISODE_ID, ""),
        "instruction": custom.get(keys.INSTRUCTION, ""),
        "outcome": custom.get(keys.OUTCOME, "unknown"),
        "reason": custom.get(keys.REASON, ""),
        "dry_run": custom.get(keys.DRY_RUN) == "true",
        "seconds": metadata.duration_ns * 1e-9,
        "messages": metadata.message_count,
    }


def list_stores(stores: list[Path], json_output: bool) -> None:
    """Print every episode of training stores, those in damaged shards too: a label needs no more than the id."""
    rows = [row for store in stores for row in store_rows(store)]
    if json_output:
        show_json(rows)
        return
    for store in stores:
        mine = [row for row in rows if row["store"] == str(store)]
        ids = Column("episode", no_wrap=True)  # they are to be copied
        table = Table(ids, "instruction", "outcome", "seed", "steps")
        for row in mine:
            words = (escape(row["episode_id"]), escape(row["instruction"]), coloured(row["outcome"]))
            table.add_row(*words, number(row["seed"], "d"), str(row["steps"]))
        console().print(table)
        successes = sum(row["outcome"] == "success" for row in mine)
        say(f"{escape(str(store))}: {len(mine)} episodes, {successes} successes")


def store_rows(store: Path) -> list[dict[str, Any]]:
    """One row for each episode of a training store, with the outcome that its labels say. Raises StoreError."""
    from qt_ros.episodes.store_labels import labelled_manifest

    return [
        {
            "store": str(store),
            "episode_id": meta.id,
            "instruction": meta.instruction,
            "outcome": meta.outcome,
            "seed": meta.seed,
            "steps": meta.length,
        }
        for meta in labelled_manifest(store).episodes
    ]


def store_info(path: Path, json_output: bool) -> None:
    """Print what a training store holds: episodes, steps, successes per instruction, damaged shards."""
    from qt_ros.episodes.store import EpisodeStore
    from qt_ros.episodes.store_labels import store_labels

    store = EpisodeStore(path)
    by_instruction: dict[str, list[bool]] = {}
    for meta in store.meta:
        by_instruction.setdefault(meta.instruction, []).append(meta.outcome == "success")
    sources = sorted({m.source for m in store.meta})
    document = {
        "store": str(path),
        "robot": store.manifest.robot,
        "contract_sha256": store.manifest.contract_sha256,
        "action_space_sha256": store.manifest.action_space_sha256,
        "image_size": list(store.image_size),
        "episodes": len(store),
        "steps": store.steps,
        "sources": {s: sum(m.source == s for m in store.meta) for s in sources},
        "successes": sum(m.outcome == "success" for m in store.meta),
        "unknown": sum(not m.judged for m in store.meta),
        "labels": len(store_labels(path)),
        "instructions": {k: {"episodes": len(v), "successes": sum(v)} for k, v in sorted(by_instruction.items())},
        "damaged_shards": [asdict(s) for s in store.skipped],
    }
    if json_output:
        show_json(document)
        return
    facts = Table(show_header=False)
    for key, value in document.items():
        if key != "instructions":
            facts.add_row(key, escape(str(value)))
    table = Table("instruction", "episodes", "successes")
    for instruction, done in sorted(by_instruction.items()):
        table.add_row(escape(instruction), str(len(done)), str(sum(done)))
    console().print(facts)
    console().print(table)
