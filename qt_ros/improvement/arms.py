"""Runs of the same rounds that learn from different episodes: which is which, and what sets them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from qt_ros.improvement.report import missing, run_document, success_in_tests, tested
from qt_ros.improvement.settings import ImprovementError, Settings
from qt_ros.improvement.state import State
from qt_ros.improvement.statistics import Paired, mean_difference, pooled_rate

ARMS = {
    "with_failures": "with all new episodes",
    "without_failures": "without the failures",
    "nothing_new": "without any new episode",
}
"""What a run learns from besides the stores of its start. The last one is the control: the same gradient steps, so that
what only longer training brings is not taken for what the episodes bring."""
HOW = {
    "without_failures": "qt-ros improve --without-failures",
    "nothing_new": "qt-ros improve --episodes 0, without --bags",
}


@dataclass
class Arm:
    """All runs that learn from the same kind of episodes, by training seed ('' is the start checkpoint's)."""

    key: str
    runs: dict[str, State] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return ARMS[self.key]

    def pooled(self) -> list[dict[str, Any]]:
        """Success in the test scenes stage by stage, of all runs together, as far as all of them have come."""
        stages = zip(*(tested(run) for run in self.runs.values()), strict=False)
        result = []
        for number, stage in enumerate(stages):
            rates = [entry["test"] for entry in stage if entry["test"] is not None and entry["test"]["episodes"]]
            if len(rates) == len(self.runs):
                counts = [(rate["success"], rate["episodes"]) for rate in rates]
                result.append({"round": number, **pooled_rate(counts)})
        return result


def arm_of(run: State) -> str:
    """Key of the arm that ``run`` belongs to."""
    phases = [this.phases for this in run.rounds]
    lived = any(p.get("bags", {}).get("bags") or p.get("audit", {}).get("episodes") for p in phases)
    if run.settings.episodes == 0 and not lived:
        return "nothing_new"
    return "with_failures" if run.settings.with_failures else "without_failures"


def training_seed(settings: Settings) -> str:
    """As ``--set seed=N`` gave it; '' where that of the start checkpoint is used."""
    given = [change.partition("=")[2] for change in settings.changes if _is_seed(change)]
    return given[-1] if given else ""


def other_rounds(one: Settings, other: Settings) -> list[str]:
    """Names of settings that make ``one`` and ``other`` runs of different rounds: all in which they differ, but for
    what arms differ in and the training seed."""
    plain = [
        replace(s, with_failures=True, changes=tuple(c for c in s.changes if not _is_seed(c))) for s in (one, other)
    ]
    if 0 in (one.episodes, other.episodes):
        plain = [replace(s, episodes=0) for s in plain]
    return plain[0].differences(plain[1])


def _is_seed(change: str) -> bool:
    return change.partition("=")[0].strip() == "seed"


def arms_of(runs: Sequence[State]) -> list[Arm]:
    """``runs`` by what they learn from, in the order of ARMS.

    ImprovementError when they are not of the same rounds, when two are the same run over again, and when none learns
    from all.
    """
    arms = {key: Arm(key) for key in ARMS}
    trained: dict[str, State] = {}
    for run in runs:
        if different := other_rounds(runs[0].settings, run.settings):
            raise ImprovementError(
                f"{run.folder} and {runs[0].folder} are not of the same rounds: {', '.join(different)}"
            )
        arm, seed = arms[arm_of(run)], training_seed(run.settings)
        first = run.rounds[0].phases.get("train", {}).get("checkpoint_id", "") if run.rounds else ""
        before = arm.runs.get(seed) or (trained.get(f"{arm.key} {first}") if first else None)
        if before is not None:
            raise ImprovementError(
                f"{run.folder} is the same as {before.folder}, {arm.name}; give runs of other kinds (`qt-ros improve "
                f"report --help`), or of other training seeds (--set seed=N)"
            )
        arm.runs[seed] = run
        trained[f"{arm.key} {first}"] = run
    if not arms["with_failures"].runs:
        raise ImprovementError("give a run with all new episodes too: the others are compared with it")
    real = [run for key in ("with_failures", "without_failures") for run in arms[key].runs.values()]
    if len({run.settings.episodes for run in real}) > 1:
        raise ImprovementError(
            f"{real[0].folder} and others collect different numbers of episodes; compare like with like"
        )
    return [arm for arm in arms.values() if arm.runs]


def arms_document(arms: Sequence[Arm]) -> dict[str, Any]:
    """Every run, every arm's runs together, what sets arms apart after each round, and what is missing."""
    single = all(len(arm.runs) == 1 for arm in arms)
    most = max(len(run.rounds) for arm in arms for run in arm.runs.values())
    lacking = [
        what if single and arm.key == "with_failures" else f"{label(arm, seed)}: {what}"
        for arm in arms
        for seed, run in arm.runs.items()
        for what in [*missing(run), *(f"round {n} was not begun" for n in range(len(run.rounds) + 1, most + 1))]
    ]
    there = {arm.key for arm in arms}
    lacking += [f"the same rounds {ARMS[key]} ({how})" for key, how in HOW.items() if key not in there]
    for one, other in combinations(arms, 2):
        if alone := sorted(one.runs.keys() ^ other.runs.keys()):
            told = ", ".join(seed or "of the start checkpoint" for seed in alone)
            lacking.append(f"training seed {told}: only one of the runs {one.name} and {other.name}")
    return {
        "arms": [
            {
                "arm": arm.key,
                "name": arm.name,
                "training_seeds": list(arm.runs),
                "runs": [run_document(run) for run in arm.runs.values()],
                "pooled": arm.pooled(),
            }
            for arm in arms
        ],
        "contribution": contribution(arms),
        "missing": lacking,
    }


def contribution(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """After each round, for every two arms: the one that learns from more against the other, run by run of the same
    training seed in the same test scenes, and the mean of these differences over the runs."""
    result = []
    for one, other in combinations(arms, 2):
        seeds = [seed for seed in one.runs if seed in other.runs]
        pairs = {seed: _paired(one.runs[seed], other.runs[seed]) for seed in seeds}
        for number in sorted({number for found in pairs.values() for number in found}):
            runs = {seed: found[number] for seed, found in pairs.items() if number in found}
            result.append(
                {
                    "arm": one.key,
                    "against": other.key,
                    "round": number,
                    "runs": [{"training_seed": seed, **paired.to_dict()} for seed, paired in runs.items()],
                    "mean": mean_difference(list(runs.values())),
                }
            )
    return result


def _paired(run: State, other: State) -> dict[int, Paired]:
    """After each round that both have measured."""
    result = {}
    for number, ((_, mine), (_, theirs)) in enumerate(zip(run.policies, other.policies, strict=False)):
        own, against = success_in_tests(run, mine), success_in_tests(other, theirs)
        if number and own is not None and against is not None:
            result[number] = Paired.of(against, own)
    return result


def label(arm: Arm, seed: str) -> str:
    """Name of a run: its arm's, with the training seed where there are several."""
    return arm.name if len(arm.runs) == 1 else f"{arm.name}, training seed {seed or 'of the start checkpoint'}"
