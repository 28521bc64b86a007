"""docs/results/improvement: what rounds of improvement brought, and what the failures contributed to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qt_ros.episodes.files import write_atomically
from qt_ros.improvement.report import (
    apart,
    minutes,
    missing,
    percent,
    points,
    round_table,
    run_document,
    skill_section,
    stage_name,
    stage_table,
    success_in_tests,
    table,
    tested,
)
from qt_ros.improvement.rounds import write_json
from qt_ros.improvement.settings import ImprovementError
from qt_ros.improvement.state import State, load_state
from qt_ros.improvement.statistics import Paired

NAME = "improvement"
_LONG_PATH = re.compile(r"(?<![\w./-])/(?:[\w.+@-]+/)+?([\w.+@-]+/[\w.+@-]+)(?![\w./+@-])")


def read_run(folder: Path) -> State:
    """The run in ``folder``. ImprovementError when there is none."""
    state = load_state(folder)
    if state is None:
        raise ImprovementError(f"{folder}: no run was begun there; `qt-ros improve --help` says how")
    return state


def results_document(run: State, without: State | None) -> dict[str, Any]:
    """Both runs, what failures contributed after each round, and what is missing. ImprovementError when ``run`` leaves
    failures out, ``without`` does not, or they differ in anything else."""
    if not run.settings.with_failures:
        raise ImprovementError(f"{run.folder} is a run without failures; give the one with them first")
    lacking = missing(run)
    document: dict[str, Any] = {"with_failures": run_document(run), "without_failures": None, "contribution": None}
    if without is None:
        lacking.append("the same rounds with failures left out (qt-ros improve --without-failures)")
    else:
        different = run.settings.differences(without.settings)
        if different != ["with_failures"]:
            told = ", ".join(different) or "both learn from failures"
            raise ImprovementError(f"{without.folder} is not the twin of {run.folder}: {told}")
        lacking += [f"without failures: {what}" for what in missing(without)]
        document |= {"without_failures": run_document(without), "contribution": contribution(run, without)}
    return {**document, "missing": lacking}


def contribution(run: State, without: State) -> list[dict[str, Any]]:
    """After each round that both have measured: success with failures against without, in the same test scenes."""
    result = []
    for stage, ((_, mine), (_, theirs)) in enumerate(zip(run.policies, without.policies, strict=False)):
        own, other = success_in_tests(run, mine), success_in_tests(without, theirs)
        if stage and own is not None and other is not None:
            result.append({"round": stage, **Paired.of(other, own).to_dict()})
    return result


def results_page(run: State, without: State | None) -> str:
    """The Markdown page; its numbers are those of `results_document`."""
    document, settings = results_document(run, without), run.settings
    stages = tested(run)
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
        "exact McNemar test.",
        "",
        stage_table(stages),
        *skill_section([(stage_name(stage), stage) for stage in stages]),
    ]
    if len(stages) > 1:
        parted = apart(stages[0]["test"], stages[-1]["test"])
        told += [f"The intervals of the first and the last policy are {'apart' if parted else 'not apart'}.", ""]
    told += [f"![Success by round]({NAME}.svg)", "", "## Rounds", "", round_table(run)]
    told += ["## What the failures contributed", ""]
    if without is None:
        told += ["Not measured yet.", ""]
    else:
        told += [
            "The same rounds, each with its own policy's episodes, but new failures are left out of the training data. "
            "Failures that were in the stores at the start stay in both.",
            "",
            stage_table(tested(without)),
            round_table(without),
            table(
                ("after round", "with failures", "without", "with less without"),
                [(c["round"], percent(c["new"]), percent(c["old"]), points(c)) for c in document["contribution"]],
            ),
        ]
    if document["missing"]:
        told += ["## Missing", "", *(f"- {what}" for what in document["missing"]), ""]
    told += ["## How it was made", "", *_made(run, "with failures")]
    if without is not None:
        told += _made(without, "without failures")
    return "\n".join(told)


def _made(state: State, name: str) -> list[str]:
    where = state.environment
    spent = sum(sum(r.seconds.values()) for r in state.rounds) + sum(state.seconds.values())
    machine = f"{where.get('processor', '')}, {where.get('cores', '')} cores"
    versions = f"commit {where.get('commit', '') or 'unknown'}, torch {where.get('torch', '')}"
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


def plot(path: Path, runs: Sequence[tuple[str, State]]) -> None:
    """Success in the test scenes after every round with 95% intervals, as SVG, the same bytes for the same numbers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": "qt_ros", "font.size": 10}):
        figure, axes = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
        for index, (name, state) in enumerate(runs):
            known = [(s["round"], s["test"]) for s in tested(state) if s["test"] is not None and s["test"]["episodes"]]
            rates = [100 * rate["rate"] for _, rate in known]
            errors = [
                [r - 100 * rate["low"] for r, (_, rate) in zip(rates, known)],
                [100 * rate["high"] - r for r, (_, rate) in zip(rates, known)],
            ]
            places = [stage + 0.04 * index for stage, _ in known]
            axes.errorbar(
                places, rates, yerr=errors, marker="o", capsize=4, label=name, linestyle=("-", "--")[index % 2]
            )
        axes.set_ylim(0, 100)
        axes.set_xlabel("rounds of improvement")
        axes.set_ylabel("success in test scenes (%)")
        axes.set_xticks(range(max(len(state.policies) for _, state in runs)))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)


def write_results(folder: Path, without_folder: Path | None, out: Path) -> dict[str, Any]:
    """Write improvement.md, .json and .svg into ``out``; returns the document."""
    run = read_run(folder)
    without = None if without_folder is None else read_run(without_folder)
    document = results_document(run, without)
    out.mkdir(parents=True, exist_ok=True)
    document = portable(document, folder if without_folder is None else without_folder, folder)
    write_json(out / f"{NAME}.json", document)
    runs = [("with failures", run)] + ([] if without is None else [("failures left out", without)])
    plot(out / f"{NAME}.svg", runs)
    write_atomically(out / f"{NAME}.md", results_page(run, without).encode())
    return document
