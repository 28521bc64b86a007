"""docs/results/improvement: what rounds of improvement brought, and what the failures contributed to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qt_ros.episodes.files import write_atomically
from qt_ros.improvement.arms import ARMS, Arm, arms_document, arms_of, label
from qt_ros.improvement.report import (
    apart,
    minutes,
    percent,
    points,
    round_table,
    skill_section,
    stage_name,
    stage_table,
    success_share,
    table,
    tested,
)
from qt_ros.improvement.rounds import write_json
from qt_ros.improvement.settings import ImprovementError
from qt_ros.improvement.state import State, load_state

NAME = "improvement"
ABOUT = {
    "with_failures": "every episode of every round joins the training data.",
    "without_failures": "only the successes among them.",
    "nothing_new": "the control, the same gradient steps on the stores of the start.",
}
_LONG_PATH = re.compile(r"(?<![\w./-])/(?:[\w.+@-]+/)+?([\w.+@-]+/[\w.+@-]+)(?![\w./+@-])")


def read_run(folder: Path) -> State:
    """The run in ``folder``. ImprovementError when there is none."""
    state = load_state(folder)
    if state is None:
        raise ImprovementError(f"{folder}: no run was begun there; `qt-ros improve --help` says how")
    return state


def results_page(arms: Sequence[Arm], document: dict[str, Any]) -> str:
    """The Markdown page; its numbers are those of ``document`` (see `arms_document`)."""
    first = next(iter(arms[0].runs.values()))
    settings, several = first.settings, any(len(arm.runs) > 1 for arm in arms)
    told = [
        "# Rounds of improvement",
        "",
        "A policy acts in training scenes, the detector judges, successes and failures join the store, training goes "
        "on from the last checkpoint with its own settings, and old and new policy are compared in the same tuning "
        "scenes: the one with more successes is kept. Written by `qt-ros improve report`; how to run and read it: "
        "[Improve from experience](../how-to/improve-from-experience.md).",
        "",
        "## Success",
        "",
        f"In {settings.test_episodes} test scenes, {settings.test_seed} to {settings.test_seeds.stop - 1}, the same "
        "for every policy; nothing was chosen in them. Intervals: 95% (Wilson); gains: paired, 95% (Agresti and Min), "
        "exact McNemar test."
        if settings.test_episodes
        else "Nothing is measured in test scenes (--test-episodes 0).",
        "",
    ]
    for arm in arms:
        for seed, run in arm.runs.items():
            told += [f"### {label(arm, seed).capitalize()}", "", *_run_section(run)]
        if len(arm.runs) > 1:
            rows = [(stage_name(stage), percent(stage)) for stage in arm.pooled()]
            told += [f"### {arm.name.capitalize()}, {len(arm.runs)} runs together", ""]
            told += [table(("policy", "success (interval over runs and scenes)"), rows)]
    told += [f"![Success by round]({NAME}.svg)", "", "## What the failures contributed", ""]
    told += _contribution_section(arms, document, several)
    if document["missing"]:
        told += ["## Missing", "", *(f"- {what}" for what in document["missing"]), ""]
    told += ["## How it was made", ""]
    for arm in arms:
        for seed, run in arm.runs.items():
            told += _made(run, label(arm, seed))
    return "\n".join(told)


def _run_section(run: State) -> list[str]:
    stages = tested(run)
    told = [stage_table(stages)]
    if len(stages) > 1 and (parted := apart(stages[0]["test"], stages[-1]["test"])) is not None:
        told += [f"The intervals of the first and the last policy are {'apart' if parted else 'not apart'}.", ""]
    return [*told, *skill_section([(stage_name(stage), stage) for stage in stages]), round_table(run)]


def _contribution_section(arms: Sequence[Arm], document: dict[str, Any], several: bool) -> list[str]:
    if len(arms) < 2:
        return ["Not measured yet.", ""]
    told = [
        "The same rounds, each run with its own policy's episodes; what is learnt from them differs:",
        "",
        *(f"- **{arm.name}**: {ABOUT[arm.key]}" for arm in arms),
        "",
        "Failures that were in the stores at the start stay in all of them. Every run makes as many gradient steps; "
        "only against the control is a gain known to come from the episodes.",
        "",
    ]
    rows = [
        (
            found["round"], ARMS[found["arm"]], ARMS[found["against"]], paired["training_seed"] or "as at the start",
            percent(paired["new"]), percent(paired["old"]), points(paired),
        )
        for found in document["contribution"]
        for paired in found["runs"]
    ]  # fmt: skip
    header = ("after round", "one", "other", "training seed", "success of the one", "of the other", "difference")
    told += [table(header, rows)]
    counts = ", ".join(f"{len(arm.runs)} {arm.name}" for arm in arms)
    told += [
        f"Runs: {counts}. These intervals know which scenes were drawn, and nothing of how much training runs differ: "
        "with another training seed each policy would be another one, by more or less than what sets two runs apart "
        "here." + ("" if several else " With one run of each kind that is not known at all."),
        "",
    ]
    means = [
        (found["round"], ARMS[found["arm"]], ARMS[found["against"]], found["mean"]["runs"], _mean(found["mean"]))
        for found in document["contribution"]
        if found["mean"]["runs"] > 1
    ]
    if means:
        told += [
            "The mean over runs of the same training seed; its interval reaches over theirs and Student's t over the "
            "runs, which does know it:",
            "",
            table(("after round", "one", "other", "runs", "mean difference (95% interval)"), means),
        ]
    drawn = [
        (
            label(arm, seed),
            r.number,
            train["episodes"],
            train["successes"],
            train.get("steps", ""),
            success_share(train),
        )
        for arm in arms
        for seed, run in arm.runs.items()
        for r in run.rounds
        if r.finished and (train := r.phases["train"])
    ]
    told += [
        "What the batches of each round were drawn from:",
        "",
        table(("run", "round", "episodes", "of these successes", "steps", "share of successes in a batch"), drawn),
    ]
    return told


def _mean(mean: dict[str, Any]) -> str:
    return f"{100 * mean['difference']:+.1f} points ({100 * mean['low']:+.1f} to {100 * mean['high']:+.1f})"


def _made(state: State, name: str) -> list[str]:
    where = state.environment
    spent = sum(sum(r.seconds.values()) for r in state.rounds) + sum(state.seconds.values())
    machine = f"{where.get('processor', '')}, {where.get('cores', '')} cores"
    commits = ", ".join(where.get("commits", [where.get("commit", "")])) or "unknown"
    versions = f"commit {commits}, torch {where.get('torch', '')}"
    return [
        f"Rounds {name}: {minutes(spent)} minutes on {machine}; {versions}; start policy "
        f"{state.settings.checkpoint_id[:12]}.",
        "",
        "```bash",
        *dict.fromkeys(portable(command, state.folder) for command in state.commands),
        "```",
        "",
    ]


def portable(document: Any, *folders: Path) -> Any:
    """A document without the paths of this machine: relative to the working folder, to the parent of a run, or cut to
    their last two parts."""
    if isinstance(document, dict):
        return {key: portable(value, *folders) for key, value in document.items()}
    if isinstance(document, list):
        return [portable(value, *folders) for value in document]
    if not isinstance(document, str):
        return document
    for folder in (Path.cwd(), *(f.parent for f in folders)):
        document = document.replace(f"{folder}/", "")
    return _LONG_PATH.sub(r"\1", document)


def plot(path: Path, arms: Sequence[Arm]) -> None:
    """Success in the test scenes after every round with 95% intervals, all runs of an arm together, as SVG, the same
    bytes for the same numbers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": "qt_ros", "font.size": 10}):
        figure, axes = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
        for index, arm in enumerate(arms):
            known = arm.pooled()
            rates = [100 * stage["rate"] for stage in known]
            errors = [
                [r - 100 * stage["low"] for r, stage in zip(rates, known)],
                [100 * stage["high"] - r for r, stage in zip(rates, known)],
            ]
            places = [stage["round"] + 0.04 * index for stage in known]
            name = arm.name + (f" ({len(arm.runs)} runs)" if len(arm.runs) > 1 else "")
            axes.errorbar(
                places, rates, yerr=errors, marker="o", capsize=4, label=name, linestyle=("-", "--", ":")[index]
            )
        axes.set_ylim(0, 100)
        axes.set_xlabel("rounds of improvement")
        axes.set_ylabel("success in test scenes (%)")
        axes.set_xticks(range(max(len(run.policies) for arm in arms for run in arm.runs.values())))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)


def write_results(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write improvement.md, .json and .svg into ``out``; returns the document.

    ``folders``: runs of the same rounds in any order, one or more of each arm (see `arms_of`, whose errors it raises).
    """
    arms = arms_of([read_run(folder) for folder in folders])
    document = portable(arms_document(arms), *folders)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{NAME}.json", document)
    plot(out / f"{NAME}.svg", arms)
    write_atomically(out / f"{NAME}.md", results_page(arms, document).encode())
    return document
