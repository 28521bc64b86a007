"""Parts that all pages of results are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MADE = "<!-- Written by `qt-ros experiment`; edit nothing here. -->"


def label(cell: Mapping[str, Any]) -> str:
    """How a cell is called in tables and plots."""
    return cell["method"] if cell["variant"] == "default" else f"{cell['method']}/{cell['variant']}"


def minutes(seconds: float | None) -> str:
    """Seconds as minutes, '' for None."""
    return "" if seconds is None else f"{seconds / 60:.1f} min"


def value_text(value: Any) -> str:
    """A setting as YAML has it."""
    return value if isinstance(value, str) else json.dumps(value)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
