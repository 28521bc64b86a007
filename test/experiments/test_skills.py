"""Experiments with several skills, from data that a policy collects to rows and tables by skill."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fake_results import write_result
from tiny_experiment import BUDGET, CELLS, VISION, as_yaml, experiment, write_experiment

from qt_ros.episodes.store import EpisodeStore
from qt_ros.experiments.cells import all_cells, selected
from qt_ros.experiments.collector import collector, train_collector
from qt_ros.experiments.data import data_is_made, describe, make_data
from qt_ros.experiments.data_page import data_page
from qt_ros.experiments.pages import page, ranking
from qt_ros.experiments.plots import plot
from qt_ros.experiments.recipes import data_recipe
from qt_ros.experiments.report import collect_results
from qt_ros.experiments.run import result_of, run_cell
from qt_ros.experiments.searching import thrown_away
from qt_ros.experiments.skills import amounts_of
from qt_ros.experiments.spec import Experiment, load_experiment
from qt_ros.experiments.warm_up import warmed_up
from qt_ros.experiments.work import DataError, Work, read_json
from qt_ros.model.checkpoint import read_info
from qt_ros.sim.privileged import SKILL_STATE_NAMES
from qt_ros.sim.tasks import find_task

ASKED = ["pick", "close_drawer"]
SETTINGS = {key: value for key, value in BUDGET.items() if key != "batch"}


def write_skills(folder: Path) -> Path:
    """A tiny experiment of two skills, whose second store a policy of nothing collects."""
    path = write_experiment(folder, seeds=[1], skills=ASKED, evaluation={"episodes": 4, "first_scene": 2000000})
    parts = [
        {"store": "demos", "source": "demonstration", "first_seed": 0, "episodes": 3, "skills": ASKED},
        {"store": "fails", "source": "policy", "first_seed": 50, "episodes": 2, "skills": ASKED, "keep": "failures"},
    ]
    policy = {"config": "picking/rt1_bc", "stores": ["demos"], "set": {**SETTINGS, "batch": 4}}
    (folder / "data" / "few.yaml").write_text(as_yaml({"parts": parts, "policy": policy}))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Work]:
    """That experiment, its data made."""
    root = tmp_path_factory.mktemp("skills")
    given, work = load_experiment(str(write_skills(root / "spec"))), Work(root / "work")
    assert make_data(given.data, work, 0)
    return given, work


def test_a_policy_cloned_from_the_demonstrations_collects_failures(made: tuple[Experiment, Work]) -> None:
    given, work = made
    demos, fails = (EpisodeStore(store) for store in work.stores(given.data))
    checkpoint = collector(given.data, work)
    assert checkpoint is not None and data_is_made(given.data, work)
    info = read_info(checkpoint)
    assert info.provenance["episodes"] == 3 and info.provenance["kind"] == "rt1_bc", "it saw the demonstrations alone"
    assert [meta.outcome for meta in fails.meta] == ["failure"] * 2
    assert {meta.checkpoint for meta in fails.meta} == {info.id} and {meta.checkpoint for meta in demos.meta} == {""}
    for store in (demos, fails):
        assert store.manifest.privileged_names == SKILL_STATE_NAMES
        assert {find_task(meta.task).skill for meta in store.meta} <= set(ASKED)
    frames = fails.load_all(("images",)).images
    assert frames is not None and frames.std() > 10, "its failures can be trained on from images too"


def test_the_data_page_says_who_collected_and_what_was_thrown_away(made: tuple[Experiment, Work]) -> None:
    given, work = made
    told = read_json(work.description(given.data))
    thrown = thrown_away(work.stores(given.data)[1])
    assert sum(told["parts"]["fails"]["thrown_away"].values()) == len(thrown)
    lines = data_page(told)
    successes = sum(outcome == "success" for outcome in thrown.values())
    assert f"| fails | failures | {2 + len(thrown)} | 2 | {successes} | 0 | 0 |" in lines
    assert "`rt1_bc` as in `picking/rt1_bc`, trained on `demos`" in lines and "4 gradient steps of batch 4" in lines
    assert "### Episodes by skill" in lines and "| `close_drawer` |" in lines


def test_the_data_page_says_that_the_policy_was_trained_in_mixed_precision(
    made: tuple[Experiment, Work], tmp_path: Path
) -> None:
    given, whole = made
    work = replace(whole, root=tmp_path / "work", autocast=True)
    for store, there in zip(work.stores(given.data), whole.stores(given.data), strict=True):
        store.parent.mkdir(parents=True, exist_ok=True)
        store.symlink_to(there)
    assert train_collector(given.data, work)
    plain, mixed = (describe(given.data, place) for place in (whole, work))
    assert mixed["policy"]["checkpoint"] != plain["policy"]["checkpoint"], "another policy"
    assert "--data --autocast\n" in data_page(mixed) and "mixed precision" in data_page(mixed)
    assert "--data\n" in data_page(plain) and "mixed precision" not in data_page(plain)


def test_its_training_goes_on_where_it_was_stopped_and_comes_to_the_same(
    made: tuple[Experiment, Work], tmp_path: Path
) -> None:
    given, whole = made
    work, steps = Work(tmp_path / "work"), list[int]()
    store = work.stores(given.data)[0]
    store.parent.mkdir(parents=True)
    store.symlink_to(whole.stores(given.data)[0])
    note = lambda step, steps_, metrics: steps.append(step)  # noqa: E731
    assert not train_collector(given.data, work, note, lambda: bool(steps))
    assert collector(given.data, work) is None and max(steps) < 4
    assert train_collector(given.data, work, note)
    found = [collector(given.data, place) for place in (work, whole)]
    assert all(found) and len({read_info(path).id for path in found if path is not None}) == 1


def test_a_policy_of_another_recipe_is_refused(made: tuple[Experiment, Work], tmp_path: Path) -> None:
    given, work = made
    path = write_skills(tmp_path)
    recipe = tmp_path / "data" / "few.yaml"
    recipe.write_text(recipe.read_text().replace("gradient_steps: 4", "gradient_steps: 5"))
    other = load_experiment(str(path)).data
    for check in (collector, data_is_made):
        with pytest.raises(DataError, match="another version of the data recipe few"):
            check(other, work)


@pytest.mark.slow
def test_a_policy_that_sees_collects_with_the_vision_side_that_was_warmed_up(tmp_path: Path) -> None:
    write_experiment(tmp_path, images=True)
    demos = {"store": "demos", "source": "demonstration", "first_seed": 10, "episodes": 2}
    fails = {"store": "fails", "source": "policy", "first_seed": 50, "episodes": 1, "keep": "failures"}
    shape = {f"model.{key}": value for key, value in VISION.items()}
    policy = {
        "config": "picking/rt1_bc", "stores": ["demos"], "warm_up": "few", "set": {**SETTINGS, **shape, "batch": 4},
    }  # fmt: skip
    (tmp_path / "data" / "few.yaml").write_text(as_yaml({"parts": [demos]}))
    document = {"base": "few", "parts": [fails], "policy": policy}
    (tmp_path / "data" / "more.yaml").write_text(as_yaml(document))
    recipe, work = data_recipe("more", tmp_path), Work(tmp_path / "work")
    assert make_data(recipe, work, 0)
    checkpoint, warm = collector(recipe, work), recipe.policy and recipe.policy.warm_up
    assert checkpoint is not None and warm is not None
    init = warmed_up(warm, work)
    assert init is not None and read_info(checkpoint).provenance["init"] == read_info(init).id
    assert read_info(checkpoint).config.vision == "small"
    told = data_page(read_json(work.description(recipe)))
    assert "images (vision side of warm-up `few`)" in told and "| fails | policy | 50 to" in told


def test_a_cell_is_evaluated_in_scenes_of_every_skill(made: tuple[Experiment, Work], tmp_path: Path) -> None:
    given, whole = made
    work = Work(tmp_path / "work", command="a test")
    shutil.copytree(whole.root, work.root)
    (cell,) = selected(all_cells(given), ["rt1_bc"])
    assert run_cell(cell, work)
    result = result_of(cell, work)
    assert result is not None
    (row,) = result["rows"]
    assert set(row["skills"]) == set(ASKED)
    for key in ("episodes", "successes"):
        assert sum(counts[key] for counts in row["skills"].values()) == row[key]
    document = collect_results(given, [work.root])
    rows = [(r["method"], r["variant"], r["seed"], r["gradient_steps"], r["skill"]) for r in document["skill_rows"]]
    assert rows == [("rt1_bc", "successes", 1, 4, skill) for skill in ASKED]
    assert sum(r["episodes"] for r in document["skill_rows"]) == row["episodes"]


def test_episodes_of_other_skills_in_the_same_scenes_do_not_count(
    made: tuple[Experiment, Work], tmp_path: Path
) -> None:
    given, whole = made
    work = Work(tmp_path / "work")
    shutil.copytree(whole.root, work.root)
    (cell,) = selected(all_cells(given), ["rt1_bc"])
    (fewer,) = selected(all_cells(replace(given, skills=("pick",))), ["rt1_bc"])
    assert cell.training == fewer.training and cell.identity != fewer.identity
    assert run_cell(cell, work) and run_cell(fewer, work)
    tasks = [e["task"] for e in read_json(work.root / cell.directory / "evaluation-4.json")["results"]]
    assert len(tasks) == 4 and {find_task(task).skill for task in tasks} == {"pick"}
    assert set((result_of(fewer, work) or {})["rows"][0]["skills"]) == {"pick"}


def test_a_cell_may_learn_from_some_stores_only(made: tuple[Experiment, Work], tmp_path: Path) -> None:
    given, whole = made
    work = Work(tmp_path / "work")
    shutil.copytree(whole.root, work.root)
    few = {**CELLS[1], "variant": "few", "stores": ["demos"]}
    cells = all_cells(load_experiment(str(_with_cells(tmp_path / "spec", [CELLS[1], few]))))
    assert len({cell.training for cell in cells}) == 2
    seen = []
    for cell in cells:
        assert run_cell(cell, work)
        seen.append((result_of(cell, work) or {})["episodes_in_data"])
    assert seen == [5, 3]


def _with_cells(folder: Path, cells: list[dict[str, object]]) -> Path:
    path = write_skills(folder)
    document = yaml.safe_load(path.read_text())
    path.write_text(as_yaml({**document, "cells": cells, "evaluation": {"episodes": 1, "first_scene": 2000000}}))
    return path


def test_methods_are_ranked_by_the_mean_over_skills(tmp_path: Path) -> None:
    given = experiment(tmp_path / "spec", skills=ASKED)
    for cell in all_cells(given):
        good = cell.spec.method == "q_transformer"
        skills = {"pick": (50, 90), "close_drawer": (0, 10)} if not good else {"pick": (9, 90), "close_drawer": (9, 10)}
        write_result(tmp_path, cell, sum(s for s, _ in skills.values()), skills=skills)
    document = collect_results(given, [tmp_path])
    ranked = [(cell["method"], rate.rate) for cell, rate in ranking(document)]
    assert ranked == [("q_transformer", 0.5), ("rt1_bc", pytest.approx(50 / 90 / 2))]
    told = page(document)
    assert "| method | `pick` | `close_drawer` |" in told
    assert "| `q_transformer` | 10% (" in told and "| `rt1_bc/successes` | 56% (" in told
    assert "mean over skills" in told
    plot(document, tmp_path / "skills.png")
    assert (tmp_path / "skills.png").stat().st_size > 5000


def test_a_curve_goes_along_the_amount(tmp_path: Path) -> None:
    cells = [
        {**CELLS[1], "variant": f"added_{amount}", "amount": amount, "stores": ["demos", "noise"][: 1 + (amount > 0)]}
        for amount in (3, 0)
    ]
    given = experiment(tmp_path / "spec", along="noise added", cells=cells)
    for cell in all_cells(given):
        write_result(tmp_path, cell, 60 if cell.spec.amount else 20)
    document = collect_results(given, [tmp_path])
    (curve,) = amounts_of(document).values()
    assert [(cell["amount"], rate.rate) for cell, rate in curve] == [(0, 0.2), (3, 0.6)]
    told = page(document)
    assert "## Over noise added" in told
    assert told.index("| `rt1_bc` | 0 | 20.0% |") < told.index("| `rt1_bc` | 3 | 60.0% |")
    plot(document, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").exists()
