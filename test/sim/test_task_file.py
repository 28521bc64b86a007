"""The task file: words for every skill, and what is said about mistakes in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from qt_ros.contract.strict import ConfigError
from qt_ros.sim.task_file import (
    SKILLS,
    default_tasks,
    draw_task,
    find_task,
    load_task_file,
    load_tasks,
    other_tasks,
    select_tasks,
    tasks_path,
)


def test_every_skill_has_tasks_and_every_object_its_turn_in_skills_about_objects() -> None:
    tasks = load_tasks().values()
    assert {task.skill for task in tasks} == set(SKILLS)
    objects = set(load_task_file().objects)
    for skill in ("pick", "fetch", "move_near", "place_in_drawer", "pick_from_drawer"):
        assert {task.target for task in tasks if task.skill == skill} == objects
    assert {task.near for task in tasks if task.skill == "move_near"} == objects


def test_no_sentence_means_two_things_and_held_out_ones_are_not_trained_on() -> None:
    seen: dict[str, str] = {}
    for task in load_tasks().values():
        assert len(task.instructions) >= 4 and len(task.held_out) >= 3
        assert set(task.instructions) < set(task.paraphrases) and len(task.paraphrases) > 50
        for text in (*task.paraphrases, *task.held_out):
            assert seen.setdefault(text, task.name) == task.name
            assert "{" not in text
        assert not set(task.paraphrases) & set(task.held_out)


def test_every_sentence_names_what_it_is_about() -> None:
    for task in load_tasks().values():
        target, near = (name.removesuffix("_handle").replace("_", " ") for name in (task.target, task.near))
        assert all(target in text and near in text for text in task.instructions)


def test_both_orders_of_two_objects_are_asked_for() -> None:
    pairs = {(t.target, t.near) for t in load_tasks().values() if t.skill == "move_near"}
    assert pairs == {(near, target) for target, near in pairs}


def test_tasks_are_selected_by_name_and_skill_in_the_order_of_the_file() -> None:
    assert select_tasks() == ()
    assert select_tasks(["pick_red_cube"], ["open_drawer"]) == ("pick_red_cube", "open_drawer")
    assert select_tasks(skills=["all"]) == tuple(load_tasks())
    skills = load_task_file().default_skills
    assert select_tasks(skills=skills) == default_tasks()
    with pytest.raises(ConfigError, match="juggle.*pick_from_drawer"):
        select_tasks(skills=["juggle"])
    with pytest.raises(ConfigError, match="pick_moon"):
        select_tasks(["pick_moon"])


def test_all_skills_are_drawn_equally_often_however_many_tasks_they_have() -> None:
    drawn = Counter(draw_task(select_tasks(skills=["all"]), seed).skill for seed in range(1400))
    assert set(drawn) == set(SKILLS)
    assert all(150 <= count <= 250 for count in drawn.values())
    assert len({draw_task(select_tasks(skills=["all"]), seed).name for seed in range(1400)}) == len(load_tasks())


def test_what_else_could_be_asked_is_possible_in_the_same_scene() -> None:
    pick = find_task("pick_red_cube")
    assert [t.target for t in other_tasks(pick, ["red_cube", "blue_ball"])] == ["blue_ball"]
    assert [t.name for t in other_tasks(find_task("open_drawer"), [])] == ["close_drawer"]
    move = find_task("move_red_cube_near_yellow_box")
    others = other_tasks(move, ["red_cube", "yellow_box", "black_cylinder"])
    assert {"move_red_cube_near_black_cylinder", "move_yellow_box_near_red_cube"} <= {t.name for t in others}
    assert all(t.near in ("red_cube", "yellow_box", "black_cylinder") for t in others)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("schema: 1", "schema: 9", "schema 9"),
        ("spacing:", "spcing:", "spcing"),
        ("ajar:", "ajarr:", "ajarr"),
        ("skill: pick, target: red_cube", "skill: throw, target: red_cube", "throw"),
        ("name: pick_green_cylinder", "name: pick_red_cube", "twice"),
        ("distractors: [2, 4]", "distractors: [4, 2]", "distractors"),
        ("wide: [0.20, 0.24]", "wide: [0.24, 0.20]", "wide"),
        ("red_cube: [red cube, red block]", "red_cube: []", "red_cube"),
        ("red_cube: [red cube, red block]", "ruby_cube: [red cube, red block]", "red_cube"),
        ("near: yellow_box}", "near: moon}", "moon"),
        ("default_skills: [pick]", "default_skills: [dance]", "dance"),
        ("  fetch:", "  juggle:", "juggle"),
        ("red_cube: [red object,", "red_cube: [red block,", "red block.* is held out, and is to be trained on"),
        ("- lift up the {object}", "- hold up the {object}", "hold up the red cube.* is held out"),
        ("  pink_ball: [pink object,", "  moon: [pink object,", "other_names: 'moon'"),
        ("drawer_handle: [kitchen drawer,", "drawer_handle: [7,", "other_names: drawer_handle"),
    ],
)
def test_mistakes_in_the_task_file_are_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    text = tasks_path().read_text()
    assert old in text
    path = tmp_path / "tasks.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=named):
        load_tasks(path)
