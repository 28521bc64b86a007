"""The cells of an experiment: one training run and its evaluation each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qt_ros.contract.strict import ConfigError
from qt_ros.experiments.recipes import facts
from qt_ros.experiments.spec import CellSpec, Experiment, Scenes
from qt_ros.experiments.work import HOW, digest
from qt_ros.learning.config import PRIVILEGED, TrainConfig, load_train_config

TUNING_SEED = 0
"""Training seed of tuning trials, which no reported cell has."""


@dataclass(frozen=True)
class Cell:
    """One training run.

    settings: all of them. ``changes``: what differs from the config that the spec names; ``trial``: what of it a tuning
    trial tries, None for a cell that is reported. marks: gradient steps at which it is evaluated, the last included.
    scenes: of its evaluation. training: hash of all that decides what is trained;
    identity: of that and of the evaluation. Files whose hash is another belong to another cell of the same name.
    """

    experiment: Experiment
    spec: CellSpec
    seed: int
    settings: TrainConfig
    changes: dict[str, Any]
    scenes: range
    trial: dict[str, Any] | None = None

    @property
    def tuning(self) -> bool:
        return self.trial is not None

    @property
    def marks(self) -> tuple[int, ...]:
        steps = self.settings.gradient_steps
        return tuple(sorted({*(() if self.tuning else self.spec.evaluate_at), steps}))

    @property
    def name(self) -> str:
        """method/variant/seed."""
        return f"{self.spec.label}/{self.seed}"

    @property
    def directory(self) -> Path:
        """Its folder in the work folder."""
        name = f"{self.spec.method}-{self.spec.variant}-s{self.seed}"
        if self.tuning:
            return Path(self.experiment.name) / "tuning" / f"{name}-{self.training[:8]}"
        return Path(self.experiment.name) / name

    @property
    def training(self) -> str:
        settings = {key: value for key, value in self.settings.to_dict().items() if key not in HOW}
        warm_up = self.experiment.warm_up
        return digest(
            {
                "settings": settings,
                "bins": self.spec.bins,
                "data": facts(self.experiment.data),
                "warm_up": None if warm_up is None else facts(warm_up),
                **({"stores": sorted(self.spec.stores)} if self.spec.stores else {}),
            }
        )

    @property
    def identity(self) -> str:
        asked = {"tasks": self.experiment.tasks} if self.experiment.skills else {}
        scenes = [self.scenes.start, self.scenes.stop]
        return digest({"training": self.training, "marks": self.marks, "scenes": scenes, **asked})


def all_cells(experiment: Experiment, machine: Mapping[str, Any] | None = None) -> list[Cell]:
    """Every cell, seed by seed in the order of the file. ``machine``: settings that depend on where it runs (threads,
    autocast). ConfigError for settings that do not go together."""
    return [
        _cell(experiment, spec, seed, _scenes(experiment.evaluation, index), machine or {})
        for index, seed in enumerate(experiment.seeds)
        for spec in experiment.cells
    ]


def tuning_cell(
    experiment: Experiment, spec: CellSpec, changes: Mapping[str, Any], machine: Mapping[str, Any] | None = None
) -> Cell:
    """A trial of ``spec`` with ``changes``, evaluated on tuning scenes."""
    return _cell(experiment, spec, TUNING_SEED, _scenes(experiment.tuning, 0), machine or {}, changes)


def selected(cells: Sequence[Cell], filters: Sequence[str]) -> list[Cell]:
    """Those that some filter METHOD[/VARIANT][/SEED] names, or all without filters. ConfigError when one names none."""
    wanted = []
    for entry in filters:
        words = entry.split("/")
        found = [cell for cell in cells if _matches(cell, words)]
        if not found:
            known = ", ".join(dict.fromkeys(cell.spec.label for cell in cells))
            raise ConfigError(f"--cell {entry}: no such cell; METHOD[/VARIANT][/SEED] of {known}")
        wanted += found
    names = {cell.name for cell in wanted}
    return [cell for cell in cells if not filters or cell.name in names]


def _matches(cell: Cell, words: Sequence[str]) -> bool:
    method, *rest = words
    if method != cell.spec.method or len(rest) > 2:
        return False
    if len(rest) == 1:
        return rest[0] in (cell.spec.variant, str(cell.seed))
    return not rest or rest == [cell.spec.variant, str(cell.seed)]


def _scenes(scenes: Scenes, index: int) -> range:
    first = scenes.first_scene + index * scenes.episodes
    return range(first, first + scenes.episodes)


def _cell(
    experiment: Experiment,
    spec: CellSpec,
    seed: int,
    scenes: range,
    machine: Mapping[str, Any],
    trial: Mapping[str, Any] | None = None,
) -> Cell:
    where = f"experiment {experiment.name}, cell {spec.label}"
    changes = {**experiment.budget, **experiment.changes(spec), **(trial or {})}
    state = PRIVILEGED if experiment.observations == "state" else {}
    forced = {"seed": seed, "method": spec.method}
    for key in {**forced, **state}:
        if key in changes:
            raise ConfigError(f"{where}: {key} is the experiment's to set; leave it out")
    try:
        settings = load_train_config(spec.config, {**state, **machine, **changes, **forced})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    late = [step for step in spec.evaluate_at if not 1 <= step <= settings.gradient_steps]
    if late and trial is None:
        raise ConfigError(f"{where}: evaluate_at {late[0]} is not among its {settings.gradient_steps} gradient steps")
    if experiment.observations == "images" and not settings.freeze_vision:
        raise ConfigError(
            f"{where}: experiments from images train on the warmed-up, frozen vision side (freeze_vision)"
        )
    return Cell(experiment, spec, seed, settings, dict(changes), scenes, None if trial is None else dict(trial))
