"""`qt-ros episodes label` and `labels`: say how an episode went, and see who said what."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from qt_ros.cli.episode_output import Json, coloured, console, say, show_json


def label(
    path: Annotated[Path, typer.Argument(help="The bag, or with --episode a folder of bags or a training store.")],
    outcome: Annotated[str, typer.Argument(help="success, failure or unknown.")],
    by: Annotated[str | None, typer.Option(help="Name of who says so; the login name if absent.")] = None,
    comment: Annotated[str, typer.Option(help="Anything worth remembering about the episode.")] = "",
    episode: Annotated[str | None, typer.Option(help="Id of the episode, where PATH holds several.")] = None,
    store: Annotated[
        list[Path] | None, typer.Option(help="Training store that has the episode too; may be repeated.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Say how an episode went. A later label overrules an earlier one; all are kept, with who said so and when.

    Example: qt-ros episodes label bags/2026-01-01_12-00-00 success --by anna --comment "slipped, then held"
    """
    from qt_ros.episodes.bag_labels import bag_labels, bag_of, episode_of, label_bag
    from qt_ros.episodes.episode import OUTCOMES
    from qt_ros.episodes.manifest import MANIFEST
    from qt_ros.episodes.store_labels import label_episode, store_labels, take_labels

    if outcome not in OUTCOMES:
        raise typer.BadParameter(f"{outcome!r} is none of {', '.join(OUTCOMES)}")
    name = login_name() if by is None else by
    if (path / MANIFEST).is_file():
        if episode is None or store:
            raise typer.BadParameter(f"{path} is a training store: name its episode with --episode, and no --store")
        given = label_episode(path, episode, outcome, name, comment)
    else:
        bag = path if episode is None else bag_of(path, episode)
        for root in store or ():
            store_labels(root, episode_of(bag))  # it must be there before anything is written
        given = label_bag(bag, outcome, name, comment)
        for root in store or ():
            take_labels(root, given.episode_id, bag_labels(bag))
    if json_output:
        show_json(asdict(given))
    else:
        say(f"{escape(given.episode_id)}: {coloured(given.outcome)}, says {escape(given.by)}")


def labels(
    path: Annotated[Path, typer.Argument(help="One bag, or one training store.")],
    episode: Annotated[str | None, typer.Option(help="Only this episode of a training store.")] = None,
    json_output: Json = False,
) -> None:
    """Show who said when how an episode went, oldest first: the last label of an episode is the one that holds.

    Example: qt-ros episodes labels stores/autonomous --episode 20260101-120000-003
    """
    from qt_ros.episodes.bag_labels import bag_labels
    from qt_ros.episodes.manifest import MANIFEST
    from qt_ros.episodes.store_labels import store_labels

    rows = store_labels(path, episode) if (path / MANIFEST).is_file() else bag_labels(path)
    if json_output:
        show_json([asdict(row) for row in rows])
        return
    table = Table("episode", "outcome", "by", "at", "comment")
    for row in rows:
        table.add_row(escape(row.episode_id), coloured(row.outcome), escape(row.by), row.at or "-", escape(row.comment))
    console().print(table)


def login_name() -> str:
    """Whose account this is; '' where the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
