"""What an operator's console asks of the graph: the e-stop and labels; to record, a virtual joystick too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import Joy
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from qt_ros.episodes.episode import OUTCOMES
from qt_ros.msg import EpisodeOutcome
from qt_ros.nodes.demo_client import LATCHED, GoalRejected, GraphClient
from qt_ros.nodes.estop_input import PRESS_TOPIC
from qt_ros.nodes.lifecycle import EVENT
from qt_ros.nodes.teleop_node import DISCARDED, joy_message
from qt_ros.srv import SetOutcome

ESTOP_PATIENCE = 1.0  # s for command_node to confirm an emergency stop
LOOKS, LOOK = 20, 0.02  # how often, and s each, the graph is served before no confirmation is believed
TRIES, PAUSE = 20, 0.25  # s between two offers of a goal: teleop_node accepts none before it hears the joystick


class OperatorClient(GraphClient):
    """`GraphClient` with what every operator's console needs. ``check`` is called while waiting."""

    def __init__(self, check: Callable[[], None], name: str, namespace: str = "") -> None:
        super().__init__(check, name, namespace)
        self._estop_out = self.node.create_publisher(Empty, PRESS_TOPIC, EVENT)
        self._labels = self.node.create_client(SetOutcome, "set_outcome")
        self._stops = self.node.create_client(Trigger, "command_node/estop")
        self._pressed: tuple[float, Any] | None = None  # when the emergency stop was pressed, and the answer to it
        self._resets = self.node.create_client(Trigger, "command_node/reset")

    def press_estop(self) -> None:
        """Press the emergency stop; command_node keeps it latched. The robot's own button stays as it is.

        By the topic, at once, and by the service, which confirms it: see `estop_trouble`. Does not wait.
        """
        self._estop_out.publish(Empty())
        if self._pressed is None:  # a key that repeats presses it once
            self._pressed = time.monotonic(), self._stops.call_async(Trigger.Request())

    def estop_trouble(self) -> str:
        """What to tell the operator when command_node did not confirm an emergency stop; each time once, else ''."""
        if self._pressed is None:
            return ""
        since, answer = self._pressed
        if not answer.done():
            if time.monotonic() - since < ESTOP_PATIENCE:
                return ""
            with self._interrupts:
                for _ in range(LOOKS):  # nobody may have served the graph since, as during a prompt: it may lie there
                    if not answer.done():
                        self._executor.spin_once(timeout_sec=LOOK)
        return self._judge_stop(answer)

    def stop_now(self) -> str:
        """Press the emergency stop and wait until it is confirmed; what to tell the operator when it is not, or ''."""
        self.press_estop()
        assert self._pressed is not None
        answer = self._pressed[1]
        with contextlib.suppress(TimeoutError):
            self.wait(answer.done, ESTOP_PATIENCE, "")
        return self._judge_stop(answer)

    def _judge_stop(self, answer: Any) -> str:
        if self._pressed is not None and self._pressed[1] is answer:
            self._pressed = None
        if not answer.done():
            self._stops.remove_pending_request(answer)
        elif not answer.cancelled() and answer.exception() is None:  # a call that failed confirms nothing
            response = answer.result()
            if response is not None and response.success:
                return ""
        return "command_node did not confirm the emergency stop: STOP THE ROBOT BY ITS OWN BUTTON"

    def reset_estop(self) -> tuple[bool, str]:
        """Free the latched emergency stop: (done, what command_node says)."""
        response = self.call(self._resets, Trigger.Request(), 10.0, "command_node to reset the emergency stop")
        return bool(response.success), str(response.message)

    def serves(self, service: str) -> bool:
        """Whether somebody serves ``service`` already."""
        return self.node.count_services(service) > 0

    def pause(self, seconds: float, while_: Callable[[float], Any] = lambda left: None) -> None:
        """Go on serving the graph for so long; ``while_(seconds left)`` is called again and again."""
        end = time.monotonic() + seconds
        self.wait(lambda: while_(end - time.monotonic()) or time.monotonic() >= end, seconds + 60.0, "time to pass")

    def label(self, episode_id: str, outcome: str, operator: str, comment: str = "") -> None:
        """Write a label into a closed bag; RuntimeError with the recorder's words when it cannot."""
        request = SetOutcome.Request(episode_id=episode_id, labelled_by=operator, comment=comment)
        request.outcome = OUTCOMES.index(outcome)
        response = self.call(self._labels, request, 30.0, "the label to be written")
        if not response.success:
            raise RuntimeError(f"episode {episode_id} was not labelled: {response.message}")


class RecordClient(OperatorClient):
    """What `qt-ros record` asks beyond. ``check`` may publish Joy."""

    def __init__(self, check: Callable[[], None], namespace: str = "") -> None:
        super().__init__(check, "record_client", namespace)
        self._joy_out = self.node.create_publisher(Joy, "joy", EVENT)
        self._discarded: set[str] = set()
        self.node.create_subscription(EpisodeOutcome, "episode_outcome", self._on_outcome, LATCHED)

    def _on_outcome(self, message: EpisodeOutcome) -> None:
        if message.comment == DISCARDED:
            self._discarded.add(message.episode_id)

    def steer(self, axes: list[float], buttons: list[int]) -> None:
        """Publish the state of a virtual joystick."""
        self._joy_out.publish(joy_message(axes, buttons, self.node.get_clock().now().to_msg()))

    def other_actors(self) -> list[str]:
        """Who, beside the one teleop_node of our namespace, publishes policy_action or would take goals."""
        topic = self.node.resolve_topic_name("policy_action")
        infos = self.node.get_publishers_info_by_topic(topic)
        found = [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
        ours = self.node.resolve_service_name("teleop_node")
        if ours in found:
            found.remove(ours)  # once: a second of this name is another
        if self.node.count_services("execute_instruction/_action/send_goal") > 1 and not found:
            found = ["a second server of execute_instruction"]
        return found

    def begin(
        self, instruction: str, episode_id: str, max_duration: float, on_step: Callable[[int, float], None]
    ) -> None:
        """Start an episode as soon as teleop_node hears the joystick. Raises GoalRejected when it never does."""
        for attempt in range(TRIES):
            try:
                self.send(instruction, episode_id, max_duration, on_step)
                return
            except GoalRejected:
                if attempt == TRIES - 1:
                    raise
                self.pause(PAUSE)

    def discarded(self, episode_id: str) -> bool:
        """Whether the operator pressed the discard button in this episode."""
        return episode_id in self._discarded
