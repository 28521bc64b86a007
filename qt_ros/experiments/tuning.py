"""What was tried: tuning trials of an experiment's methods, on scenes and a training seed that no reported cell has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qt_ros.experiments.markdown import MADE, label, minutes, table, value_text
from qt_ros.experiments.report import SCHEMA, rate_of
from qt_ros.experiments.spec import Experiment
from qt_ros.experiments.work import RESULT, read_json


def collect_trials(experiment: Experiment, works: Sequence[Path], earlier: Path | None = None) -> dict[str, Any]:
    """The document of all trials in ``works`` and of those noted in an ``earlier`` document, whatever the experiment's
    settings are by now: what was tried stays tried."""
    rows = {row["identity"]: row for row in (read_json(earlier) if earlier is not None else {}).get("rows", ())}
    for work in works:
        for path in sorted((work / experiment.name / "tuning").glob(f"*/{RESULT}")):
            row = _row(read_json(path))
            rows[row["identity"]] = row
    order = {spec.label: index for index, spec in enumerate(experiment.cells)}

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        name = f"{row['method']}/{row['variant']}"
        return order.get(name, len(order)), name, -row["successes"] / max(1, row["episodes"]), row["identity"]

    return {
        "schema": SCHEMA,
        "tuning_of": experiment.name,
        "title": experiment.title,
        "first_scene": experiment.tuning.first_scene,
        "gradient_steps": experiment.budget.get("gradient_steps"),
        "rows": sorted(rows.values(), key=place),
    }


def _row(found: dict[str, Any]) -> dict[str, Any]:
    (row,) = found["rows"]
    kept = {key: row[key] for key in ("gradient_steps", "episodes", "successes", "first_scene")}
    kept |= {"skills": row["skills"]} if "skills" in row else {}
    names = ("method", "variant", "seed", "trial", "changes", "train_seconds", "commit", "source", "identity")
    spread = found["metrics"].get("value_spread")
    return {**{key: found[key] for key in names}, **kept, "value_spread": spread, "settings": found["settings"]}


def tuning_page(document: dict[str, Any]) -> str:
    """docs/results/NAME-tuning.md, a function of the document alone."""
    name, rows = document["tuning_of"], document["rows"]
    counts: dict[str, int] = {}
    for row in rows:
        counts[label(row)] = counts.get(label(row), 0) + 1
    lines = [f"# What was tried: {document['title']}", "", MADE, ""]
    lines += [f"```bash\nqt-ros experiment {name} --tuning --cell METHOD --set key=value\n```", ""]
    lines += [
        f"Trials on tuning scenes, from {document['first_scene']} on, with a training seed that the reported cells do "
        "not have. The interval is Wilson's: it knows one seed only.",
    ]
    budget = document.get("gradient_steps")
    if budget and any(row["gradient_steps"] < budget for row in rows):
        lines += [
            f"Reported cells have {budget} gradient steps: shorter trials rank settings by what they learn quickly."
        ]
    lines += [""]
    lines += [*table(("method", "trials"), [(f"`{key}`", count) for key, count in counts.items()]), ""]
    told, skills = [], any("skills" in row for row in rows)
    tried: dict[str, dict[str, Any]] = {}
    for row in rows:
        tried[label(row)] = {**tried.get(label(row), {}), **row["trial"]}
    for row in rows:
        rate = rate_of([row]) if row["episodes"] else None
        told.append(
            (
                f"`{label(row)}`",
                ", ".join(f"`{key}: {value_text(value)}`" for key, value in _tried(row, tried[label(row)]).items())
                or "as configured",
                "" if rate is None else f"{rate.rate:.1%}",
                "" if rate is None else f"{rate.low:.1%} to {rate.high:.1%}",
                f"{row['successes']} / {row['episodes']}",
                row["gradient_steps"],
                minutes(row["train_seconds"]),
                "" if row["value_spread"] is None else f"{row['value_spread']:.3f}",
                f"`{row['commit']}`",
                *([_skills(row)] if skills else []),
            )
        )
    head = (
        "method", "tried", "success", "interval", "successes", "gradient steps", "training", "value spread", "commit",
        *(["by skill, %"] if skills else []),
    )  # fmt: skip
    return "\n".join([*lines, *table(head, told)]) + "\n"


def _tried(row: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """What a trial had for each of the settings that some trial of its method tries: configs change, so what it left
    as configured then may not be what is configured now. Rows of before settings were noted have their own only."""
    found = dict(row["trial"])
    for key in keys:
        value: Any = row.get("settings") or {}
        for word in key.split("."):
            value = value.get(word) if isinstance(value, dict) else None
        if key not in found and value is not None:
            found[key] = value
    return found


def _skills(row: dict[str, Any]) -> str:
    counts = row.get("skills", {})
    return ", ".join(f"{name} {100 * c['successes'] / c['episodes']:.0f}" for name, c in counts.items())
