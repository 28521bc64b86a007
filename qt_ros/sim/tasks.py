"""Tasks (what is asked, how it is scored) and the scenes they are asked in, from ``config/tasks.yaml``: all in one.

A scene is a pure function of task and seed. Scoring reads the simulator's ground truth; the policy never does.
"""

from __future__ import annotations

from qt_ros.sim.scenes import sample_scene
from qt_ros.sim.scoring import LIFT_HEIGHT, Scorer
from qt_ros.sim.task_file import (
    SKILLS,
    SceneRules,
    Task,
    default_tasks,
    draw_task,
    find_task,
    load_tasks,
    other_tasks,
    select_tasks,
    tasks_of,
    tasks_path,
)

__all__ = [
    "LIFT_HEIGHT",
    "SKILLS",
    "SceneRules",
    "Scorer",
    "Task",
    "default_tasks",
    "draw_task",
    "find_task",
    "load_tasks",
    "other_tasks",
    "sample_scene",
    "select_tasks",
    "tasks_of",
    "tasks_path",
]
