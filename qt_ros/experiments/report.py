"""From results of cells to one document per experiment: rows, what is missing, and where each number comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qt_ros.experiments.cells import Cell, all_cells
from qt_ros.experiments.goals import described
from qt_ros.experiments.intervals import Pooled, averaged, pooled
from qt_ros.experiments.spec import Experiment
from qt_ros.experiments.work import RESULT, read_json

SCHEMA = 1
_COPIED = (
    "train_seconds", "samples_per_second", "commit", "source", "machine", "command", "metrics", "identity",
    "episodes_in_data", "successes_in_data", "steps_in_data",
)  # fmt: skip


class ReportError(ValueError):
    """Results cannot be put together; the message says which and why."""


def collect_results(experiment: Experiment, works: Sequence[Path], earlier: Path | None = None) -> dict[str, Any]:
    """The document of ``experiment`` from the result files in ``works`` (work folders; the first one that has a cell
    counts) and, for cells that none of them has, from the rows of an ``earlier`` document, or from those of another
    experiment beside it where the run is the very same. There the page of the sanity tasks is looked for too.

    Results of other settings than the experiment's are left out. Everything in it follows from those files alone.
    """
    rows: list[dict[str, Any]] = []
    missing = []
    before = _rows_kept(earlier) if earlier is not None else []
    cells = all_cells(experiment)
    for cell in sorted(cells, key=lambda c: [s.label for s in experiment.cells].index(c.spec.label)):
        found = _rows(cell, works) or _earlier(cell, before)
        rows += found
        if not found:
            missing.append({"method": cell.spec.method, "variant": cell.spec.variant, "seed": cell.seed})
    warm = experiment.warm_up
    by_skill = [part for row in rows for part in skill_rows(row)]
    skills = {"skills": list(experiment.skills), "skill_rows": by_skill} if experiment.skills else {}
    along = {"along": experiment.along} if experiment.along else {}
    return {
        "schema": SCHEMA,
        "experiment": experiment.name,
        "title": experiment.title,
        "about": experiment.about,
        "observations": experiment.observations,
        "data": experiment.data.name,
        "warm_up": None
        if warm is None
        else {"name": warm.name, "data": warm.data.name, "gradient_steps": warm.gradient_steps},
        "seeds": list(experiment.seeds),
        "evaluation": {"episodes": experiment.evaluation.episodes, "first_scene": experiment.evaluation.first_scene},
        "cells": [_described(cell) for cell in cells if cell.seed == experiment.seeds[0]],
        "goals": described(experiment.goals),
        "remarks": experiment.remarks,
        "sanity": earlier is not None and earlier.with_name("sanity.md").exists(),
        "rows": rows,
        **skills,
        **along,
        "missing": missing,
    }


def _described(cell: Cell) -> dict[str, Any]:
    settings = cell.settings
    return {
        "method": cell.spec.method,
        "variant": cell.spec.variant,
        "config": cell.spec.config,
        "set": cell.experiment.changes(cell.spec),
        "bins": cell.spec.bins,
        "gradient_steps": settings.gradient_steps,
        "batch": settings.batch,
        "note": cell.spec.note,
        **({"stores": list(cell.spec.stores)} if cell.spec.stores else {}),
        **({} if cell.spec.amount is None else {"amount": cell.spec.amount}),
    }


def _rows(cell: Cell, works: Sequence[Path]) -> list[dict[str, Any]]:
    for work in works:
        path = work / cell.directory / RESULT
        found = read_json(path)
        if found.get("identity") != cell.identity:
            continue
        try:
            head = {"method": found["method"], "variant": found["variant"], "seed": found["seed"]}
            copied = {key: found[key] for key in _COPIED}
            stores = [store["manifest_sha256"] for store in found["data"]]
            return [
                {
                    **head,
                    **{key: row[key] for key in ("gradient_steps", "episodes", "successes", "unstable", "first_scene")},
                    "evaluate_seconds": row["evaluate_seconds"],
                    **({"skills": row["skills"]} if cell.experiment.skills else {}),
                    **copied,
                    "autocast": bool(found["settings"].get("autocast")),
                    "stores": stores,
                    **({"also_by": others} if (others := _others(found)) else {}),
                }
                for row in found["rows"]
            ]
        except (KeyError, TypeError) as error:
            raise ReportError(f"{path}: not a result of this version ({error!r}); run the cell again") from error
    return []


def _others(found: dict[str, Any]) -> list[str]:
    """Further commits by which a cell was trained and evaluated."""
    by = [*found.get("trained_by", ()), found.get("evaluated_by") or {}]
    return sorted({origin["commit"] for origin in by if "commit" in origin} - {found["commit"]})


def _rows_kept(earlier: Path) -> list[list[dict[str, Any]]]:
    """Rows of the document ``earlier`` and of every other experiment's in its folder, document by document."""
    others = sorted(path for path in earlier.parent.glob("*.json") if path != earlier)
    documents = [read_json(path) for path in (earlier, *others)]
    return [document["rows"] for document in documents if "experiment" in document]


def _earlier(cell: Cell, documents: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of the same run in the first of ``documents`` that has it, under the cell's present name; there its own
    before those of another name."""
    names = {"method": cell.spec.method, "variant": cell.spec.variant}
    for rows in documents:
        same = [row for row in rows if row.get("identity") == cell.identity]
        same.sort(key=lambda row: all(row.get(key) == name for key, name in names.items()))
        if same:
            return [{**row, **names} for row in {row["gradient_steps"]: row for row in same}.values()]
    return []


def skill_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's counts, skill by skill; none for an experiment without skills."""
    head = {key: row[key] for key in ("method", "variant", "seed", "gradient_steps")}
    return [{**head, "skill": skill, **counts} for skill, counts in row.get("skills", {}).items()]


def rate_of(rows: Sequence[dict[str, Any]]) -> Pooled:
    """Success of rows that are one per seed: the mean over skills where there are skills. ValueError without any."""
    if any("skills" in row for row in rows):
        return averaged(
            [{skill: (c["successes"], c["episodes"]) for skill, c in row["skills"].items()} for row in rows]
        )
    return pooled([(row["successes"], row["episodes"]) for row in rows])


def final_rows(document: dict[str, Any], method: str, variant: str) -> list[dict[str, Any]]:
    """Rows of a cell after all of its gradient steps, one per seed."""
    cell = next(c for c in document["cells"] if (c["method"], c["variant"]) == (method, variant))
    return [r for r in rows_of(document, method, variant) if r["gradient_steps"] == cell["gradient_steps"]]


def rows_of(document: dict[str, Any], method: str, variant: str) -> list[dict[str, Any]]:
    """All rows of a cell, every seed and mark."""
    return [r for r in document["rows"] if (r["method"], r["variant"]) == (method, variant)]


def by_step(document: dict[str, Any], cell: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """{gradient steps: rows of the seeds} of a cell, in the order of the steps."""
    found = rows_of(document, cell["method"], cell["variant"])
    steps = sorted({row["gradient_steps"] for row in found})
    return {step: [row for row in found if row["gradient_steps"] == step] for step in steps}


def good_share(document: dict[str, Any]) -> float | None:
    """Share of episodes in the data that succeed; None before any cell is finished, and where cells learn from other
    parts of the data."""
    if len({tuple(cell.get("stores", ())) for cell in document["cells"]}) > 1:
        return None  # also while only cells of one part are finished
    shares = {row["successes_in_data"] / row["episodes_in_data"] for row in document["rows"]}
    return float(shares.pop()) if len(shares) == 1 else None
