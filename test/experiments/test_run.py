"""One cell from data to result: what it holds, how it goes on, what is moved aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import CELLS, experiment, write_experiment

from qt_ros.experiments.cells import all_cells, selected
from qt_ros.experiments.run import CellError, result_of, run_cell
from qt_ros.experiments.spec import load_experiment
from qt_ros.experiments.warm_up import warm_up, warmed_up
from qt_ros.experiments.work import Work, read_json, write_json
from qt_ros.model.checkpoint import read_info


def test_a_cell_is_trained_evaluated_at_every_mark_and_told(tmp_path: Path, work: Work) -> None:
    (cell,) = selected(all_cells(experiment(tmp_path)), ["q_transformer/1"])
    assert run_cell(cell, work)
    result = result_of(cell, work)
    assert result is not None
    assert [row["gradient_steps"] for row in result["rows"]] == [2, 4]
    assert all(row["episodes"] + row["unstable"] == 2 for row in result["rows"])
    assert (result["method"], result["variant"], result["seed"]) == ("q_transformer", "default", 1)
    assert result["settings"]["seed"] == 1 and result["settings"]["model"]["vision"] == "state"
    assert result["episodes_in_data"] == 6 and result["command"] == "a test"
    assert result["metrics"]["value_spread"] >= 0


def test_the_same_run_of_another_experiment_counts(tmp_path: Path, work: Work) -> None:
    (cell,) = selected(all_cells(experiment(tmp_path)), ["q_transformer/1"])
    assert run_cell(cell, work)
    renamed = [{**CELLS[0], "variant": "as_before"}, {**CELLS[0], "variant": "larger", "set": {"loss.alpha": 50.0}}]
    other = load_experiment(str(write_experiment(tmp_path / "other", "other", cells=renamed)))
    told: list[str] = []
    for again in selected(all_cells(other), ["q_transformer/1"]):
        assert run_cell(again, work, lambda text, metrics: told.append(text))
        result = result_of(again, work)
        assert result is not None
        assert (result["experiment"], result["variant"]) == ("other", again.spec.variant)
        trained = (work.root / again.directory / "checkpoint").exists()
        assert trained == (again.spec.variant == "larger")
    assert told[0] == "taken from tiny, where it is q_transformer/default" and len(told) > 1


def test_an_interrupted_cell_goes_on_to_the_same_weights(tmp_path: Path, work: Work) -> None:
    cells = all_cells(experiment(tmp_path))
    (cell,) = selected(cells, ["rt1_bc/successes/2"])
    asked = iter([False, False, True])
    assert not run_cell(cell, work, stopped=lambda: next(asked, True))
    assert result_of(cell, work) is None
    step = read_info(work.root / cell.directory / "checkpoint").provenance["gradient_steps"]
    assert 0 < step < 4
    assert run_cell(cell, work)
    whole = Work(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "data").symlink_to(work.root / "data")
    assert run_cell(cell, whole)
    ids = [read_info(place.root / cell.directory / "checkpoint").id for place in (work, whole)]
    assert ids[0] == ids[1]


def test_every_commit_that_trained_a_cell_is_noted_also_where_training_was_killed_or_had_ended(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = selected(all_cells(experiment(tmp_path)), ["rt1_bc/successes/1"])

    def at(commit: str, **options: Any) -> bool:
        monkeypatch.setattr("qt_ros.experiments.run.commit", lambda: commit)
        return run_cell(cell, work, **options)

    def killed(text: str, metrics: dict[str, float]) -> None:
        if text == "step 4/4":  # a state was saved at step 2
            raise SystemExit(137)

    with pytest.raises(SystemExit):
        at("first", report=killed)
    asked = iter([False, False])  # stopped in the evaluation, when all is trained
    assert not at("second", stopped=lambda: next(asked, True))
    assert at("third")
    result = result_of(cell, work)
    assert result is not None and (result["commit"], result["evaluated_by"]["commit"]) == ("second", "third")
    assert [by["commit"] for by in result["trained_by"]] == ["first", "second"]


def test_a_cell_that_an_earlier_version_trained_keeps_the_commit_it_noted(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = selected(all_cells(experiment(tmp_path)), ["rt1_bc/successes/1"])
    monkeypatch.setattr("qt_ros.experiments.run.commit", lambda: "first")
    asked = iter([False, False, True])
    assert not run_cell(cell, work, stopped=lambda: next(asked, True))
    path = work.root / cell.directory / "cell.json"
    progress = read_json(path)
    del progress["trained_by"]
    write_json(path, progress)
    monkeypatch.setattr("qt_ros.experiments.run.commit", lambda: "second")
    assert run_cell(cell, work)
    result = result_of(cell, work)
    assert result is not None and [by["commit"] for by in result["trained_by"]] == ["first", "second"]


def test_a_cell_from_images_learns_from_the_shared_warm_up(tmp_path: Path, work: Work) -> None:
    coarse = {"method": "q_transformer", "variant": "bins_32", "config": "picking/q_transformer", "bins": 32}
    given = experiment(tmp_path, images=True, cells=[*CELLS, coarse])
    (cell,) = selected(all_cells(given), ["q_transformer/default/1"])
    with pytest.raises(CellError, match="not finished"):
        run_cell(cell, work)
    assert given.warm_up is not None and warm_up(given.warm_up, work)
    assert run_cell(cell, work)
    init = warmed_up(given.warm_up, work)
    result = result_of(cell, work)
    assert init is not None and result is not None and result["init"] == read_info(init).id
    (other,) = selected(all_cells(given), ["q_transformer/bins_32/1"])
    assert run_cell(other, work), "what it sees does not depend on the bins"
    assert len(list(work.tokens.glob("*.npy"))) == 1


def test_fewer_bins_are_chosen_under_a_contract_of_their_own(tmp_path: Path, work: Work) -> None:
    cells = [{"method": "q_transformer", "variant": "bins_32", "config": "picking/q_transformer", "bins": 32}]
    (cell,) = selected(all_cells(experiment(tmp_path, cells=cells)), ["q_transformer/bins_32/1"])
    assert run_cell(cell, work)
    assert read_info(work.root / cell.directory / "checkpoint").config.bins == 32
    assert read_json(work.root / cell.directory / "result.json")["bins"] == 32


def test_a_run_of_other_settings_is_moved_aside(tmp_path: Path, work: Work) -> None:
    (cell,) = selected(all_cells(experiment(tmp_path)), ["rt1_bc/1"])
    assert run_cell(cell, work)
    changed = experiment(tmp_path, budget={**cell.experiment.budget, "batch": 2})
    (other,) = selected(all_cells(changed), ["rt1_bc/1"])
    assert result_of(other, work) is None and result_of(cell, work) is not None
    assert run_cell(other, work)
    assert result_of(other, work) is not None
    kept = (work.root / cell.directory).parent.glob("rt1_bc-successes-s1.*/result.json")
    assert [read_json(path)["identity"] for path in kept] == [cell.identity]


def test_a_mark_that_training_has_passed_without_keeping_it_is_trained_anew(tmp_path: Path, work: Work) -> None:
    (cell,) = selected(all_cells(experiment(tmp_path, cells=[CELLS[1]])), ["rt1_bc/1"])
    assert run_cell(cell, work)
    (later,) = selected(all_cells(experiment(tmp_path, cells=[{**CELLS[1], "evaluate_at": [2]}])), ["rt1_bc/1"])
    assert later.training == cell.training and result_of(later, work) is None
    assert run_cell(later, work)
    result = result_of(later, work)
    assert result is not None and [row["gradient_steps"] for row in result["rows"]] == [2, 4]
    folder = work.root / cell.directory
    assert [p.name for p in folder.parent.iterdir() if p != folder] == [f"{folder.name}.{cell.training[:8]}"]
