"""What every benchmark reports beside its numbers: the command, the commit, the machine, and how busy it was."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json`` alone prints JSON instead of the table; ``--json FILE`` writes it beside the table."""
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE; without FILE print JSON only"
    )


def context(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Head of a result: which benchmark, how it was called, commit, machine; ``settings`` as given."""
    return {
        "benchmark": name,
        "command": command(sys.argv),
        "commit": commit(),
        "machine": machine(),
        "settings": dict(settings),
    }


def command(words: Sequence[str]) -> str:
    """The command line as typed in the repository's root, without where its files and its JSON go."""
    kept = list(words[1:])
    for option in {"--json", "--out"} & set(kept):
        at = kept.index(option)
        del kept[at : at + (2 if at + 1 < len(kept) and not kept[at + 1].startswith("-") else 1)]
    return shlex.join(["python", os.path.relpath(words[0], ROOT), *kept])


def commit() -> str:
    """Short hash of the checkout, with ``+`` when tracked files differ from it; 'unknown' outside of git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD").strip()
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def machine() -> dict[str, Any]:
    """Processor, cores usable by this process, memory in GB, Python, and the load average as it starts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


class Idle:
    """How many cores had nothing to do since this was made: a busy machine explains slow numbers."""

    def __init__(self) -> None:
        self._start, self._idle = time.monotonic(), psutil.cpu_times().idle

    def cores(self) -> float:
        """Mean number of idle cores."""
        return round((psutil.cpu_times().idle - self._idle) / max(time.monotonic() - self._start, 1e-3), 2)


def spread(values: ArrayLike) -> dict[str, float]:
    """Median, 95th percentile and largest of some samples, rounded to 1e-4 of their unit."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"spread: needs at least one finite sample, got {array.size}")
    marks = {"p50": np.percentile(array, 50), "p95": np.percentile(array, 95), "max": array.max()}
    return {name: round(float(value), 4) for name, value in marks.items()}


def emit(result: Mapping[str, Any], tables: Sequence[Table], json_option: str | None) -> None:
    """Print the tables, or the JSON when it goes to standard output; write the JSON where asked for."""
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    if json_option == "-":
        print(text, end="")
        return
    console = Console() if sys.stdout.isatty() else Console(width=120)
    for table in tables:
        console.print(table)
    facts = result["machine"]
    console.print(
        f"{facts['processor']}, {facts['cores']} cores, load average at the start {facts['load_average']}, "
        f"commit {result['commit']}",
        highlight=False,
    )
    if json_option:
        path = Path(json_option)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
