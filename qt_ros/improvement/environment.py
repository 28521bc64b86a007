"""On what machine and with which code something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import qt_ros


def environment() -> dict[str, Any]:
    """For a report: code, versions, processor. No names of machines or people."""
    return {
        "qt_ros": qt_ros.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mujoco": metadata.version("mujoco"),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def commit() -> str:
    """Commit of this code, with ``+`` when it was changed since; '' when it is not in a git checkout."""
    here = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", *words]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    changed = ("status", "--porcelain", "--", ".", "../config", "../description")
    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git(*changed) else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
