"""Tasks (what is asked, how it is scored) and the scenes they are asked in, from ``config/tasks.yaml``.

A scene is a pure function of task and seed. Scoring reads the simulator's ground truth; the policy never does.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract, load_contract, package_root
from qt_ros.contract.strict import ConfigError, build, load_yaml
from qt_ros.sim.world import Placement, SceneSpec, World

LIFT_HEIGHT = 0.08  # m above where the object stood
_ATTEMPTS = 1000


@dataclass(frozen=True)
class Task:
    """One thing to ask for. ``instructions`` are for training, ``held_out`` for tests; ``target`` names an object."""

    name: str
    skill: str
    target: str
    instructions: tuple[str, ...]
    held_out: tuple[str, ...]


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
        for name in ("area_x", "area_y", "distractors", "light_intensity", "ambient_intensity"):
            values = getattr(self, name)
            if len(values) != 2 or values[0] > values[1]:
                raise ConfigError(f"scene: {name} needs [low, high], found {values}")
        if len(self.start_position) != 3:
            raise ConfigError(f"scene: start_position needs three numbers (x, y, z in m), found {self.start_position}")


@dataclass(frozen=True)
class _Skill:
    instructions: list[str]
    held_out: list[str]


@dataclass(frozen=True)
class _TaskEntry:
    name: str
    skill: str
    target: str
    called: list[str]


@dataclass(frozen=True)
class _Document:
    schema: int
    scene: Mapping[str, Any]
    skills: Mapping[str, Any]
    tasks: list[Any]


def tasks_path() -> Path:
    """The package's task file."""
    return package_root() / "config" / "tasks.yaml"


def load_tasks(path: Path | None = None) -> dict[str, Task]:
    """Tasks by name, in the file's order. Raises ConfigError for unknown or missing keys, skills and repeated names."""
    return _load(path or tasks_path())[0]


def load_scene_rules(path: Path | None = None) -> SceneRules:
    """How scenes vary, from the same file."""
    return _load(path or tasks_path())[1]


@lru_cache(maxsize=8)
def _load(path: Path) -> tuple[dict[str, Task], SceneRules]:
    document = build(_Document, load_yaml(path), str(path))
    if document.schema != 1:
        raise ConfigError(f"{path}: schema {document.schema} is not supported, expected 1")
    skills = {name: build(_Skill, value, f"{path}: skills: {name}") for name, value in document.skills.items()}
    tasks: dict[str, Task] = {}
    for index, value in enumerate(document.tasks):
        entry = build(_TaskEntry, value, f"{path}: tasks[{index}]")
        if entry.skill not in skills:
            raise ConfigError(
                f"{path}: task {entry.name!r} wants unknown skill {entry.skill!r}; known: {', '.join(skills)}"
            )
        if entry.name in tasks or not entry.called:
            raise ConfigError(f"{path}: task {entry.name!r} is given twice or has no name for its target in 'called'")
        skill, (first, *others) = skills[entry.skill], entry.called
        tasks[entry.name] = Task(
            name=entry.name,
            skill=entry.skill,
            target=entry.target,
            instructions=tuple(text.format(object=first) for text in skill.instructions),
            held_out=tuple(text.format(object=first) for text in skill.held_out)
            + tuple(text.format(object=name) for name in others for text in (*skill.instructions, *skill.held_out)),
        )
    return tasks, build(SceneRules, document.scene, f"{path}: scene")


def find_task(name: str, path: Path | None = None) -> Task:
    """The task of that name; ConfigError listing the known ones otherwise."""
    tasks = load_tasks(path)
    if name not in tasks:
        raise ConfigError(f"no task {name!r}; known: {', '.join(tasks)}")
    return tasks[name]


def sample_scene(task: Task | None, seed: int, *, rules: SceneRules | None = None) -> SceneSpec:
    """The scene of ``task`` and ``seed``; with no task, the seed draws one. The same arguments give the same scene.

    Target and distractors stand at random poses at least ``spacing`` apart; the hand starts near home; light and camera
    mount vary.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; use 0 or more")
    tasks = load_tasks()
    if task is None:
        task = list(tasks.values())[int(np.random.default_rng([seed, 1]).integers(len(tasks)))]
    rules = rules or load_scene_rules()
    rng = np.random.default_rng([seed, zlib.crc32(task.name.encode())])

    others = [other for other in dict.fromkeys(t.target for t in tasks.values()) if other != task.target]
    count = min(int(rng.integers(rules.distractors[0], rules.distractors[1] + 1)), len(others))
    names = [task.target, *(str(name) for name in rng.choice(others, size=count, replace=False))]
    spots = _spots(rng, rules, len(names))
    yaws = rng.uniform(-math.pi, math.pi, len(names))
    tilt = rng.uniform(-rules.light_tilt, rules.light_tilt, 2)
    camera = np.concatenate(
        [
            rng.uniform(-rules.camera_position, rules.camera_position, 3),
            rng.uniform(-rules.camera_rotation, rules.camera_rotation, 3),
        ]
    )
    light = rng.uniform(rules.light_intensity[0], rules.light_intensity[1])
    ambient = rng.uniform(rules.ambient_intensity[0], rules.ambient_intensity[1])
    offset = rng.uniform(-1.0, 1.0, 3) * rules.start_position
    return SceneSpec(
        seed=seed,
        task=task.name,
        target=task.target,
        instruction=str(rng.choice(task.instructions)),
        objects={
            name: Placement(float(x), float(y), rules.surface, float(yaw))
            for name, (x, y), yaw in zip(names, spots, yaws, strict=True)
        },
        joints=_start(offset, float(rng.uniform(-rules.start_yaw, rules.start_yaw))),
        light_direction=(float(tilt[0]), float(tilt[1]), -1.0),
        light_intensity=float(light),
        ambient_intensity=float(ambient),
        camera_offset=tuple(float(value) for value in camera),
    )


def _spots(rng: np.random.Generator, rules: SceneRules, count: int) -> NDArray[np.float64]:
    """``count`` points (count, 2) in the area, pairwise at least ``spacing`` apart."""
    low, high = (rules.area_x[0], rules.area_y[0]), (rules.area_x[1], rules.area_y[1])
    for _ in range(_ATTEMPTS):
        spots = rng.uniform(low, high, (count, 2))
        distances = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
        if np.all(distances[np.triu_indices(count, 1)] >= rules.spacing):
            return spots
    raise ConfigError(
        f"{count} objects {rules.spacing} m apart do not fit into the area; enlarge it or lower the spacing"
    )


@lru_cache(maxsize=1)
def _arm() -> tuple[RobotContract, Kinematics]:
    contract = load_contract("mobile_manipulator")
    spec = contract.kinematics
    return contract, Kinematics(contract.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=spec.home)


def _start(offset: NDArray[np.float64], yaw: float) -> dict[str, float]:
    """Arm joint positions that put the hand ``offset`` (3,) m and ``yaw`` rad (about base z) away from home."""
    contract, arm = _arm()
    names = contract.kinematics.arm_joints
    q = np.array([contract.kinematics.home[name] for name in names])
    home_position, home_rotation = arm.fk(q)
    goal_position = home_position + offset
    turn = np.array([[math.cos(yaw), -math.sin(yaw), 0.0], [math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    goal_rotation = turn @ home_rotation
    for _ in range(50):
        position, rotation = arm.fk(q)
        error = goal_rotation @ rotation.T
        # Small angles: the skew part of the error is its rotation vector to second order.
        skew = 0.5 * np.array([error[2, 1] - error[1, 2], error[0, 2] - error[2, 0], error[1, 0] - error[0, 1]])
        twist = np.concatenate([goal_position - position, skew])
        if np.linalg.norm(twist) < 1e-6:
            break
        jacobian = arm.jacobian(q)
        q = q + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-6 * np.eye(6), twist)
    return {name: float(value) for name, value in zip(names, q, strict=True)}


class Scorer:
    """Did the task succeed? Reads ground truth; for scoring only."""

    def __init__(self, task: Task) -> None:
        if task.skill != "pick":
            raise ConfigError(f"task {task.name!r}: no scoring rule for skill {task.skill!r}; known: pick")
        self.task = task

    def lift(self, world: World) -> float:
        """How far (m) the target's centre is above where it stood at the reset."""
        return float(world.object_pose(self.task.target)[2] - world.rest_height(self.task.target))

    def success(self, world: World) -> bool:
        """Target at least LIFT_HEIGHT above its support and touched by both fingers."""
        return self.lift(world) >= LIFT_HEIGHT and all(world.finger_contacts(self.task.target))
