"""Which faults benchmarks/faults.py injects, and what it reports of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table

MANAGED = ("servo_node", "command_node", "policy_node")
NODES = ("sim_node", "recorder_node", *MANAGED)
SPOILED: dict[str, dict[str, Any]] = {
    "frozen camera": {"camera": "frozen"},
    "silent camera": {"camera": "silent"},
    "garbage image": {"camera": "garbage"},
    "NaN joint state": {"joints": "nan"},
    "silent joint states": {"joints": "silent"},
    "joint states from the future": {"joints": "future"},
    "dropped actions": {"actions": "drop"},
    "delayed actions": {"actions": "delay"},
    "malformed messages": {"malformed": True},
}
HARMLESS = ("doubled actions", "burst of goals")  # the episode goes on
FAULTS = (
    *(f"kill {n}" for n in NODES),
    *(f"restart {n}" for n in NODES),
    *SPOILED,
    *HARMLESS,
    "clock forward",
    "clock back",
    "full disk",
    "emergency stop",
)

KINDS: dict[str, Callable[[str], bool]] = {  # column: the problems that count there
    "out_of_bounds": lambda p: any(w in p for w in ("beyond", "changed by", "not finite", "sent to", "outside")),
    "moving_without_policy": lambda p: "still moves" in p,
    "hung": lambda p: p.startswith("hung") or "never got its result" in p,
    "lost_episodes": lambda p: "bag" in p or "disk" in p,
    "not_judged": lambda p: p.startswith("not judged"),
}
GAVE_WAY = "gave_way"
COLUMNS = ("injections", "in_a_running_episode", *KINDS, GAVE_WAY)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all injections and per fault."""
    faults: dict[str, dict[str, Any]] = {}
    for fault in FAULTS:
        mine = [r for r in rows if r["fault"] == fault]
        if not mine:
            continue
        faults[fault] = {
            "injections": len(mine),
            "in_a_running_episode": sum(bool(r.get("in_time")) for r in mine),
            "reasons": {
                reason or "-": sum(r["reason"] == reason for r in mine) for reason in {r["reason"] for r in mine}
            },
            **{k: sum(any(test(p) for p in r["problems"]) for r in mine) for k, test in KINDS.items()},
            GAVE_WAY: sum(bool(r.get(GAVE_WAY)) for r in mine),
        }
        faults[fault]["lost_episodes"] += sum(bool(r["lost_bags"]) for r in mine)
    totals = {k: sum(f[k] for f in faults.values()) for k in COLUMNS}
    times = [r.get("longest", {}) for r in rows]
    longest = {what: max(t.get(what, 0.0) for t in times) for what in dict.fromkeys(w for t in times for w in t)}
    problems = [r for r in rows if r["problems"] or r["lost_bags"]]
    slips = [r for r in rows if r.get(GAVE_WAY)]
    return {**totals, "longest": longest, "faults": faults, "problems": problems, "slips": slips}


def tables(result: dict[str, Any]) -> list[Table]:
    """One row per fault."""
    found = result["injections"]
    table = Table(title=f"{found['injections']} faults in the real node graph")
    table.add_column("fault")
    for column in COLUMNS:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("how the episodes ended")
    for fault, numbers in found["faults"].items():
        reasons = ", ".join(f"{n} {r}" for r, n in sorted(numbers["reasons"].items()))
        table.add_row(fault, *(str(numbers[c]) for c in COLUMNS), reasons)
    table.add_row("all", *(str(found[c]) for c in COLUMNS), "", style="bold")
    return [table]


def page(result: dict[str, Any]) -> str:
    """docs/results/faults.md."""
    found, machine = result["injections"], result["machine"]
    lines = [
        "# Faults",
        "",
        f"`{result['command']}` at commit {result['commit']}; {machine['processor']}, {machine['cores']} cores, load "
        f"average {machine['load_average']} at the last start. {found['injections']} injections, seed "
        f"{result['settings']['seed']}, into the real node graph in the embedded simulator, one per episode at a "
        "random moment. Numbers count injections after which a command was out of bounds, the robot was commanded or "
        "measured to move without a policy, something that had to happen did not happen within 300 s, or the bag of a "
        "finished episode was lost.",
        "",
        "Without a policy: a command that is not zero, or another setpoint of the arm, comes more than "
        "`max_action_age` + 0.2 s, and 0.1 s of slack for late ticks, after the image behind the last action that "
        "command_node heard; a measured motion 0.5 s later than that; or a command that is not zero more than 0.2 s "
        "and that slack (emergency stop: the slack alone) after command_node said that it is stopped. An injection "
        "counts as in a running episode when the episode had not ended by itself before it, and as not judged when "
        "nothing was heard of commands or measurements. The robot gave way when arm or base was measured to move in "
        "spite of that, but no controller had been told anything new for 0.5 s: one that leans on something may slip.",
        "",
        f"| fault | {' | '.join(c.replace('_', ' ') for c in COLUMNS)} | how the episodes ended |",
        f"| --- |{' ---: |' * len(COLUMNS)} --- |",
    ]
    for fault, numbers in found["faults"].items():
        reasons = ", ".join(f"{n} `{r}`" for r, n in sorted(numbers["reasons"].items()))
        lines.append(f"| {fault} | {' | '.join(str(numbers[c]) for c in COLUMNS)} | {reasons} |")
    lines += [f"| **all** | {' | '.join(str(found[c]) for c in COLUMNS)} | |", ""]
    if found["longest"]:
        times = (f"{what} {f'{t:.2f} s' if t else 'never moved'}" for what, t in found["longest"].items())
        lines += [f"Longest time from the image behind an action to motion that it explains: {', '.join(times)}.", ""]
    if found["problems"]:
        lines += ["What was found:", ""]
        for row in found["problems"]:
            told = "; ".join([*row["problems"], *(f"lost bag of {e}" for e in row["lost_bags"])])
            lines.append(f"- injection {row['number']}, {row['fault']}: {told}")
        lines.append("")
    if found["slips"]:
        lines += ["What gave way:", ""]
        lines += [f"- injection {r['number']}, {r['fault']}: {'; '.join(r[GAVE_WAY])}" for r in found["slips"]]
        lines.append("")
    return "\n".join(lines)
