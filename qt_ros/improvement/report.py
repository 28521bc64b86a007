"""What a run reports: one JSON document and one Markdown page per round, and the same for all rounds together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from qt_ros.improvement.state import PHASES, Round, State
from qt_ros.improvement.statistics import Paired
from qt_ros.sim.evaluation import Rate


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]]) + "\n"


def percent(rate: dict[str, Any]) -> str:
    """'62.0% (56.4 to 67.3), 186 of 300' from a Rate's dictionary."""
    if not rate["episodes"]:
        return "not measured"
    interval = f"{100 * rate['low']:.1f} to {100 * rate['high']:.1f}"
    return f"{100 * rate['rate']:.1f}% ({interval}), {rate['success']} of {rate['episodes']}"


def points(paired: dict[str, Any]) -> str:
    """'+12.0 points (5.1 to 18.7), p = 0.001' from the dictionary of a Paired."""
    if not paired["scenes"]:
        return "not measured"
    interval = f"{100 * paired['low']:+.1f} to {100 * paired['high']:+.1f}"
    return f"{100 * paired['difference']:+.1f} points ({interval}), p = {paired['p_value']:.2g}"


def success_share(train: dict[str, Any]) -> str:
    """'31.2%' of what a training drew its batches from; '' where a run of before did not say."""
    share = train.get("success_share")
    return "" if share is None else f"{100 * share:.1f}%"


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"


# --- one round --------------------------------------------------------------------------------------------------------


def round_document(state: State, this: Round) -> dict[str, Any]:
    """Everything about a finished round, for JSON."""
    return {
        "round": this.number,
        "with_failures": state.settings.with_failures,
        "policy": this.policy,
        "policy_id": this.policy_id,
        **this.phases,
        "seconds": this.seconds,
        "environment": state.environment,
    }


def round_page(state: State, this: Round) -> str:
    """The same for people."""
    collect, bags, audit = (this.phases[name] for name in ("collect", "bags", "audit"))
    add, train, choice = (this.phases[name] for name in ("add", "train", "choose"))
    told = [f"# Round {this.number}", "", f"Kept: **the {choice['kept']} policy**. {_sentence(choice['why'])}", ""]
    told += [
        table(
            ("policy", "checkpoint", "success on this round's tuning scenes (95% interval)"),
            [
                ("old", this.policy_id[:12], percent(choice["old"])),
                ("new", train["checkpoint_id"][:12], percent(choice["new"])),
            ],
        ),
        f"Paired difference, new less old: {points(choice)}. Both succeed in {choice['both']} scenes, only the old one "
        f"in {choice['only_old']}, only the new one in {choice['only_new']}, neither in {choice['neither']}.",
        "",
        *skill_section([(name, choice.get("skills", {}).get(name)) for name in ("old", "new")]),
        "## What was lived",
        "",
        table(
            ("", "episodes"),
            [
                ("collected with the old policy", collect["episodes"]),
                ("unstable physics, left out", collect.get("unstable", 0)),
                ("from bags", bags.get("added", 0)),
                ("bags left out", len(bags.get("left_out", {}))),
                ("labelled otherwise since an earlier round", len(bags.get("relabelled", []))),
                *((f"outcome {name}", count) for name, count in audit["outcomes"].items()),
                *_lived_by_skill(audit.get("skills", {})),
                ("refused by the audit", len(audit["refused"])),
                ("failures left out on purpose", add["failures_left_out"]),
                ("added to the store", add["added"]),
                ("of these successes", add["successes"]),
                ("learnt from in all", train["episodes"]),
                ("of these successes", train["successes"]),
                ("share of successes in a batch", success_share(train)),
            ],
        ),
    ]
    problems = {**bags.get("left_out", {}), **audit["refused"], **{p: "" for p in audit["skipped_shards"]}}
    problems |= {bag: "; ".join(found) for bag, found in bags.get("audit_problems", {}).items()}
    if problems:
        told += ["## What was wrong", "", *(f"- {name}: {why}" for name, why in problems.items()), ""]
    told += [
        "## Time and commands",
        "",
        table(("phase", "minutes"), [(name, minutes(this.seconds.get(name, 0.0))) for name in PHASES]),
        "```bash",
        *(command for name in PHASES for command in this.phases[name].get("commands", [])),
        "```",
        "",
    ]
    return "\n".join(told)


# --- all rounds -------------------------------------------------------------------------------------------------------


def tested(state: State) -> list[dict[str, Any]]:
    """For the start and the end of each finished round: the policy, its success in the test scenes, and what it gained
    on the policy before and on the first one in the same scenes."""
    result: list[dict[str, Any]] = []
    before: dict[int, bool] | None = None
    first: dict[int, bool] | None = None
    for stage, (path, identity) in enumerate(state.policies):
        success = success_in_tests(state, identity)
        entry: dict[str, Any] = {"round": stage, "checkpoint": path, "checkpoint_id": identity, "test": None}
        if success is not None:
            entry["test"] = Rate(sum(success.values()), len(success)).to_dict()
            measured = state.tests[identity]
            entry |= {key: measured[key] for key in ("by_skill", "skill_mean") if key in measured}
            entry["gain"] = None if before is None else Paired.of(before, success).to_dict()
            entry["gain_on_start"] = None if first is None else Paired.of(first, success).to_dict()
            first = success if stage == 0 else first
        before = success
        result.append(entry)
    return result


def success_in_tests(state: State, identity: str) -> dict[int, bool] | None:
    """Success by test scene of a checkpoint; None when it was not measured."""
    found = state.tests.get(identity)
    return None if found is None else {int(seed): bool(value) for seed, value in found["success"].items()}


def apart(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool | None:
    """Whether the 95% intervals of two rates do not touch; None where one was not measured."""
    if not one or not other:
        return None
    return bool(one["high"] < other["low"] or other["high"] < one["low"])


def run_document(state: State) -> dict[str, Any]:
    """Everything about a run, as far as it has come, for JSON."""
    stages = tested(state)
    return {
        "settings": state.settings.to_dict(),
        "environment": state.environment,
        "rounds": [round_document(state, r) for r in state.rounds if r.finished],
        "tested": stages,
        "intervals_apart": apart(stages[0]["test"], stages[-1]["test"]) if len(stages) > 1 else None,
        "seconds": state.seconds,
        "commands": state.commands,
        "missing": missing(state),
    }


def missing(state: State) -> list[str]:
    """What this run has not done yet."""
    told = [f"round {r.number} is not finished (next: {_next(r)})" for r in state.rounds if not r.finished]
    if not any(r.finished for r in state.rounds):
        told.append("no round is finished")
    for stage, (_, identity) in enumerate(state.policies):
        if state.settings.test_episodes and identity not in state.tests:
            what = "the start policy" if stage == 0 else f"the policy kept after round {stage}"
            told.append(f"{what} was not measured in the test scenes")
    return told


def _next(this: Round) -> str:
    return next(name for name in PHASES if name not in this.phases)


def run_page(state: State) -> str:
    """The same for people."""
    stages, settings = tested(state), state.settings
    told = [
        "# Rounds of improvement" + ("" if settings.with_failures else ", failures left out"),
        "",
        stage_table(stages),
        f"Measured in {settings.test_episodes} test scenes from {settings.test_seed} on, in which nothing was chosen."
        if settings.test_episodes
        else "Nothing is measured in test scenes (--test-episodes 0).",
        "",
        *skill_section([(stage_name(stage), stage) for stage in stages]),
        round_table(state),
        *(f"- missing: {what}" for what in missing(state)),
        "",
    ]
    return "\n".join(told)


def stage_table(stages: Sequence[dict[str, Any]]) -> str:
    """Success in the test scenes, stage by stage."""
    rows = []
    for stage in stages:
        rate = "not measured" if stage["test"] is None else percent(stage["test"])
        gains = (points(stage[key]) if stage.get(key) else "" for key in ("gain", "gain_on_start"))
        rows.append((stage_name(stage), stage["checkpoint_id"][:12], rate, *gains))
    header = ("policy", "checkpoint", "success (95% interval)", "gain on the one before", "gain on the start")
    return table(header, rows)


def stage_name(stage: dict[str, Any]) -> str:
    return "start" if stage["round"] == 0 else f"after round {stage['round']}"


def skill_section(policies: Sequence[tuple[str, dict[str, Any] | None]]) -> list[str]:
    """A table of success by skill, a column for each (name, document with ``by_skill`` and ``skill_mean``); nothing
    where only one skill was asked for."""
    known = [(name, found) for name, found in policies if found and found.get("by_skill")]
    skills = list(dict.fromkeys(skill for _, found in known for skill in found["by_skill"]))
    if len(skills) < 2:
        return []
    rows = [
        [skill, *(percent(found["by_skill"][skill]) if skill in found["by_skill"] else "" for _, found in known)]
        for skill in skills
    ]
    rows.append(["mean over skills", *(f"{100 * found['skill_mean']:.1f}%" for _, found in known)])
    return [table(("skill", *(name for name, _ in known)), rows)]


def _lived_by_skill(skills: dict[str, dict[str, int]]) -> list[tuple[str, str]]:
    if len(skills) < 2:
        return []
    return [
        (f"of {name or 'no known skill'}: successes", f"{counts.get('success', 0)} of {sum(counts.values())}")
        for name, counts in skills.items()
    ]


def round_table(state: State) -> str:
    """What every finished round lived, learnt and chose."""
    rows = []
    for r in state.rounds:
        if not r.finished:
            continue
        audit, add, train, choice = (r.phases[name] for name in ("audit", "add", "train", "choose"))
        lived = ", ".join(f"{count} {name}" for name, count in audit["outcomes"].items()) or "none"
        chosen = f"{choice['old']['success']} old, {choice['new']['success']} new of {choice['scenes']}"
        spent = math.fsum(r.seconds.values())
        learnt = (train["episodes"], train["successes"], success_share(train))
        rows.append((r.number, lived, add["added"], *learnt, chosen, choice["kept"], minutes(spent)))
    learnt_header = ("learnt from", "of these successes", "share of successes in a batch")
    header = ("round", "new episodes", "added", *learnt_header, "successes in tuning scenes", "kept", "minutes")
    return table(header, rows)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
