"""The reference tables hold what the code declares: parameters, topics, metrics, stop reasons."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tiny import METHODS, tiny_data, tiny_model, tiny_text, tiny_trainer

from qt_ros.episodes.episode import REASONS
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.options import OPTIONS
from qt_ros.learning.pointing import PointingConfig, PointingTrainer
from qt_ros.learning.trainer import StepReport, Trainer
from qt_ros.sim import scoring
from qt_ros.sim.task_file import SKILLS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def make_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "tools" / "make_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_tables_are_up_to_date(make_reference: ModuleType) -> None:
    pytest.importorskip("rclpy")
    old = [path.name for path in make_reference.outdated()]
    assert old == [], "run: python tools/make_reference.py"


def test_every_kind_of_table_is_on_some_page(make_reference: ModuleType) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    used = {name for text in pages for name in re.findall(r"<!-- generated: ([\w ]+) -->", text)}
    assert used == set(make_reference.BLOCKS)


def test_a_table_cell_cannot_break_its_row(make_reference: ModuleType) -> None:
    assert make_reference.table(("a",), [("x | y\nz",)]).splitlines()[2] == "| x \\| y z |"


def topics_in(source: str) -> set[str]:
    """Names given as text to what creates publishers, subscriptions, services and actions, or listed for it.

    A list entry is (type, topic, callback, QUALITY).
    """
    makers = re.compile(r"_?(create|publish|subscribe|command_publisher)(_|$)|ActionServer$")
    found = set()
    for node in ast.walk(ast.parse(source)):
        entries: list[ast.expr] = []
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            entries = node.args if makers.match(name) else []
        elif isinstance(node, ast.Tuple) and len(node.elts) == 4 and getattr(node.elts[3], "id", "").isupper():
            entries = node.elts
        found |= {a.value for a in entries if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


@pytest.mark.parametrize("node", sorted((ROOT / "qt_ros" / "nodes").glob("*_node.py")), ids=lambda p: p.stem)
def test_every_topic_service_and_action_of_a_node_is_on_the_page_of_topics(node: Path) -> None:
    names = topics_in(node.read_text(encoding="utf-8"))
    assert f"## {node.stem}" in page("topics.md")
    assert sorted(name for name in names if f"`{name}`" not in page("topics.md")) == []


def test_topics_are_found_in_calls() -> None:
    source = (
        'self.create_publisher(A, "a", 1); ActionServer(self, B, "b", f); log("c"); x = [(D, "d", self.f, QUALITY)]'
    )
    assert topics_in(source) == {"a", "b", "d"}


def test_every_stop_reason_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", page("stop-reasons.md"), re.MULTILINE)
    assert set(rows) == set(REASONS) - {"none"}


def test_every_logged_metric_of_training_is_explained(tmp_path: Path) -> None:
    reports: list[StepReport] = []
    config = TrainConfig(model={}, gradient_steps=1, batch=2, learning_rate=1e-3, threads=1)
    Trainer(tiny_model(), tiny_data(), tiny_text(), config, tmp_path).run(reports.append)
    missing = [name for report in reports for name in report.metrics if f"| `{name}` |" not in page("metrics.md")]
    assert reports and missing == []


@pytest.mark.parametrize("method", METHODS)
def test_every_logged_metric_of_every_method_is_explained(tmp_path: Path, method: str) -> None:
    reports: list[StepReport] = []
    tiny_trainer(tmp_path, method, gradient_steps=1).run(reports.append)
    assert sorted(name for report in reports for name in report.metrics if f"`{name}`" not in page("metrics.md")) == []


def test_every_option_of_every_method_is_explained() -> None:
    names = {field.name for options in OPTIONS.values() for field in dataclasses.fields(options)}
    text = page("parameters.md").rpartition("| option | of | meaning |")[2]
    assert sorted(name for name in names if f"`options.{name}`" not in text) == []


def test_every_logged_metric_of_the_warm_up_is_explained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    names: set[str] = set()
    config = PointingConfig(gradient_steps=1, batch=2, threads=1)
    trainer = PointingTrainer(tiny_model(), tiny_data(40), tiny_text(), config, tmp_path)
    trainer.run(lambda step, metrics: names.update(metrics))
    assert {"error_target", "error_tool"} <= names
    assert sorted(name for name in names if f"`{name}`" not in page("metrics.md")) == []


def test_every_training_setting_is_explained() -> None:
    text = page("parameters.md").split("### What the paper says")[0]
    explained = set(re.findall(r"`([\w.]+)`", text.rpartition("| setting | meaning |")[2]))
    declared = set(
        re.findall(r"^\| `([\w.]+)` \|", text.split("train settings -->")[1].split("<!-- end")[0], re.MULTILINE)
    )
    assert sorted(declared - explained) == []


def test_the_table_of_detectors_has_every_skill_with_the_limits_of_the_code() -> None:
    rows = [line for line in page("metrics.md").splitlines() if line.startswith("| `")]
    limits = {
        "pick": (scoring.LIFT_HEIGHT,),
        "fetch": (scoring.LIFT_HEIGHT,),
        "pick_from_drawer": (scoring.LIFT_HEIGHT,),
        "move_near": (scoring.NEAR, scoring.RESTING, scoring.STAYED, scoring.STILL),
        "open_drawer": (scoring.OPEN,),
        "close_drawer": (scoring.SHUT,),
        "place_in_drawer": (scoring.STILL,),
    }
    assert set(limits) == set(SKILLS)
    for skill, numbers in limits.items():
        (row,) = [row for row in rows if f"`{skill}`" in row.split("|")[1]]
        assert all(f"{number:.2f} m" in row for number in numbers), row
