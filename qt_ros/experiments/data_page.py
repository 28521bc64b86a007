"""docs/results/DATA-data.md: what is in a data set and how it was made, from `qt_ros.experiments.data.describe`."""

from __future__ import annotations

from typing import Any

from qt_ros.experiments.markdown import MADE, table
from qt_ros.experiments.work import DataError


def data_page(document: dict[str, Any]) -> str:
    """Counts, lengths and returns of a data set. ``made_by`` in the document: the experiment that makes it, where that
    has another name than the data. DataError for a document that was written when shards could not be read."""
    name, everything = document["data"], document["all"]
    lost = {store: part.get("skipped_shards") for store, part in document["parts"].items()}
    if told := ", ".join(f"{count} shards of {store}" for store, count in lost.items() if count):
        raise DataError(
            f"the data {name} were described without {told}; qt-ros experiment {document.get('made_by', name)} --data "
            "describes them anew, or names the shards that are still missing"
        )
    share = everything["successes"] / everything["episodes"]
    command = f"qt-ros experiment {document.get('made_by', name)} --data"
    command += " --autocast" * bool(document.get("policy", {}).get("autocast"))
    lines = [f"# Data: {name}", "", MADE, "", "```bash", command, "```", ""]
    lines += [
        f"{everything['episodes']} episodes with {everything['steps']} steps, of which {everything['successes']} "
        f"({share:.1%}) succeed, with {everything['steps_of_successes']} steps "
        f"({everything['steps_of_successes'] / everything['steps']:.1%}). The return of an episode is 1 where it "
        "succeeds and 0 where it does not; there is no other reward.",
        "",
    ]
    parts = {**document["parts"], "all": everything}
    rows = [
        (name, part["episodes"], part["successes"], f"{part['successes'] / part['episodes']:.1%}", part["steps"],
         *(_lengths(part[key]) for key in ("length", "length_of_successes", "length_of_failures")))
        for name, part in parts.items()
    ]  # fmt: skip
    head = ("store", "episodes", "successes", "mean return", "steps", "length", "of successes", "of failures")
    lines += [*table(head, rows), "", "Lengths in steps: mean (10%, 50%, 90% quantiles; largest).", ""]
    lines += ["## How they are made", ""]
    rows = []
    for name, part in document["parts"].items():
        recipe = part["recipe"]
        count = part["episodes"] + sum(part["thrown_away"].values()) if "keep" in recipe else recipe["episodes"]
        seeds = f"{recipe['first_seed']} to {recipe['first_seed'] + count - 1}"
        if recipe.get("balanced"):
            seeds = f"{count} of {recipe['first_seed']} to {part['last_scene']}"
        size = "{} x {}".format(*part["image_size"])
        asked = ", ".join((*recipe["tasks"], *(f"skill {skill}" for skill in recipe.get("skills", ()))))
        asked += ", as many of each" if recipe.get("balanced") else ""
        rows.append(
            (name, recipe["source"], seeds, asked or "all", ", ".join(recipe["flaws"]) or "", size,
             f"`{part['manifest_sha256'][:12]}`")
        )  # fmt: skip
    lines += [*table(("store", "source", "scenes", "tasks", "flaws", "images", "manifest"), rows), ""]
    lines += [*_left_out(document), *_collector(document), *_thrown_away(document), *_skills(document)]
    rows = [(reason, count) for reason, count in everything["reasons"].items()]
    lines += ["## How episodes end", "", *table(("outcome/reason", "episodes"), rows), ""]
    rows = [(f"`{task}`", c["episodes"], c["success"]) for task, c in everything["tasks"].items()]
    lines += ["## Tasks", "", *table(("task", "episodes", "successes"), rows)]
    lines += ["", f"{everything['instructions']} different instructions."]
    if len(everything.get("skills", ())) > 1:
        most = ", ".join(f"{part['most_of_one_instruction']} in {name}" for name, part in document["parts"].items())
        lines += [f"Episodes of one and the same instruction: at most {most}."]
    return "\n".join(lines) + "\n"


def _lengths(spread: dict[str, float] | None) -> str:
    if spread is None:
        return ""
    return f"{spread['mean']:.1f} ({spread['p10']:g}, {spread['median']:g}, {spread['p90']:g}; {spread['largest']})"


def _left_out(document: dict[str, Any]) -> list[str]:
    """Scenes that were asked for and gave no episode."""
    told = []
    for name, part in document["parts"].items():
        recipe = part["recipe"]
        lost = 0 if "keep" in recipe else recipe["episodes"] - part["episodes"]
        told += [f"{lost} of {recipe['episodes']} in {name}"] * bool(lost)
    return [f"Scenes without an episode, because their physics became unstable: {', '.join(told)}.", ""] if told else []


def _collector(document: dict[str, Any]) -> list[str]:
    """How the policy that collects came about."""
    policy = document.get("policy")
    if policy is None:
        return []
    stores, warm = " and ".join(f"`{store}`" for store in policy["stores"]), policy.get("warm_up")
    sight = "the simulator's privileged state" if warm is None else f"images (vision side of warm-up `{warm['name']}`)"
    return [
        f"Source `policy`: `{policy['method']}` as in `{policy['config']}`, trained on {stores} from {sight} for "
        f"{policy['gradient_steps']} gradient steps of batch {policy['batch']}, seed {policy['seed']}"
        f"{' in mixed precision (bfloat16)' if policy.get('autocast') else ''}; checkpoint "
        f"`{policy['checkpoint'][:12]}`.",
        "",
    ]


def _thrown_away(document: dict[str, Any]) -> list[str]:
    """What was run and not kept, store by store."""
    rows = []
    for name, part in document["parts"].items():
        if "thrown_away" in part:
            thrown, kept = part["thrown_away"], part["episodes"]
            rows.append(
                (name, part["recipe"]["keep"], kept + sum(thrown.values()), kept, thrown.get("success", 0),
                 thrown.get("failure", 0), thrown.get("unstable", 0))
            )  # fmt: skip
    if not rows:
        return []
    head = ("store", "keeps", "run", "kept", "successes thrown away", "failures thrown away", "unstable")
    return ["### Thrown away", "", *table(head, rows), ""]


def _skills(document: dict[str, Any]) -> list[str]:
    """Episodes of every skill and store; with what was thrown away, how often the policy succeeded."""
    skills = document["all"].get("skills", {})
    if len(skills) < 2:
        return []
    parts, rows = document["parts"], []
    for skill in skills:
        row = [f"`{skill}`"]
        for part in parts.values():
            counts = part["skills"].get(skill, {"success": 0, "episodes": 0})
            thrown = part.get("thrown_skills", {}).get(skill, 0)
            row.append(f"{counts['episodes']}" + (f" (+ {thrown} thrown away)" if thrown else ""))
        rows.append(row)
    return ["### Episodes by skill", "", *table(("skill", *parts), rows), ""]
