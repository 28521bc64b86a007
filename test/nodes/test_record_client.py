"""The operator's emergency stop goes out by the topic and by the service, and no answer is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import Bool  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from qt_ros.nodes.record_client import RecordClient  # noqa: E402


@pytest.fixture
def client(ros_domain_id: int) -> Iterator[RecordClient]:
    made = RecordClient(lambda: None, "left")
    yield made
    made.close()


def test_an_emergency_stop_that_nobody_confirms_is_told_once(client: RecordClient) -> None:
    heard: list[bool] = []
    client.node.create_subscription(Bool, "/left/estop", lambda m: heard.append(m.data), 10)
    client.wait(lambda: client.subscribers("estop") == 1 and client._estop_out.get_subscription_count(), 30.0, "an ear")
    assert client.estop_trouble() == ""
    client.press_estop()
    assert client.estop_trouble() == "", "the answer may still come"
    told: list[str] = []
    client.wait(lambda: told.append(client.estop_trouble()) or told[-1], 30.0, "the operator to be told")
    assert "did not confirm the emergency stop" in told[-1]
    assert client.estop_trouble() == ""
    client.wait(lambda: len(heard) == 2, 30.0, "the button")
    assert heard == [True, False]


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
