"""Success from poses alone agrees with success from contacts."""

from __future__ import annotations

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.episode_maker import EpisodeMaker, Plan
from qt_ros.sim.pose_scoring import PoseScorer, Verdict, rotation_matrix
from qt_ros.sim.tasks import Scorer, Task, find_task
from qt_ros.sim.world import World

CONTRACT = load_contract("mobile_manipulator")
SCORER = PoseScorer(CONTRACT)
HOME = CONTRACT.kinematics.home
TASK = find_task("pick_red_cube")
ORIGIN = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def at_tool(offset: tuple[float, float, float] = (0.0, 0.0, 0.0), base: tuple[float, ...] = ORIGIN) -> list[float]:
    """Pose of an object ``offset`` m from tool0, in tool0's axes, with the arm at home and the robot at ``base``."""
    position, rotation = SCORER._arm.fk(np.array([HOME[j] for j in CONTRACT.kinematics.arm_joints]))
    in_base = position + rotation @ np.array(offset)
    return [*(rotation_matrix(base[3:]) @ in_base + np.array(base[:3])), 0.0, 0.0, 0.0, 1.0]


def judge(target: list[float], lift: float = 0.1, base: tuple[float, ...] = ORIGIN, finger: float = 0.02) -> Verdict:
    return SCORER.verdict(TASK, target, target[2] - lift, base, {**HOME, "left_finger_joint": finger})


def test_lifted_and_between_the_fingers_is_success() -> None:
    verdict = judge(at_tool((0.0, 0.01, 0.01)))
    assert verdict.success and verdict.held
    np.testing.assert_allclose(verdict.offset, (0.0, 0.01, 0.01), atol=1e-9)


def test_held_but_not_lifted_is_failure() -> None:
    verdict = judge(at_tool(), lift=0.079)
    assert verdict.held and not verdict.success


@pytest.mark.parametrize("offset", [(0.06, 0.0, 0.0), (0.0, 0.04, 0.0), (0.0, 0.0, 0.06), (0.0, 0.0, -0.06)])
def test_lifted_but_beside_the_hand_is_failure(offset: tuple[float, float, float]) -> None:
    assert not judge(at_tool(offset)).success


def test_a_gripper_that_closed_on_nothing_holds_nothing() -> None:
    assert not judge(at_tool(), finger=CONTRACT.kinematics.gripper_closed).held


def test_where_the_robot_stands_does_not_matter() -> None:
    base = (1.5, -2.0, 0.0, 0.0, 0.0, np.sin(0.6), np.cos(0.6))
    assert judge(at_tool(base=base), base=base).success
    assert not judge(at_tool(), base=base).success


def test_a_missing_joint_is_named() -> None:
    with pytest.raises(ValueError, match="left_finger_joint"):
        SCORER.verdict(TASK, at_tool(), 0.0, ORIGIN, {j: HOME[j] for j in CONTRACT.kinematics.arm_joints})


def test_a_skill_without_a_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="juggle"):
        SCORER.verdict(Task("t", "juggle", "red_cube", (), ()), at_tool(), 0.0, ORIGIN, HOME)


def test_a_quaternion_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="no length"):
        rotation_matrix((0.0, 0.0, 0.0, 0.0))


def robot_in_world(world: World) -> np.ndarray:
    """The base's pose, as Gazebo would tell it."""
    body = world.data.body("base_link")
    return np.concatenate([body.xpos, body.xquat[1:], body.xquat[:1]])


@pytest.mark.parametrize(("source", "seeds"), [("demonstration", range(1_500_000, 1_500_002)), ("noise", range(3))])
def test_it_agrees_with_the_contacts_of_the_embedded_simulator(source: str, seeds: range) -> None:
    maker = EpisodeMaker(Plan(source=source, seeds=tuple(seeds)))
    maker.rollout.render = False
    outcomes = []
    for seed in seeds:
        _, result = maker.run(seed)
        task, world = find_task(result.task), maker.world
        verdict = SCORER.verdict(
            task,
            world.object_pose(task.target),
            world.rest_height(task.target),
            robot_in_world(world),
            world.joint_positions(),
        )
        assert verdict.success == Scorer(task).success(world), (seed, verdict)
        outcomes.append(verdict.success)
    assert any(outcomes) if source == "demonstration" else not all(outcomes)
