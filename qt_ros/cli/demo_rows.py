"""What a demo run did, episode by episode, for the tables, the page and the JSON file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table


@dataclass
class Row:
    """One episode as it stands in the JSON file; the first eight fields are its fixed part."""

    instruction: str
    seed: int
    outcome: str
    reason: str
    steps: int
    latency_ms_p50: float
    latency_ms_p95: float
    bag: str
    task: str = ""
    messages: int = 0
    dropped: int = 0
    complete: bool = False
    error: str = ""

    @property
    def success(self) -> bool:
        return self.outcome == "success"

    def facts(self) -> dict[str, Any]:
        """What the page says about it."""
        return {
            "instruction": self.instruction,
            "outcome": self.outcome,
            "reason": self.reason,
            "steps": self.steps,
            "scored task": self.task,
            "seed": self.seed,
            "latency p50 / p95": f"{self.latency_ms_p50:.0f} / {self.latency_ms_p95:.0f} ms",
            "messages": self.messages,
            "dropped": self.dropped,
            "bag": self.bag,
            "error": self.error,
        }


def tables_of(rows: Sequence[Row], problems_of: Callable[[Row], list[str]]) -> tuple[Table, Table]:
    """The episodes, and their bags with what the audit finds wrong with each."""
    episodes, bags = Table(title="episodes"), Table(title="bags")
    for column in ("#", "instruction", "outcome", "reason"):
        episodes.add_column(column)
    for column in ("steps", "latency p50", "p95 ms"):
        episodes.add_column(column, justify="right")
    for column in ("#", "messages", "dropped"):
        bags.add_column(column, justify="right")
    bags.add_column("audit")
    bags.add_column("folder", overflow="fold")
    for index, row in enumerate(rows):
        colour = {"success": "green", "failure": "red"}.get(row.outcome, "yellow")
        numbers = (str(row.steps), f"{row.latency_ms_p50:.1f}", f"{row.latency_ms_p95:.1f}")
        outcome = f"[{colour}]{row.outcome}[/{colour}]"
        episodes.add_row(str(index + 1), escape(row.instruction), outcome, row.reason, *numbers)
        found = "\n".join(problems_of(row)) or "ok"
        folder = os.path.relpath(row.bag) if row.bag else ""
        bags.add_row(str(index + 1), str(row.messages), str(row.dropped), escape(found), escape(folder))
    return episodes, bags
