from __future__ import annotations

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.episodes.episode import Episode
from qt_ros.sim.demonstrator import (
    CLEAN,
    DART,
    FLAWS,
    NOISE,
    Demonstrator,
    GraspSettings,
    GraspState,
    NoiseSpec,
    grasp_action,
)
from qt_ros.sim.rollout import Rollout
from qt_ros.sim.tasks import default_tasks, find_task, sample_scene
from qt_ros.sim.world import SceneSpec, World

STEP = 0.05
SETTINGS = GraspSettings()
OBJECT = np.array([0.6, 0.0, 0.721])


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    contract = load_contract("mobile_manipulator")
    return Rollout(World(contract), contract)


def perform(
    rollout: Rollout, seed: int, noise: NoiseSpec = CLEAN, task: str | None = None
) -> tuple[Episode, Demonstrator]:
    scene = sample_scene(find_task(task) if task else None, seed)
    rollout.world.reset(scene)
    script = Demonstrator(rollout.world, scene, noise, np.random.default_rng([seed, 3]))
    episode = rollout.run(find_task(scene.task), scene, lambda image, joints: script.act(), reset=False)
    return episode, script


def at(tool: tuple[float, ...], closedness: float = 0.0, held: bool = False, lifted: float = 0.0) -> GraspState:
    """The tool at ``tool`` (x, y, z in m) from the object."""
    return GraspState(OBJECT + np.array(tool), OBJECT, closedness, held, lifted)


def test_far_away_it_moves_at_full_speed_towards_the_object() -> None:
    action = grasp_action(at((-0.2, 0.2, 0.25)), SETTINGS, STEP)
    assert action.motion == pytest.approx([STEP, -STEP, -STEP])
    assert not action.close and not action.terminate


def test_it_stays_above_other_objects_until_it_is_over_the_target() -> None:
    beside = grasp_action(at((0.1, 0.0, SETTINGS.clearance)), SETTINGS, STEP)
    above = grasp_action(at((0.0, 0.0, SETTINGS.clearance)), SETTINGS, STEP)
    assert beside.motion[2] == 0.0
    assert above.motion[2] < -0.04


def test_beside_the_object_and_low_it_rises_before_it_moves_sideways() -> None:
    action = grasp_action(at((0.06, 0.0, 0.0)), SETTINGS, STEP)
    assert action.motion[2] == pytest.approx(STEP)
    assert action.motion[0] == 0.0


def test_around_the_object_it_closes_and_waits() -> None:
    action = grasp_action(at((0.005, -0.005, 0.004), closedness=0.3), SETTINGS, STEP)
    assert action.close and not action.motion.any()


def test_fingers_that_closed_on_nothing_are_opened_while_it_rises() -> None:
    action = grasp_action(at((0.0, 0.0, 0.0), closedness=1.0), SETTINGS, STEP)
    assert not action.close
    assert action.motion[2] == pytest.approx(STEP)


def test_an_object_in_the_hand_is_lifted_and_only_then_it_terminates() -> None:
    low = grasp_action(at((0.0, 0.0, 0.0), 0.58, held=True, lifted=0.02), SETTINGS, STEP)
    high = grasp_action(at((0.0, 0.0, 0.0), 0.58, held=True, lifted=0.12), SETTINGS, STEP)
    assert low.close and not low.terminate and low.motion == pytest.approx([0.0, 0.0, STEP])
    assert high.close and high.terminate


def test_it_gives_up_when_the_object_is_out_of_reach() -> None:
    state = GraspState(OBJECT, OBJECT + [0.5, 0.0, 0.0], 0.0, held=False, lifted=0.0, lost=True)
    assert grasp_action(state, SETTINGS, STEP).terminate


def test_motions_lie_on_a_coarse_grid() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        action = grasp_action(at(tuple(rng.uniform(-0.2, 0.2, 3))), SETTINGS, STEP)
        assert np.allclose(action.motion / SETTINGS.resolution, np.round(action.motion / SETTINGS.resolution))


@pytest.mark.parametrize("task", default_tasks())
def test_it_picks_every_object_without_noise(rollout: Rollout, task: str) -> None:
    episode, _ = perform(rollout, 11, task=task)
    assert episode.outcome == "success" and episode.reason == "terminate"
    assert len(episode) <= 25


def test_a_demonstration_ends_with_one_terminate_and_leaves_unused_dimensions_neutral(rollout: Rollout) -> None:
    episode, _ = perform(rollout, 12)
    space = rollout.space
    terminate = episode.actions[:, space.index("terminate")]
    assert (terminate[:-1] < 0.5).all() and terminate[-1] >= 0.5
    for name in ("droll", "dpitch", "dyaw", "base_forward", "base_turn"):
        assert (episode.actions[:, space.index(name)] == 0.0).all()


def test_it_recovers_from_disturbances(rollout: Rollout) -> None:
    episodes = [perform(rollout, seed, DART)[0] for seed in range(100, 112)]
    assert sum(e.outcome == "success" for e in episodes) >= 11
    clean = [perform(rollout, seed)[0] for seed in range(100, 112)]
    assert sum(map(len, episodes)) > sum(map(len, clean))


def test_the_same_seed_gives_the_same_noise(rollout: Rollout) -> None:
    first, _ = perform(rollout, 7, NOISE)
    perform(rollout, 8, NOISE)
    again, _ = perform(rollout, 7, NOISE)
    assert np.array_equal(first.bins, again.bins) and np.array_equal(first.images, again.images)


@pytest.fixture(scope="module")
def flawed(rollout: Rollout) -> dict[str, tuple[Episode, Demonstrator]]:
    """One episode with each flaw, by name."""
    found: dict[str, tuple[Episode, Demonstrator]] = {}
    for seed in range(500_000, 500_400):
        scene = sample_scene(None, seed)
        flaw = _flaw_of(rollout.world, scene, seed)
        if flaw not in found:
            found[flaw] = perform(rollout, seed, NOISE)
        if len(found) == len(FLAWS):
            break
    return found


def _flaw_of(world: World, scene: SceneSpec, seed: int) -> str:
    world.scene = scene  # drawing a flaw looks only at which objects are there
    return Demonstrator(world, scene, NOISE, np.random.default_rng([seed, 3])).flaw


def test_every_flaw_occurs(flawed: dict[str, tuple[Episode, Demonstrator]]) -> None:
    assert set(flawed) == set(FLAWS)


@pytest.mark.parametrize("flaw", ["wrong_object", "hasty", "open", "drop"])
def test_a_flaw_spoils_the_episode(flawed: dict[str, tuple[Episode, Demonstrator]], flaw: str) -> None:
    episode, script = flawed[flaw]
    assert script.flaw == flaw
    assert episode.outcome == "failure" and episode.rewards.sum() == 0.0


def test_picking_something_else_is_a_perfect_pick_of_the_wrong_object(
    flawed: dict[str, tuple[Episode, Demonstrator]],
) -> None:
    episode, script = flawed["wrong_object"]
    assert script.target != find_task(episode.task).target
    assert episode.reason == "terminate"


def test_never_closing_never_closes(flawed: dict[str, tuple[Episode, Demonstrator]], rollout: Rollout) -> None:
    episode, script = flawed["open"]
    asked = episode.actions[:, rollout.space.index("gripper")] > 0.5
    assert asked.mean() < 0.2  # only the rare flip
