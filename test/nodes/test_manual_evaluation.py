"""The emergency stop works while a goal is being sent or cancelled, and is pressed where nobody answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

import rclpy  # noqa: E402
from rclpy.action import ActionServer  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from std_msgs.msg import Empty  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from qt_ros.action import ExecuteInstruction  # noqa: E402
from qt_ros.msg import EpisodeStatus  # noqa: E402
from qt_ros.nodes import demo_client, manual_evaluation  # noqa: E402
from qt_ros.nodes.graph_evaluation import GraphNotReady  # noqa: E402
from qt_ros.nodes.manual_evaluation import Cut, ManualEvaluation  # noqa: E402


class Robot:
    """A policy_node that answers only when it is served, a command_node's e-stop, and an operator's console."""

    def __init__(self, checkpoint: Path) -> None:
        self.key: Callable[[], None] = lambda: None  # what the operator does while the console waits
        self.evaluation = ManualEvaluation(checkpoint, "left", lambda: self.key())
        self.evaluation._status = EpisodeStatus(checkpoint=self.evaluation.wanted, episode_id="e", step=3)
        self.button: list[Empty] = []
        self.asked = 0
        node = self.client.node
        node.create_subscription(Empty, "estop_press", self.button.append, 10)
        node.create_service(Trigger, "command_node/estop", self._stop)
        self._context = Context()
        rclpy.init(context=self._context)
        self._policy = Node("policy_node", namespace="left", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._policy)
        done = lambda handle: ExecuteInstruction.Result()  # noqa: E731
        self._server = ActionServer(self._policy, ExecuteInstruction, "execute_instruction", done)
        self.client.wait(self.client._stops.service_is_ready, 60.0, "the service")
        self.client.wait(self.client._estop_out.get_subscription_count, 60.0, "an ear")

    @property
    def client(self) -> manual_evaluation.OperatorClient:
        return self.evaluation.client

    def _stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.asked += 1
        response.success = True
        return response

    def accept(self) -> None:
        """Let policy_node take the goal, and fall silent from then on."""
        if self.client._goal is None:
            self._executor.spin_once(timeout_sec=0.0)
            self.say(self.evaluation._episode, EpisodeStatus.STATE_RUNNING)

    def say(self, episode_id: str, state: int) -> None:
        """What is heard last of policy_node."""
        about = {"episode_id": episode_id, "state": state, "step": 3}
        self.evaluation._status = EpisodeStatus(checkpoint=self.evaluation.wanted, **about)

    def stopped(self) -> bool:
        self.client.wait(lambda: self.button, 60.0, "the button")
        return self.asked == 1

    def close(self) -> None:
        self.evaluation.__exit__()
        self._executor.shutdown()
        self._server.destroy()
        self._policy.destroy_node()
        rclpy.try_shutdown(context=self._context)


@pytest.fixture
def robot(ros_domain_id: int, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Robot]:
    monkeypatch.setattr("qt_ros.nodes.record_client.ESTOP_PATIENCE", 60.0)  # a busy machine
    made = Robot(repository / "checkpoints" / "default")
    yield made
    made.close()


def test_space_stops_the_robot_while_a_goal_waits_for_its_answer(robot: Robot) -> None:
    def press() -> None:
        robot.client.press_estop()
        robot.key = look

    def look() -> None:
        if robot.asked:  # the stop has arrived, and still nobody answered the goal
            robot.key = robot.accept

    robot.key = press
    with robot.evaluation._patiently():
        robot.client.send("push it")
    assert robot.stopped()


def test_a_goal_without_an_answer_may_be_acted_on_so_the_robot_is_stopped(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_client, "ANSWER", 0.2)
    with pytest.raises(GraphNotReady, match=r"an answer to the goal.*emergency stop was pressed.*confirmed it"):
        robot.evaluation.attempt("push it")
    assert robot.stopped()


@pytest.mark.parametrize("asked_for", ["silence", "the end of the sitting"])
def test_where_a_cancellation_is_not_answered_the_robot_is_stopped(
    robot: Robot, monkeypatch: pytest.MonkeyPatch, asked_for: str
) -> None:
    monkeypatch.setattr(demo_client, "CANCELLATION", 0.2)
    if asked_for == "silence":
        monkeypatch.setattr(manual_evaluation, "SILENT", 0.2)
    else:
        robot.evaluation.stopped = lambda: robot.client._goal is not None
    robot.key = robot.accept
    with pytest.raises(Cut) as cut:
        robot.evaluation.attempt("push it")
    assert "the cancellation: the emergency stop was pressed; command_node confirmed it" in cut.value.problem
    result = cut.value.result
    assert (result.reason, result.episode_id, result.steps) == ("lost_policy", robot.evaluation._episode, 3)
    assert robot.stopped()


@pytest.mark.parametrize("last", ["the end of the episode before", "the end of this one"])
def test_a_policy_that_dies_around_the_end_of_an_episode_is_noticed(
    robot: Robot, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """The end of the episode before is the last that was heard, or the result never comes."""
    monkeypatch.setattr(demo_client, "CANCELLATION", 0.2)
    before = last == "the end of the episode before"
    monkeypatch.setattr(manual_evaluation, "SILENT" if before else "RESULT", 0.2)

    def die() -> None:
        robot.accept()
        robot.say("e" if before else robot.evaluation._episode, EpisodeStatus.STATE_ENDED)
        waited = time.monotonic() - robot.evaluation._heard
        assert robot.client._goal is None or waited < 20.0, "never noticed"

    robot.key = die
    with pytest.raises(Cut, match="nothing from /left/policy_node") as cut:
        robot.evaluation.attempt("push it")
    result = cut.value.result
    assert (result.episode_id, result.steps) == (robot.evaluation._episode, 0 if before else 3)


def test_a_line_that_was_hung_up_does_not_keep_the_robot_from_being_stopped(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_client, "CANCELLATION", 0.2)

    def hang_up() -> None:
        robot.accept()
        if robot.client._goal is not None:
            raise EOFError("the terminal was closed")

    robot.key = hang_up
    with pytest.raises(Cut, match="emergency stop was pressed"):
        robot.evaluation.attempt("push it")
    robot.key = lambda: None
    assert robot.stopped()
