"""What `qt-ros record` recorded, episode by episode, for the table and for JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table


@dataclass
class Row:
    """One episode as it stands in the JSON document."""

    episode_id: str
    instruction: str
    outcome: str
    reason: str
    steps: int
    bag: str
    discarded: bool = False
    labelled_by: str = ""
    messages: int = 0
    dropped: int = 0
    complete: bool = False
    error: str = ""


def table_of(rows: Iterable[Row]) -> Table:
    """One line per episode, in order."""
    table = Table("#", "instruction", "outcome", "reason", "steps", "bag")
    for index, row in enumerate(rows):
        outcome = "discarded" if row.discarded else row.outcome
        table.add_row(str(index + 1), escape(row.instruction), outcome, row.reason, str(row.steps), escape(row.bag))
    return table
