"""Tables of experiments with several skills, and of those whose cells differ in an amount."""

from __future__ import annotations

from typing import Any

from qt_ros.experiments.intervals import Pooled, pooled
from qt_ros.experiments.markdown import label, table
from qt_ros.experiments.report import final_rows, rate_of


def skills_of(document: dict[str, Any]) -> list[str]:
    """Skills that any row of the document tells of, in their order; [] for an experiment without skills."""
    return list(dict.fromkeys(row["skill"] for row in document.get("skill_rows", ())))


def skill_rate(document: dict[str, Any], cell: dict[str, Any], skill: str) -> Pooled | None:
    """Success of a cell's seeds in one skill after all gradient steps; None where nothing was evaluated."""
    rows = final_rows(document, cell["method"], cell["variant"])
    counts = [row["skills"][skill] for row in rows if skill in row.get("skills", {})]
    return pooled([(c["successes"], c["episodes"]) for c in counts]) if counts else None


def amounts_of(document: dict[str, Any]) -> dict[str, list[tuple[dict[str, Any], Pooled]]]:
    """{method: its cells with results and their success, by their amount}; {} without an 'along'."""
    found: dict[str, list[tuple[dict[str, Any], Pooled]]] = {}
    for cell in document["cells"] if document.get("along") else ():
        rows = final_rows(document, cell["method"], cell["variant"])
        if any(row["episodes"] for row in rows):
            found.setdefault(cell["method"], []).append((cell, rate_of(rows)))
    return {method: sorted(cells, key=lambda item: float(item[0]["amount"])) for method, cells in found.items()}


def skill_tables(document: dict[str, Any]) -> list[str]:
    """Success of every cell in every skill, with intervals."""
    skills, rows = skills_of(document), []
    for cell in document["cells"]:
        rates = [skill_rate(document, cell, skill) for skill in skills]
        if any(rates):
            told = ("" if r is None else f"{r.rate:.0%} ({100 * r.low:.0f} to {100 * r.high:.0f})" for r in rates)
            rows.append((f"`{label(cell)}`", *told))
    if not rows:
        return []
    about = "Success above is the mean over skills, each counted alike. By skill, with 95% intervals as above:"
    return ["## By skill", "", about, "", *table(("method", *(f"`{skill}`" for skill in skills)), rows), ""]


def over_amounts(document: dict[str, Any]) -> list[str]:
    """Success of every method along what the experiment varies."""
    rows = [
        (f"`{method}`", f"{cell['amount']:g}", f"{rate.rate:.1%}", f"{rate.low:.1%} to {rate.high:.1%}", _of(rate))
        for method, cells in amounts_of(document).items()
        for cell, rate in cells
    ]
    if not rows:
        return []
    along = document["along"]
    return [
        f"## Over {along}",
        "",
        *table(("method", along, "success", "interval", "successes"), rows),
        "",
    ]


def _of(rate: Pooled) -> str:
    return f"{rate.successes} / {rate.episodes}"
