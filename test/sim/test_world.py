from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from qt_ros.contract.kinematics import Kinematics
from qt_ros.sim.scene import ARM_JOINTS
from qt_ros.sim.tasks import LIFT_HEIGHT, Scorer, default_tasks, find_task, sample_scene
from qt_ros.sim.world import Placement, SceneSpec, World

TICK = 0.02
DOWN = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def _run(world: World, seconds: float) -> None:
    for _ in range(round(seconds / TICK)):
        world.step(TICK)


class Hand:
    """Moves the tool along straight lines with plain differential inverse kinematics; the hand points down."""

    def __init__(self, world: World) -> None:
        self.world = world
        spec = world.contract.kinematics
        self.arm = Kinematics(world.contract.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=spec.home)
        self.q = np.array([world.joint_positions()[name] for name in ARM_JOINTS])
        self.home = np.array([spec.home[name] for name in ARM_JOINTS])

    def move(self, goal: np.ndarray, yaw: float, speed: float = 0.25) -> None:
        start, rotation = self.arm.fk(self.q)
        start_yaw = math.atan2(rotation[1, 0], rotation[0, 0])
        ticks = max(1, round(max(np.linalg.norm(goal - start) / speed, abs(yaw - start_yaw) / 1.2) / TICK))
        for i in range(1, ticks + 1):
            self._track(start + (goal - start) * i / ticks, start_yaw + (yaw - start_yaw) * i / ticks)
            self.world.set_arm_target(dict(zip(ARM_JOINTS, self.q)))
            self.world.step(TICK)

    def _track(self, position: np.ndarray, yaw: float) -> None:
        turn = np.array([[math.cos(yaw), -math.sin(yaw), 0.0], [math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        for _ in range(3):
            now, rotation = self.arm.fk(self.q)
            error = turn @ DOWN @ rotation.T
            skew = 0.5 * np.array([error[2, 1] - error[1, 2], error[0, 2] - error[2, 0], error[1, 0] - error[0, 1]])
            jacobian = self.arm.jacobian(self.q)
            inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + 1e-4 * np.eye(6))
            posture = (np.eye(7) - inverse @ jacobian) @ (0.05 * (self.home - self.q))
            self.q = self.q + inverse @ np.concatenate([position - now, skew]) + posture


def _pick(world: World, yaw: float, height: float = 0.15, close: bool = True) -> None:
    target = world.scene.target
    hand = Hand(world)
    place = world.object_pose(target)[:3]
    hand.move(place + (0.0, 0.0, 0.10), yaw)
    hand.move(place, yaw)
    _run(world, 0.2)
    if close:
        world.set_gripper(1.0)
        _run(world, 0.5)
    hand.move(place + (0.0, 0.0, height), yaw)
    _run(world, 1.0)


@pytest.mark.parametrize("task", default_tasks())
@pytest.mark.parametrize("yaw", [-0.6, 0.0, 0.6])
def test_friction_holds_every_object_while_it_is_lifted(world: World, task: str, yaw: float) -> None:
    world.reset(sample_scene(find_task(task), 11))
    _pick(world, yaw)
    scorer = Scorer(find_task(task))
    assert scorer.lift(world) == pytest.approx(0.15, abs=0.01)
    assert scorer.success(world)


def test_without_closing_the_gripper_nothing_is_lifted(world: World) -> None:
    task = find_task("pick_red_cube")
    world.reset(sample_scene(task, 11))
    _pick(world, 0.0, close=False)
    assert abs(Scorer(task).lift(world)) < 0.005
    assert not Scorer(task).success(world)


def test_opening_the_gripper_drops_the_object(world: World) -> None:
    task = find_task("pick_yellow_box")
    world.reset(sample_scene(task, 3))
    _pick(world, 0.0)
    assert Scorer(task).success(world)
    world.set_gripper(0.0)
    _run(world, 1.0)
    assert world.finger_contacts("yellow_box") == (False, False)
    assert Scorer(task).lift(world) < LIFT_HEIGHT / 2


def test_the_grip_force_is_limited(world: World) -> None:
    import mujoco

    world.reset(sample_scene(find_task("pick_green_cylinder"), 3))
    _pick(world, 0.0)
    squeeze, force = 0.0, np.empty(6)
    finger = world.model.body("left_finger_link").id
    for i in range(world.data.ncon):
        if finger in world.model.geom_bodyid[world.data.contact[i].geom]:
            mujoco.mj_contactForce(world.model, world.data, i, force)
            squeeze += force[0]
    assert 10.0 < squeeze < 40.0


def test_same_scene_and_commands_give_the_same_motion_in_any_world(world: World) -> None:
    def run(one: World) -> np.ndarray:
        one.reset(sample_scene(find_task("pick_purple_cube"), 5))
        _pick(one, 0.3)
        return one.data.qpos.copy()

    first = run(world)
    world.reset(sample_scene(None, 8))
    assert np.array_equal(run(world), first)
    assert np.array_equal(run(World()), first)


def test_robot_starts_at_home_and_stays_there(world: World) -> None:
    world.reset(SceneSpec())
    _run(world, 1.0)
    positions = world.joint_positions()
    for name, home in world.contract.kinematics.home.items():
        assert positions[name] == pytest.approx(home, abs=2e-3), name
    assert world.tool_pose()[:3] == pytest.approx([0.6, 0.0, 0.91], abs=2e-3)


def test_clock_starts_at_zero_and_counts_simulated_seconds(world: World) -> None:
    world.reset(SceneSpec())
    assert world.time == 0.0
    _run(world, 0.5)
    assert world.time == pytest.approx(0.5)


def test_objects_stand_where_the_scene_puts_them_and_the_others_are_away(world: World) -> None:
    world.reset(
        SceneSpec(objects={"red_cube": Placement(0.5, 0.1, 0.70, 0.4), "blue_ball": Placement(0.7, -0.2, 0.70)})
    )
    _run(world, 2.0)
    cube = world.object_pose("red_cube")
    assert cube[:3] == pytest.approx([0.5, 0.1, 0.721], abs=1e-3)
    assert cube[3:] == pytest.approx([0.0, 0.0, math.sin(0.2), math.cos(0.2)], abs=1e-3)
    assert world.object_pose("blue_ball")[:3] == pytest.approx([0.7, -0.2, 0.722], abs=1e-3)
    assert all(world.object_pose(name)[0] < -2.0 for name in world.objects if name not in ("red_cube", "blue_ball"))


def test_an_object_put_in_the_air_falls(world: World) -> None:
    world.reset(SceneSpec(objects={"cyan_cube": Placement(0.6, 0.2, 0.85)}))
    assert world.object_pose("cyan_cube")[2] == pytest.approx(0.721, abs=2e-3)


def test_a_pushed_object_moves(world: World) -> None:
    world.reset(SceneSpec(objects={"white_box": Placement(0.6, 0.12, 0.70)}))
    hand = Hand(world)
    hand.move(np.array([0.6, 0.0, 0.735]), 0.0)
    hand.move(np.array([0.6, 0.12, 0.735]), 0.0)
    assert world.object_pose("white_box")[1] > 0.15


def test_the_base_does_not_sway_while_the_arm_swings(world: World) -> None:
    world.reset(SceneSpec())
    home = world.contract.kinematics.home["arm_joint_1"]
    furthest = 0.0
    for i in range(150):
        world.set_arm_target({"arm_joint_1": home + 0.3 * math.sin(3.0 * i * TICK)})
        world.step(TICK)
        odom = world.odom()
        furthest = max(furthest, abs(odom.x), abs(odom.y), abs(odom.yaw))
    assert furthest < 0.003


def test_the_base_drives_along_its_heading_and_the_wheels_turn_with_it(world: World) -> None:
    world.reset(SceneSpec())
    world.set_base(-0.3, 0.0)
    _run(world, 1.0)
    assert world.odom().forward == pytest.approx(-0.3, abs=0.02)
    world.set_base(0.0, math.pi / 4)
    _run(world, 2.0)
    world.set_base(-0.2, 0.0)
    _run(world, 1.0)
    world.set_base(0.0, 0.0)
    _run(world, 0.5)
    odom = world.odom()
    assert (odom.x, odom.y, odom.yaw) == pytest.approx((-0.3, -0.2, math.pi / 2), abs=2e-3)
    wheels = world.joint_positions()
    left, right = wheels["left_wheel_joint"] * 0.09, wheels["right_wheel_joint"] * 0.09
    assert (left + right) / 2 == pytest.approx(-0.5, abs=2e-3)
    assert (right - left) / 0.5 == pytest.approx(math.pi / 2, abs=5e-3)


def test_poses_are_given_in_the_frame_asked_for(world: World) -> None:
    world.reset(SceneSpec(objects={"red_cube": Placement(0.6, 0.0, 0.70)}))
    world.set_base(-0.25, 0.0)
    _run(world, 1.0)
    world.set_base(0.0, 0.0)
    _run(world, 0.4)
    assert world.object_pose("red_cube", "world")[0] == pytest.approx(0.6, abs=1e-3)
    assert world.object_pose("red_cube", "base_link")[0] == pytest.approx(0.85, abs=3e-3)
    assert world.tool_pose("base_link")[0] == pytest.approx(0.6, abs=3e-3)
    assert world.tool_pose("world")[0] == pytest.approx(0.35, abs=3e-3)


def test_the_table_stops_the_base_and_a_blocked_command_does_not_wind_up(world: World) -> None:
    world.reset(SceneSpec())
    world.set_base(0.4, 0.0)
    _run(world, 3.0)
    blocked = world.odom()
    assert blocked.x < 0.5 and abs(blocked.forward) < 0.02
    world.set_base(-0.4, 0.0)
    _run(world, 0.6)
    assert world.odom().x < blocked.x - 0.1


def test_the_lift_moves_the_arm(world: World) -> None:
    world.reset(SceneSpec())
    world.set_arm_target({"lift_joint": 0.3})
    _run(world, 1.5)
    assert world.tool_pose()[2] == pytest.approx(1.01, abs=3e-3)


def test_the_gripper_closes_symmetrically_at_limited_speed(world: World) -> None:
    world.reset(SceneSpec())
    world.set_gripper(1.0)
    _run(world, 0.1)
    assert 0.03 < world.joint_positions()["left_finger_joint"] < 0.045
    _run(world, 0.6)
    positions = world.joint_positions()
    assert positions["left_finger_joint"] == pytest.approx(0.0, abs=1e-3)
    assert positions["right_finger_joint"] == pytest.approx(positions["left_finger_joint"], abs=1e-3)


def test_the_drawer_slides_open_when_its_handle_is_pulled(world: World) -> None:
    world.reset(SceneSpec())
    drawer = world.model.body("drawer").id
    for _ in range(50):
        world.data.xfrc_applied[drawer, 0] = -20.0
        world.step(TICK)
    opened = float(world.data.joint("drawer_joint").qpos[0])
    assert 0.1 < opened <= 0.31
    world.reset(SceneSpec())
    assert float(world.data.joint("drawer_joint").qpos[0]) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_commands_are_refused(world: World, value: float) -> None:
    world.reset(SceneSpec())
    with pytest.raises(ValueError, match="arm_joint_3"):
        world.set_arm_target({"arm_joint_3": value})
    with pytest.raises(ValueError, match="gripper"):
        world.set_gripper(value)
    with pytest.raises(ValueError, match="turn"):
        world.set_base(0.0, value)


def test_unknown_names_are_refused_with_the_known_ones(world: World) -> None:
    scene = SceneSpec(objects={"red_cube": Placement(0.6, 0.0, 0.70)})
    with pytest.raises(ValueError, match="green_elephant"):
        world.reset(replace(scene, objects={"green_elephant": Placement(0.6, 0.0, 0.70)}))
    with pytest.raises(ValueError, match="arm_joint_9"):
        world.reset(replace(scene, joints={"arm_joint_9": 0.0}))
    world.reset(scene)
    with pytest.raises(ValueError, match="left_wheel_joint"):
        world.set_arm_target({"left_wheel_joint": 1.0})
    with pytest.raises(ValueError, match="green_elephant"):
        world.object_pose("green_elephant")
    with pytest.raises(ValueError, match="not in this scene"):
        world.rest_height("blue_ball")
    with pytest.raises(ValueError, match="map"):
        world.tool_pose("map")


@pytest.mark.parametrize("dt", [0.0, -0.02, 0.005])
def test_a_time_step_that_physics_cannot_make_is_refused(world: World, dt: float) -> None:
    with pytest.raises(ValueError, match="multiple"):
        world.step(dt)
