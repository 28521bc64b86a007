"""Nodes that come back, fall silent or are told to go in mid-episode: nothing starts by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from domains import reserved_domain
from lifecycle_msgs.msg import Transition
from scripted_robot import LATCHED, ScriptedRobot
from std_msgs.msg import String

from qt_ros.cli.processes import NodeGroup
from qt_ros.msg import CommandStatus, EpisodeOutcome, EpisodeStatus
from qt_ros.nodes.demo_client import GoalRejected, GraphClient

LINKS = (
    ("scripted_robot", "head_camera/image_raw", "policy_node"),
    ("scripted_robot", "joint_states", "command_node"),
    ("policy_node", "policy_action", "command_node"),
    ("policy_node", "episode_status", "command_node"),
    ("command_node", "command_status", "policy_node"),
)


class Graph:
    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.group = NodeGroup(folder / "logs", {"OMP_NUM_THREADS": "1"})
        timed = {"use_sim_time": True, "autostart": True}
        self.parameters: dict[str, dict[str, Any]] = {
            "command_node": timed,
            "policy_node": {
                **timed,
                "checkpoint": str(checkpoint),
                "threads": 1,
                "outcome_wait": 600.0,
                "command_timeout": 1.0,
                "follow_instruction_topic": True,
                "preempt": True,
            },
        }
        for name in self.parameters:
            self.start(name)
        self.robot, self.client = ScriptedRobot(), GraphClient(self.group.check)
        self.ready()

    def start(self, name: str) -> None:
        self.group.start(name, self.parameters[name])

    def ready(self) -> None:
        for name in self.parameters:
            self.client.wait(lambda name=name: self.client.state(name) == 3, 180.0, f"{name} to be active")
        self.client.wait_for_links(LINKS)

    def told(self, name: str, number: int) -> Any:
        """The process of a node that was sent a signal and may end."""
        node = next(n for n in self.group.nodes if n.name == name)
        self.group.nodes.remove(node)
        os.killpg(node.process.pid, number)
        return node.process

    def begin(self, episode: str, ask: bool = True) -> Any:
        """A moving robot; the future of the goal's result, where it is asked for."""
        self.robot.forget()
        self.client.send("pick up the red cube", episode, 60.0)
        result = self.client._goal.get_result_async() if ask else None
        self.robot.until("servo_node/delta_twist_cmds", lambda m: m.twist.linear.z > 0.0, "the arm to be moved", 60.0)
        return result

    def ended(self, episode: str, reason: int) -> EpisodeStatus:
        status = self.robot.until(
            "episode_status",
            lambda m: m.episode_id == episode and m.state == EpisodeStatus.STATE_ENDED,
            "the end",
            60.0,
        )
        assert status.reason == reason, status.message
        return status

    def answered(self, result: Any) -> Any:
        self.client.wait(result.done, 60.0, "the goal's result")
        return result.result().result


@pytest.fixture(scope="module")
def graph(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    folder = tmp_path_factory.mktemp("respawn")
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        made = Graph(folder, checkpoint)
        with made.group.running():
            try:
                yield made
            finally:
                made.client.close()
                made.robot.close()


def test_a_judgement_in_mid_episode_ends_it_as_done(graph: Graph) -> None:
    judge = graph.robot.node.create_publisher(EpisodeOutcome, "episode_outcome", LATCHED)
    result = graph.begin("judged")
    judge.publish(EpisodeOutcome(episode_id="judged", outcome=EpisodeStatus.OUTCOME_SUCCESS, labelled_by="me"))
    assert "me judged it a success" in graph.ended("judged", EpisodeStatus.REASON_DONE).message
    answer = graph.answered(result)
    assert (answer.outcome, answer.reason) == (EpisodeStatus.OUTCOME_SUCCESS, EpisodeStatus.REASON_DONE)
    graph.robot.until_still()


def test_messages_that_nobody_should_send_end_the_episode_and_not_the_policy(graph: Graph) -> None:
    liar = graph.robot.node.create_publisher(CommandStatus, "command_status", 10)
    graph.client.wait_for_links([("scripted_robot", "command_status", "policy_node")])
    graph.begin("odd")
    odd = CommandStatus(episode_id="odd", state=CommandStatus.STATE_STOPPED, reason=250)
    liar.publish(odd)
    assert "unknown reason 250" in graph.ended("odd", EpisodeStatus.REASON_FAULT).message
    graph.robot.until_still()
    graph.robot.node.destroy_publisher(liar)


def test_a_goal_has_its_result_when_the_policy_is_cleaned_up_while_the_outcome_is_awaited(graph: Graph) -> None:
    result = graph.begin("cleaned")
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert graph.client.change_state("policy_node", transition)
    assert graph.answered(result).reason == EpisodeStatus.REASON_DEACTIVATED
    graph.client.activate("policy_node")
    graph.ready()


def test_a_killed_command_node_ends_the_episode_and_does_not_join_it_again(graph: Graph) -> None:
    result = graph.begin("silent")
    graph.told("command_node", signal.SIGKILL).wait(60)
    assert "command_node" in graph.ended("silent", EpisodeStatus.REASON_LOST_COMMAND).message
    graph.client.cancel()
    graph.client.send("pick up the red cube", "unobeyed", 60.0)  # DDS takes the killed one for alive for some time
    graph.ended("unobeyed", EpisodeStatus.REASON_LOST_COMMAND)
    heard = graph.robot.heard["command_status"]
    heard.clear()  # what the dead one said
    graph.start("command_node")
    graph.ready()
    graph.client.wait(lambda: len(heard) >= 5, 60.0, "command_node to say how things stand")
    assert not any(m.state == CommandStatus.STATE_MOVING for m in heard)
    assert result is not None


def test_where_no_command_node_is_left_no_episode_begins(graph: Graph) -> None:
    """Nobody would obey, and the bag would not say so."""
    graph.told("command_node", signal.SIGINT).wait(60)
    for attempt in range(60):
        try:
            graph.client.send("pick up the red cube", f"alone-{attempt}", 60.0)
        except GoalRejected:
            break
        graph.ended(f"alone-{attempt}", EpisodeStatus.REASON_LOST_COMMAND)
    else:
        raise AssertionError("never rejected")
    assert "nobody would obey" in next(n for n in graph.group.nodes if n.name == "policy_node").tail()
    graph.start("command_node")
    graph.ready()

    def accepted() -> bool:
        try:
            graph.client.send("pick up the red cube", "together", 60.0)
        except GoalRejected:
            return False
        return True

    graph.client.wait(accepted, 60.0, "policy_node to find command_node and accept a goal")
    graph.client.cancel()
    graph.ended("together", EpisodeStatus.REASON_CANCELED)


def test_a_goal_has_its_result_when_the_policy_is_told_to_go_and_an_old_sentence_starts_nothing(
    graph: Graph,
) -> None:
    """Last, for the policy comes back with a latched instruction waiting for it."""
    graph.begin("interrupted", ask=False)
    policy = graph.told("policy_node", signal.SIGINT)
    graph.ended("interrupted", EpisodeStatus.REASON_DEACTIVATED)
    time.sleep(0.5)
    result = graph.client._goal.get_result_async()  # a request that comes late, as DDS may have it
    assert graph.answered(result).reason == EpisodeStatus.REASON_DEACTIVATED
    assert policy.wait(60) == 0
    graph.robot.until_still()
    speak = graph.robot.node.create_publisher(String, "instruction", LATCHED)
    speak.publish(String(data="pick up the blue ball"))
    graph.start("policy_node")
    graph.client.wait(lambda: graph.client.state("policy_node") == 3, 180.0, "policy_node to be active")
    graph.ready()
    graph.client.wait_for_links([("scripted_robot", "instruction", "policy_node")])
    graph.robot.forget()
    result = graph.begin("asked-for")  # what was said before would be heard by now
    statuses = [m for m in graph.robot.heard["episode_status"] if m.instruction == "pick up the blue ball"]
    assert not statuses
    graph.client.cancel()
    graph.ended("asked-for", EpisodeStatus.REASON_CANCELED)
    speak.publish(String(data="pick up the blue ball"))
    graph.robot.until("episode_status", lambda m: m.instruction == "pick up the blue ball", "the new sentence", 60.0)
