"""Who may import whom.

contract <- model, episodes <- learning, control <- planning, sim <- experiments, improvement, nodes <- cli
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "qt_ros"

LAYERS = (
    ("contract",),
    ("model", "episodes"),
    ("learning", "control"),
    ("planning", "sim"),
    ("experiments", "improvement", "nodes"),
    ("cli",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
GENERATED = {"qt_ros.msg", "qt_ros.srv", "qt_ros.action"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def imported_modules(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every module that a source file of `package` imports, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield node.lineno, module
            # `from qt_ros import nodes` imports qt_ros.nodes
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def part_of(module: str) -> str | None:
    """The part of our package that a module belongs to: 'qt_ros.sim.world' -> 'sim'; None for other modules."""
    words = module.split(".")
    return words[1] if words[0] == "qt_ros" and len(words) > 1 and words[1] in LEVEL else None


def complaints(source: str, path: str) -> list[str]:
    """What is wrong with the imports of the file at `path`, relative to qt_ros/."""
    folders = Path(path).parts[:-1]
    part = folders[0] if folders else ""
    found = []
    for line, module in imported_modules(source, ".".join(("qt_ros", *folders))):
        top = module.split(".")[0]
        target = part_of(module)
        where = f"qt_ros/{path}:{line} imports {module}: "
        if not part and target is not None:
            found.append(where + "qt_ros itself imports none of its parts")
        elif target is not None and target != part and LEVEL[target] >= LEVEL[part]:
            found.append(where + f"{part} may only use what is below it")
        if part != "nodes" and (top in {"rclpy", "launch_ros"} or ".".join(module.split(".")[:2]) in GENERATED):
            found.append(where + "only nodes/ may import ROS")
        if part != "sim" and top == "mujoco":
            found.append(where + "only sim/ may import MuJoCo")
        if part == "contract" and top in {"torch", "rclpy", "mujoco", "transformers", "sentence_transformers"}:
            found.append(where + "contract/ stays free of torch, ROS and simulators")
        if part == "control" and top == "torch" and Path(path).name != "policy.py":
            found.append(where + "in control/ only policy.py may import torch")
    return sorted(set(found))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    assert complaints(path.read_text(encoding="utf-8"), str(path.relative_to(PACKAGE))) == []


def test_every_folder_of_the_package_has_a_layer() -> None:
    parts = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert parts <= set(LEVEL), "give new folders their place in LAYERS"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("contract/actions.py", "import torch"),
        ("contract/actions.py", "def f():\n    from qt_ros.model import config"),
        ("model/vision.py", "from ..episodes import store"),
        ("model/vision.py", "from qt_ros import sim"),
        ("control/shaper.py", "import torch.nn as nn"),
        ("control/policy.py", "import mujoco"),
        ("cli/demo.py", "from rclpy.node import Node"),
        ("sim/world.py", "from qt_ros.msg import PolicyAction"),
        ("nodes/policy_node.py", "from qt_ros.cli.main import main"),
        ("nodes/policy_node.py", "from qt_ros.experiments import spec"),
        ("experiments/run.py", "from qt_ros.nodes import policy_node"),
        ("sim/evaluation.py", "from qt_ros.experiments.intervals import interval"),
        ("learning/session.py", "from qt_ros.experiments import spec"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert complaints(source, path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "nodes/policy_node.py",
            "import rclpy\nfrom qt_ros.msg import PolicyAction\nfrom qt_ros.control import policy",
        ),
        ("sim/world.py", "import mujoco\nfrom .scene import build_model"),
        ("control/policy.py", "import torch\nfrom qt_ros.model.checkpoint import load_checkpoint"),
        ("cli/demo.py", "from qt_ros.nodes import client"),
        ("experiments/run.py", "from qt_ros.sim.collect import collect\nfrom qt_ros.learning.session import train"),
        ("cli/experiment.py", "from qt_ros.experiments import spec"),
    ],
)
def test_an_allowed_import_passes(path: str, source: str) -> None:
    assert complaints(source, path) == []
