"""What an experiment is, read strictly from config/experiments/NAME.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qt_ros.contract.strict import ConfigError, build, load_yaml
from qt_ros.experiments.goals import Goal
from qt_ros.experiments.markdown import label
from qt_ros.experiments.recipes import DataRecipe, WarmUpRecipe, data_recipe, folder, named, warm_up_recipe
from qt_ros.sim.seeds import TEST_SEEDS, TUNING_SEEDS
from qt_ros.sim.tasks import select_tasks

OBSERVATIONS = ("images", "state")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_WORD = re.compile(r"[a-z0-9][a-z0-9_]*")


@dataclass(frozen=True)
class Scenes:
    """Evaluation: ``episodes`` scenes per training seed, the i-th seed's from ``first_scene`` + i * episodes on, so
    that no two seeds share one while all methods do."""

    episodes: int
    first_scene: int

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigError(f"episodes must be at least 1, found {self.episodes}")


@dataclass(frozen=True)
class CellSpec:
    """What is compared: a method and what is changed about it.

    config: training config by name. set: changed settings, dotted. evaluate_at: gradient steps at which it is evaluated
    beside the last. bins: number of bins per action dimension in the place of the robot's. stores: those of the data
    that it learns from (none named: all). amount: where it stands along the experiment's ``along``. note: for the
    report.
    """

    method: str
    config: str
    variant: str = "default"
    set: dict[str, Any] = field(default_factory=dict)
    evaluate_at: tuple[int, ...] = ()
    bins: int | None = None
    note: str = ""
    stores: tuple[str, ...] = ()
    amount: float | None = None

    def __post_init__(self) -> None:
        for what, name in (("method", self.method), ("variant", self.variant)):
            if not _WORD.fullmatch(name):
                raise ConfigError(f"{what} {name!r}: use lower-case letters, digits and _")

    @property
    def label(self) -> str:
        """method/variant."""
        return f"{self.method}/{self.variant}"


@dataclass(frozen=True)
class Experiment:
    """One experiment. ``budget``: settings (dotted) that every cell is given. settings: by a cell's name in tables
    and goals, those that it is given as tuned for this experiment; they override its own ``set``, and that the budget.
    observations: what policies act on, 'images' (with the warm-up named ``warm_up``) or the simulator's 'state'.
    skills: those asked for in evaluation and tuning scenes, drawn scene by scene ('all': every one; none: picking).
    along: what cells of one method differ in by an ``amount``, for a curve. goals: what is expected, see `Goal`;
    remarks: what there is to say of those that are missed, for the page."""

    name: str
    title: str
    data: DataRecipe
    seeds: tuple[int, ...]
    evaluation: Scenes
    tuning: Scenes
    budget: dict[str, Any]
    cells: tuple[CellSpec, ...]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    about: str = ""
    observations: str = "images"
    warm_up: WarmUpRecipe | None = None
    skills: tuple[str, ...] = ()
    along: str = ""
    goals: tuple[Goal, ...] = ()
    remarks: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks asked for; empty for the default ones."""
        return select_tasks((), self.skills)

    def changes(self, cell: CellSpec) -> dict[str, Any]:
        """What ``cell`` changes about its training config besides the budget."""
        return {**cell.set, **self.settings.get(_called(cell), {})}


def names() -> list[str]:
    """Experiments there are, sorted."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def load_experiment(name_or_path: str) -> Experiment:
    """``config/experiments/NAME.yaml`` or a YAML file by path, beside which its recipes are looked for first.

    With ``base: OTHER`` the file changes keys of another experiment. ConfigError names file and key of anything
    unknown, missing or contradictory.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = folder() / f"{name_or_path}.yaml"
        if not path.is_file():
            raise ConfigError(f"no experiment {name_or_path!r}; there are {', '.join(names())}")
    if not _NAME.fullmatch(path.stem):
        raise ConfigError(f"{path}: name experiments with lower-case letters, digits, _ and -")
    return _experiment(path.stem, _merged(path), path)


def _merged(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in seen:
        raise ConfigError(f"{path}: base leads back to itself")
    own = load_yaml(path)
    base = own.pop("base", None)
    if base is None:
        return own
    for root in (path.parent, folder()):
        if (root / f"{base}.yaml").is_file():
            return _merged(root / f"{base}.yaml", (*seen, path)) | own
    raise ConfigError(f"{path}: base {base!r} is no experiment")


def _experiment(name: str, data: Mapping[str, Any], path: Path) -> Experiment:
    values = named(name, data, str(path))
    for key in ("data", "cells", "evaluation", "tuning"):
        if key not in values:
            raise ConfigError(f"{path}: key {key!r} is missing; add it")
    values["data"] = data_recipe(str(values["data"]), path.parent)
    if values.get("warm_up") is not None:
        values["warm_up"] = warm_up_recipe(str(values["warm_up"]), path.parent)
    for key in ("evaluation", "tuning"):
        values[key] = build(Scenes, values[key], f"{path}: {key}")
    if not isinstance(values["cells"], list) or not values["cells"]:
        raise ConfigError(f"{path}: cells must be a list of at least one")
    values["cells"] = tuple(build(CellSpec, c, f"{path}: cells[{i}]") for i, c in enumerate(values["cells"]))
    if not isinstance(values.get("goals", []), list):
        raise ConfigError(f"{path}: goals must be a list")
    values["goals"] = tuple(build(Goal, g, f"{path}: goals[{i}]") for i, g in enumerate(values.get("goals", [])))
    experiment = build(Experiment, values, str(path))
    _check(experiment, path)
    return experiment


def _called(cell: CellSpec) -> str:
    """As goals and tables call it."""
    return label({"method": cell.method, "variant": cell.variant})


def _check(experiment: Experiment, path: Path) -> None:
    if experiment.observations not in OBSERVATIONS:
        raise ConfigError(f"{path}: observations must be one of {', '.join(OBSERVATIONS)}")
    if (experiment.warm_up is not None) != (experiment.observations == "images"):
        raise ConfigError(f"{path}: warm_up goes with observations 'images' and only with them")
    if not experiment.seeds or len(set(experiment.seeds)) != len(experiment.seeds) or min(experiment.seeds) < 1:
        raise ConfigError(f"{path}: seeds must be different numbers from 1 on (0 is for tuning), and at least one")
    select_tasks((), experiment.skills)
    known = [part.store for part in experiment.data.all_parts]
    for cell in experiment.cells:
        if unknown := sorted(set(cell.stores) - set(known)):
            raise ConfigError(f"{path}: cell {cell.label}: no store {unknown[0]!r} in its data; there are {known}")
        if (cell.amount is not None) != bool(experiment.along):
            raise ConfigError(f"{path}: cell {cell.label}: amount and the experiment's 'along' go together")
    called = {_called(cell) for cell in experiment.cells}
    if strange := sorted(set(experiment.settings) - called):
        raise ConfigError(f"{path}: settings: no cell {strange[0]!r}; there are {sorted(called)}")
    for goal in experiment.goals:
        if strange := sorted(set(goal.named) - called):
            raise ConfigError(
                f"{path}: goal {goal.kind} of {goal.cell}: no cell {strange[0]!r}; there are {sorted(called)}"
            )
    labels = [cell.label for cell in experiment.cells]
    twice = sorted({name for name in labels if labels.count(name) > 1})
    if twice:
        raise ConfigError(f"{path}: cell {', '.join(twice)} is listed twice; give each a variant of its own")
    tuning, evaluation = experiment.tuning, experiment.evaluation
    last = tuning.first_scene + tuning.episodes - 1
    if tuning.first_scene not in TUNING_SEEDS or last not in TUNING_SEEDS or evaluation.first_scene not in TEST_SEEDS:
        raise ConfigError(
            f"{path}: tuning scenes lie in {TUNING_SEEDS.start} .. {TUNING_SEEDS.stop - 1}, those of evaluation from "
            f"{TEST_SEEDS.start} on; no scene may be both"
        )
