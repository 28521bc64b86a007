#!/usr/bin/env python3
"""Writes config/nodes/<launch file>.yaml from the nodes' own parameter tables; `--check` only says which are old.

    . ./env.sh
    python tools/make_node_parameters.py

Each file holds every parameter of every node that the launch file starts, with its meaning, unit and range, but for
those that launch arguments set.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from qt_ros.nodes.launch_arguments import BY_ARGUMENT, NODES  # noqa: E402

FOLDER = ROOT / "config" / "nodes"
# Where a launch file wants another value than the node's own default.
DIFFERENT: dict[str, dict[tuple[str, str], tuple[Any, str]]] = {
    "sim": {
        ("policy_node", "outcome_wait"): (5.0, "the simulator judges every episode, as fast as it can"),
        ("policy_node", "threads"): (1, "simulator, network and recorder share the cores"),
    },
    "gazebo": {
        ("policy_node", "outcome_wait"): (5.0, "gazebo_node judges every episode"),
    },
    "robot": {},
}
HEADER = """# Parameters of the nodes that {name}.launch.py starts. To change some, copy it and give params:=COPY.yaml.
# The launch arguments set {by_argument}. Written by tools/make_node_parameters.py.
"""


def value(given: Any) -> str:
    """A parameter's value in YAML, of the type that ROS will read it as."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str):
        return '"' + given.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(given, list):
        return "[" + ", ".join(value(v) for v in given) + "]"
    return repr(given)


def page(name: str) -> str:
    """The parameter file of launch/<name>.launch.py."""
    lines = [HEADER.format(name=name, by_argument=", ".join(BY_ARGUMENT))]
    for node in NODES[name]:
        lines.append(f"/**/{node}:\n  ros__parameters:\n")
        table = importlib.import_module(f"qt_ros.nodes.{node}").PARAMETERS
        listed = [p for p in table if p.name not in BY_ARGUMENT]
        for p in listed:
            given, why = DIFFERENT[name].get((node, p.name), (p.default, ""))
            bounds = f"{p.low:g} .. {p.high:g}" if p.low is not None else " | ".join(p.choices)
            notes = [p.description, *([p.unit] if p.unit else []), *([bounds] if bounds else [])]
            lines.append(f"    # {'; '.join([note.rstrip('.') for note in notes])}\n")
            if why:
                lines.append(f"    # {value(p.default)} by default; here {why}\n")
            # [] alone has no type that ROS could read.
            prefix = "# " if given == [] else ""
            lines.append(f"    {prefix}{p.name}: {value(given)}\n")
    return "".join(lines)


def outdated() -> list[Path]:
    """Files that do not say what the tables say."""
    paths = {FOLDER / f"{name}.yaml": name for name in NODES}
    return [p for p, name in paths.items() if not p.is_file() or p.read_text(encoding="utf-8") != page(name)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a file is old")
    check = parser.parse_args().check
    for path in outdated():
        print(f"{'old' if check else 'written'}: {path.relative_to(ROOT)}")
        if check:
            return 1
        FOLDER.mkdir(parents=True, exist_ok=True)
        path.write_text(page(path.stem), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
