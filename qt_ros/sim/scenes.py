"""Scenes: what stands where, where the robot starts, light and camera, drawn by task and seed so that it can be done.

Each skill has a layout: a function that places the objects, the base and the drawer. What all scenes share (hand,
light, camera, wording) is drawn after it. A scene is a pure function of task and seed, and those of a task never
change.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.carrying import beside
from qt_ros.sim.scene import kitchen_path
from qt_ros.sim.sdf import read_sdf
from qt_ros.sim.task_file import Rules, SceneRules, Task, draw_task, load_task_file
from qt_ros.sim.world import Placement, SceneSpec

_ATTEMPTS = 1000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """What a skill decides of its scenes."""

    objects: Mapping[str, Placement]
    base: tuple[float, float, float] = (0.0, 0.0, 0.0)
    drawer: float = 0.0


def sample_scene(task: Task | None, seed: int, *, rules: SceneRules | None = None) -> SceneSpec:
    """The scene of ``task`` and ``seed``; with no task, the seed draws a default one. The same arguments give the same
    scene. ``rules`` replaces the file's rules for the table.

    Target and distractors stand at random poses at least ``spacing`` apart; the hand starts near home; light and camera
    mount vary.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; use 0 or more")
    task = task or draw_task((), seed)
    all_rules = load_task_file().rules
    if rules is not None:
        all_rules = replace(all_rules, scene=rules)
    rules = all_rules.scene
    rng = np.random.default_rng([seed, zlib.crc32(task.name.encode())])

    layout = _LAYOUTS[task.skill](rng, task, all_rules)
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
        objects=layout.objects,
        joints=_start(offset, float(rng.uniform(-rules.start_yaw, rules.start_yaw))),
        light_direction=(float(tilt[0]), float(tilt[1]), -1.0),
        light_intensity=float(light),
        ambient_intensity=float(ambient),
        camera_offset=tuple(float(value) for value in camera),
        near=task.near,
        base=layout.base,
        drawer=layout.drawer,
    )


# --- layouts: one per skill


def _pick(rng: np.random.Generator, task: Task, rules: Rules) -> Layout:
    names = [task.target, *_distractors(rng, [task.target], rules.scene)]
    return Layout(_on_table(rng, names, rules.scene))


def _fetch(rng: np.random.Generator, task: Task, rules: Rules) -> Layout:
    """As for picking, with the robot away from the table."""
    drive = rules.drive
    objects = _pick(rng, task, rules).objects
    base = _span(rng, drive.base_x), _span(rng, drive.base_y), _span(rng, drive.base_yaw)
    return Layout(objects, base=base)


def _move_near(rng: np.random.Generator, task: Task, rules: Rules) -> Layout:
    """Two objects away from each other, what else this target may be asked to go to, and room where it is put down."""
    known = load_task_file().tasks.values()
    named = [task.target, task.near]
    named += [t.near for t in known if (t.skill, t.target) == (task.skill, task.target) and t.near != task.near]
    names = [*named, *_distractors(rng, named, rules.scene, count=len(named) - 1)]
    for _ in range(_ATTEMPTS):
        objects = _on_table(rng, names, rules.scene)
        target, near, *others = [np.array([objects[n].x, objects[n].y]) for n in names]
        goal = beside(target, near)
        apart = float(np.linalg.norm(target - near)) >= rules.move.away
        room = all(np.linalg.norm(other - goal) >= rules.scene.spacing for other in others)
        if apart and room and _within(goal, rules.scene):
            return Layout(objects)
    raise ConfigError(f"{task.name}: no room to put the target down; enlarge the area or lower 'away' or 'spacing'")


def _open_drawer(rng: np.random.Generator, task: Task, rules: Rules) -> Layout:
    return _at_cabinet(rng, rules, _span(rng, rules.cabinet.ajar), top=_some(rng, [], 1, 3), inside=[])


def _close_drawer(rng: np.random.Generator, task: Task, rules: Rules) -> Layout:
    top = _some(rng, [], 1, 3)
    return _at_cabinet(rng, rules, _span(rng, rules.cabinet.open), top=top, inside=_some(rng, top, 0, 1))


def _place_in_drawer(rng: np.random.Generator, task: Task, rules: Rules) -> Layout:
    top = [task.target, *_some(rng, [task.target], 1, 2)]
    return _at_cabinet(rng, rules, _span(rng, rules.cabinet.wide), top=top, inside=_some(rng, top, 0, 1), drop=True)


def _pick_from_drawer(rng: np.random.Generator, task: Task, rules: Rules) -> Layout:
    inside = [task.target, *_some(rng, [task.target], 1, 1)]
    return _at_cabinet(rng, rules, _span(rng, rules.cabinet.wide), top=_some(rng, inside, 0, 2), inside=inside)


_LAYOUTS: dict[str, Callable[[np.random.Generator, Task, Rules], Layout]] = {
    "pick": _pick,
    "fetch": _fetch,
    "move_near": _move_near,
    "open_drawer": _open_drawer,
    "close_drawer": _close_drawer,
    "place_in_drawer": _place_in_drawer,
    "pick_from_drawer": _pick_from_drawer,
}


def _distractors(rng: np.random.Generator, named: list[str], rules: SceneRules, count: int = 0) -> list[str]:
    """Objects besides ``named``; ``count`` of those in ``named`` are distractors already."""
    others = [name for name in load_task_file().objects if name not in named]
    wanted = int(rng.integers(rules.distractors[0], rules.distractors[1] + 1)) - count
    return [str(name) for name in rng.choice(others, size=max(0, min(wanted, len(others))), replace=False)]


def _some(rng: np.random.Generator, taken: list[str], low: int, high: int) -> list[str]:
    """``low`` to ``high`` objects that are not among ``taken``."""
    others = [name for name in load_task_file().objects if name not in taken]
    return [str(name) for name in rng.choice(others, size=int(rng.integers(low, high + 1)), replace=False)]


def _span(rng: np.random.Generator, values: list[float]) -> float:
    return float(rng.uniform(values[0], values[1]))


def _on_table(rng: np.random.Generator, names: list[str], rules: SceneRules) -> dict[str, Placement]:
    spots = _spots(rng, rules.area_x, rules.area_y, rules.spacing, len(names))
    return _placed(rng, names, spots, rules.surface)


def _placed(rng: np.random.Generator, names: list[str], spots: Array, surface: float) -> dict[str, Placement]:
    yaws = rng.uniform(-math.pi, math.pi, len(names))
    return {
        name: Placement(float(x), float(y), surface, float(yaw))
        for name, (x, y), yaw in zip(names, spots, yaws, strict=True)
    }


def _at_cabinet(
    rng: np.random.Generator, rules: Rules, opening: float, top: list[str], inside: list[str], drop: bool = False
) -> Layout:
    """The robot in front of the cabinet, objects on it and in the drawer; ``drop``: keep the drawer's middle free."""
    cabinet, spacing = rules.cabinet, rules.scene.spacing
    base = np.array(cabinet.base) + rng.uniform(-1.0, 1.0, 3) * cabinet.base_spread
    objects = _placed(rng, top, _spots(rng, cabinet.top_x, cabinet.top_y, spacing, len(top)), cabinet.top)
    spots = _spots(rng, cabinet.inside_x, cabinet.aside_y if drop else cabinet.inside_y, spacing, len(inside))
    if drop:
        spots[:, 1] *= rng.choice((-1.0, 1.0), len(inside))
    corner = _drawer_origin() - (opening, 0.0)
    objects |= _placed(rng, inside, spots + corner, cabinet.inside)
    return Layout(objects, (float(base[0]), float(base[1]), float(base[2])), opening)


@lru_cache(maxsize=1)
def _drawer_origin() -> Array:
    """x, y (m, world) of the link drawer when it is shut."""
    cabinet = read_sdf(kitchen_path()).model("cabinet")
    drawer = next(link for link in cabinet.links if link.name == "drawer")
    return np.array(cabinet.pose[:2]) + drawer.pose[:2]


def _spots(rng: np.random.Generator, area_x: list[float], area_y: list[float], spacing: float, count: int) -> Array:
    """``count`` points (count, 2) in the area, pairwise at least ``spacing`` apart."""
    low, high = (area_x[0], area_y[0]), (area_x[1], area_y[1])
    for _ in range(_ATTEMPTS):
        spots = rng.uniform(low, high, (count, 2))
        distances = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
        if np.all(distances[np.triu_indices(count, 1)] >= spacing):
            return spots
    raise ConfigError(f"{count} objects {spacing} m apart do not fit into the area; enlarge it or lower the spacing")


def _within(point: Array, rules: SceneRules) -> bool:
    low, high = (rules.area_x[0], rules.area_y[0]), (rules.area_x[1], rules.area_y[1])
    return bool(np.all(point >= low) and np.all(point <= high))


@lru_cache(maxsize=1)
def _arm() -> tuple[RobotContract, Kinematics]:
    contract = load_contract("mobile_manipulator")
    spec = contract.kinematics
    return contract, Kinematics(contract.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=spec.home)


def _start(offset: Array, yaw: float) -> dict[str, float]:
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
