"""Result files of cells that nobody ran, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qt_ros.experiments.cells import Cell
from qt_ros.experiments.work import RESULT, write_json


def write_result(
    root: Path,
    cell: Cell,
    successes: Mapping[int, int] | int,
    *,
    skills: Mapping[str, tuple[int, int]] | None = None,
    **changes: Any,
) -> Path:
    """The result of ``cell`` with so many successes (at each mark) in the work folder ``root``. ``skills``: successes
    and episodes of each."""
    at = successes if isinstance(successes, Mapping) else {mark: successes for mark in cell.marks}
    rows = [
        {"gradient_steps": step, "episodes": 100, "successes": good, "unstable": 0, "first_scene": cell.scenes.start,
         "evaluate_seconds": 12.5,
         **({"skills": {name: {"episodes": n, "successes": g} for name, (g, n) in skills.items()}} if skills else {})}
        for step, good in at.items()
    ]  # fmt: skip
    facts = {
        "processor": "a processor", "cores": 2, "threads": 1, "jobs": 1, "gpu": "", "python": "3.11", "torch": "2.0",
    }  # fmt: skip
    document = {
        "schema": 1, "experiment": cell.experiment.name, "method": cell.spec.method, "variant": cell.spec.variant,
        "seed": cell.seed, "identity": cell.identity, "training": cell.training, "trial": cell.trial,
        "changes": cell.changes, "bins": 256, "rows": rows, "train_seconds": 60.0, "load_seconds": 1.0,
        "samples_per_second": 100.0, "commit": "abc", "source": "def", "machine": facts, "command": "qt-ros experiment",
        "metrics": {"value_spread": 0.1}, "data": [{"store": "demos", "manifest_sha256": "1" * 64}],
        "episodes_in_data": 1000, "successes_in_data": 80, "steps_in_data": 9000, "init": "", "settings": {}, **changes,
    }  # fmt: skip
    path = root / cell.directory / RESULT
    write_json(path, document)
    return path
