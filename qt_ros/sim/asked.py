"""What to ask of a checkpoint where nobody said which tasks: what it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qt_ros.sim.task_file import default_tasks, select_tasks, tasks_of


def choose_tasks(checkpoint: Path, tasks: Sequence[str] = (), skills: Sequence[str] = ()) -> tuple[str, ...]:
    """What is asked for: the named tasks and skills, else what ``checkpoint`` was trained on, else (it was trained on
    none of ours, or does not say) the default tasks. In the task file's order, never empty.

    ConfigError for an unknown task or skill, CheckpointError where there is no checkpoint.
    """
    from qt_ros.model.checkpoint import read_info  # torch: slow to import, and not for --help

    if named := select_tasks(tasks, skills):
        return named
    said = read_info(checkpoint).provenance.get("instructions", ())
    learned = tasks_of(text for text in said if isinstance(text, str)) if isinstance(said, list) else ()
    return learned or default_tasks()
