"""Fuzzing of every kind of file, in child processes: a crash or a hang of one costs one case and is told with its seed.

    PYTHONPATH=test/support python test/support/fuzz_campaign.py --cases 100000 --folder build/fuzz

goes on where it was interrupted; --first begins elsewhere. Exit status 1 when anything was found.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

NAMES = ("contract", "description", "bag", "recover", "messages", "store", "index", "build", "checkpoint")
BATCH = 2000  # seeds of one child process
STUCK = 300.0  # s that one case may take: it needs milliseconds, and a busy machine some more


def campaign(
    folder: Path,
    cases: int,
    targets: Sequence[str] = NAMES,
    first: int = 0,
    tell: Callable[[str], None] = lambda _: None,
    together: bool = False,
) -> dict[str, dict[str, int]]:
    """Open ``cases`` mutants, shared equally among ``targets``; returns counts per target, resumed from ``folder``.

    Findings of all runs in this folder are in ``findings(folder)``. ``together``: all targets in one process, for runs
    so short that importing everything is most of the work; a crash then ends the run.
    """
    share = -(-cases // len(targets))
    folder.mkdir(parents=True, exist_ok=True)
    if together:
        reached, accepted = _batch(targets, first, first + share, folder)
        return {name: {"cases": reached - first, "accepted": accepted.get(name, 0)} for name in targets}
    counts = {}
    for name in targets:
        state = folder / f"{name}.json"
        done = json.loads(state.read_text()) if state.exists() else {"next": first, "accepted": 0}
        while done["next"] < first + share:
            last = min(done["next"] + BATCH, first + share)
            reached, accepted = _batch([name], done["next"], last, folder)
            done = {"next": reached, "accepted": done["accepted"] + accepted.get(name, 0)}
            state.write_text(json.dumps(done))
            tell(f"{name}: {reached - first} of {share}, {done['accepted']} read without complaint")
        counts[name] = {"cases": done["next"] - first, "accepted": done["accepted"]}
    return counts


def findings(folder: Path) -> list[dict[str, object]]:
    """Everything that was found: crashes, hangs and undocumented errors, each with its target and seed."""
    paths = sorted(folder.glob("*/findings.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def _batch(names: Sequence[str], first: int, last: int, folder: Path) -> tuple[int, dict[str, int]]:
    """(next seed, files of each target read without complaint) after one child process."""
    marker, log = folder / "seed", folder / "log.txt"
    marker.write_text("")
    with log.open("w") as sink:
        arguments = [",".join(names), str(first), str(last), str(folder)]
        command = [sys.executable, str(Path(__file__).with_name("fuzzing.py")), *arguments]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, stdin=subprocess.DEVNULL, text=True)
    stuck = ""
    seen, since = marker.read_text(), time.monotonic()
    while child.poll() is None:
        try:
            child.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            now = marker.read_text()
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > STUCK:
                stuck = f"no end within {STUCK:g} s"
                child.kill()
    out = child.stdout.read() if child.stdout is not None else ""
    if child.returncode == 0:
        return last, json.loads(out.splitlines()[-1])
    tail = log.read_text(errors="replace")[-1500:]
    if not marker.read_text():
        raise RuntimeError(f"{', '.join(names)}: not even the whole files could be made and opened:\n{tail}")
    seed, name = marker.read_text().splitlines()[0].split()
    record = {"target": name, "seed": int(seed), "error": stuck or f"exit status {child.returncode}", "trace": tail}
    with (folder / name / "findings.jsonl").open("a") as sink:
        sink.write(json.dumps(record) + "\n")
    return int(seed) + 1, {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True, help="what is done so far, and what was found")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--targets", nargs="+", choices=NAMES, default=list(NAMES))
    options = parser.parse_args()
    counts = campaign(
        options.folder, options.cases, options.targets, options.first, lambda text: print(text, flush=True)
    )
    found = findings(options.folder)
    print(json.dumps({"counts": counts, "findings": found}, indent=1))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
