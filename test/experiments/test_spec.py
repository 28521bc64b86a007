"""An experiment's YAML is read strictly, and says what is wrong with it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_experiment import CELLS, experiment, write_experiment

from qt_ros.contract.strict import ConfigError
from qt_ros.experiments.cells import all_cells
from qt_ros.experiments.spec import load_experiment, names
from qt_ros.sim.seeds import TRAINING_SEEDS


def test_every_experiment_that_is_shipped_can_be_read_and_its_cells_have_valid_settings() -> None:
    assert {"picking", "picking-state", "ablations", "losses"} <= set(names())
    for name in names():
        given = load_experiment(name)
        cells = all_cells(given)
        assert len({cell.name for cell in cells}) == len(cells) == len(given.cells) * len(given.seeds)
        assert len({cell.training for cell in cells}) == len(cells), f"{name}: two cells train the same"
        assert all(seed in TRAINING_SEEDS for part in given.data.all_parts for seed in part.seeds)


def test_picking_compares_every_method_with_the_same_share_of_successes() -> None:
    cells = {cell.spec.label: cell for cell in all_cells(load_experiment("picking")) if cell.seed == 1}
    methods = {"q_transformer", "rt1_bc", "decision_transformer", "iql", "cql", "qt_opt", "aw_opt"}
    assert {cell.spec.method for cell in cells.values()} == methods
    shares = {name: cell.settings.success_share for name, cell in cells.items()}
    assert {name for name, share in shares.items() if share is not None} == {n for n in cells if "oversampled" in n}
    assert {shares[name] for name in cells if "oversampled" in name} == {0.5}
    budgets = {(cell.settings.gradient_steps, cell.settings.batch) for cell in cells.values()}
    assert len(budgets) == 1


def test_from_privileged_state_rows_with_more_successes_differ_in_nothing_else() -> None:
    cells = {cell.spec.label: cell for cell in all_cells(load_experiment("picking-state")) if cell.seed == 1}
    pairs = {"q_transformer/oversampled": "q_transformer/default", "rt1_bc/everything_oversampled": "rt1_bc/everything"}
    pairs |= {f"{name}/oversampled": f"{name}/default" for name in ("decision_transformer", "iql", "cql", "qt_opt")}
    pairs |= {"aw_opt/oversampled": "aw_opt/default"}
    assert set(pairs) == {name for name in cells if "oversampled" in name} - {"q_transformer/next_state_oversampled"}
    for drawn, plain in pairs.items():
        assert dataclasses.replace(cells[drawn].settings, success_share=None) == cells[plain].settings


@pytest.mark.parametrize("name", names())
def test_successes_are_drawn_more_often_for_every_method_that_can_use_it_or_for_none(name: str) -> None:
    """But for cloning of successes alone, and for tables of one method's variants."""
    cells = load_experiment(name).cells
    methods = {cell.method for cell in cells}
    with_all = {c.method for c in cells if c.method != "rt1_bc" or c.set.get("options.episodes") == "all"}
    drawn = {cell.method for cell in cells if "success_share" in cell.set}
    assert len(methods) == 1 or drawn in (set(), with_all)


def test_the_state_experiment_has_the_same_cells_without_images() -> None:
    images, state = load_experiment("picking"), load_experiment("picking-state")
    assert [c.label for c in images.cells] == [c.label for c in state.cells]
    assert all(cell.settings.model["vision"] == "state" for cell in all_cells(state))
    assert all(cell.settings.freeze_vision for cell in all_cells(images))


def test_skills_are_compared_on_the_same_scenes_and_scaling_adds_failures_alone() -> None:
    images, state, scaling = (load_experiment(name) for name in ("skills", "skills-state", "scaling"))
    assert images.tasks == state.tasks == scaling.tasks and len(images.tasks) > 50
    assert {cell.method for cell in images.cells} == {"q_transformer", "rt1_bc", "decision_transformer", "iql"}
    assert all(not cell.stores for cell in images.cells) and len(images.seeds) >= 3
    sizes = {part.store: part.episodes for part in scaling.data.all_parts}
    for cell in scaling.cells:
        demos, *failures = cell.stores
        assert demos == "demos" and cell.amount == sum(sizes[store] for store in failures) / sizes["demos"]
    assert {(c.method, c.amount) for c in scaling.cells} == {
        (method, amount) for method in ("q_transformer", "iql", "rt1_bc") for amount in (0.0, 1.0, 2.0, 4.0)
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": {}}, "unknown key"),
        ({"name": "other"}, "the name is the file's"),
        ({"cells": [{"method": "iql", "config": "picking/iql", "sets": {}}]}, "unknown key"),
        ({"cells": [*CELLS, copy.deepcopy(CELLS[1])]}, "listed twice"),
        ({"cells": []}, "at least one"),
        ({"settings": {"cql": {"options.alpha": 3.0}}}, "settings: no cell 'cql'"),
        ({"settings": {"q_transformer": 3}}, "settings"),
        ({"seeds": [0, 1]}, "from 1 on"),
        ({"seeds": [1, 1]}, "different"),
        ({"observations": "sounds"}, "images, state"),
        ({"observations": "images"}, "warm_up goes with"),
        ({"data": "nowhere"}, "no data recipe"),
        ({"title": None}, "title"),
        ({"evaluation": {"episodes": 2, "first_scene": 1000000}}, "2000000"),
        ({"tuning": {"episodes": 2, "first_scene": 2000000}}, "1000000"),
        ({"tuning": {"episodes": 1000001, "first_scene": 1000000}}, "1000000"),
        ({"base": "nobody"}, "no experiment"),
        ({"skills": ["juggle"]}, "no skill 'juggle'"),
        ({"cells": [{**CELLS[0], "stores": ["dreams"]}]}, "no store 'dreams'"),
        ({"cells": [{**CELLS[0], "amount": 1}]}, "'along' go together"),
        ({"along": "failures"}, "'along' go together"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(tmp_path, **changes)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"method": "ppo", "config": "picking/iql"}, "method must be one of"),
        ({"method": "iql", "config": "picking/iql", "set": {"seed": 3}}, "seed is the experiment's"),
        ({"method": "iql", "config": "picking/iql", "set": {"model.vision": "small"}}, "vision is the experiment's"),
        ({"method": "iql", "config": "picking/iql", "set": {"loss.alpha": 3.0}}, "q_transformer's"),
        ({"method": "iql", "config": "picking/iql", "set": {"sped": 3}}, "unknown key"),
        ({"method": "iql", "config": "picking/iql", "evaluate_at": [5]}, "evaluate_at 5"),
        ({"method": "iql", "config": "picking/nothing"}, "cannot be read"),
    ],
)
def test_a_cell_whose_settings_do_not_go_together_is_named(tmp_path: Path, cell: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"cell iql|cell ppo.*{message}") as raised:
        all_cells(experiment(tmp_path, cells=[cell]))
    assert message in str(raised.value)


def test_an_experiment_can_change_keys_of_another(tmp_path: Path) -> None:
    write_experiment(tmp_path, stem="first")
    (tmp_path / "second.yaml").write_text(yaml.safe_dump({"base": "first", "title": "Second", "seeds": [7]}))
    second = load_experiment(str(tmp_path / "second.yaml"))
    assert (second.name, second.title, second.seeds) == ("second", "Second", (7,))
    assert [cell.method for cell in second.cells] == ["q_transformer", "rt1_bc"]


def test_a_base_that_leads_back_is_refused(tmp_path: Path) -> None:
    for name, base in (("first", "second"), ("second", "first")):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"base": base}))
    with pytest.raises(ConfigError, match="leads back"):
        load_experiment(str(tmp_path / "first.yaml"))


def test_a_warm_up_may_have_data_of_its_own_but_not_none(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, images=True)
    recipe = tmp_path / "warm_up" / "few.yaml"
    own = recipe.read_text()
    recipe.write_text(own.replace("few", "picking"))
    experiment = load_experiment(str(path))
    assert experiment.warm_up is not None and experiment.warm_up.data.name == "picking" != experiment.data.name
    recipe.write_text(own.replace("few", "nowhere"))
    with pytest.raises(ConfigError, match="no data recipe 'nowhere'"):
        load_experiment(str(path))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"store": "a", "source": "dreams", "first_seed": 0, "episodes": 1}, "demonstration or noise"),
        ({"store": "a", "source": "noise", "first_seed": 0, "episodes": 0}, "at least 1"),
        ({"store": "../a", "source": "noise", "first_seed": 0, "episodes": 1}, "lower-case"),
        ({"store": "a", "source": "noise", "first_seed": 0}, "episodes"),
    ],
)
def test_a_wrong_data_recipe_is_named(tmp_path: Path, part: dict[str, Any], message: str) -> None:
    path = write_experiment(tmp_path)
    (tmp_path / "data" / "few.yaml").write_text(yaml.safe_dump({"parts": [part]}))
    with pytest.raises(ConfigError, match=message):
        load_experiment(str(path))
