"""What `qt-ros demo` and `qt-ros record --sim` share: a graph on this machine, and bags that name their scene."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import typer
from rich.console import Console

from qt_ros.episodes.bag_metadata import BagError, note_scene
from qt_ros.nodes.transport import launched


def set_environment() -> None:
    """A ROS domain of our own unless one is set, and this machine only unless the environment says who is reached.

    A simulated command_node publishes what a robot would obey: a domain that is set, as for a robot, is no reason to
    go on its network.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(secrets.randbelow(100) + 1))
    os.environ.update(launched(os.environ, local=True)[0])
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the nodes share the cores; policy_node has a parameter of its own


def task_for(instruction: str) -> str:
    """The one task of config/tasks.yaml that ``instruction`` asks for; BadParameter where none or several do."""
    from qt_ros.sim.tasks import load_tasks, tasks_of  # slow to import: not for --help

    found = tasks_of([instruction.strip()])
    if len(found) == 1:
        return found[0]
    if found:
        raise typer.BadParameter(f"{instruction!r} asks for {', '.join(found)}; say whose scenes with --task")
    raise typer.BadParameter(
        f"no task of config/tasks.yaml asks for {instruction!r}; say whose scenes are set up with --task, one of "
        f"{', '.join(load_tasks())}"
    )


class SceneNotes:
    """Writes into every bag of a run below ``bags`` which scene it is of, however its episode or its recording ended.

    A bag that does not say so passes for a robot's, and one of a test scene could be trained on.
    """

    def __init__(self, bags: Path, console: Console) -> None:
        self._bags, self._console = bags, console
        self._open: dict[str, tuple[str, int]] = {}

    def begin(self, episode_id: str, task: str, seed: int) -> None:
        """From now on there may be a bag of this episode."""
        self._open[episode_id] = task, seed

    def closed(self, episode_id: str, uri: str) -> None:
        """The recorder said that the bag ``uri`` is closed, or ('') that there is none."""
        scene = self._open.pop(episode_id, None)
        if scene is not None and uri:
            self._note(Path(uri), *scene)

    def finish(self) -> None:
        """What is left once the recorder has stopped: bags that nobody waited for."""
        while self._open:
            episode_id, scene = self._open.popitem()
            if (self._bags / episode_id).is_dir():
                self._note(self._bags / episode_id, *scene)

    def _note(self, bag: Path, task: str, seed: int) -> None:
        try:
            note_scene(bag, task, seed)
        except (BagError, OSError) as error:
            self._console.print(
                f"warning: {bag} does not say that it is of scene {seed} of {task}, keep it out of training: {error}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
