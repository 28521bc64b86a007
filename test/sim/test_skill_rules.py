"""Demonstrators of every skill in the world: they do it, a flaw spoils it, and key points follow what is held."""

from __future__ import annotations

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.episodes.episode import Episode
from qt_ros.sim.demonstrator import CLEAN, DART, NOISE, Demonstrator, NoiseSpec
from qt_ros.sim.flaws import FLAWS_OF
from qt_ros.sim.rollout import Rollout
from qt_ros.sim.skill_rules import RULES
from qt_ros.sim.task_file import SKILLS, Task, draw_task, select_tasks
from qt_ros.sim.tasks import sample_scene
from qt_ros.sim.world import World

NEW = tuple(skill for skill in SKILLS if skill != "pick")


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    contract = load_contract("mobile_manipulator")
    return Rollout(World(contract), contract, render=False, skills=True)


def task_of(skill: str, seed: int) -> Task:
    return draw_task(select_tasks(skills=[skill]), seed)


def perform(rollout: Rollout, skill: str, seed: int, noise: NoiseSpec = CLEAN) -> tuple[Episode, Demonstrator]:
    task = task_of(skill, seed)
    scene = sample_scene(task, seed)
    rollout.world.reset(scene)
    script = Demonstrator(rollout.world, task, noise, np.random.default_rng([seed, 3]))
    return rollout.run(task, scene, lambda image, joints: script.act(), reset=False), script


@pytest.mark.parametrize("skill", NEW)
def test_it_does_it_without_noise_in_the_time_that_a_policy_has(rollout: Rollout, skill: str) -> None:
    for seed in (1, 2):
        episode, _ = perform(rollout, skill, seed)
        assert (episode.outcome, episode.reason) == ("success", "terminate")
        assert len(episode) <= 40


@pytest.mark.slow
@pytest.mark.timeout(1500)  # forty episodes, on a machine that may be loaded
@pytest.mark.parametrize("skill", SKILLS)
def test_it_does_it_in_more_than_nine_of_ten_scenes_without_noise(rollout: Rollout, skill: str) -> None:
    outcomes = [perform(rollout, skill, seed)[0].outcome for seed in range(40)]
    failed = [seed for seed, outcome in enumerate(outcomes) if outcome != "success"]
    assert len(outcomes) - len(failed) >= 37, f"scenes {failed}"


def test_only_driving_moves_the_base_and_it_really_drives(rollout: Rollout) -> None:
    base = [rollout.space.index(name) for name in ("base_forward", "base_turn")]
    for skill in NEW:
        episode, _ = perform(rollout, skill, 3)
        assert episode.actions[:, base].any() == (skill == "fetch")
    assert rollout.space.size == 10
    perform(rollout, "fetch", 3)
    odom = rollout.world.odom()
    assert np.hypot(odom.x, odom.y) > 0.2


@pytest.mark.parametrize("skill", NEW)
def test_what_it_does_depends_on_the_present_state_alone(rollout: Rollout, skill: str) -> None:
    """A demonstrator made anew at every step does the same as one that has been there from the start."""
    task, seed = task_of(skill, 4), 4
    scene = sample_scene(task, seed)
    rollout.world.reset(scene)
    first = Demonstrator(rollout.world, task)

    def both(image: object, joints: object) -> np.ndarray:
        action = first.act()
        assert np.array_equal(Demonstrator(rollout.world, task).act(), action)
        return action

    rollout.run(task, scene, both, reset=False, max_steps=15)


@pytest.mark.parametrize("skill", NEW)
def test_every_skill_has_its_flaws_and_each_can_be_drawn(rollout: Rollout, skill: str) -> None:
    task = task_of(skill, 0)
    found = set()
    for seed in range(500_000, 500_250):
        rollout.world.scene = sample_scene(task, seed)  # drawing a flaw looks only at which objects are there
        found.add(Demonstrator(rollout.world, task, NOISE, np.random.default_rng([seed, 3])).flaw)
    assert found == set(FLAWS_OF[skill])


def test_only_the_flaws_asked_for_are_drawn(rollout: Rollout) -> None:
    task = task_of("open_drawer", 0)
    rollout.world.scene = sample_scene(task, 1)
    wanted = ("hasty", "drop", "stay")  # there is no staying away from a drawer
    rngs = (np.random.default_rng(seed) for seed in range(40))
    assert {Demonstrator(rollout.world, task, NOISE, rng, flaws=wanted).flaw for rng in rngs} == {"hasty", "drop"}


@pytest.mark.parametrize(
    ("skill", "flaw"),
    [
        ("fetch", "stay"), ("fetch", "wrong_object"), ("move_near", "wrong_object"), ("move_near", "wrong_place"),
        ("place_in_drawer", "wrong_object"), ("place_in_drawer", "open"), ("open_drawer", "wrong_object"),
        ("open_drawer", "hasty"), ("close_drawer", "drop"), ("pick_from_drawer", "hasty"),
    ],
)  # fmt: skip
def test_a_flaw_spoils_the_episode(rollout: Rollout, skill: str, flaw: str) -> None:
    for seed in range(600_000, 600_400):
        task = task_of(skill, seed)
        rollout.world.scene = sample_scene(task, seed)
        if Demonstrator(rollout.world, task, NOISE, np.random.default_rng([seed, 3])).flaw == flaw:
            break
    episode, script = perform(rollout, skill, seed, NOISE)
    assert script.flaw == flaw
    assert episode.outcome == "failure"
    if flaw == "wrong_object":
        assert script.target != task_of(skill, seed).target


def test_disturbed_demonstrations_recover(rollout: Rollout) -> None:
    episodes = [perform(rollout, skill, 10, DART)[0] for skill in NEW]
    assert sum(episode.outcome == "success" for episode in episodes) >= len(NEW) - 1


@pytest.mark.parametrize(("skill", "far"), [("move_near", 0.03), ("place_in_drawer", 0.03), ("open_drawer", 0.0)])
def test_the_key_point_is_the_target_and_once_it_is_held_where_it_goes(
    rollout: Rollout, skill: str, far: float
) -> None:
    task, seed = task_of(skill, 6), 6
    scene = sample_scene(task, seed)
    world = rollout.world
    world.reset(scene)
    script, targets, held = Demonstrator(world, task), [], []

    def act(image: object, joints: object) -> np.ndarray:
        targets.append(world.project(world.object_pose(task.target)[:3]))
        held.append(all(world.finger_contacts(task.target)))
        return script.act()

    episode = rollout.run(task, scene, act, reset=False)
    assert episode.keypoints is not None and any(held) and not all(held)
    points, apart = episode.keypoints[:, 0, :2], np.array(targets)[:, :2]
    distance = np.linalg.norm(points - apart, axis=1)
    assert np.allclose(distance[~np.array(held)], 0.0, atol=1e-5)
    if far:
        assert distance[np.array(held)].max() > far
    else:
        assert np.allclose(distance, 0.0, atol=1e-5)


def test_goals_are_where_the_detectors_want_things(rollout: Rollout) -> None:
    """The state that a rule works towards is a success: of every skill that has a goal elsewhere."""
    for skill in ("move_near", "place_in_drawer", "open_drawer", "close_drawer"):
        task = task_of(skill, 7)
        rollout.world.reset(sample_scene(task, 7))
        rule = RULES[skill](rollout.world, task.target, task.near)
        before = float(np.linalg.norm(rule.goal() - rollout.world.object_pose(task.target)[:3]))
        episode, _ = perform(rollout, skill, 7)
        after = float(np.linalg.norm(rule.goal() - rollout.world.object_pose(task.target)[:3]))
        assert episode.outcome == "success"
        assert after < 0.03 < 0.08 < before, skill
