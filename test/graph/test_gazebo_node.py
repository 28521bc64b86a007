"""gazebo_node does for Gazebo what sim_node does for itself: scenes by seed, verdicts by ground truth."""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from domains import reserved_domain
from fake_gazebo import OBJECTS, FakeGazebo, install_gz
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from simulators import begin

from qt_ros.cli.processes import NodeGroup, NodeProcess
from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import load_contract
from qt_ros.msg import EpisodeOutcome, EpisodeStatus
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.lifecycle import LATCHED, SENSOR
from qt_ros.sim.tasks import find_task, sample_scene

CONTRACT = load_contract("mobile_manipulator")
SPEC = CONTRACT.kinematics
SEED = 2_000_000


class Gazebo:
    """A fake Gazebo, a real gazebo_node in a process of its own, and a client between them."""

    def __init__(self, client: GraphClient, fake: FakeGazebo, process: NodeProcess) -> None:
        self.client, self.fake, self._process, self.process = client, fake, process, process.process
        self.outcomes: dict[str, EpisodeOutcome] = {}
        node = client.node
        self._status = node.create_publisher(EpisodeStatus, "episode_status", LATCHED)
        node.create_subscription(
            EpisodeOutcome, "episode_outcome", lambda m: self.outcomes.update({m.episode_id: m}), LATCHED
        )

    def say(self, episode_id: str, state: int) -> None:
        status = EpisodeStatus(episode_id=episode_id, state=state)
        status.header.stamp = self.client.node.get_clock().now().to_msg()
        self.say_message(status)

    def say_message(self, status: EpisodeStatus) -> None:
        self._status.publish(status)

    def log(self) -> str:
        return self._process.log.read_text(encoding="utf-8", errors="replace")

    def episode(self, name: str) -> EpisodeOutcome:
        """An episode that begins and ends at once, and what it is judged."""
        self.say(name, EpisodeStatus.STATE_RUNNING)
        self.say(name, EpisodeStatus.STATE_ENDED)
        self.client.wait(lambda: name in self.outcomes, 60.0, "a verdict")
        return self.outcomes[name]

    def put(self, name: str, pose: list[float]) -> None:
        """The object there, for long enough not to be on its way any more."""
        seen: list[PoseStamped] = []
        self.fake.entities[name] = pose
        there = lambda m: seen.append(m) if abs(m.pose.position.x - pose[0]) < 1e-6 else None  # noqa: E731
        subscription = self.client.node.create_subscription(PoseStamped, f"entities/{name}/pose", there, SENSOR)
        self.client.wait(lambda: len(seen) >= 10, 60.0, f"{name} to stand where it was put")
        self.client.node.destroy_subscription(subscription)

    def put_in_hand(self, name: str, raised: float) -> None:
        """The object between the fingers, the arm at home, ``raised`` m above where it stood."""
        arm = Kinematics(CONTRACT.urdf, SPEC.base_frame, SPEC.tool_frame, SPEC.arm_joints, fixed=SPEC.home)
        position, _ = arm.fk(np.array([SPEC.home[j] for j in SPEC.arm_joints]))
        stood = self.fake.entities[name][2]
        self.fake.joints.update({j: SPEC.home[j] for j in SPEC.arm_joints}, left_finger_joint=0.02)
        self.fake.entities["robot"] = [0.0, 0.0, stood + raised - position[2], 0.0, 0.0, 0.0, 1.0]
        self.fake.entities[name] = [*position[:2], stood + raised, 0.0, 0.0, 0.0, 1.0]


def started(folder: Path, with_gz: bool, **parameters: Any) -> Iterator[Gazebo]:
    """gazebo_node in a domain of its own."""
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        requests = install_gz(folder) if with_gz else folder / "none"
        with NodeGroup(folder / "logs", {"PATH": str(folder)}).running() as group:
            process = group.start("gazebo_node", {"move_time": 0.2, **parameters})
            client = GraphClient(group.check)
            try:
                gazebo = Gazebo(client, FakeGazebo(client.node, requests), process)
                if not with_gz:
                    gazebo.fake.told.clear()  # before it has said anything
                client.wait_for_links(
                    [
                        ("demo_client", f"entities/{OBJECTS[-1]}/pose", "gazebo_node"),
                        ("demo_client", "joint_states", "gazebo_node"),
                        ("demo_client", "episode_status", "gazebo_node"),
                        ("gazebo_node", "arm_controller/joint_trajectory", "demo_client"),
                        ("gazebo_node", "episode_outcome", "demo_client"),
                    ]
                )
                client.wait_for_service("reset_scene")
                yield gazebo
            finally:
                client.close()


@pytest.fixture(scope="module")
def gazebo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gazebo]:
    yield from started(tmp_path_factory.mktemp("gazebo"), with_gz=True)


def test_a_reset_sets_the_scene_of_that_seed(gazebo: Gazebo) -> None:
    scene = sample_scene(None, SEED)
    answer = gazebo.client.reset_scene(SEED)
    assert (answer.task, answer.target, answer.instruction) == (scene.task, scene.target, scene.instruction)
    assert list(answer.objects) == list(scene.objects)
    assert gazebo.fake.services[-1] == "/world/kitchen/set_pose_vector"
    for name, place in scene.objects.items():
        assert gazebo.fake.entities[name][:2] == pytest.approx([place.x, place.y], abs=1e-5)
    for joint, position in scene.joints.items():
        assert gazebo.fake.joints[joint] == pytest.approx(position)
    assert gazebo.fake.joints["left_finger_joint"] == SPEC.gripper_open


def test_a_target_lifted_between_the_fingers_is_success_judged_by_gazebo(gazebo: Gazebo) -> None:
    answer = gazebo.client.reset_scene(SEED + 1)
    gazebo.put_in_hand(answer.target, raised=0.12)
    outcome = gazebo.episode("lifted")
    assert outcome.outcome == EpisodeStatus.OUTCOME_SUCCESS, outcome.comment
    assert outcome.labelled_by == "gazebo"
    assert "0.120 m, held" in outcome.comment


def test_a_target_that_stayed_on_the_table_is_failure(gazebo: Gazebo) -> None:
    gazebo.client.reset_scene(SEED + 2)
    outcome = gazebo.episode("stayed")
    assert outcome.outcome == EpisodeStatus.OUTCOME_FAILURE
    assert "not held" in outcome.comment


def test_an_episode_whose_successor_begins_at_once_is_judged_all_the_same(gazebo: Gazebo) -> None:
    """A preempting goal: both are there before gazebo_node reads either."""
    gazebo.client.reset_scene(SEED + 1)
    begin(gazebo, "preempted", SEED + 1)
    gazebo.process.send_signal(signal.SIGSTOP)
    gazebo.say("preempted", EpisodeStatus.STATE_ENDED)
    gazebo.say("successor", EpisodeStatus.STATE_RUNNING)
    gazebo.process.send_signal(signal.SIGCONT)
    gazebo.client.wait(lambda: "preempted" in gazebo.outcomes, 60.0, "the verdict on the one that made way")
    gazebo.say("successor", EpisodeStatus.STATE_ENDED)
    gazebo.client.wait(lambda: "successor" in gazebo.outcomes, 60.0, "the verdict on the other")


def test_without_poses_after_the_end_nothing_is_judged_and_it_says_why(gazebo: Gazebo) -> None:
    answer = gazebo.client.reset_scene(SEED + 3)
    gazebo.fake.told.discard(answer.target)
    outcome = gazebo.episode("blind")
    gazebo.fake.told.add(answer.target)
    assert outcome.outcome == EpisodeStatus.OUTCOME_UNKNOWN
    assert f"entities/{answer.target}/pose" in outcome.comment


def test_no_scene_is_set_up_while_an_episode_runs(gazebo: Gazebo) -> None:
    gazebo.client.reset_scene(SEED)
    begin(gazebo, "running", SEED)
    gazebo.say("running", EpisodeStatus.STATE_ENDED)
    gazebo.client.wait(lambda: "running" in gazebo.outcomes, 60.0, "a verdict")


def test_an_unknown_task_is_refused_by_name(gazebo: Gazebo) -> None:
    with pytest.raises(RuntimeError, match="juggle"):
        gazebo.client.reset_scene(SEED, "juggle")


def test_malformed_messages_are_refused_and_it_goes_on(gazebo: Gazebo) -> None:
    client, node = gazebo.client, gazebo.client.node
    answer = client.reset_scene(SEED + 4)
    beyond = Time(sec=-5, nanosec=4_000_000_000)
    pose = node.create_publisher(PoseStamped, f"entities/{answer.target}/pose", 10)
    joints = node.create_publisher(JointState, "joint_states", 10)
    client.wait(lambda: pose.get_subscription_count() and joints.get_subscription_count(), 60.0, "gazebo_node")
    odd = PoseStamped()
    odd.header.stamp = beyond
    nowhere = PoseStamped()
    nowhere.pose.position.x = math.nan
    state = JointState(name=["arm_joint_1", "arm_joint_2"], position=[0.0])
    status = EpisodeStatus(episode_id="../odd", state=EpisodeStatus.STATE_ENDED, reason=250)
    status.header.stamp = beyond
    for send, refusal in (
        (lambda: pose.publish(odd), "/pose: ValueError: time stamp has 4000000000 nanoseconds"),
        (lambda: pose.publish(nowhere), "pose is not finite"),
        (lambda: joints.publish(state), "joint_states: MalformedJointState"),
        (lambda: gazebo.say_message(status), "episode_status: ValueError: time stamp"),
    ):

        def refused(send: Callable[[], None] = send, refusal: str = refusal) -> bool:
            send()  # again and again: the same topic is told of once a second
            return refusal in gazebo.log()

        client.wait(refused, 60.0, f"the refusal {refusal!r}")
    client.reset_scene(SEED + 4)
    gazebo.put_in_hand(answer.target, raised=0.12)
    assert gazebo.episode("after").outcome == EpisodeStatus.OUTCOME_SUCCESS
    assert "../odd" not in gazebo.outcomes


def test_driving_up_begins_away_from_the_table_and_is_judged_as_picking(gazebo: Gazebo) -> None:
    scene = sample_scene(find_task("fetch_red_cube"), SEED)
    answer = gazebo.client.reset_scene(SEED, "fetch_red_cube")
    x, y, yaw = scene.base
    assert x < -0.3 and gazebo.fake.entities["robot"][:2] == pytest.approx([x, y], abs=1e-5)
    assert gazebo.fake.entities["robot"][5:] == pytest.approx([math.sin(yaw / 2), math.cos(yaw / 2)], abs=1e-5)
    gazebo.put_in_hand(answer.target, raised=0.12)
    assert gazebo.episode("fetched").outcome == EpisodeStatus.OUTCOME_SUCCESS


@pytest.mark.parametrize(("apart", "outcome"), [(0.10, "SUCCESS"), (0.14, "FAILURE")])
def test_moving_near_is_judged_by_both_objects(gazebo: Gazebo, apart: float, outcome: str) -> None:
    task = find_task("move_red_cube_near_yellow_box")
    gazebo.client.reset_scene(SEED + 5, task.name)
    other, target = (gazebo.fake.entities[name] for name in (task.near, task.target))
    place = [other[0] - apart, other[1], target[2], 0.0, 0.0, 0.0, 1.0]
    gazebo.put(task.target, place)
    judged = gazebo.episode(f"moved-{apart}")
    assert judged.outcome == getattr(EpisodeStatus, f"OUTCOME_{outcome}"), judged.comment
    assert f"target {apart:.3f} m from yellow_box" in judged.comment and "let go" in judged.comment


@pytest.mark.parametrize("task", ["open_drawer", "place_red_cube_in_drawer"])
def test_a_scene_that_cannot_be_set_up_here_is_refused_by_name(gazebo: Gazebo, task: str) -> None:
    requests = len(gazebo.fake.services)
    with pytest.raises(RuntimeError, match=f"{task}.*cannot be judged from poses; these can: pick, fetch, move_near"):
        gazebo.client.reset_scene(SEED, task)
    assert len(gazebo.fake.services) == requests


@pytest.fixture
def at_the_drawer(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gazebo]:
    """A package whose task file draws from what cannot be judged here."""
    package = tmp_path / "package"
    shutil.copytree(repository / "config", package / "config")
    for part in ("description", "launch", "package.xml"):
        (package / part).symlink_to(repository / part)
    tasks = package / "config" / "tasks.yaml"
    text = tasks.read_text()
    assert "default_skills: [pick]" in text
    tasks.write_text(text.replace("default_skills: [pick]", "default_skills: [open_drawer]"))
    monkeypatch.setenv("QT_ROS_SHARE", str(package))
    yield from started(tmp_path, with_gz=True)


def test_a_task_that_was_drawn_and_cannot_be_judged_is_refused_as_one_that_was_named(at_the_drawer: Gazebo) -> None:
    with pytest.raises(RuntimeError, match="open_drawer.*cannot be judged from poses"):
        at_the_drawer.client.reset_scene(SEED)
    assert not at_the_drawer.fake.services


@pytest.fixture
def without_gz(tmp_path: Path) -> Iterator[Gazebo]:
    yield from started(tmp_path, with_gz=False)


def test_without_gazebo_a_reset_names_what_is_missing(without_gz: Gazebo) -> None:
    client, fake = without_gz.client, without_gz.fake
    with pytest.raises(RuntimeError, match="nothing has come on .*entities/robot/pose.*ros_gz_bridge"):
        client.reset_scene(SEED)

    fake.told.update(fake.entities)

    def names_gz() -> bool:
        with pytest.raises(RuntimeError) as refusal:
            client.reset_scene(SEED)
        return "`gz` installed" in str(refusal.value)

    client.wait(names_gz, 60.0, "gz to be named")
