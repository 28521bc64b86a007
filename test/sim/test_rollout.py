from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import ArrayLike

from qt_ros.contract.codecs import decode_image
from qt_ros.contract.observations import Proprioception, resize_rgb
from qt_ros.contract.robot import load_contract
from qt_ros.control.shaper import Command, CommandShaper
from qt_ros.sim.demonstrator import Demonstrator
from qt_ros.sim.privileged import privileged_state
from qt_ros.sim.robot import SimulatedRobot
from qt_ros.sim.rollout import Rollout
from qt_ros.sim.seeds import TEST_SEEDS, TRAINING_SEEDS, TUNING_SEEDS
from qt_ros.sim.tasks import find_task, sample_scene
from qt_ros.sim.world import World

CONTRACT = load_contract("mobile_manipulator")
SPACE = CONTRACT.action_space
TASK = find_task("pick_red_cube")


@pytest.fixture(scope="module")
def world() -> World:
    return World(CONTRACT)


@pytest.fixture(scope="module")
def rollout(world: World) -> Rollout:
    return Rollout(world, CONTRACT)


def action(**values: float) -> np.ndarray:
    result = SPACE.neutral()
    for name, value in values.items():
        result[SPACE.index(name)] = value
    return SPACE.decode(SPACE.encode(result))


def always(**values: float):  # type: ignore[no-untyped-def]
    return lambda image, joints: action(**values)


def test_seed_ranges_do_not_overlap() -> None:
    assert TRAINING_SEEDS.stop == TUNING_SEEDS.start and TUNING_SEEDS.stop == TEST_SEEDS.start


@pytest.mark.parametrize("size", [(96, 128), (60, 80), (128, 128), (240, 320)])
def test_pictures_are_those_of_the_simulated_cameras_messages(rollout: Rollout, size: tuple[int, int]) -> None:
    pytest.importorskip("sensor_msgs", reason="no ROS here")
    from qt_ros.nodes.sim_messages import ImageMessage, time_message

    robot, camera = SimulatedRobot(CONTRACT), CONTRACT.observation("image")
    message = ImageMessage(camera.height, camera.width, camera.frame)
    with robot.world.camera:
        ours = Rollout(rollout.world, CONTRACT, size)
        for seed in range(2):
            scene = sample_scene(None, seed)
            robot.reset(scene)
            ours.world.reset(scene)
            sent = message.fill(robot.world.render(camera.width, camera.height), time_message(1))
            assert np.array_equal(ours.observe(), resize_rgb(decode_image(sent), *size))


def test_the_actor_is_asked_every_policy_period_with_a_policy_sized_picture(rollout: Rollout) -> None:
    seen = []

    def actor(image: np.ndarray, joints: dict[str, float]) -> np.ndarray:
        seen.append((image.shape, set(joints)))
        return action()

    episode = rollout.run(TASK, sample_scene(TASK, 1), actor, max_steps=4)
    assert episode.stamps == pytest.approx([0.0, 0.2, 0.4, 0.6])
    encoder = Proprioception(CONTRACT)
    assert all(s == (96, 128, 3) and j == {*encoder.joints, *encoder.optional_joints} for s, j in seen)


def test_joint_states_are_as_old_as_those_of_a_50_hz_stream(world: World, rollout: Rollout) -> None:
    lags = set()
    for seed in range(12):
        seen: list[tuple[float, float]] = []  # position of one joint: now, and as reported

        def actor(image: np.ndarray, joints: dict[str, float], seen: list[tuple[float, float]] = seen) -> np.ndarray:
            seen.append((world.joint_positions()["arm_joint_1"], joints["arm_joint_1"]))
            return action(dy=0.03)

        rollout.run(TASK, sample_scene(TASK, seed), actor, max_steps=4)
        late = [abs(now - reported) for now, reported in seen]
        assert late[0] == 0.0, "the robot stands still before the first picture"
        speed = abs(seen[3][0] - seen[2][0]) / 0.2
        assert late[3] < 0.02 * speed * 1.3
        lags.add(round(late[3] / speed, 3))
    assert len(lags) > 3 and max(lags) > 0.008


def test_the_workspace_wall_slows_the_commands_as_it_does_in_the_command_node(world: World) -> None:
    class Listening(CommandShaper):
        def tick(self, now: float, tool_position: ArrayLike | None = None) -> Command:
            commands.append(super().tick(now, tool_position))
            return commands[-1]

    commands: list[Command] = []
    rollout = Rollout(world, CONTRACT)
    rollout.shaper = Listening(CONTRACT)
    rollout.run(TASK, sample_scene(TASK, 3), always(dz=0.05), max_steps=12)
    asked = 0.05 / CONTRACT.policy_period
    assert max(c.arm_twist[2] for c in commands) > 0.9 * asked
    assert abs(commands[-1].arm_twist[2]) < 0.1 * asked
    assert world.tool_pose()[2] < CONTRACT.limits.workspace_high[2] + 0.005


def test_what_is_recorded_belongs_to_the_same_moment(world: World, rollout: Rollout) -> None:
    encoder, seen = Proprioception(CONTRACT), []

    def actor(image: np.ndarray, joints: dict[str, float]) -> np.ndarray:
        seen.append((image.copy(), encoder.encode(joints), world.project(world.tool_pose("world")[:3])))
        return action(dx=0.03, gripper=1.0)

    episode = rollout.run(TASK, sample_scene(TASK, 2), actor, max_steps=3)
    assert np.array_equal(episode.images, [s[0] for s in seen])
    assert np.array_equal(episode.proprio, [s[1] for s in seen])
    assert episode.keypoints is not None
    assert np.allclose(episode.keypoints[:, 1], [s[2] for s in seen])
    assert np.array_equal(SPACE.decode(episode.bins.astype(int)).astype(np.float32), episode.actions)


def test_the_privileged_state_is_of_the_same_moment_and_object(world: World, rollout: Rollout) -> None:
    seen, scene = [], sample_scene(TASK, 2)

    def actor(image: np.ndarray, joints: dict[str, float]) -> np.ndarray:
        seen.append(privileged_state(world, scene.target))
        return action(dx=0.03, gripper=1.0)

    assert np.array_equal(rollout.run(TASK, scene, actor, max_steps=3).privileged, seen)


def test_an_actor_that_does_not_look_is_shown_black_and_acts_in_the_same_world(world: World, rollout: Rollout) -> None:
    blind = Rollout(world, CONTRACT, render=False)
    episodes = [r.run(TASK, sample_scene(TASK, 2), always(dx=0.03), max_steps=3) for r in (rollout, blind)]
    assert episodes[0].images.any() and not episodes[1].images.any()
    assert np.array_equal(episodes[0].proprio, episodes[1].proprio)
    assert np.array_equal(episodes[0].privileged, episodes[1].privileged)


def test_the_tool_moves_by_what_was_asked(world: World, rollout: Rollout) -> None:
    scene = sample_scene(TASK, 3)
    world.reset(scene)
    before = world.tool_pose()[:3]
    steps = iter([action(dx=0.04, dy=-0.02)] * 3 + [action()] * 3)
    rollout.run(TASK, scene, lambda image, joints: next(steps), max_steps=6)
    assert world.tool_pose()[:3] - before == pytest.approx([0.12, -0.06, 0.0], abs=0.006)


def test_an_action_takes_effect_only_after_its_latency(world: World, rollout: Rollout) -> None:
    moved = []
    for latency in (0.0, 0.18):
        scene = sample_scene(TASK, 3)
        world.reset(scene)
        before = world.tool_pose()[0]
        rollout.run(TASK, scene, always(dx=0.05), max_steps=1, latency=(latency, latency))
        moved.append(world.tool_pose()[0] - before)
    assert moved[0] > 0.03
    assert abs(moved[1]) < 0.003


def test_terminate_ends_the_episode_and_the_rest_of_the_action_is_not_executed(world: World, rollout: Rollout) -> None:
    scene = sample_scene(TASK, 4)
    world.reset(scene)
    before = world.tool_pose()[:3]
    episode = rollout.run(TASK, scene, always(terminate=1.0, dx=0.05, gripper=1.0), max_steps=10)
    assert len(episode) == 1 and episode.reason == "terminate" and episode.terminated
    assert world.tool_pose()[:3] == pytest.approx(before, abs=1e-3)
    assert episode.outcome == "failure" and episode.rewards.tolist() == [0.0]


def test_an_episode_that_never_terminates_times_out(rollout: Rollout) -> None:
    episode = rollout.run(TASK, sample_scene(TASK, 5), always(), max_steps=3)
    assert len(episode) == 3 and episode.reason == "timeout" and episode.terminated


def test_a_success_pays_one_at_the_last_step_only(world: World, rollout: Rollout) -> None:
    scene = sample_scene(TASK, 6)
    world.reset(scene)
    script = Demonstrator(world, scene)
    episode = rollout.run(TASK, scene, lambda image, joints: script.act(), reset=False, source="demonstration")
    assert episode.outcome == "success"
    assert episode.rewards[-1] == 1.0 and episode.rewards[:-1].sum() == 0.0
    assert episode.instruction == scene.instruction and episode.task == "pick_red_cube" and episode.seed == 6


def test_the_base_moves_and_stands_still_afterwards(world: World, rollout: Rollout) -> None:
    rollout.run(TASK, sample_scene(TASK, 7), always(base_forward=-0.05), max_steps=4)
    assert world.odom().x < -0.05
    world.step(0.4)
    assert abs(world.odom().forward) < 0.01


def test_the_same_scene_and_actions_give_the_same_episode_bit_for_bit(rollout: Rollout) -> None:
    def one() -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        episode = rollout.run(
            TASK, sample_scene(TASK, 8), lambda image, joints: rng.uniform(SPACE.low, SPACE.high) * 0.49, max_steps=8
        )
        return episode.images, episode.proprio

    first = one()
    rollout.run(TASK, sample_scene(TASK, 9), always(dz=-0.05), max_steps=5)
    again = one()
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


def test_an_action_that_is_not_finite_is_refused(rollout: Rollout) -> None:
    with pytest.raises(ValueError, match="dx"):
        rollout.run(TASK, sample_scene(TASK, 1), lambda image, joints: action() * np.nan, max_steps=2)


def test_a_latency_beyond_the_policy_period_is_refused(rollout: Rollout) -> None:
    with pytest.raises(ValueError, match="latency"):
        rollout.run(TASK, sample_scene(TASK, 1), always(), latency=(0.1, 0.3))


def test_q_values_of_a_decision_are_kept(world: World) -> None:
    @dataclass
    class Decision:
        values: np.ndarray
        q: np.ndarray

    q = np.linspace(0.0, 1.0, SPACE.size, dtype=np.float32)
    episode = Rollout(world, CONTRACT, (48, 64)).run(
        TASK, sample_scene(TASK, 1), lambda image, joints: Decision(action(), q), max_steps=2
    )
    assert episode.q_values is not None and np.array_equal(episode.q_values, [q, q])
    assert episode.images.shape == (2, 48, 64, 3)
