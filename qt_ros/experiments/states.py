"""How far a cell is, from what lies in its folder."""

from __future__ import annotations

from safetensors import SafetensorError, safe_open

from qt_ros.experiments.cells import Cell
from qt_ros.experiments.run import result_of
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
    try:
        with safe_open(folder / "state" / "state.safetensors", framework="np") as file:
            step = int((file.metadata() or {})["step"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return f"training: 0 of {steps} steps"
    if step < steps:
        return f"training: {step} of {steps} steps"
    episodes = len(read_json(folder / f"evaluation-{steps}.json").get("results", ()))
    return f"evaluating: {episodes} of {len(cell.scenes)}"
