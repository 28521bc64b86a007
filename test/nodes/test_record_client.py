"""The operator's emergency stop goes out by the topic and by the service, and no answer is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.action import ActionServer  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.task import Future  # noqa: E402
from std_msgs.msg import Bool, Empty  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from qt_ros.action import ExecuteInstruction  # noqa: E402
from qt_ros.msg import PolicyAction  # noqa: E402
from qt_ros.nodes import record_client  # noqa: E402
from qt_ros.nodes.record_client import RecordClient  # noqa: E402


@pytest.fixture
def client(ros_domain_id: int) -> Iterator[RecordClient]:
    made = RecordClient(lambda: None, "left")
    yield made
    made.close()


def test_an_emergency_stop_that_nobody_confirms_is_told_once(client: RecordClient) -> None:
    heard: list[Empty] = []
    level: list[Bool] = []
    client.node.create_subscription(Bool, "/left/estop", level.append, 10)
    client.node.create_subscription(Empty, "/left/estop_press", heard.append, 10)
    client.wait(
        lambda: client.node.count_subscribers("estop_press") == 1 and client._estop_out.get_subscription_count(),
        30.0,
        "an ear",
    )
    assert client.estop_trouble() == ""
    client.press_estop()
    assert client.estop_trouble() == "", "the answer may still come"
    told: list[str] = []
    client.wait(lambda: told.append(client.estop_trouble()) or told[-1], 30.0, "the operator to be told")
    assert "did not confirm the emergency stop" in told[-1]
    assert client.estop_trouble() == ""
    client.wait(lambda: heard, 30.0, "the press")
    assert len(heard) == 1 and not level, "the button of the robot is somebody else's"
    assert client.node.count_publishers("estop") == 0


def test_a_confirmed_emergency_stop_says_nothing_and_a_key_that_repeats_asks_once(client: RecordClient) -> None:
    asked: list[Any] = []

    def stop(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        asked.append(request)
        response.success = True
        return response

    client.node.create_service(Trigger, "command_node/estop", stop)
    client.wait(client._stops.service_is_ready, 30.0, "the service")
    for _ in range(5):
        client.press_estop()
    assert client._pressed is not None
    answer = client._pressed[1]
    client.wait(answer.done, 30.0, "the answer")
    assert (client.estop_trouble(), len(asked)) == ("", 1)
    client.press_estop()
    client.wait(lambda: len(asked) == 2, 30.0, "the next press")


def test_a_confirmation_that_came_while_nobody_served_the_graph_is_no_alarm(
    client: RecordClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As during a prompt: more time has passed than command_node is given, and the answer lies there unread."""

    def stop(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        return response

    client.node.create_service(Trigger, "command_node/estop", stop)
    client.wait(client._stops.service_is_ready, 30.0, "the service")
    monkeypatch.setattr(record_client, "ESTOP_PATIENCE", -1.0)
    monkeypatch.setattr(record_client, "LOOKS", 3000)  # a busy machine
    client.press_estop()
    assert client._pressed is not None
    answer = client._pressed[1]
    assert not answer.done() and client.estop_trouble() == "" and answer.done()


def test_a_call_that_failed_confirms_nothing_and_ends_nothing(client: RecordClient) -> None:
    failed = Future()
    failed.set_exception(RuntimeError("the service is gone"))
    client._pressed = 0.0, failed
    assert "did not confirm the emergency stop" in client.estop_trouble()
    assert client.estop_trouble() == ""


def test_pressing_now_waits_for_the_confirmation(client: RecordClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "STOP THE ROBOT BY ITS OWN BUTTON" in client.stop_now() and client.estop_trouble() == ""
    answers = [False, True]

    def stop(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = answers.pop(0)
        return response

    client.node.create_service(Trigger, "command_node/estop", stop)
    client.wait(client._stops.service_is_ready, 30.0, "the service")
    monkeypatch.setattr(record_client, "ESTOP_PATIENCE", 60.0)
    assert "did not confirm" in client.stop_now(), "command_node refused"
    assert client.stop_now() == "" and client.estop_trouble() == ""


def acting(client: RecordClient, name: str, namespace: str = "left") -> Node:
    node = Node(name, namespace=namespace, context=client.context)
    node.create_publisher(PolicyAction, "policy_action", 10)
    return node


def test_everybody_who_would_act_beside_our_own_teleop_node_is_named(client: RecordClient) -> None:
    nodes = [acting(client, "teleop_node")]
    client.wait(lambda: client.node.count_publishers("policy_action") == 1, 30.0, "our own")
    assert client.other_actors() == []
    nodes += [acting(client, "teleop_node"), acting(client, "policy_node"), acting(client, "policy_node", "right")]
    client.wait(lambda: client.node.count_publishers("policy_action") == 3, 30.0, "the others")
    assert sorted(client.other_actors()) == ["/left/policy_node", "/left/teleop_node"]
    for node in nodes:
        node.destroy_node()


def test_a_second_server_of_goals_is_another_actor_though_it_publishes_nothing_yet(client: RecordClient) -> None:
    ours = acting(client, "teleop_node")
    servers = [ActionServer(ours, ExecuteInstruction, "execute_instruction", lambda handle: None) for _ in range(2)]
    goals = "execute_instruction/_action/send_goal"
    client.wait(lambda: client.node.count_services(goals) == 2, 30.0, "both servers")
    client.wait(lambda: client.node.count_publishers("policy_action") == 1, 30.0, "our own")
    assert client.other_actors() == ["a second server of execute_instruction"]
    servers.pop().destroy()
    client.wait(lambda: client.node.count_services(goals) == 1, 30.0, "the second to go")
    assert client.other_actors() == []
    servers.pop().destroy()
    ours.destroy_node()
