"""Which cells there are, which of them a filter names, and when two are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_experiment import CELLS, experiment

from qt_ros.contract.strict import ConfigError
from qt_ros.experiments.cells import TUNING_SEED, all_cells, selected, tuning_cell


def test_no_two_seeds_share_a_scene_while_methods_do(tmp_path: Path) -> None:
    cells = all_cells(experiment(tmp_path))
    scenes = {cell.seed: cell.scenes for cell in cells}
    assert {cell.scenes for cell in cells} == {scenes[1], scenes[2]}
    assert (scenes[1], scenes[2]) == (range(2000000, 2000002), range(2000002, 2000004))


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([], 4),
        (["rt1_bc"], 2),
        (["rt1_bc/successes"], 2),
        (["rt1_bc/successes/2"], 1),
        (["rt1_bc/2"], 1),
        (["rt1_bc/2", "q_transformer/default/1", "rt1_bc/2"], 2),
    ],
)
def test_a_filter_names_a_method_a_variant_or_a_seed(tmp_path: Path, filters: list[str], names: int) -> None:
    assert len(selected(all_cells(experiment(tmp_path)), filters)) == names


@pytest.mark.parametrize("entry", ["iql", "rt1_bc/all", "rt1_bc/successes/3", "rt1_bc/successes/2/x", ""])
def test_a_filter_that_names_nothing_is_refused(tmp_path: Path, entry: str) -> None:
    with pytest.raises(ConfigError, match="no such cell"):
        selected(all_cells(experiment(tmp_path)), ["rt1_bc", entry])


def test_what_is_trained_decides_identity_and_how_it_is_computed_does_not(tmp_path: Path) -> None:
    first = all_cells(experiment(tmp_path))[0]
    assert all_cells(experiment(tmp_path), {"threads": 4, "autocast": True})[0].identity == first.identity
    longer = all_cells(experiment(tmp_path, evaluation={"episodes": 3, "first_scene": 2000000}))[0]
    assert longer.training == first.training and longer.identity != first.identity
    changed = all_cells(experiment(tmp_path, budget={**first.experiment.budget, "batch": 5}))[0]
    assert changed.training != first.training
    recipe = tmp_path / "data" / "few.yaml"
    recipe.write_text(recipe.read_text().replace("first_seed: 10", "first_seed: 11"))
    from qt_ros.experiments.spec import load_experiment

    assert all_cells(load_experiment(str(tmp_path / "tiny.yaml")))[0].training != first.training


def test_an_experiments_settings_of_a_cell_override_its_own_and_those_override_the_budget(tmp_path: Path) -> None:
    q_transformer, clone = CELLS
    cells = [q_transformer, {**q_transformer, "variant": "strict", "set": {"loss.alpha": 4.0, "batch": 7}}, clone]
    given = experiment(tmp_path, cells=cells, settings={"q_transformer/strict": {"loss.alpha": 3.0}})
    plain, strict, other = (cell for cell in all_cells(given) if cell.seed == 1)
    assert (strict.settings.loss.alpha, strict.settings.batch) == (3.0, 7)
    assert plain.settings.batch == other.settings.batch == given.budget["batch"]
    assert given.changes(strict.spec) == {"loss.alpha": 3.0, "batch": 7} and given.changes(plain.spec) == {}
    trial = tuning_cell(given, strict.spec, {"loss.alpha": 5.0})
    assert (trial.settings.loss.alpha, trial.settings.batch) == (5.0, 7)


def test_a_trial_has_scenes_and_a_seed_that_no_reported_cell_has(tmp_path: Path) -> None:
    given = experiment(tmp_path)
    trial = tuning_cell(given, given.cells[0], {"loss.alpha": 3.0})
    assert trial.seed == TUNING_SEED and trial.scenes == range(1000000, 1000002)
    assert trial.settings.loss.alpha == 3.0 and trial.marks == (4,)
    other = tuning_cell(given, given.cells[0], {"loss.alpha": 4.0})
    assert len({trial.directory, other.directory, *(cell.directory for cell in all_cells(given))}) == 6
