"""With follow_instruction_topic the policy obeys sentences on a topic; with preempt a new goal replaces the old one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import reserved_domain
from scripted_robot import LATCHED, ScriptedRobot
from std_msgs.msg import Float32MultiArray, String

from qt_ros.cli.processes import NodeGroup
from qt_ros.msg import EpisodeStatus
from qt_ros.nodes.demo_client import GraphClient


@pytest.fixture(scope="module")
def graph(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedRobot, GraphClient]]:
    folder = tmp_path_factory.mktemp("instruction_topic")
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with NodeGroup(folder / "logs", {"OMP_NUM_THREADS": "1"}).running() as group:
            options = {"follow_instruction_topic": True, "preempt": True, "outcome_wait": 0.05, "autostart": True}
            options["q_curves"] = options["shadow"] = True  # there is no command_node
            group.start("policy_node", {"checkpoint": str(checkpoint), "threads": 1, "use_sim_time": True, **options})
            robot, client = ScriptedRobot(), GraphClient(group.check)
            try:
                client.activate("policy_node")  # waits until it has done so by itself
                client.wait_for_links([("scripted_robot", t, "policy_node") for t in ("/clock", "joint_states")])
                yield robot, client
            finally:
                client.close()
                robot.close()


def said(robot: ScriptedRobot, instruction: str, state: int, reason: int = 0) -> EpisodeStatus:
    """Wait for this status; returns it."""
    return robot.until(
        "episode_status",
        lambda m: (m.instruction, m.state, m.reason) == (instruction, state, reason),
        f"{instruction!r} in state {state}, reason {reason}",
    )


def test_a_sentence_starts_an_episode_a_new_one_replaces_it_and_silence_stops(
    graph: tuple[ScriptedRobot, GraphClient],
) -> None:
    robot, client = graph
    curves: list[Float32MultiArray] = []
    client.node.create_subscription(Float32MultiArray, "policy_node/q_curves", curves.append, 10)
    client.wait_for_links([("policy_node", "policy_node/q_curves", "demo_client")])
    speak = robot.node.create_publisher(String, "instruction", LATCHED)
    client.wait_for_links([("scripted_robot", "instruction", "policy_node")])
    speak.publish(String(data="pick up the red cube"))
    said(robot, "pick up the red cube", EpisodeStatus.STATE_RUNNING)
    robot.until("policy_action", lambda m: m.step == 1, "the second action")
    check_curves(client, curves, robot)
    speak.publish(String(data="pick up the blue ball"))
    said(robot, "pick up the red cube", EpisodeStatus.STATE_ENDED, EpisodeStatus.REASON_PREEMPTED)
    said(robot, "pick up the blue ball", EpisodeStatus.STATE_RUNNING)
    speak.publish(String(data=""))
    said(robot, "pick up the blue ball", EpisodeStatus.STATE_ENDED, EpisodeStatus.REASON_OPERATOR)


def check_curves(client: GraphClient, curves: list[Float32MultiArray], robot: ScriptedRobot) -> None:
    """With q_curves every bin's Q is there, and the chosen bin's is the one of the action."""
    client.wait(lambda: curves, 30.0, "a Q-curve")
    action = robot.heard["policy_action"][0]
    rows, columns = (dimension.size for dimension in curves[0].layout.dim)
    assert curves[0].layout.dim[0].label.split(",") == list(action.names)
    assert [curves[0].data[i * columns + b] for i, b in enumerate(action.bins)] == list(action.q)
    assert rows == len(action.names)


def test_a_new_goal_takes_the_place_of_the_old_one_and_both_have_their_results(
    graph: tuple[ScriptedRobot, GraphClient],
) -> None:
    robot, client = graph
    robot.forget()
    client.send("lift the white box", "first", 60.0)
    robot.until("policy_action", lambda m: m.episode_id == "first" and m.step == 1, "the second action")
    other = GraphClient(client.check, "other_client")
    other.send("lift the black cylinder", "second", 1.0)
    assert (client.result().reason, robot.heard["policy_action"][0].episode_id) == ("preempted", "first")
    result = other.result()
    assert (result.episode_id, result.reason) == ("second", "timeout")
    other.close()
