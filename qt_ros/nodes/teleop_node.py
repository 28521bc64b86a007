"""teleop_node (lifecycle): a person acts in the policy's place, from a joystick or from a keyboard in a terminal.

Offers what policy_node offers (execute_instruction, policy_action, episode_status) and decides at the same moments, in
the same bins; command_node, recorder_node and every client work unchanged, and what is recorded is a demonstration
(source teleop). Nothing moves unless the dead-man button is held; the e-stop button works in every configured state;
an input that falls silent ends the episode.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

from rclpy.action import GoalResponse
from sensor_msgs.msg import Joy
from std_msgs.msg import Empty

from qt_ros.control.health import ERROR, Health
from qt_ros.control.joystick import load_joystick
from qt_ros.control.keyboard import KeyboardMapping, VirtualStick, is_keyboard, load_keyboard
from qt_ros.control.runner import Actor, Episode
from qt_ros.control.teleop import Teleoperator
from qt_ros.control.terminal import NoTerminal, RawTerminal
from qt_ros.msg import EpisodeOutcome, EpisodeStatus
from qt_ros.nodes.estop_input import PRESS_TOPIC
from qt_ros.nodes.inputs import subscribe
from qt_ros.nodes.lifecycle import EVENT, LATCHED, run
from qt_ros.nodes.parameters import AUTOSTART, COMMAND_TIMEOUT, FROZEN_CAMERA, ROBOT, Parameter, ParameterTable
from qt_ros.nodes.policy_node import PolicyNode

PARAMETERS = ParameterTable(
    ROBOT,
    AUTOSTART,
    Parameter(
        "mapping",
        "",
        "What axes, buttons or keys mean: a teleop*.yaml of config/nodes by name, or a path; "
        "empty: teleop_xbox, with keyboard teleop_keyboard.",
    ),
    Parameter("keyboard", False, "Read keys from this node's own terminal; else only the topic joy is obeyed."),
    Parameter("instruction", "", "What the start button begins an episode with; empty: the button does nothing."),
    Parameter("operator", "operator", "Who labels an episode with the success and failure buttons."),
    Parameter(
        "joy_timeout",
        0.5,
        "An episode ends when joy is silent for so long.",
        unit="s",
        low=0.1,
        high=10.0,
        safety="above",
    ),
    Parameter("max_duration", 60.0, "Longest episode when the goal does not say.", unit="s", low=0.1, high=3600.0),
    Parameter("outcome_wait", 1.0, "How long a result waits for episode_outcome.", unit="s", low=0.0, high=600.0),
    Parameter("preempt", False, "A new goal takes the place of the running one; else it is rejected."),
    Parameter("follow_instruction_topic", False, "Obey the contract's instruction topic too; empty text stops."),
    COMMAND_TIMEOUT,
    FROZEN_CAMERA,
)
SOURCE = "teleop"  # stands where policy_node names its checkpoint; recorder_node takes it for the source
DISCARDED = "discarded"  # comment of the outcome of an episode that is not worth keeping
KEY_PERIOD = 0.05  # s between two looks at the keyboard
ESTOP_PERIOD = 0.15  # s between two messages that the emergency stop is pressed; well below estop.HELD


class TeleopNode(PolicyNode):
    """Parameters, the joystick and the keyboard; the rest is policy_node's. See the module."""

    def __init__(self) -> None:
        super().__init__("teleop_node", PARAMETERS)
        self.teleop: Teleoperator | None = None
        self._label: tuple[int, str] | None = None  # outcome and comment for the running episode
        self._judged = ("", 0)  # the last episode that the operator judged, and its outcome
        self._was_driving = self._estop_down = False
        self._estop_told = 0.0  # monotonic s
        self._joy_problem = ""

    def load_actor(self) -> Actor:
        """The person at the joystick or keyboard."""
        s = self.settings
        name = s.mapping or ("teleop_keyboard" if s.keyboard else "teleop_xbox")
        keys = load_keyboard(name, self.contract) if is_keyboard(name) else None
        if s.keyboard and keys is None:
            raise ValueError(f"mapping {name} is not for a keyboard; use teleop_keyboard, or set keyboard false")
        mapping = keys.joystick if keys is not None else load_joystick(name, self.contract)
        self.teleop = Teleoperator(self.contract, mapping, s.joy_timeout)
        self._checkpoint, self._label = SOURCE, None
        self._was_driving = self._estop_down = False
        # A tap on a key is meant to be one whole step; a button that is let go is meant to stop.
        self._hasty = keys is None
        self._outcome_out = self.create_publisher(EpisodeOutcome, "episode_outcome", LATCHED)
        self._estop_out = self.create_publisher(Empty, PRESS_TOPIC, EVENT)
        for out in (self._outcome_out, self._estop_out):
            self._made.callback(self.destroy_publisher, out)
        subscription = subscribe(self, Joy, "joy", self._on_joy, EVENT, self._on_odd_message)
        self._made.callback(self.destroy_subscription, subscription)
        if s.keyboard and keys is not None:
            self._read_keys(keys)
        self.get_logger().info(f"obeying joy, mapping for {mapping.device}")
        for note in keys.notes if keys is not None else mapping.notes:
            self.get_logger().warning(note)
        return self.teleop

    def _read_keys(self, keys: KeyboardMapping) -> None:
        """Turn the terminal into a joystick on the topic joy, in a thread of its own."""
        terminal, done = RawTerminal(), threading.Event()
        terminal.__enter__()
        joy_out = self.create_publisher(Joy, "joy", EVENT)
        self._made.callback(self.destroy_publisher, joy_out)
        thread = threading.Thread(target=self._type, args=(terminal, VirtualStick(keys), joy_out, done), daemon=True)
        self._made.callback(terminal.__exit__, None, None, None)
        self._made.callback(thread.join)
        self._made.callback(done.set)
        thread.start()
        for key, what in keys.help():
            self.get_logger().info(f"{key}: {what}")

    def _type(self, terminal: RawTerminal, stick: VirtualStick, joy_out: Any, done: threading.Event) -> None:
        try:
            while not done.is_set():
                for key in terminal.read(KEY_PERIOD):
                    stick.type(key, time.monotonic())
                joy_out.publish(joy_message(*stick.read(time.monotonic()), self._stamp()))
        except (EOFError, NoTerminal) as error:
            self.get_logger().error(f"{error}; no keys any more, the episode ends")

    # --- the operator -------------------------------------------------------------------------------------------------

    def _on_joy(self, message: Joy) -> None:
        if self.teleop is None:
            return
        self._tell_estop(self.teleop.mapping.holds("estop", message.buttons))  # also where the rest makes no sense
        try:
            pressed, self._joy_problem = self.teleop.offer(message.axes, message.buttons), ""
        except ValueError as error:
            self._joy_problem = str(error)
            self._stop("fault", f"joy: {error}")
            self.get_logger().error(f"joy: {error}", throttle_duration_sec=5.0)
            return
        driving = self.teleop.driving
        if self._hasty and self._was_driving and not driving and self.runner is not None:
            self.runner.hasten()  # let go: the neutral action with the next image, not at the end of the period
        self._was_driving = driving
        for role, act in (
            ("discard", self._discard),
            ("failure", self._fail),
            ("success", self._succeed),
            ("start", self._start),
        ):
            if role in pressed:
                act()
                break

    def _tell_estop(self, down: bool) -> None:
        """Every press, and again and again while it lasts: whoever missed it still stops, and no reset comes between.

        That it was let go is not published: another button may still be down.
        """
        changed, self._estop_down = down != self._estop_down, down
        if down and (changed or time.monotonic() - self._estop_told > ESTOP_PERIOD):
            self._estop_told = time.monotonic()
            self._estop_out.publish(Empty())
        if changed:
            self.get_logger().warning(f"emergency stop {'pressed' if down else 'let go'}")

    def _start(self) -> None:
        instruction = self.settings.instruction.strip()
        if self._active and self.runner is not None and not self.runner.busy and self._goal is None and instruction:
            self._begin(instruction, "", 0.0)

    def _succeed(self) -> None:
        if self.teleop is None or not self._judge(EpisodeStatus.OUTCOME_SUCCESS):
            return
        if "terminate" in self.contract.action_space.names:
            self.teleop.finish()  # the episode ends with a terminate action: that is to be learned too
        else:
            self._stop("done", "the operator said that it is done")

    def _fail(self) -> None:
        if self._judge(EpisodeStatus.OUTCOME_FAILURE):
            self._stop("operator", "the operator ended it as a failure")

    def _discard(self) -> None:
        if self._judge(EpisodeStatus.OUTCOME_UNKNOWN, DISCARDED):
            self._stop("operator", "the operator discarded it")

    def _judge(self, outcome: int, comment: str = "") -> bool:
        """Keep a label for the running episode; False when none is running."""
        if self.runner is None or not self.runner.busy:
            return False
        self._label = (outcome, comment)
        return True

    # --- episodes, where they differ from policy_node's -------------------------------------------------------------

    def _on_goal(self, goal: Any) -> GoalResponse:
        if self.teleop is not None and self.teleop.lost:
            problem = self._joy_problem or "nothing comes on joy; start joy_node, or set the parameter keyboard"
            self.get_logger().warning(f"goal rejected: {problem}")
            return GoalResponse.REJECT
        return super()._on_goal(goal)

    def _begin(self, instruction: str, episode_id: str, max_duration: float) -> Episode:
        self._label = None
        return super()._begin(instruction, episode_id, max_duration)

    def _watch(self) -> None:
        super()._watch()
        if self.runner is not None and self.runner.busy and self.teleop is not None and self.teleop.lost:
            limit = self.settings.joy_timeout
            self._stop("lost_policy", f"nothing on joy for {limit:g} s; are joy_node and its stick alive?")

    def _on_end(self, episode: Episode) -> None:
        if episode.reason == "terminate":
            episode.message = "the operator said that it is done"
        if self._label is not None:  # before the end is told: whoever closes the bag then knows it
            outcome, comment = self._label
            message = EpisodeOutcome(episode_id=episode.episode_id, outcome=outcome, comment=comment)
            message.header.stamp, message.labelled_by = self._stamp(), self.settings.operator
            self._judged = (episode.episode_id, outcome)
            self._outcome_out.publish(message)
            self._label = None
        super()._on_end(episode)

    def _on_outcome(self, message: EpisodeOutcome) -> None:
        """The operator's word stands: a simulator that judges too may be heard first, or instead."""
        if message.episode_id == self._judged[0]:
            message.outcome = self._judged[1]
        super()._on_outcome(message)

    def health(self, now: float) -> list[Health]:
        """policy_node's, and the joystick's."""
        joy = Health("joy", message="driving" if self._was_driving else "ok")
        if self.teleop is None or self.teleop.lost:
            joy.worsen(ERROR, self._joy_problem or "nothing comes on joy; is joy_node running and the stick connected?")
        return [*super().health(now), joy]


def joy_message(axes: list[float], buttons: list[int], stamp: Any) -> Joy:
    """A Joy message as joy_node would send it."""
    message = Joy(axes=axes, buttons=buttons)
    message.header.stamp = stamp
    return message


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to stop; a line that is hung up tells it too."""
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    return run(TeleopNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
