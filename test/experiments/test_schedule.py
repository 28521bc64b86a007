"""Cells side by side: one that fails stops no other, and what is stopped goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import CELLS, experiment

from qt_ros.experiments.cells import Cell, all_cells
from qt_ros.experiments.run import result_of
from qt_ros.experiments.schedule import Outcome, run_cells
from qt_ros.experiments.states import state_of
from qt_ros.experiments.work import Work


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_cell_that_fails_is_told_and_the_others_run(tmp_path: Path, work: Work, jobs: int) -> None:
    bad = {"method": "iql", "config": "picking/iql", "set": {"model.heads": 3, "model.width": 0}}
    cells = all_cells(experiment(tmp_path, cells=[bad, CELLS[1]], seeds=[1]))
    work = replace(work, jobs=jobs)
    lines: list[tuple[str, str]] = []
    outcomes = run_cells(cells, work, lambda cell, text, metrics: lines.append((cell.name, text)))
    assert outcomes["iql/default/1"].state == "failed" and "width" in outcomes["iql/default/1"].message
    assert outcomes["rt1_bc/successes/1"].state == "finished"
    assert ("rt1_bc/successes/1", "step 4/4") in lines and ("rt1_bc/successes/1", "finished") in lines
    assert [state_of(cell, work).split(":")[0] for cell in cells] == ["training", "finished"]
    again: list[Any] = []
    run_cells(cells[1:], work, lambda *line: again.append(line))
    assert [text for _, text, _ in again] == ["finished"], "a finished cell is not run again"


def test_a_cell_that_somebody_runs_already_is_left_alone(tmp_path: Path, work: Work) -> None:
    cells = all_cells(experiment(tmp_path, cells=[CELLS[1]], seeds=[1]))
    second: list[Outcome] = []

    def meanwhile(cell: Cell, text: str, metrics: dict[str, float]) -> None:
        if not second:
            second.append(run_cells(cells, work, lambda *line: None)[cell.name])

    assert run_cells(cells, work, meanwhile)["rt1_bc/successes/1"].state == "finished"
    assert second[0].state == "failed" and "another process runs this cell; wait for it" in second[0].message
    assert run_cells(cells, work, meanwhile)["rt1_bc/successes/1"].state == "finished", "nothing is locked afterwards"


def test_what_is_stopped_saves_and_goes_on(tmp_path: Path, work: Work) -> None:
    slow = {"gradient_steps": 100000, "log_every": 5, "save_every": 100000}
    given = experiment(tmp_path, cells=[{**CELLS[1], "set": slow}])
    cells, work = all_cells(given), replace(work, jobs=2)
    seen: set[str] = set()
    outcomes = run_cells(cells, work, lambda cell, text, _: seen.add(cell.name), lambda: len(seen) == 2)
    assert {outcome.state for outcome in outcomes.values()} == {"stopped"} and len(outcomes) == 2
    for cell in cells:
        words = state_of(cell, work).split()
        assert words[0] == "training:" and 0 < int(words[1]) < 100000
        assert result_of(cell, work) is None


def test_nothing_begins_after_a_stop(tmp_path: Path, work: Work) -> None:
    cells = all_cells(experiment(tmp_path))
    for jobs in (1, 2):
        assert run_cells(cells, replace(work, jobs=jobs), lambda *line: None, lambda: True) == {}
    assert {state_of(cell, work) for cell in cells} == {"not started"}
