"""Data recipes: which stores, by whom, from which scenes; and what keeps the hash it had."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from qt_ros.contract.strict import ConfigError
from qt_ros.experiments.recipes import DataRecipe, data_recipe, facts, folder
from qt_ros.experiments.work import digest
from qt_ros.sim.seeds import TRAINING_SEEDS
from qt_ros.sim.tasks import SKILLS, draw_task, find_task, sample_scene

DEMOS = {"store": "demos", "source": "demonstration", "first_seed": 0, "episodes": 3}
FAILS = {"store": "fails", "source": "policy", "first_seed": 100, "episodes": 3, "keep": "failures"}
POLICY = {"config": "picking/rt1_bc", "stores": ["demos"]}


def recipe(folder: Path, name: str = "few", **document: Any) -> DataRecipe:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / f"{name}.yaml").write_text(yaml.safe_dump(document))
    return data_recipe(name, folder)


def shipped() -> list[DataRecipe]:
    return [data_recipe(path.stem, folder()) for path in sorted((folder() / "data").glob("*.yaml"))]


def test_a_recipe_of_scripted_stores_has_the_facts_that_it_had_before_there_were_others(tmp_path: Path) -> None:
    part = {**DEMOS, "tasks": (), "flaws": ()}
    assert facts(recipe(tmp_path, parts=[DEMOS])) == {"name": "few", "parts": (part,)}
    asked = facts(recipe(tmp_path, parts=[{**DEMOS, "skills": ["pick"]}]))
    assert asked["parts"] == ({**part, "skills": ("pick",)},), "what is new enters where it is used"


def test_stores_of_a_base_come_first_and_its_policy_collects(tmp_path: Path) -> None:
    base = recipe(tmp_path, "base", parts=[DEMOS, FAILS], policy=POLICY)
    more = recipe(tmp_path, "more", base="base", parts=[{**FAILS, "store": "more", "first_seed": 1000}])
    assert [part.store for part in more.all_parts] == ["demos", "fails", "more"]
    assert more.collector == base and base.collector is base


def test_skills_are_asked_for_by_name_or_all(tmp_path: Path) -> None:
    (drawer,) = recipe(tmp_path, parts=[{**DEMOS, "skills": ["open_drawer", "pick"]}]).parts
    assert {find_task(name).skill for name in drawer.asked} == {"open_drawer", "pick"}
    (everything,) = recipe(tmp_path, parts=[{**DEMOS, "skills": ["all"]}]).parts
    assert {find_task(name).skill for name in everything.asked} == set(SKILLS)
    assert recipe(tmp_path, parts=[DEMOS]).parts[0].asked == (), "picking, and its old state vector, unless told"


def test_a_policy_that_sees_has_the_warm_up_that_it_names(tmp_path: Path) -> None:
    recipe(tmp_path, "seen", parts=[DEMOS])
    (tmp_path / "warm_up").mkdir()
    warm = {"data": "seen", "gradient_steps": 2, "batch": 2, "learning_rate": 0.001}
    (tmp_path / "warm_up" / "eyes.yaml").write_text(yaml.safe_dump(warm))
    given = recipe(tmp_path, base="seen", parts=[FAILS], policy={**POLICY, "warm_up": "eyes"})
    assert given.policy is not None and given.policy.warm_up is not None
    assert (given.policy.warm_up.name, given.policy.warm_up.data.name) == ("eyes", "seen")
    (tmp_path / "warm_up" / "eyes.yaml").write_text(yaml.safe_dump({**warm, "data": "few"}))
    with pytest.raises(ConfigError, match="leads back"):
        data_recipe("few", tmp_path)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"parts": [FAILS]}, "needs a key 'policy'"),
        ({"parts": [DEMOS, {**FAILS, "keep": "good"}], "policy": POLICY}, "keep must be one of"),
        ({"parts": [DEMOS, FAILS], "policy": {**POLICY, "stores": ["fails"]}}, "no scripted store 'fails'"),
        ({"parts": [DEMOS, FAILS], "policy": {**POLICY, "stores": []}}, "at least one store"),
        ({"parts": [DEMOS, FAILS], "policy": {**POLICY, "steps": 3}}, "unknown key"),
        ({"parts": [DEMOS, {**FAILS, "first_seed": 2}], "policy": POLICY}, "may come to share scenes"),
        ({"parts": [DEMOS, {**DEMOS, "first_seed": 2}], "policies": []}, "unknown key"),
        ({"parts": [{**DEMOS, "skills": ["juggle"]}]}, "no skill 'juggle'"),
        ({"parts": [{**DEMOS, "balanced": True}]}, "balanced needs keep"),
        (
            {"parts": [{**DEMOS, "balanced": True, "keep": "successes", "skills": ["pick", "fetch"]}]},
            "2 skills can share",
        ),
        ({"parts": [DEMOS], "base": "few"}, "leads back"),
        ({"parts": [DEMOS], "base": "nowhere"}, "no data recipe 'nowhere'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, document: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(tmp_path, **document)


def test_the_few_skills_have_four_demonstrations_of_each_and_failures_in_proportion() -> None:
    few = data_recipe("scaling", folder()).all_parts
    each = {part.store: {count for count, _ in part.queues().values()} for part in few}
    assert each == {"demos": {4}, "failures": {4}, "more_failures": {4}, "still_more_failures": {8}}
    assert all(list(part.queues()) == list(SKILLS) for part in few)
    for part in few:
        scenes = [len(seeds) for _, seeds in part.queues().values()]
        assert sum(scenes) == len(part.seeds) and min(scenes) > 10 * part.episodes / len(SKILLS)


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("picking", "ec234cd6bd1e995864f61f913f2dc66e9664abc0228ef32ce0cdd82f40718ce9"),
        ("plenty", "63b1cfffd80c9c9c95efc543dcb280bec47b95b5055c002cd4ffd2d1733bd5d3"),
        ("skill_demos", "58fa5db3b79e8f6cebffb3373541a1095f1ec8742fe7b4f6f181534ab3e0f122"),
        ("skills", "6048008f75c433a1a4443c5a9849d9954abe63fac8738accfd26b72011972169"),
    ],
)
def test_recipes_that_cells_were_trained_by_keep_their_facts(name: str, sha256: str) -> None:
    """Data in work folders, and finished cells, are known by this number: with another one they would not count."""
    assert digest(facts(data_recipe(name, folder()))) == sha256


def test_the_published_picking_data_are_those_of_the_recipe() -> None:
    published = json.loads((folder().parents[1] / "docs" / "results" / "picking-data.json").read_text())
    assert published["recipe"] == digest(facts(data_recipe("picking", folder())))


def test_shipped_stores_take_training_scenes_and_none_twice() -> None:
    parts = {(part.store, part.first_seed): part for given in shipped() for part in given.all_parts}
    assert len(parts) >= 8
    scenes = [seed for part in parts.values() for seed in part.seeds]
    assert len(scenes) == len(set(scenes)) and all(seed in TRAINING_SEEDS for seed in scenes)


def test_no_instruction_is_demonstrated_more_than_a_hundred_times() -> None:
    demos = data_recipe("skill_demos", folder()).parts[0]
    assert demos.source == "demonstration" and demos.keep == "successes"
    run = demos.seeds[: demos.episodes + 100]  # a hundred failed demonstrations would be far too many
    tasks = [draw_task(demos.asked, seed) for seed in run]
    skills = Counter(task.skill for task in tasks[: demos.episodes])
    assert set(skills) == set(SKILLS) and min(skills.values()) >= 70 and max(skills.values()) <= 130
    asked = Counter(sample_scene(task, seed).instruction for task, seed in zip(tasks, run, strict=True))
    assert max(asked.values()) <= 100
