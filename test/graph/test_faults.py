"""Every way an episode can go wrong ends it with its name, with zero twist, and leaves the bags whole.

Real policy_node, command_node and recorder_node over DDS; camera and joints come from the test, so that they can fail.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from domains import reserved_domain
from lifecycle_msgs.msg import State, Transition
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from scripted_robot import ScriptedRobot
from std_srvs.srv import Trigger

from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.robot import load_contract
from qt_ros.episodes.bag import is_complete, read_bag
from qt_ros.episodes.bag_metadata import OUTCOME, REASON, read_metadata
from qt_ros.msg import CommandStatus, EpisodeStatus
from qt_ros.nodes.demo_client import EpisodeResult, GoalRejected, GraphClient

INSTRUCTION = "pick up the red cube"
LINKS = (
    ("scripted_robot", "head_camera/image_raw", "policy_node"),
    ("scripted_robot", "head_camera/image_raw", "recorder_node"),
    ("scripted_robot", "estop", "command_node"),
    ("policy_node", "policy_action", "command_node"),
    ("policy_node", "episode_status", "recorder_node"),
    ("command_node", "command_status", "policy_node"),
    ("command_node", "servo_node/delta_twist_cmds", "recorder_node"),
)


@dataclass
class Graph:
    """The nodes under test, the robot that the test plays, and a client."""

    group: NodeGroup
    robot: ScriptedRobot
    client: GraphClient
    bags: Path
    policy: dict[str, object]
    count: int = 0
    incomplete: list[str] = field(default_factory=list)

    def begin(self, instruction: str = INSTRUCTION, max_duration: float = 20.0) -> str:
        """Start an episode with a healthy robot and wait until the robot is really moved."""
        self.count += 1
        episode = f"episode-{self.count}"
        self.client.send(instruction, episode, max_duration)
        self.robot.until("policy_action", lambda m: m.episode_id == episode and m.step >= 1, "a second action")
        self.robot.until("servo_node/delta_twist_cmds", lambda m: m.twist.linear.z > 0.0, "the arm to be moved")
        return episode

    def end(self, episode: str, reason: str) -> EpisodeResult:
        """Wait for the result and check everything that must hold after any end."""
        result = self.client.result()
        assert (result.episode_id, result.reason) == (episode, reason), result
        assert result.message
        ended = self.robot.until(
            "episode_status",
            lambda m: m.state == EpisodeStatus.STATE_ENDED and m.episode_id == episode,
            "ENDED",
        )
        assert ended.reason == getattr(EpisodeStatus, f"REASON_{reason.upper()}")
        stop = self.robot.until("policy_action", lambda m: m.episode_id == episode and not m.q, "the neutral stop")
        assert all(v == 0.0 for n, v in zip(stop.names, stop.values, strict=True) if n.startswith(("d", "base")))
        record = self.client.record(episode)
        self.robot.until_still()
        assert (record.complete, record.error, record.dropped) == (True, "", 0)
        self.check_bag(episode, reason)
        return result

    def set_parameters(self, node: str, values: dict[str, str]) -> None:
        client = self.client.node.create_client(SetParameters, f"{node}/set_parameters")
        request = SetParameters.Request(
            parameters=[Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        )
        response = self.client.call(client, request, 30.0, "the parameters to be set")
        assert all(result.successful for result in response.results)

    def check_bag_closed(self, episode: str, reason: str) -> Path:
        bag = self.bags / episode
        assert is_complete(bag)
        custom = read_metadata(bag).custom_data
        assert (custom[REASON], custom[OUTCOME]) == (reason, "unknown")
        return bag

    def check_bag(self, episode: str, reason: str) -> None:
        bag = self.check_bag_closed(episode, reason)
        twists = [m.twist for _, _, _, m in read_bag(bag, ["/servo_node/delta_twist_cmds"])]
        fastest = max(t.linear.z for t in twists)
        assert 0.0 <= twists[-1].linear.z < fastest, "the bag holds the braking, most of it on a slow machine"


@pytest.fixture(scope="module")
def running(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    folder = tmp_path_factory.mktemp("faults")
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with NodeGroup(folder / "logs", {"OMP_NUM_THREADS": "1"}).running() as group:
            timed: dict[str, object] = {"use_sim_time": True}
            policy = {**timed, "checkpoint": str(checkpoint), "threads": 1, "outcome_wait": 0.05}
            recorder = {**timed, "root": str(folder / "bags"), "outcome_timeout": 0.05, "silence_timeout": 4.0}
            group.start("policy_node", policy)
            group.start("command_node", timed)
            group.start("recorder_node", {**recorder, "compression": "lz4"})
            with contextlib.ExitStack() as stack:
                robot, client = ScriptedRobot(), GraphClient(group.check)
                stack.callback(robot.close)
                stack.callback(client.close)
                client.activate("command_node")
                client.activate("policy_node")
                client.wait_for_links(LINKS)
                yield Graph(group, robot, client, folder / "bags", policy)


@pytest.fixture
def graph(running: Graph) -> Iterator[Graph]:
    running.robot.forget()
    yield running
    running.robot.restore()


def spoil(**changes: object) -> Callable[[ScriptedRobot], None]:
    def apply(robot: ScriptedRobot) -> None:
        for name, value in changes.items():
            setattr(robot, name, value)

    return apply


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        (spoil(encoding="yuv422_yuy2"), "bad_image", "yuv422_yuy2"),
        (spoil(width=320), "bad_image", "320x480"),
        (spoil(camera=False), "stale_camera", "head_camera/image_raw"),
        (spoil(joints=False), "stale_joints", "joint_states"),
        (spoil(nan_joint="arm_joint_4"), "non_finite", "arm_joint_4"),
    ],
    ids=["wrong encoding", "wrong size", "silent camera", "silent joints", "NaN joint"],
)
def test_a_spoiled_observation_ends_the_episode_by_name(
    graph: Graph, fault: Callable[[ScriptedRobot], None], reason: str, words: str
) -> None:
    episode = graph.begin()
    fault(graph.robot)
    assert words in graph.end(episode, reason).message


def test_time_runs_out(graph: Graph) -> None:
    graph.end(graph.begin(max_duration=1.0), "timeout")


def test_any_sentence_may_be_asked_for(graph: Graph) -> None:
    graph.end(graph.begin("recite the xyzzy of unobtainium, twice", max_duration=1.0), "timeout")


def test_an_empty_instruction_is_rejected_and_the_reason_is_told(graph: Graph) -> None:
    with pytest.raises(GoalRejected):
        graph.client.send("   ")
    graph.robot.until("/rosout", lambda m: "the instruction is empty" in m.msg, "the reason")
    graph.robot.until("episode_status", lambda m: "the instruction is empty" in m.message, "the reason")


def test_a_second_goal_is_rejected_while_the_first_goes_on(graph: Graph) -> None:
    episode = graph.begin(max_duration=2.0)
    other = GraphClient(graph.group.check, "other_client")
    with pytest.raises(GoalRejected):
        other.send(INSTRUCTION)
    other.close()
    graph.robot.until("/rosout", lambda m: f"busy with episode {episode}" in m.msg, "the reason")
    graph.end(episode, "timeout")


def test_a_canceled_goal_stops_in_mid_step(graph: Graph) -> None:
    episode = graph.begin()
    graph.client.cancel()
    graph.end(episode, "canceled")


def test_deactivation_stops_in_mid_step_and_nothing_is_accepted_until_activation(graph: Graph) -> None:
    episode = graph.begin()
    assert graph.client.change_state("policy_node", Transition.TRANSITION_DEACTIVATE)
    graph.end(episode, "deactivated")
    with pytest.raises(GoalRejected):
        graph.client.send(INSTRUCTION)
    graph.robot.until("/rosout", lambda m: "policy_node is not active" in m.msg, "the reason")
    graph.client.activate("policy_node")


def test_a_deactivated_command_node_ends_the_episode(graph: Graph) -> None:
    episode = graph.begin()
    assert graph.client.change_state("command_node", Transition.TRANSITION_DEACTIVATE)
    graph.end(episode, "deactivated")
    graph.client.activate("command_node")


def test_the_policy_can_be_loaded_again(graph: Graph) -> None:
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert graph.client.change_state("policy_node", transition)
    graph.client.activate("policy_node")
    graph.end(graph.begin(max_duration=1.0), "timeout")


def truncated(checkpoint: Path, folder: Path) -> dict[str, str]:
    shutil.copytree(checkpoint, folder / "truncated")
    weights = folder / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return {"checkpoint": str(folder / "truncated")}


def another_action_space(checkpoint: Path, folder: Path) -> dict[str, str]:
    text = load_contract("mobile_manipulator").text
    (folder / "wide.yaml").write_text(text.replace("low: -0.05, high: 0.05", "low: -0.06, high: 0.06", 1))
    return {"checkpoint": str(checkpoint), "robot": str(folder / "wide.yaml")}


def unknown_key(checkpoint: Path, folder: Path) -> dict[str, str]:
    text = load_contract("mobile_manipulator").text
    (folder / "odd.yaml").write_text(text + "\nspeling: 1\n")
    return {"checkpoint": str(checkpoint), "robot": str(folder / "odd.yaml")}


@pytest.mark.parametrize(
    ("make", "words"),
    [(truncated, "truncated"), (another_action_space, "action space"), (unknown_key, "'speling'")],
)
def test_what_cannot_be_loaded_is_told_and_the_node_stays_unconfigured(
    graph: Graph,
    checkpoint: Path,
    tmp_path: Path,
    make: Callable[[Path, Path], dict[str, str]],
    words: str,
) -> None:
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert graph.client.change_state("policy_node", transition)
    graph.set_parameters("policy_node", make(checkpoint, tmp_path))
    assert not graph.client.change_state("policy_node", Transition.TRANSITION_CONFIGURE)
    assert graph.client.state("policy_node") == State.PRIMARY_STATE_UNCONFIGURED
    graph.robot.until("/rosout", lambda m: m.name == "policy_node" and words in m.msg, "the reason")
    graph.set_parameters("policy_node", {"checkpoint": str(checkpoint), "robot": "mobile_manipulator"})
    graph.client.activate("policy_node")


def test_an_emergency_stop_ends_the_episode_and_stays_until_it_is_reset(graph: Graph) -> None:
    episode = graph.begin()
    graph.robot.estop(True)
    graph.end(episode, "estop")
    graph.robot.estop(False)
    reset = graph.client.node.create_client(Trigger, "command_node/reset")
    assert graph.client.call(reset, Trigger.Request(), 10.0, "the reset").success


def test_a_killed_policy_stops_the_robot_and_the_bag_is_closed(graph: Graph) -> None:
    episode = graph.begin()
    node = next(n for n in graph.group.nodes if n.name == "policy_node")
    graph.group.nodes.remove(node)
    os.killpg(node.process.pid, signal.SIGKILL)
    node.process.wait(10)
    stopped = graph.robot.until(
        "command_status", lambda m: m.state == CommandStatus.STATE_STOPPED and m.episode_id == episode, "the stop"
    )
    assert (stopped.episode_id, stopped.reason) == (episode, EpisodeStatus.REASON_LOST_POLICY)
    record = graph.client.record(episode)
    assert record.reason == EpisodeStatus.REASON_LOST_POLICY
    graph.robot.until_still()
    graph.check_bag(episode, "lost_policy")
    graph.group.start("policy_node", graph.policy)
    graph.client.activate("policy_node")
    graph.end(graph.begin(max_duration=1.0), "timeout")


def test_a_full_disk_is_told_and_other_episodes_stay_whole(graph: Graph) -> None:
    recorder = next(n for n in graph.group.nodes if n.name == "recorder_node").process.pid
    unlimited = resource.prlimit(recorder, resource.RLIMIT_FSIZE)
    resource.prlimit(recorder, resource.RLIMIT_FSIZE, (6_000_000, unlimited[1]))
    episode = graph.begin(max_duration=2.0)
    assert graph.client.result().reason == "timeout"
    record = graph.client.record(episode)
    resource.prlimit(recorder, resource.RLIMIT_FSIZE, unlimited)
    assert not record.complete
    assert "free space" in record.error
    assert record.dropped > 0
    graph.robot.until("/rosout", lambda m: m.name == "recorder_node" and "free space" in m.msg, "the error in the log")
    assert len(list(read_bag(graph.bags / episode))) == record.messages > 0
    graph.incomplete.append(episode)
    graph.end(graph.begin(max_duration=1.0), "timeout")


def test_a_recorder_that_is_told_to_stop_closes_the_bag_first(graph: Graph) -> None:
    episode = graph.begin()
    graph.client.wait((graph.bags / episode).exists, 60.0, "the recorder to begin")
    node = next(n for n in graph.group.nodes if n.name == "recorder_node")
    graph.group.nodes.remove(node)
    node.process.send_signal(signal.SIGINT)
    assert node.process.wait(30) == 0
    record = graph.client.record(episode)
    assert (record.complete, record.reason) == (False, EpisodeStatus.REASON_OPERATOR)
    assert "stopped in mid-episode" in record.error
    graph.check_bag_closed(episode, "operator")
    graph.client.cancel()
    assert graph.client.result().reason == "canceled"


def test_afterwards_every_bag_is_whole(graph: Graph) -> None:
    bags = [bag for bag in graph.bags.iterdir() if bag.name not in graph.incomplete]
    assert len(bags) == graph.count - len(graph.incomplete)
    assert all(is_complete(bag) for bag in bags)
