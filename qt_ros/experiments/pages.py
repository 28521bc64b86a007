"""docs/results/NAME.md from the document of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qt_ros.experiments.findings import goals_section
from qt_ros.experiments.intervals import Pooled
from qt_ros.experiments.markdown import MADE, label, minutes, table, value_text
from qt_ros.experiments.report import by_step, final_rows, good_share, rate_of
from qt_ros.experiments.skills import over_amounts, skill_tables

INTERVAL = """\
The interval is 95%: from the lower of two lower ends to the higher of two upper ends, of Wilson's interval of the
pooled count and of Student's t interval over the seeds' rates. With three seeds the second is wide; that is what three
seeds know; of one seed there is Wilson's only. A row that lacks seeds stands below the others. "Seeds" are the worst
and the best of them. Every seed is evaluated in scenes of its own, and those are the same for all methods. Training
time is that of the quickest seed: cells ran beside other work."""

ALIKE = """\
as many episodes, successes and steps each time, which the same episodes have in another order or rendered elsewhere"""
OTHER = "not the same data each time, as is said above, and rows of different data must not be compared"


def page(document: dict[str, Any]) -> str:
    """The whole page; a function of the document alone."""
    name = document["experiment"]
    evaluation, seeds = document["evaluation"], document["seeds"]
    share = good_share(document)
    lines = [f"# {document['title']}", "", MADE, ""]
    if document["about"]:
        lines += [document["about"], ""]
    lines += [f"```bash\nqt-ros experiment {name}\n```", ""]
    scenes = f"{evaluation['episodes']} test scenes per seed, from {evaluation['first_scene']} on"
    data = f"[{document['data']}]({document['data']}-data.md)"
    lines += [f"Training seeds {', '.join(map(str, seeds))}; {scenes}; data: {data}."]
    if document["warm_up"]:
        warm = document["warm_up"]
        where = f"[{warm['data']}]({warm['data']}-data.md)"
        lines += [
            f"Vision: warmed up once for {warm['gradient_steps']} gradient steps on {where}, then frozen. It learns to "
            "point at the named object and at the tool, whose positions in the picture the simulator gives."
        ]
    if document["sanity"]:
        lines += ["What every implementation makes of [tasks whose answer is known](sanity.md)."]
    if share is not None:
        lines += [f"In the data {share:.1%} of the episodes succeed."]
    lines += ["", *_missing(document), *_other_data(document)]
    if document["rows"]:
        lines += [f"![success of every cell]({name}.png)", "", *_success(document), "", INTERVAL, ""]
        lines += goals_section(document)
        lines += [*skill_tables(document), *over_amounts(document), *_over_steps(document)]
        lines += [*_what(document), *_runs(document)]
    return "\n".join(lines).rstrip() + "\n"


def ranking(document: dict[str, Any]) -> list[tuple[dict[str, Any], Pooled]]:
    """Cells that have results at their last step, best first; after them those that lack seeds."""
    found = []
    for cell in document["cells"]:
        rows = final_rows(document, cell["method"], cell["variant"])
        if any(row["episodes"] for row in rows):
            found.append((len(rows) < len(document["seeds"]), cell, rate_of(rows)))
    found.sort(key=lambda item: (item[0], -item[2].rate, item[1]["method"], item[1]["variant"]))
    return [(cell, rate) for _, cell, rate in found]


def _missing(document: dict[str, Any]) -> list[str]:
    missing = document["missing"]
    if not missing:
        return []
    count = len(document["cells"]) * len(document["seeds"])
    return [f"**{len(missing)} of {count} cells are missing:** {_named(missing)}.", ""]


def _named(cells: Sequence[dict[str, Any]]) -> str:
    """Cells, or rows of them, by name with all of their seeds."""
    named: dict[str, dict[int, None]] = {}
    for cell in cells:
        named.setdefault(label(cell), {})[cell["seed"]] = None
    return "; ".join(f"{name} (seed {', '.join(map(str, seeds))})" for name, seeds in named.items())


def _learned(document: dict[str, Any]) -> dict[tuple[str, ...], dict[tuple[int, int, int], list[dict[str, Any]]]]:
    """{stores that were chosen, () for all: {their episodes, successes and steps: rows}}. One entry in each unless rows
    learned from other data than their neighbours, under whatever manifest."""
    chosen = {label(cell): tuple(cell.get("stores", ())) for cell in document["cells"]}
    found: dict[tuple[str, ...], dict[tuple[int, int, int], list[dict[str, Any]]]] = {}
    for row in document["rows"]:
        counts = (row["episodes_in_data"], row["successes_in_data"], row["steps_in_data"])
        found.setdefault(chosen[label(row)], {}).setdefault(counts, []).append(row)
    return found


def _other_data(document: dict[str, Any]) -> list[str]:
    lines = []
    for names, counted in _learned(document).items():
        if len(counted) == 1:
            continue
        of = f" in {', '.join(names)}" if names else ""
        told = "; ".join(
            f"{episodes} episodes with {successes} successes and {steps} steps{of} for {_named(rows)}"
            for (episodes, successes, steps), rows in counted.items()
        )
        lines += [
            f"**Not all rows learned from the same data, and those that did not must not be compared:** {told}.",
            "",
        ]
    return lines


def _success(document: dict[str, Any]) -> list[str]:
    rows = []
    for cell, rate in ranking(document):
        found = final_rows(document, cell["method"], cell["variant"])
        times = [row["train_seconds"] for row in found if row["train_seconds"] is not None]
        rows.append(
            (
                f"`{label(cell)}`",
                f"{rate.rate:.1%}",
                f"{rate.low:.1%} to {rate.high:.1%}",
                _seeds(rate, len(found), len(document["seeds"])),
                f"{rate.successes} / {rate.episodes}",
                cell["gradient_steps"],
                minutes(min(times)) if times else "",
            )
        )
    return table(("method", "success", "interval", "seeds", "successes", "gradient steps", "training"), rows)


def _seeds(rate: Pooled, finished: int, wanted: int) -> str:
    told = f"{rate.worst:.1%} .. {rate.best:.1%}" if finished > 1 else ""
    return told if finished == wanted else f"{told}{', ' if told else ''}{finished} of {wanted}"


def _over_steps(document: dict[str, Any]) -> list[str]:
    rows = []
    for cell in document["cells"]:
        marks = by_step(document, cell)
        if len(marks) < 2:
            continue
        for step, seeds in marks.items():
            rate = rate_of(seeds)
            rows.append(
                (f"`{label(cell)}`", step, f"{rate.rate:.1%}", f"{rate.low:.1%} to {rate.high:.1%}", len(seeds))
            )
    if not rows:
        return []
    return [
        "## Over gradient steps",
        "",
        *table(("method", "gradient steps", "success", "interval", "seeds"), rows),
        "",
    ]


def _what(document: dict[str, Any]) -> list[str]:
    rows = []
    for cell in document["cells"]:
        changed = {**cell["set"], **({"bins": cell["bins"]} if cell["bins"] else {})}
        changed |= {"stores": cell["stores"]} if "stores" in cell else {}
        told = ", ".join(f"`{key}: {value_text(value)}`" for key, value in changed.items())
        rows.append((f"`{label(cell)}`", f"`{cell['config']}`", told, cell["batch"], cell["note"]))
    return ["## What they are", "", *table(("method", "config", "changed", "batch", ""), rows), ""]


def _runs(document: dict[str, Any]) -> list[str]:
    machines: list[dict[str, Any]] = []
    commands: list[str] = []
    rows = []
    for row in document["rows"]:
        facts, spread = {**row["machine"], "autocast": row["autocast"]}, row["metrics"].get("value_spread")
        rows.append(
            (
                f"`{label(row)}`",
                row["seed"],
                row["gradient_steps"],
                f"{row['successes']} / {row['episodes']}",
                row["unstable"],
                minutes(row["train_seconds"]),
                "" if row["samples_per_second"] is None else f"{row['samples_per_second']:.0f}",
                minutes(row["evaluate_seconds"]),
                "" if spread is None else f"{spread:.3f}",
                ", also ".join(f"`{commit}`" for commit in (row["commit"], *row.get("also_by", ()))),
                f"`{row['source']}`",
                _index(machines, facts),
                _index(commands, row["command"]),
            )
        )
    chosen = {label(cell): tuple(cell.get("stores", ())) for cell in document["cells"]}
    stores = sorted({(chosen[label(row)], tuple(row["stores"])) for row in document["rows"]})
    head = (
        "method", "seed", "gradient steps", "successes", "unstable", "training", "samples/s", "evaluation",
        "value spread", "commit", "source", "machine", "command",
    )  # fmt: skip
    lines = ["## Runs", "", *table(head, rows), "", *_total(document["rows"])]
    lines += [f"- machine {i}: {_machine(facts)}" for i, facts in enumerate(machines, 1)]
    lines += [f"- command {i}: `{command}`" for i, command in enumerate(commands, 1)]
    if commands:
        now = f"qt-ros experiment {document['experiment']} --cell METHOD/VARIANT/SEED"
        lines += [
            f"- Commands as typed at that commit, where cells may have had other names; a row's is `{now}` today."
        ]
    for names, hashes in stores:
        what = f"stores {', '.join(names)}" if names else "stores"
        lines += [f"- {what} (SHA-256 of their manifests): " + ", ".join(f"`{value[:12]}`" for value in hashes)]
    if len(stores) > len({names for names, _ in stores}):
        alike = all(len(counted) == 1 for counted in _learned(document).values())
        lines += [f"- The stores were made more than once: {ALIKE if alike else OTHER}."]
    if any(row["commit"].endswith("-dirty") for row in document["rows"]):
        lines += ["- `-dirty`: the checkout had changes that were not committed."]
    return lines


def _total(rows: list[dict[str, Any]]) -> list[str]:
    """How long all of it took."""
    trained = {(row["identity"], row["seed"]): row["train_seconds"] or 0.0 for row in rows}
    evaluated = sum(row["evaluate_seconds"] or 0.0 for row in rows)
    told = f"{sum(trained.values()) / 3600:.1f} hours of training and {evaluated / 3600:.1f} of evaluation"
    return [f"- all of it, one after the other: {told}, beside whatever else the machines did"]


def _index(found: list[Any], value: Any) -> int:
    """Number (from 1) of a value among those found so far."""
    if value not in found:
        found.append(value)
    return found.index(value) + 1


def _machine(facts: dict[str, Any]) -> str:
    gpu = f"{facts['gpu']}; " if facts["gpu"] else ""
    side = f", {facts['jobs']} cells side by side" if facts["jobs"] > 1 else ""
    side += ", mixed precision (bfloat16)" if facts["autocast"] else ""
    return (
        f"{gpu}{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads a cell{side}; "
        f"torch {facts['torch']}, Python {facts['python']}"
    )
