"""A real experiment in miniature: a few simulated episodes, networks of nothing, two gradient steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from qt_ros.experiments.data import make_data
from qt_ros.experiments.spec import Experiment, load_experiment
from qt_ros.experiments.work import Work

BUDGET: dict[str, Any] = {
    "gradient_steps": 4, "batch": 4, "log_every": 2, "save_every": 2, "warmup_steps": 1, "model.layers": 1,
    "model.width": 16, "model.heads": 2, "model.head_dim": 8,
}  # fmt: skip
VISION = {"vision_channels": 8, "vision_blocks": 1, "tokens_per_frame": 2, "token_learner_hidden": 8, "width": 16}
CELLS: list[dict[str, Any]] = [
    {"method": "q_transformer", "config": "picking/q_transformer", "evaluate_at": [2]},
    {"method": "rt1_bc", "variant": "successes", "config": "picking/rt1_bc", "note": "clones successes"},
]


def as_yaml(document: dict[str, Any]) -> str:
    """YAML without aliases, which configuration may not have, also where one object stands twice in ``document``."""
    return yaml.safe_dump(json.loads(json.dumps(document)))


def write_experiment(folder: Path, stem: str = "tiny", images: bool = False, **changes: Any) -> Path:
    """YAML of an experiment with its recipes beside it; ``changes`` of its top-level keys (None removes one)."""
    for kind in ("data", "warm_up"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    parts = [
        {"store": "demos", "source": "demonstration", "first_seed": 10, "episodes": 3},
        {"store": "noise", "source": "noise", "first_seed": 20, "episodes": 3, "flaws": ["early", "open"]},
    ]
    (folder / "data" / "few.yaml").write_text(as_yaml({"parts": parts}))
    warm = {"data": "few", "model": {"preset": "small", **VISION}, "gradient_steps": 2, "batch": 2}
    (folder / "warm_up" / "few.yaml").write_text(as_yaml({**warm, "learning_rate": 0.001}))
    budget = {**BUDGET, **({f"model.{key}": value for key, value in VISION.items()} if images else {})}
    document = {
        "title": "Tiny", "data": "few", "observations": "images" if images else "state",
        "warm_up": "few" if images else None, "seeds": [1, 2], "evaluation": {"episodes": 2, "first_scene": 2000000},
        "tuning": {"episodes": 2, "first_scene": 1000000}, "budget": budget, "cells": CELLS, **changes,
    }  # fmt: skip
    path = folder / f"{stem}.yaml"
    path.write_text(as_yaml({key: value for key, value in document.items() if value is not None}))
    return path


def experiment(folder: Path, **changes: Any) -> Experiment:
    """The same, loaded."""
    return load_experiment(str(write_experiment(folder, **changes)))


def work_with_data(root: Path, given: Experiment) -> Work:
    """A work folder with the experiment's data in it."""
    work = Work(root)
    assert make_data(given.data, work, 0)
    return work
