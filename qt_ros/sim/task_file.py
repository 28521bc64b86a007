"""The task file ``config/tasks.yaml``: what may be asked, in which words, and how far scenes vary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from qt_ros.contract.robot import package_root
from qt_ros.contract.strict import ConfigError, build, load_yaml

SKILLS = ("pick", "fetch", "move_near", "open_drawer", "close_drawer", "place_in_drawer", "pick_from_drawer")
"""Every skill that has scenes, a score and a demonstrator, in the order of the privileged state's skill numbers."""
ALL = "all"  # in the place of a skill's name: every skill
_OPPOSITE = {"open_drawer": "close_drawer", "close_drawer": "open_drawer"}


@dataclass(frozen=True)
class Task:
    """One thing to ask for. ``instructions`` are for training, ``held_out`` for tests; ``target`` names the object to
    act on, ``near`` the object or place it goes to or comes from ('' where there is none). ``paraphrases``: many more
    sentences for training, ``instructions`` among them."""

    name: str
    skill: str
    target: str
    instructions: tuple[str, ...]
    held_out: tuple[str, ...]
    near: str = ""
    paraphrases: tuple[str, ...] = ()


@dataclass(frozen=True)
class SceneRules:
    """How far scenes vary (m, rad); see the comments in ``config/tasks.yaml``."""

    area_x: list[float]
    area_y: list[float]
    surface: float
    spacing: float
    distractors: list[int]
    start_position: list[float]
    start_yaw: float
    light_tilt: float
    light_intensity: list[float]
    ambient_intensity: list[float]
    camera_position: float
    camera_rotation: float

    def __post_init__(self) -> None:
        _ranges(self, "scene", "area_x", "area_y", "distractors", "light_intensity", "ambient_intensity")
        if len(self.start_position) != 3:
            raise ConfigError(f"scene: start_position needs three numbers (x, y, z in m), found {self.start_position}")


@dataclass(frozen=True)
class CabinetRules:
    """Scenes at the drawer (m, rad); see the comments in ``config/tasks.yaml``."""

    base: list[float]
    base_spread: list[float]
    top_x: list[float]
    top_y: list[float]
    top: float
    inside_x: list[float]
    inside_y: list[float]
    aside_y: list[float]
    inside: float
    ajar: list[float]
    open: list[float]
    wide: list[float]

    def __post_init__(self) -> None:
        _ranges(self, "cabinet", "top_x", "top_y", "inside_x", "inside_y", "aside_y", "ajar", "open", "wide")
        if len(self.base) != 3 or len(self.base_spread) != 3:
            raise ConfigError("cabinet: base and base_spread need three numbers each (x, y in m, yaw in rad)")


@dataclass(frozen=True)
class DriveRules:
    """Where the robot starts before it drives to the table (m, rad, world)."""

    base_x: list[float]
    base_y: list[float]
    base_yaw: list[float]

    def __post_init__(self) -> None:
        _ranges(self, "drive", "base_x", "base_y", "base_yaw")


@dataclass(frozen=True)
class MoveRules:
    """``away``: least distance (m) at the start between the object to move and the one it goes to."""

    away: float


@dataclass(frozen=True)
class Rules:
    """How far the scenes of every skill vary."""

    scene: SceneRules
    cabinet: CabinetRules
    drive: DriveRules
    move: MoveRules


@dataclass(frozen=True)
class TaskFile:
    """All of it: tasks by name in the file's order, the skills drawn from by default, names of objects, rules."""

    tasks: Mapping[str, Task]
    default_skills: tuple[str, ...]
    objects: tuple[str, ...]
    rules: Rules


@dataclass(frozen=True)
class _Skill:
    instructions: list[str]
    paraphrases: list[str]
    held_out: list[str]


@dataclass(frozen=True)
class _TaskEntry:
    name: str
    skill: str
    target: str
    near: str = ""


@dataclass(frozen=True)
class _Document:
    schema: int
    default_skills: list[str]
    scene: Mapping[str, Any]
    cabinet: Mapping[str, Any]
    drive: Mapping[str, Any]
    move: Mapping[str, Any]
    skills: Mapping[str, Any]
    objects: Mapping[str, Any]
    other_names: Mapping[str, Any]
    tasks: list[Any]


def _ranges(rules: Any, where: str, *names: str) -> None:
    for name in names:
        values = getattr(rules, name)
        if len(values) != 2 or values[0] > values[1]:
            raise ConfigError(f"{where}: {name} needs [low, high], found {values}")


def tasks_path() -> Path:
    """The package's task file."""
    return package_root() / "config" / "tasks.yaml"


@lru_cache(maxsize=8)
def load_task_file(path: Path | None = None) -> TaskFile:
    """Everything in the file. Raises ConfigError for unknown or missing keys, skills, objects and repeated names."""
    path = path or tasks_path()
    document = build(_Document, load_yaml(path), str(path))
    if document.schema != 1:
        raise ConfigError(f"{path}: schema {document.schema} is not supported, expected 1")
    skills = {name: build(_Skill, value, f"{path}: skills: {name}") for name, value in document.skills.items()}
    for name in (*skills, *document.default_skills):
        if name not in SKILLS or name not in skills:
            raise ConfigError(f"{path}: unknown skill {name!r}; known: {', '.join(SKILLS)}")
    called = _names(document.objects, f"{path}: objects")
    others = _names(document.other_names, f"{path}: other_names")
    if strange := sorted(others.keys() - called.keys()):
        raise ConfigError(f"{path}: other_names: {strange[0]!r} is not under objects; known: {list(called)}")
    tasks: dict[str, Task] = {}
    for index, value in enumerate(document.tasks):
        entry = build(_TaskEntry, value, f"{path}: tasks[{index}]")
        if entry.name in tasks:
            raise ConfigError(f"{path}: task {entry.name!r} is given twice")
        tasks[entry.name] = _task(entry, skills, called, others, path)
    if not any(task.skill in document.default_skills for task in tasks.values()):
        raise ConfigError(f"{path}: default_skills: none of the tasks has one of the skills {document.default_skills}")
    return TaskFile(
        tasks=tasks,
        default_skills=tuple(document.default_skills),
        objects=tuple(dict.fromkeys(t.target for t in tasks.values() if t.skill == "pick")),
        rules=Rules(
            build(SceneRules, document.scene, f"{path}: scene"),
            build(CabinetRules, document.cabinet, f"{path}: cabinet"),
            build(DriveRules, document.drive, f"{path}: drive"),
            build(MoveRules, document.move, f"{path}: move"),
        ),
    )


def _names(given: Mapping[str, Any], where: str) -> dict[str, list[str]]:
    for name, names in given.items():
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise ConfigError(f"{where}: {name} needs a list of what it is called, found {names!r}")
    return dict(given)


def _task(
    entry: _TaskEntry,
    skills: Mapping[str, _Skill],
    called: Mapping[str, list[str]],
    others: Mapping[str, list[str]],
    path: Path,
) -> Task:
    if entry.skill not in skills:
        known = ", ".join(skills)
        raise ConfigError(f"{path}: task {entry.name!r} wants unknown skill {entry.skill!r}; known: {known}")
    for name in filter(None, (entry.target, entry.near)):
        if name not in called:
            raise ConfigError(f"{path}: task {entry.name!r}: {name!r} has no name under objects; known: {list(called)}")
    skill, objects = skills[entry.skill], called[entry.target]
    places = called[entry.near] if entry.near else [""]

    def words(texts: Sequence[str], target: str, near: str) -> tuple[str, ...]:
        return tuple(text.format(object=target, near=near) for text in texts)

    instructions, held_out = (words(texts, objects[0], places[0]) for texts in (skill.instructions, skill.held_out))
    for i in range(1, max(len(objects), len(places))):
        other, place = objects[min(i, len(objects) - 1)], places[min(i, len(places) - 1)]
        held_out += words((*skill.instructions, *skill.held_out), other, place)
    paraphrases = dict.fromkeys(
        text
        for target in (objects[0], *others.get(entry.target, ()))
        for near in (places[0], *others.get(entry.near, ()))
        for text in words((*skill.instructions, *skill.paraphrases), target, near)
    )
    if both := sorted(set(held_out).intersection(paraphrases)):
        raise ConfigError(f"{path}: task {entry.name!r}: {both[0]!r} is held out, and is to be trained on too")
    return Task(entry.name, entry.skill, entry.target, instructions, held_out, entry.near, tuple(paraphrases))


def load_tasks(path: Path | None = None) -> dict[str, Task]:
    """Tasks of all skills by name, in the file's order. Raises ConfigError as `load_task_file` does."""
    return dict(load_task_file(path).tasks)


def find_task(name: str, path: Path | None = None) -> Task:
    """The task of that name; ConfigError listing the known ones otherwise."""
    tasks = load_tasks(path)
    if name not in tasks:
        raise ConfigError(f"no task {name!r}; known: {', '.join(tasks)}")
    return tasks[name]


def default_tasks() -> tuple[str, ...]:
    """Names of the tasks that are drawn from where none is named: those of the file's ``default_skills``."""
    file = load_task_file()
    return tuple(name for name, task in file.tasks.items() if task.skill in file.default_skills)


def select_tasks(tasks: Sequence[str] = (), skills: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of ``tasks`` and of every task of ``skills`` ('all': of every skill), in the file's order.

    Empty when nothing is named. ConfigError for an unknown task or skill.
    """
    unknown = [skill for skill in skills if skill not in (*SKILLS, ALL)]
    if unknown:
        raise ConfigError(f"no skill {unknown[0]!r}; known: {', '.join(SKILLS)}, {ALL}")
    wanted = {find_task(name).name for name in tasks}
    known = load_tasks().values()
    return tuple(t.name for t in known if t.name in wanted or t.skill in skills or ALL in skills)


def tasks_of(sentences: Iterable[str]) -> tuple[str, ...]:
    """Names of the tasks that one of ``sentences`` trains, in the file's order: what a checkpoint with them learned."""
    heard = set(sentences)
    return tuple(name for name, task in load_tasks().items() if heard.intersection(task.paraphrases))


def draw_task(names: Sequence[str], seed: int) -> Task:
    """The task of an episode, drawn by ``seed`` among ``names`` (empty: the default tasks).

    Among tasks of several skills the skill is drawn first, so that all skills come equally often.
    """
    tasks = [find_task(name) for name in names or default_tasks()]
    rng = np.random.default_rng([seed, 1])
    skills = list(dict.fromkeys(task.skill for task in tasks))
    if len(skills) > 1:
        skill = skills[int(rng.integers(len(skills)))]
        tasks = [task for task in tasks if task.skill == skill]
    return tasks[int(rng.integers(len(tasks)))]


def other_tasks(task: Task, objects: Sequence[str]) -> list[Task]:
    """What else could be asked where ``objects`` stand: the same skill with other objects, or the drawer's other
    motion, in the file's order."""
    skill, there = _OPPOSITE.get(task.skill, task.skill), {*objects, task.target, task.near, ""}
    known = load_tasks().values()
    return [t for t in known if t.skill == skill and t.name != task.name and t.target in there and t.near in there]
