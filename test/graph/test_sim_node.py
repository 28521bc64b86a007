"""sim_node is a robot to everybody else: sensors keep their rates, controllers obey, scenes come back by seed."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from domains import reserved_domain
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from simulators import begin
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from qt_ros.cli.processes import NodeGroup, NodeProcess
from qt_ros.contract.codecs import decode_image, stamp_to_ns
from qt_ros.contract.robot import load_contract
from qt_ros.msg import EpisodeOutcome, EpisodeStatus
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.lifecycle import LATCHED

CONTRACT = load_contract("mobile_manipulator")
HOME = CONTRACT.kinematics.home


class Watcher:
    """A client that keeps what sim_node publishes and can command it."""

    def __init__(self, client: GraphClient, process: NodeProcess) -> None:
        self.client, self.heard, self.process = client, {}, process.process
        node = client.node
        for kind, topic, qos in (
            (Image, "head_camera/image_raw", 10),
            (CompressedImage, "head_camera/image_raw/compressed", 10),
            (CameraInfo, "head_camera/camera_info", 10),
            (JointState, "joint_states", 100),
            (Odometry, "odom", 100),
            (Clock, "/clock", 100),
            (EpisodeOutcome, "episode_outcome", LATCHED),
        ):
            self.heard[topic] = []
            node.create_subscription(kind, topic, self.heard[topic].append, qos)
        self.arm = node.create_publisher(JointTrajectory, "arm_controller/joint_trajectory", 1)
        self.gripper = node.create_publisher(JointTrajectory, "gripper_controller/joint_trajectory", 1)
        self.base = node.create_publisher(TwistStamped, "cmd_vel", 1)
        self.status = node.create_publisher(EpisodeStatus, "episode_status", LATCHED)

    def until(self, topic: str, test: Any, what: str) -> Any:
        self.heard[topic].clear()
        self.client.wait(lambda: any(test(m) for m in self.heard[topic]), 60.0, what)
        return next(m for m in self.heard[topic] if test(m))

    def joint(self, name: str, test: Any) -> None:
        self.until("joint_states", lambda m: test(m.position[list(m.name).index(name)]), f"{name} to move")

    def say(self, episode_id: str, state: int, stamp: Time | None = None) -> None:
        message = EpisodeStatus(episode_id=episode_id, state=state)
        message.header.stamp = stamp or self.heard["/clock"][-1].clock
        self.status.publish(message)


@pytest.fixture(scope="module")
def sim() -> Iterator[Watcher]:
    import tempfile

    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with NodeGroup(Path(folder)).running() as group:
            process = group.start("sim_node", {"real_time_factor": 0.0})
            client = GraphClient(group.check)
            client.wait_for_service("reset_scene")
            watcher = Watcher(client, process)
            topics = ("head_camera/image_raw", "joint_states", "/clock")
            client.wait_for_links([("sim_node", t, "demo_client") for t in topics])
            client.wait_for_links([("demo_client", t, "sim_node") for t in ("cmd_vel", "episode_status")])
            yield watcher
            client.close()


def test_sensors_keep_their_rates_in_simulated_time_and_the_clock_never_goes_back(sim: Watcher) -> None:
    for messages in sim.heard.values():
        messages.clear()
    sim.client.wait(lambda: len(sim.heard["head_camera/image_raw"]) >= 16, 60.0, "a second of images")
    images = [stamp_to_ns(m.header.stamp) for m in sim.heard["head_camera/image_raw"]]
    joints = [stamp_to_ns(m.header.stamp) for m in sim.heard["joint_states"]]
    clock = [stamp_to_ns(m.clock) for m in sim.heard["/clock"]]
    # sim_node runs as fast as it can here, and a watcher that lags behind misses some: most of them are a period apart.
    frames = [int(t * 1e-9 * 15 + 1e-6) for t in images]  # numbers on the camera's grid
    assert all(t * 1e-9 - n / 15 < 0.005 for t, n in zip(images, frames, strict=True)), "a frame after its time"
    assert median(b - a for a, b in zip(frames, frames[1:], strict=False)) == 1
    assert median(b - a for a, b in zip(joints, joints[1:], strict=False)) == 20_000_000
    assert all(a < b for a, b in zip(clock, clock[1:], strict=False))
    assert median(b - a for a, b in zip(clock, clock[1:], strict=False)) <= 10_000_000


def test_raw_and_compressed_images_show_the_same_scene(sim: Watcher) -> None:
    info = sim.until("head_camera/camera_info", lambda m: True, "the intrinsics")
    raw = sim.until("head_camera/image_raw", lambda m: True, "an image")
    assert (raw.encoding, raw.width, raw.height, raw.step) == ("rgb8", 640, 480, 1920)
    assert raw.header.frame_id == info.header.frame_id == "head_camera_optical_frame"
    assert (info.width, info.height) == (640, 480)
    assert info.k[0] > 0
    jpeg = sim.until("head_camera/image_raw/compressed", lambda m: True, "a compressed image")
    difference = abs(decode_image(jpeg).astype(int) - decode_image(raw).astype(int))
    assert difference.mean() < 3.0


def test_the_same_seed_gives_the_same_scene_and_another_seed_another(sim: Watcher) -> None:
    pictures = []
    for seed in (2_000_011, 2_000_012, 2_000_011):
        scene = sim.client.reset_scene(seed)
        assert scene.target in scene.objects
        after = stamp_to_ns(sim.until("/clock", lambda m: True, "the clock").clock)
        image = sim.until("head_camera/image_raw", lambda m, t=after: stamp_to_ns(m.header.stamp) > t, "an image")
        pictures.append(decode_image(image).astype(int))
    assert abs(pictures[0] - pictures[2]).mean() < 0.2
    assert abs(pictures[0] - pictures[1]).mean() > 0.5


def test_the_arm_follows_a_trajectory_and_the_gripper_closes(sim: Watcher) -> None:
    sim.client.reset_scene(2_000_013)
    goal = HOME["arm_joint_1"] + 0.2
    point = JointTrajectoryPoint(positions=[goal])
    point.time_from_start.nanosec = 500_000_000
    sim.arm.publish(JointTrajectory(joint_names=["arm_joint_1"], points=[point]))
    sim.joint("arm_joint_1", lambda q: abs(q - goal) < 0.02)
    sim.gripper.publish(
        JointTrajectory(joint_names=["left_finger_joint"], points=[JointTrajectoryPoint(positions=[0.01])])
    )
    sim.joint("left_finger_joint", lambda q: q < 0.015)


def test_the_base_obeys_a_fresh_velocity_and_brakes_when_it_gets_old(sim: Watcher) -> None:
    message = TwistStamped()
    message.twist.linear.x = 0.3
    sim.base.publish(message)
    sim.until("odom", lambda m: m.twist.twist.linear.x > 0.2, "the base to drive")
    sim.until("odom", lambda m: abs(m.twist.twist.linear.x) < 0.01, "the base to brake")


def test_a_finished_episode_is_judged_once_and_no_scene_is_set_while_one_runs(sim: Watcher) -> None:
    sim.client.reset_scene(2_000_014)
    sim.heard["/clock"].clear()
    sim.client.wait(lambda: bool(sim.heard["/clock"]), 60.0, "the clock")
    begin(sim, "judged", 2_000_015)
    # The clock of who says it lags behind the reset: it ended all the same.
    sim.say("judged", EpisodeStatus.STATE_ENDED, stamp=Time(nanosec=1))
    outcome = sim.until("episode_outcome", lambda m: m.episode_id == "judged", "the outcome")
    assert outcome.outcome == EpisodeStatus.OUTCOME_FAILURE
    assert "lifted" in outcome.comment


def test_an_episode_whose_successor_begins_at_once_is_judged_all_the_same(sim: Watcher) -> None:
    """A preempting goal: the simulator is busy, and reads of the end and of the next beginning only after both."""
    sim.client.reset_scene(2_000_018)
    begin(sim, "preempted", 2_000_018)
    sim.process.send_signal(signal.SIGSTOP)
    sim.say("preempted", EpisodeStatus.STATE_ENDED)
    sim.say("successor", EpisodeStatus.STATE_RUNNING)
    sim.process.send_signal(signal.SIGCONT)
    ids = lambda: [m.episode_id for m in sim.heard["episode_outcome"]]  # noqa: E731
    sim.client.wait(lambda: "preempted" in ids(), 60.0, "the verdict on the one that made way")
    sim.say("successor", EpisodeStatus.STATE_ENDED)
    sim.client.wait(lambda: "successor" in ids(), 60.0, "the verdict on the other")


@pytest.mark.parametrize(
    ("task", "target", "told"),
    [
        ("close_drawer", "drawer_handle", "drawer open 0."),
        ("move_red_cube_near_yellow_box", "red_cube", "m from yellow_box"),
        ("place_blue_ball_in_drawer", "blue_ball", "not inside the drawer"),
        ("fetch_pink_ball", "pink_ball", "lifted"),
    ],
)
def test_every_skill_has_its_scenes_and_is_judged_by_its_own_measure(
    sim: Watcher, task: str, target: str, told: str
) -> None:
    scene = sim.client.reset_scene(2_000_019, task)
    assert (scene.task, scene.target) == (task, target)
    after = stamp_to_ns(sim.until("/clock", lambda m: True, "the clock").clock)
    odom = sim.until("odom", lambda m: stamp_to_ns(m.header.stamp) > after, "the odometry")
    assert abs(odom.pose.pose.position.x) < 0.01 and abs(odom.pose.pose.position.y) < 0.01
    sim.say(f"of {task}", EpisodeStatus.STATE_ENDED, stamp=Time(sec=after // 1_000_000_000 + 1000))
    outcome = sim.until("episode_outcome", lambda m: m.episode_id == f"of {task}", "the outcome")
    assert outcome.outcome == EpisodeStatus.OUTCOME_FAILURE
    assert outcome.comment.startswith(f"task {task}: ") and told in outcome.comment


def test_an_end_said_before_this_scene_was_set_up_is_not_judged_again(sim: Watcher) -> None:
    sim.client.reset_scene(2_000_017)
    sim.client.wait(lambda: bool(sim.heard["/clock"]), 60.0, "the clock")
    now = sim.heard["/clock"][-1].clock
    sim.heard["episode_outcome"].clear()
    sim.say("of another scene", EpisodeStatus.STATE_ENDED, stamp=Time(nanosec=1))
    sim.say("of this scene", EpisodeStatus.STATE_ENDED, stamp=Time(sec=now.sec + 1000))
    sim.client.wait(lambda: bool(sim.heard["episode_outcome"]), 60.0, "an outcome")
    assert [m.episode_id for m in sim.heard["episode_outcome"]] == ["of this scene"]


def test_a_policy_that_starts_anew_frees_the_scene_of_the_one_that_died(sim: Watcher) -> None:
    sim.client.wait(lambda: bool(sim.heard["/clock"]), 60.0, "the clock")
    sim.say("orphan", EpisodeStatus.STATE_RUNNING)

    def accepted() -> bool:
        try:
            return bool(sim.client.reset_scene(2_000_016).success)
        except RuntimeError:
            return False

    sim.client.wait(lambda: not accepted(), 60.0, "the simulator to know of the episode")
    sim.say("", EpisodeStatus.STATE_IDLE)
    sim.client.wait(accepted, 60.0, "the scene to be free again")


def test_a_service_that_has_only_clients_is_waited_for(ros_domain_id: int) -> None:
    client = GraphClient(name="alone")
    with pytest.raises(TimeoutError, match="reset_scene"):
        client.wait_for_service("reset_scene", 1.0)
    client.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_an_error(ros_domain_id: int, tmp_path: Path, number: signal.Signals) -> None:
    with NodeGroup(tmp_path).running() as group:
        node = group.start("sim_node", {"real_time_factor": 0.0})
        client = GraphClient(group.check, "waiting")
        client.wait_for_service("reset_scene")
        client.close()
        node.process.send_signal(number)
        assert node.process.wait(30) == 0, node.tail()
        assert "Traceback" not in node.tail()


def test_what_cannot_be_set_up_is_refused_with_advice(sim: Watcher) -> None:
    with pytest.raises(RuntimeError, match="no task 'juggle'; known: pick_red_cube"):
        sim.client.reset_scene(1, "juggle")
    with pytest.raises(RuntimeError, match="seed -1 is negative"):
        sim.client.reset_scene(-1)


def test_malformed_messages_are_refused_and_the_simulation_goes_on(sim: Watcher) -> None:
    sim.client.reset_scene(3)
    wrong = Time(sec=-5, nanosec=4_000_000_000)
    point = JointTrajectoryPoint(positions=[math.nan, math.inf], velocities=[1.0])
    base = TwistStamped()
    base.header.stamp, base.twist.linear.x = wrong, math.nan
    heard = len(sim.heard["episode_outcome"])
    for _ in range(5):
        sim.base.publish(base)
        sim.status.publish(EpisodeStatus(episode_id="../../x", state=250, reason=250))
        sim.say("\x00" * 5000, EpisodeStatus.STATE_ENDED, wrong)
        for arm in (sim.arm, sim.gripper):
            for points in ([point], [point] * 3):
                arm.publish(JointTrajectory(joint_names=["nobody", ""], points=points))
            late = JointTrajectory(joint_names=list(HOME)[:1], points=[point])
            late.header.stamp = wrong
            arm.publish(late)
        now = stamp_to_ns(sim.heard["/clock"][-1].clock)
        sim.until("/clock", lambda m, now=now: stamp_to_ns(m.clock) > now + 10**8, "the simulation to go on")
    sim.joint("left_finger_joint", lambda p: abs(p - HOME["left_finger_joint"]) < 0.01)
    sim.client.reset_scene(4)
    assert len(sim.heard["episode_outcome"]) == heard


def test_another_instruction_can_be_worded_while_the_same_task_is_scored(sim: Watcher) -> None:
    scene = sim.client.reset_scene(2_000_016, "pick_red_cube", "pick_blue_ball")
    assert (scene.task, scene.target) == ("pick_red_cube", "red_cube")
    assert "blue ball" in scene.instruction
