"""The data of an experiment: made once, resumed, described, and never mixed up with another recipe's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tiny_experiment import experiment

from qt_ros.episodes.store import EpisodeStore
from qt_ros.experiments.data import data_is_made, describe, make_data
from qt_ros.experiments.data_page import data_page
from qt_ros.experiments.recipes import data_recipe
from qt_ros.experiments.spec import load_experiment
from qt_ros.experiments.work import DataError, Work
from qt_ros.sim.store_guard import CollectError


def test_what_was_stopped_goes_on_and_is_then_made(tmp_path: Path) -> None:
    recipe, work = experiment(tmp_path).data, Work(tmp_path / "work")
    made: list[str] = []
    assert not make_data(recipe, work, 0, lambda part, result, _: made.append(part.store), lambda: len(made) == 2)
    assert made == ["demos", "demos"] and not data_is_made(recipe, work)
    assert make_data(recipe, work, 0, lambda part, result, _: made.append(part.store))
    assert made == ["demos"] * 3 + ["noise"] * 3 and data_is_made(recipe, work)


def test_the_description_counts_what_is_there(tmp_path: Path, made: Path) -> None:
    recipe, work = experiment(tmp_path).data, Work(made)
    found = describe(recipe, work)
    metas = [meta for store in work.stores(recipe) for meta in EpisodeStore(store).meta]
    good = [meta for meta in metas if meta.outcome == "success"]
    everything = found["all"]
    assert (everything["episodes"], everything["successes"]) == (6, len(good))
    assert everything["steps"] == sum(meta.length for meta in metas)
    assert everything["steps_of_successes"] == sum(meta.length for meta in good)
    assert sum(found["parts"][name]["episodes"] for name in ("demos", "noise")) == 6
    kept = json.loads((made / "data" / "few" / "data.json").read_text())
    assert json.loads(json.dumps(found)) == {key: value for key, value in kept.items() if key != "recipe"}
    page = data_page(kept)
    assert f"6 episodes with {everything['steps']} steps, of which {len(good)} (50.0%) succeed" in page
    assert "| noise | noise | 20 to 22 | all | early, open |" in page
    assert "Scenes without an episode" not in page
    kept["parts"]["noise"]["recipe"]["episodes"] = 5
    assert "because their physics became unstable: 2 of 5 in noise." in data_page(kept)


def test_data_of_another_recipe_are_refused(tmp_path: Path, work: Work) -> None:
    given = experiment(tmp_path)
    path = tmp_path / "data" / "few.yaml"
    path.write_text(path.read_text().replace("first_seed: 10", "first_seed: 11"))
    assert data_is_made(given.data, work)
    with pytest.raises(DataError, match="another version of the data recipe few"):
        data_is_made(load_experiment(str(tmp_path / "tiny.yaml")).data, work)


def test_test_scenes_are_never_trained_on(tmp_path: Path) -> None:
    given = experiment(tmp_path)
    path = tmp_path / "data" / "few.yaml"
    path.write_text(path.read_text().replace("first_seed: 10", "first_seed: 2000000"))
    with pytest.raises(CollectError, match="outside the training range"):
        make_data(load_experiment(str(tmp_path / "tiny.yaml")).data, Work(tmp_path / "work"), 0)
    assert given.data.parts[0].first_seed == 10


def test_a_missing_store_is_named(tmp_path: Path, work: Work) -> None:
    from qt_ros.experiments.cells import all_cells
    from qt_ros.experiments.run import CellError, run_cell

    shutil.rmtree(work.root / "data" / "few" / "noise")
    with pytest.raises(CellError, match="noise is missing; make the data first"):
        run_cell(all_cells(experiment(tmp_path))[0], work)


def test_the_page_says_of_a_balanced_store_which_of_its_scenes_were_run(tmp_path: Path) -> None:
    part = {
        "store": "demos", "source": "demonstration", "first_seed": 21, "episodes": 2, "keep": "successes",
        "skills": ["pick", "close_drawer"], "balanced": True,
    }  # fmt: skip
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "alike.yaml").write_text(yaml.safe_dump({"parts": [part]}))
    recipe, work = data_recipe("alike", tmp_path), Work(tmp_path / "work")
    assert make_data(recipe, work, 0)
    found = describe(recipe, work)
    seeds = sorted(meta.seed for meta in EpisodeStore(work.stores(recipe)[0]).meta if meta.seed is not None)
    assert len(seeds) == 2 and found["parts"]["demos"]["last_scene"] == seeds[-1] > 22, "a scene is passed over"
    assert {name: counts["episodes"] for name, counts in found["all"]["skills"].items()} == {
        "pick": 1,
        "close_drawer": 1,
    }
    run = 2 + sum(found["parts"]["demos"]["thrown_away"].values())
    assert f"{run} of 21 to {seeds[-1]} | skill pick, skill close_drawer, as many of each |" in data_page(found)
