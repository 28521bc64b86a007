"""Where a number comes from: commit, source, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

PACKAGE = Path(__file__).resolve().parents[1]


@lru_cache(maxsize=1)
def commit() -> str:
    """Commit of this code as it was when first asked for, ``-dirty`` where tracked files of the code, its settings or
    the robot's description differ; 'unknown' outside of git."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", *words]
        done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "experiments/origin.py")  # else it is the repository of somebody else
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", "../config", "../description")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


@lru_cache(maxsize=1)
def source() -> str:
    """Hash of the package's Python files when first asked for: says which code ran where there is no git."""
    found = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        found.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def machine(device: str, threads: int, jobs: int) -> dict[str, Any]:
    """Processor, its cores and how many a cell computes on, GPU ('' on the CPU), Python and torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") and torch.cuda.is_available() else ""
    return {
        "processor": _processor(),
        "cores": cores,
        "threads": threads,
        "jobs": jobs,
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
