"""docs/results/sanity.md from its JSON."""

from __future__ import annotations

from typing import Any

from qt_ros.experiments.markdown import MADE, table

TEXT = """\
Two steps, two action dimensions of five bins, so that the chance of success of a trained policy is known exactly. In
each there is a rare, skilful way that always succeeds, and a usual one that depends on luck:

- `skill`: luck never helps. Whoever learns from successes at all ends with 100%; cloning everything with 0%.
- `luck`: luck helps in 35%, and most successes came that way. Q-learning reaches 100%, imitation stays at 35%.
- `covered`: as `luck`, but all actions were tried alike and neighbours of the right one do as well. QT-Opt, which
  nothing keeps from actions that nobody tried, reaches 100% here.

Expected in brackets; without brackets the task says nothing about that method (QT-Opt on data that lack most actions).
Empty cells were not run. Settings stand in `qt_ros/experiments/sanity.py`: they are these small tasks' own, so this
shows that an implementation learns what it should, not that its settings for another task are good."""


def sanity_page(document: dict[str, Any]) -> str:
    """The whole page; a function of the document alone."""
    rows = document["sanity"]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    found = {(row["method"], row["task"]): row for row in rows}
    lines = [
        "# Tasks whose answer is known",
        "",
        MADE,
        "",
        "```bash",
        "qt-ros experiment picking --sanity",
        "```",
        "",
        TEXT,
        "",
    ]
    if "commit" in document:
        facts = document["machine"]
        where = f"{facts['gpu'] or facts['processor']}; torch {facts['torch']}, Python {facts['python']}"
        lines += [f"One training seed, {document['seed']}; commit `{document['commit']}`, {where}.", ""]
    told = []
    for name in dict.fromkeys(row["method"] for row in rows):
        cells = [found.get((name, task)) for task in tasks]
        told.append((f"`{name}`", *("" if cell is None else _chance(cell) for cell in cells)))
    return "\n".join([*lines, *table(("method", *tasks), told)]) + "\n"


def _chance(row: dict[str, Any]) -> str:
    wanted = "" if row["expected"] is None else f" ({row['expected']:.0%})"
    return f"{row['chance']:.0%}{wanted}"
