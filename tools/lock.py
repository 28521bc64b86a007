"""Writes tools/requirements-lock-pyXY.txt: the exact version of every wheel the requirement files pull in.

With it the set-up installs without asking pip to resolve anything, and gets what the tests ran with. Run it with the
environment's Python (`make lock`) after changing a requirements file and installing it.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOOLS = Path(__file__).resolve().parent
SOURCES = ("requirements-ros.txt", "requirements-build.txt", "requirements-python.txt", "requirements-test.txt")
# torch has its own step in bootstrap.sh, because which build fits depends on the machine.
LEFT_OUT = {"torch"}


def stated() -> list[str]:
    """Names of the requirements that the files state themselves."""
    lines = [line.split("#")[0].strip() for source in SOURCES for line in (TOOLS / source).read_text().splitlines()]
    return [Requirement(line).name for line in lines if line]


def closure(names: list[str]) -> dict[str, str]:
    """Name to version of the given distributions and everything they require here."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        distribution = importlib.metadata.distribution(name)
        found[name] = distribution.version
        for line in distribution.requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def main() -> int:
    versions = closure(stated())
    path = TOOLS / f"requirements-lock-py{sys.version_info.major}{sys.version_info.minor}.txt"
    lines = [f"{name}=={version}" for name, version in sorted(versions.items()) if name not in LEFT_OUT]
    header = "# Written by tools/lock.py (`make lock`): every wheel, to be installed without resolving.\n"
    path.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(lines)} wheels")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
