"""What data an experiment learns from and how its vision side is warmed up, read strictly from data/NAME.yaml and
warm_up/NAME.yaml in config/experiments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qt_ros.contract.robot import package_root
from qt_ros.contract.strict import ConfigError, build, load_yaml
from qt_ros.sim.episode_maker import KEEP, SOURCES
from qt_ros.sim.tasks import default_tasks, draw_task, find_task, select_tasks

MOST_SCENES = 20
"""Scenes that a part which throws episodes away may take for each one that it keeps."""
_WORD = re.compile(r"[a-z0-9][a-z0-9_]*")
_ADDED: dict[str, Any] = {
    "skills": (), "keep": "all", "balanced": False, "base": None, "policy": None, "warm_up": None,
}  # fmt: skip
"""Keys that recipes did not have at first, with the values that mean what those recipes are."""


@dataclass(frozen=True)
class DataPart:
    """One store: ``episodes`` from scenes ``first_seed`` on.

    source: scripted ('demonstration', 'noise'), or 'policy': collected by the recipe's cloned policy. keep: 'failures'
    or 'successes' runs further scenes and throws the others away until there are ``episodes`` of them. tasks, skills:
    what is asked for, drawn scene by scene (none: picking; skill 'all': every one). balanced: as many of each skill;
    scenes of a skill that has its number are passed over. flaws: see `qt_ros.sim.episode_maker.Plan`.
    """

    store: str
    source: str
    first_seed: int
    episodes: int
    tasks: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    keep: str = "all"
    balanced: bool = False

    def __post_init__(self) -> None:
        if not _WORD.fullmatch(self.store):
            raise ConfigError(f"store {self.store!r}: use lower-case letters, digits and _")
        if self.source not in SOURCES:
            raise ConfigError(f"source must be demonstration or noise or policy, found {self.source!r}")
        if self.keep not in KEEP:
            raise ConfigError(f"store {self.store}: keep must be one of {', '.join(KEEP)}, found {self.keep!r}")
        if self.episodes < 1 or self.first_seed < 0:
            raise ConfigError(f"store {self.store}: needs episodes of at least 1 and a first_seed of at least 0")
        select_tasks(self.tasks, self.skills)
        if self.balanced and (self.keep == "all" or self.episodes % len(self._skills)):
            raise ConfigError(
                f"store {self.store}: balanced needs keep: failures or successes, and episodes that its "
                f"{len(self._skills)} skills can share"
            )

    @property
    def _skills(self) -> list[str]:
        return list(dict.fromkeys(find_task(name).skill for name in self.asked or default_tasks()))

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the tasks that are drawn from; empty for the default ones."""
        return select_tasks(self.tasks, self.skills) if self.skills else self.tasks

    @property
    def seeds(self) -> range:
        """Scenes of its episodes: those that it may take, where it throws some away."""
        count = self.episodes * (1 if self.keep == "all" else MOST_SCENES)
        return range(self.first_seed, self.first_seed + count)

    def queues(self) -> dict[str, tuple[int, list[int]]]:
        """{skill: (how many episodes of it, its scenes in order)}; one under '' where any skill will do."""
        if not self.balanced:
            return {"": (self.episodes, list(self.seeds))}
        scenes: dict[str, list[int]] = {skill: [] for skill in self._skills}
        for seed in self.seeds:
            scenes[draw_task(self.asked, seed).skill].append(seed)
        return {skill: (self.episodes // len(scenes), seeds) for skill, seeds in scenes.items()}


@dataclass(frozen=True)
class PolicyRecipe:
    """The policy that collects, trained on ``stores`` of the recipe.

    config: training config by name. set: changed settings, dotted. seed: of its training. warm_up (by name in the
    YAML): it acts on images, with that vision side, frozen; without one, on the simulator's privileged state.
    """

    config: str
    stores: tuple[str, ...]
    set: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    warm_up: WarmUpRecipe | None = None


@dataclass(frozen=True)
class DataRecipe:
    """A data set; ``name`` is the file's. parts: its own stores, beside those of ``base``. policy: see `PolicyRecipe`;
    where there is none, that of ``base`` collects."""

    name: str
    parts: tuple[DataPart, ...]
    base: DataRecipe | None = None
    policy: PolicyRecipe | None = None

    @property
    def all_parts(self) -> tuple[DataPart, ...]:
        """Every store, those of ``base`` first."""
        return (*(self.base.all_parts if self.base else ()), *self.parts)

    @property
    def collector(self) -> DataRecipe | None:
        """The recipe whose policy collects for this one, if any does."""
        return self if self.policy is not None else self.base.collector if self.base else None


@dataclass(frozen=True)
class WarmUpRecipe:
    """A warmed-up vision side: see `qt_ros.learning.pointing.PointingConfig`. ``data``: what it is warmed up on
    (by name in the YAML), which may be more than what the experiment learns to act from. model: preset and changed
    fields."""

    name: str
    data: DataRecipe
    gradient_steps: int
    batch: int
    learning_rate: float
    model: dict[str, Any] = field(default_factory=lambda: {"preset": "small"})
    seed: int = 0


def facts(recipe: Any) -> dict[str, Any]:
    """Fields of a recipe of any kind for hashing; those added later only where they are used, so that what was made
    before they were there keeps its hash."""
    return asdict(recipe, dict_factory=lambda found: {k: v for k, v in found if k not in _ADDED or v != _ADDED[k]})


def folder() -> Path:
    """Where experiments are declared."""
    return package_root() / "config" / "experiments"


def load_recipe(kind: str, name: str, beside: Path) -> dict[str, Any]:
    """The YAML ``kind``/``name``.yaml in the folder ``beside`` or in ours."""
    for root in (beside, folder()):
        path = root / kind / f"{name}.yaml"
        if path.is_file():
            return load_yaml(path)
    raise ConfigError(f"no {kind} recipe {name!r} in {beside / kind} or {folder() / kind}")


def data_recipe(name: str, beside: Path, seen: tuple[str, ...] = ()) -> DataRecipe:
    """The data recipe ``name``; see `load_recipe`. ConfigError for unknown keys and what does not go together."""
    where = f"data recipe {name}"
    if name in seen:
        raise ConfigError(f"{where}: it leads back to itself, by base or by its policy's warm-up")
    found = load_recipe("data", name, beside)
    parts = found.get("parts")
    unknown = sorted(set(found) - {"parts", "base", "policy"})
    if unknown:
        raise ConfigError(f"{where}: unknown key(s) {', '.join(map(repr, unknown))}; known keys: base, parts, policy")
    if not isinstance(parts, list) or not parts:
        raise ConfigError(f"{where}: needs a key 'parts', a list of at least one store")
    base, policy = found.get("base"), found.get("policy")
    if isinstance(policy, Mapping) and policy.get("warm_up") is not None:
        policy = {**policy, "warm_up": warm_up_recipe(str(policy["warm_up"]), beside, (*seen, name))}
    recipe = DataRecipe(
        name,
        tuple(build(DataPart, part, f"{where}: parts[{i}]") for i, part in enumerate(parts)),
        None if base is None else data_recipe(str(base), beside, (*seen, name)),
        None if policy is None else build(PolicyRecipe, policy, f"{where}: policy"),
    )
    _check(recipe, where)
    return recipe


def warm_up_recipe(name: str, beside: Path, seen: tuple[str, ...] = ()) -> WarmUpRecipe:
    """The warm-up ``name``; see `load_recipe`. ConfigError as in `data_recipe`."""
    where = f"warm-up recipe {name}"
    found = named(name, load_recipe("warm_up", name, beside), where)
    if "data" in found:
        found["data"] = data_recipe(str(found["data"]), beside, seen)
    return build(WarmUpRecipe, found, where)


def named(name: str, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``data`` with the name of its file, which it must not give itself."""
    if "name" in data:
        raise ConfigError(f"{where}: the name is the file's; leave out 'name'")
    return {"name": name, **data}


def _check(recipe: DataRecipe, where: str) -> None:
    parts = {part.store: part for part in recipe.all_parts}
    if len(parts) < len(recipe.all_parts):
        names = ", ".join(part.store for part in recipe.all_parts)
        raise ConfigError(f"{where}: the same store is named twice in {names}")
    ordered = sorted(parts.values(), key=lambda part: part.first_seed)
    for before, after in zip(ordered, ordered[1:], strict=False):
        searches = (before.keep, after.keep) != ("all", "all")
        if searches and after.first_seed < before.seeds.stop:
            raise ConfigError(
                f"{where}: stores {before.store} and {after.store} may come to share scenes (those of {before.store} "
                f"go up to {before.seeds.stop - 1}); give {after.store} a later first_seed"
            )
    if recipe.collector is None and any(part.source == "policy" for part in recipe.parts):
        raise ConfigError(f"{where}: source 'policy' needs a key 'policy' that says how that policy is trained")
    if recipe.policy is not None:
        _check_policy(recipe.policy, parts, where)


def _check_policy(policy: PolicyRecipe, parts: Mapping[str, DataPart], where: str) -> None:
    for store in policy.stores:
        if store not in parts or parts[store].source == "policy":
            known = ", ".join(name for name, part in parts.items() if part.source != "policy")
            raise ConfigError(f"{where}: policy: no scripted store {store!r} to learn from; there are {known}")
    if not policy.stores:
        raise ConfigError(f"{where}: policy: name at least one store that it learns from")
