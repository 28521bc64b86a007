"""Success from poses alone agrees with success from contacts."""

from __future__ import annotations

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.episode_maker import EpisodeMaker, Plan
from qt_ros.sim.pose_scoring import SKILLS, Body, PoseScorer, Verdict, check_skill, rotation_matrix
from qt_ros.sim.scoring import NEAR, RESTING, STAYED, STILL
from qt_ros.sim.tasks import Scorer, Task, find_task, load_tasks
from qt_ros.sim.world import World

CONTRACT = load_contract("mobile_manipulator")
SCORER = PoseScorer(CONTRACT)
HOME = CONTRACT.kinematics.home
TASK = find_task("pick_red_cube")
MOVE = find_task("move_red_cube_near_yellow_box")
ORIGIN = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def at_tool(offset: tuple[float, float, float] = (0.0, 0.0, 0.0), base: tuple[float, ...] = ORIGIN) -> list[float]:
    """Pose of an object ``offset`` m from tool0, in tool0's axes, with the arm at home and the robot at ``base``."""
    position, rotation = SCORER._arm.fk([HOME[j] for j in SCORER._arm.joints])
    in_base = position + rotation @ np.array(offset)
    return [*(rotation_matrix(base[3:]) @ in_base + np.array(base[:3])), 0.0, 0.0, 0.0, 1.0]


def judge(target: list[float], lift: float = 0.1, base: tuple[float, ...] = ORIGIN, finger: float = 0.02) -> Verdict:
    body = Body(target, (*target[:2], target[2] - lift))
    return SCORER.verdict(TASK, {TASK.target: body}, base, {**HOME, "left_finger_joint": finger})


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


def test_the_hand_is_where_the_lift_was_measured_and_at_home_where_it_was_not() -> None:
    x, y, z, *turn = at_tool()
    bodies = {TASK.target: Body((x, y, z - 0.1, *turn), (x, y, z - 0.2))}
    arm = {**HOME, "left_finger_joint": 0.02}
    assert SCORER.verdict(TASK, bodies, ORIGIN, {**arm, "lift_joint": HOME["lift_joint"] - 0.1}).held
    assert not SCORER.verdict(TASK, bodies, ORIGIN, arm).held
    del arm["lift_joint"]
    assert not SCORER.verdict(TASK, bodies, ORIGIN, arm).held


def test_a_missing_joint_is_named() -> None:
    with pytest.raises(ValueError, match="left_finger_joint"):
        joints = {j: HOME[j] for j in CONTRACT.kinematics.arm_joints}
        SCORER.verdict(TASK, {TASK.target: Body(at_tool(), (0, 0, 0))}, ORIGIN, joints)


def test_a_skill_without_a_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="juggle"):
        SCORER.verdict(Task("t", "juggle", "red_cube", (), ()), {}, ORIGIN, HOME)


def test_a_quaternion_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="no length"):
        rotation_matrix((0.0, 0.0, 0.0, 0.0))


def robot_in_world(world: World) -> np.ndarray:
    """The base's pose, as Gazebo would tell it."""
    body = world.data.body("base_link")
    return np.concatenate([body.xpos, body.xquat[1:], body.xquat[:1]])


def by_poses(world: World, task: Task) -> Verdict:
    """What would be judged of the world if only poses were known."""
    named = [name for name in (task.target, task.near) if name]
    bodies = {n: Body(world.object_pose(n), world.rest_position(n), world.object_speed(n)) for n in named}
    return SCORER.verdict(task, bodies, robot_in_world(world), world.joint_positions())


@pytest.mark.parametrize(
    ("task", "source", "seeds"),
    [
        ("", "demonstration", range(1_500_000, 1_500_002)),
        ("", "noise", range(3)),
        ("fetch_red_cube", "demonstration", range(1_500_000, 1_500_001)),
        ("move_red_cube_near_yellow_box", "demonstration", range(1_500_000, 1_500_002)),
    ],
)
def test_it_agrees_with_the_contacts_of_the_embedded_simulator(task: str, source: str, seeds: range) -> None:
    maker = EpisodeMaker(Plan(source=source, seeds=tuple(seeds), tasks=(task,) if task else ()))
    maker.rollout.render = False
    outcomes = []
    for seed in seeds:
        _, result = maker.run(seed)
        asked, world = find_task(result.task), maker.world
        verdict = by_poses(world, asked)
        assert verdict.success == Scorer(asked).success(world), (seed, verdict)
        outcomes.append(verdict.success)
    assert any(outcomes) if source == "demonstration" else not all(outcomes)


APART = NEAR - 0.001


@pytest.mark.parametrize(
    ("apart", "lifted", "pushed", "speed", "success"),
    [
        (APART, 0.0, 0.0, 0.0, True),
        (NEAR + 0.001, 0.0, 0.0, 0.0, False),
        (APART, RESTING + 0.001, 0.0, 0.0, False),
        (APART, 0.0, STAYED + 0.001, 0.0, False),
        (APART, 0.0, STAYED - 0.001, 0.0, True),
        (APART, 0.0, 0.0, STILL + 0.001, False),
    ],
)
def test_moved_near_is_close_by_standing_still_with_the_other_left_in_place(
    apart: float, lifted: float, pushed: float, speed: float, success: bool
) -> None:
    target = Body((1.0, 0.0, 0.7 + lifted, 0, 0, 0, 1), (0.5, 0.0, 0.7), speed)
    other = Body((1.0 + apart, 0.0, 0.7, 0, 0, 0, 1), (1.0 + apart, pushed, 0.7))
    verdict = SCORER.verdict(MOVE, {MOVE.target: target, MOVE.near: other}, ORIGIN, HOME)
    assert verdict.success is success, verdict.told


@pytest.mark.parametrize(("finger", "success"), [(0.02, False), (0.045, True)])
def test_an_object_between_the_fingers_is_let_go_when_they_are_open(finger: float, success: bool) -> None:
    x, y, z, *turn = at_tool()
    bodies = {
        MOVE.target: Body((x, y, z, *turn), (x + 0.3, y, z)),
        MOVE.near: Body((x + 0.1, y, z, *turn), (x + 0.1, y, z)),
    }
    assert SCORER.verdict(MOVE, bodies, ORIGIN, {**HOME, "left_finger_joint": finger}).success is success


def test_an_object_without_a_pose_is_named() -> None:
    with pytest.raises(ValueError, match=f"no pose of {MOVE.near}"):
        SCORER.verdict(MOVE, {MOVE.target: Body(at_tool(), (0, 0, 0))}, ORIGIN, HOME)


def test_what_is_about_the_drawer_is_refused_by_name() -> None:
    refused = [task for task in load_tasks().values() if task.skill not in SKILLS]
    assert {t.skill for t in refused} == {"open_drawer", "close_drawer", "place_in_drawer", "pick_from_drawer"}
    for task in refused:
        with pytest.raises(ConfigError, match=f"{task.name}.*{task.skill}.*pick, fetch, move_near"):
            check_skill(task)
