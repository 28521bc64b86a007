"""Data recipes: which stores, by whom, from which scenes; and what keeps the hash it had."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from qt_ros.contract.strict import ConfigError
from qt_ros.experiments.recipes import DataRecipe, data_recipe, facts, folder
from qt_ros.sim.rollout import TRAINING_SEEDS
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
        ({"parts": [DEMOS], "base": "few"}, "leads back"),
        ({"parts": [DEMOS], "base": "nowhere"}, "no data recipe 'nowhere'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, document: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(tmp_path, **document)


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
