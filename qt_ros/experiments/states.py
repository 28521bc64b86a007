"""How far a cell is, from what lies in its folder."""

from __future__ import annotations

from qt_ros.experiments.cells import Cell
from qt_ros.experiments.run import result_of, step_on_disk
from qt_ros.experiments.work import Work, read_json


def state_of(cell: Cell, work: Work) -> str:
    """In words: 'finished: 210 of 300', 'evaluating: 50 of 300', 'training: 500 of 2000 steps' or 'not started'."""
    result = result_of(cell, work)
    if result is not None:
        row = result["rows"][-1]
        return f"finished: {row['successes']} of {row['episodes']}"
    folder, steps = work.root / cell.directory, cell.settings.gradient_steps
    found = read_json(folder / "cell.json").get("training")
    if found is None:
        return "not started"
    if found != cell.training:
        return "not started (its folder holds a run with other settings, which will be moved aside)"
    step = step_on_disk(folder)
    if step < steps:
        return f"training: {step} of {steps} steps"
    episodes = len(read_json(folder / f"evaluation-{steps}.json").get("results", ()))
    return f"evaluating: {episodes} of {len(cell.scenes)}"
