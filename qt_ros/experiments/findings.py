"""Whether an experiment shows what was expected of it: judged by rules, from its rows alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from qt_ros.experiments.goals import Goal
from qt_ros.experiments.intervals import Pooled
from qt_ros.experiments.markdown import label, table
from qt_ros.experiments.report import by_step, final_rows, good_share, rate_of


@dataclass(frozen=True)
class Finding:
    """``met`` is None while cells of the goal are missing."""

    measured: str
    met: bool | None


def find(goal: Goal, document: dict[str, Any]) -> Finding:
    """Whether the document's rows meet the goal."""
    cells = {label(cell): cell for cell in document["cells"]}
    seeds = len(document["seeds"])
    rows = {name: final_rows(document, cells[name]["method"], cells[name]["variant"]) for name in goal.named}
    if lacking := [name for name, found in rows.items() if len([r for r in found if r["episodes"]]) < seeds]:
        return Finding(f"open: {', '.join(f'`{name}`' for name in lacking)} not finished", None)
    rates = {name: rate_of(found) for name, found in rows.items()}
    own = rates[goal.cell]
    if goal.kind == "share":
        share = good_share(document)
        if share is None:
            return Finding("open: cells learn from different parts of the data", None)
        return Finding(f"{_told(own)}; {share:.1%} of the data", own.low <= share <= own.high)
    if goal.kind == "quicker":
        return _quicker(goal, document, cells)
    best = max(goal.others, key=lambda name: rates[name].high if goal.kind == "above" else rates[name].rate)
    other = rates[best]
    if goal.kind == "above":
        return Finding(f"{_told(own)}; `{best}` {_told(other)}", own.low > other.high)
    if not other.rate:
        return Finding(f"{own.rate:.1%}; none of the others ever succeeded", own.rate > 0.0)
    ratio = own.rate / other.rate
    return Finding(f"{ratio:.2f} times: {_told(own)}; `{best}` {_told(other)}", ratio >= goal.factor)


def _quicker(goal: Goal, document: dict[str, Any], cells: dict[str, dict[str, Any]]) -> Finding:
    own = _curve(document, cells[goal.cell])
    ratios, told = [], []
    for name in goal.others:
        other = _curve(document, cells[name])
        level = max(other.values())
        if not level:  # which everybody reaches without a step
            ratios.append(math.inf if max(own.values()) else 0.0)
            told.append(f"`{name}` never succeeded; `{goal.cell}` comes to {max(own.values()):.1%}")
            continue
        there = min(step for step, rate in other.items() if rate >= level)
        first = min((step for step, rate in own.items() if rate >= level), default=None)
        ratios.append(0.0 if first is None else there / first)
        reached = "never" if first is None else f"after {first}"
        told.append(f"`{name}` is at its best, {level:.1%}, after {there} steps; `{goal.cell}` is there {reached}")
    return Finding("; ".join(told), min(ratios) >= goal.factor)


def _curve(document: dict[str, Any], cell: dict[str, Any]) -> dict[int, float]:
    """{gradient steps: success} of a cell's seeds together."""
    return {step: rate_of(rows).rate for step, rows in by_step(document, cell).items()}


def goals_section(document: dict[str, Any]) -> list[str]:
    """Lines of the page; none for an experiment without goals."""
    if not document.get("goals"):
        return []
    rows = []
    for entry in document["goals"]:
        goal = Goal(**{**entry, "others": tuple(entry["others"])})
        found = find(goal, document)
        rows.append((goal.wanted, found.measured, {True: "yes", False: "**no**", None: ""}[found.met]))
    lines = ["## Goals", "", "Judged by rule, from the rows alone:", ""]
    lines += [*table(("wanted", "measured", "met"), rows), ""]
    return [*lines, document["remarks"].rstrip(), ""] if document.get("remarks") else lines


def _told(rate: Pooled) -> str:
    return f"{rate.rate:.1%} ({rate.low:.1%} to {rate.high:.1%})"
