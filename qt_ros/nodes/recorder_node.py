"""recorder_node: one bag per episode.

Follows the contract's topics and everything said about the episode, serialised as it travels; opens a bag when
episode_status says RUNNING, closes it when the episode has ended and has been judged (or nobody judged it in time), and
publishes episode_record. The writing is done by qt_ros.episodes.recorder in threads of its own.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message

from qt_ros.contract.codecs import stamp_to_ns
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.control.health import Health, recorder_health
from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag import BagError, BagTopic
from qt_ros.episodes.bag_metadata import Qos, label_data
from qt_ros.episodes.closed_bags import ClosedBags
from qt_ros.episodes.episode import OUTCOMES, SOURCES, outcome_name, reason_name
from qt_ros.episodes.labels import Label, LabelError, make_label
from qt_ros.episodes.labels import now as time_of_label
from qt_ros.episodes.recorder import Recorder, RecordingError, RecordReport
from qt_ros.msg import CommandStatus, EpisodeOutcome, EpisodeRecord, EpisodeStatus, PolicyAction
from qt_ros.nodes.diagnostics import Diagnostics
from qt_ros.nodes.lifecycle import LATCHED, run
from qt_ros.nodes.parameters import ROBOT, Parameter, ParameterTable
from qt_ros.nodes.policy_messages import reason_code
from qt_ros.nodes.raw_topics import RawMessage, RawTopics
from qt_ros.nodes.real_time import freeze_memory
from qt_ros.nodes.recorded_topics import ABOUT_EPISODES, expected_topics, recorded_topics
from qt_ros.srv import SetOutcome

PARAMETERS = ParameterTable(
    ROBOT,
    Parameter("root", "bags", "Folder of the bags, one folder per episode in it."),
    Parameter("compression", "none", "Of the bag's chunks; costs CPU time.", choices=("none", "lz4", "zstd")),
    Parameter("compressed_images", False, "Record <camera>/compressed in place of the raw images."),
    Parameter("preroll", 1.0, "Recorded from before the episode's start.", unit="s", low=0.0, high=60.0),
    Parameter("outcome_timeout", 2.0, "How long a bag waits for its outcome.", unit="s", low=0.0, high=3600.0),
    Parameter("silence_timeout", 5.0, "No sign of the policy for so long ends a bag.", unit="s", low=0.5, high=3600.0),
    Parameter("odometry_topic", "odom", "The base's odometry (nav_msgs/msg/Odometry); empty: not recorded."),
    Parameter(
        "trajectory_topic",
        "arm_controller/joint_trajectory",
        "What the arm's controller is sent (JointTrajectory), if the contract does not say; empty: not recorded.",
    ),
    Parameter("extra_topics", [], "More topics to record, each as 'name:package/msg/Type'."),
)
DETECTORS = ("sim", "gazebo")  # who judges by what the simulator knows
UNDER_WAY = 100_000_000  # ns after its start an episode is not just beginning
EARLY = 64  # actions kept of an episode that nobody has told of yet
LINGER = 0.5  # s after the end: the last of the braking belongs to the episode
LATCHED_RECORDS = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass
class Current:
    """The episode being recorded; ``heard`` and ``deadline`` in monotonic s."""

    episode_id: str
    heard: float
    reason: str = ""  # set once it has ended
    deadline: float = 0.0
    linger: float = 0.0  # the robot still brakes: not closed before
    dry_run: bool | None = None  # nothing was executed; None until command_node has said so or not
    outcome: EpisodeOutcome | None = None  # may arrive before the end it judges: other publisher, other order


def _label(episode_id: str, said: EpisodeOutcome) -> Label:
    """A judgement as it is kept with the bag."""
    return Label(episode_id, outcome_name(said.outcome), said.labelled_by, time_of_label(), said.comment)


class RecorderNode(Node):
    """Parameters, topics and the rules of when a bag is opened and closed; see the module."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self.settings = PARAMETERS.declare(self)
        self.contract = load_contract(self.settings.robot)
        self.root = Path(self.settings.root).expanduser().absolute()
        self.current: Current | None = None
        self._left = ""  # the episode that is not recorded (any more), whatever is still said of it
        self._early: deque[tuple[str, RawMessage, int]] = deque(maxlen=EARLY)  # episode, its action, time of receipt
        self.closed = ClosedBags(self.root)
        self._telling: list[threading.Event] = []  # bags being closed whose episode_record is not out yet
        self._simulated_time = bool(self.get_parameter("use_sim_time").value)
        latched = {self.contract.observation("text").topic, self.contract.description_topic} - {""}
        self.recorder = Recorder(
            self.root,
            compression=self.settings.compression,
            preroll=self.settings.preroll,
            latched=[self.resolve_topic_name(t) for t in latched],
            # The robot's state publisher and others each have their part of it.
            latched_all=[self.resolve_topic_name("/tf_static")],
            live_only=[self.resolve_topic_name(t) for t in ABOUT_EPISODES],
        )
        self._status, self._outcome, self._action, self._command = (
            self.resolve_topic_name(t) for t in ("episode_status", "episode_outcome", "policy_action", "command_status")
        )
        self._last: RecordReport | None = None
        Diagnostics(self, self.health, self.contract.robot)
        self._record_out = self.create_publisher(EpisodeRecord, "episode_record", LATCHED_RECORDS)
        self._outcome_out = self.create_publisher(EpisodeOutcome, "episode_outcome", LATCHED)
        self.create_service(SetOutcome, "set_outcome", self._on_set_outcome)
        self._expected = {self.resolve_topic_name(topic) for topic in expected_topics(self.contract, self.settings)}
        self.topics = RawTopics(self, recorded_topics(self.contract, self.settings), self._on_topic, self._on_message)
        self.create_timer(0.05, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        freeze_memory()
        self.get_logger().info(f"bags go to {self.root}")

    def _tell_missing(self) -> None:
        """Say once of every expected topic that it is not in the bag because nobody publishes it."""
        for topic in sorted(self._expected & set(self.topics.missing)):
            self._expected.discard(topic)
            self.get_logger().warning(
                f"nobody publishes {topic}: it is not in the bags. If the robot has it under another name, set"
                f" odometry_topic or trajectory_topic, or add it to extra_topics"
            )

    # --- messages ----------------------------------------------------------------------------------------------------

    def _on_topic(self, name: str, type_name: str, offered: tuple[Qos, ...]) -> None:
        self.recorder.add_topic(BagTopic.find(name, type_name, offered))

    def _on_message(self, message: RawMessage) -> None:
        try:
            self._take(message)
        except Exception as error:  # what cannot be read must not cost the bag
            problem = f"{message.topic}: {type(error).__name__}: {error}"
            self.get_logger().error(f"message refused: {problem}", throttle_duration_sec=1.0)

    def _take(self, message: RawMessage) -> None:
        if message.topic == self._status:
            self._on_status(message)
            return
        if message.topic == self._action:
            self._on_action(message)
            return
        self._write(message)
        if message.topic == self._command and self.current is not None and not self.current.dry_run:
            said = deserialize_message(message.data, CommandStatus)
            if said.episode_id == self.current.episode_id:
                self.current.dry_run = said.dry_run
        elif message.topic == self._outcome:
            self._on_outcome(deserialize_message(message.data, EpisodeOutcome))

    def _on_action(self, message: RawMessage) -> None:
        """An action may be read before the status that begins its episode: it waits for that."""
        episode_id = deserialize_message(message.data, PolicyAction).episode_id
        if self.current is not None and episode_id == self.current.episode_id:
            self._write(message)
            self.current.heard = time.monotonic()
        else:
            self._early.append((episode_id, message, self.get_clock().now().nanoseconds))

    def _write(self, message: RawMessage, received: int | None = None) -> None:
        now = self.get_clock().now().nanoseconds if received is None else received
        # Simulated time and the sender's wall clock have nothing to say to each other.
        sent = now if self._simulated_time else message.source_ns
        if not self.recorder.write(message.topic, message.data, now, sent, message.sequence):
            self.get_logger().error(
                f"{message.topic}: dropped, the disk is too slow; the bag counts it", throttle_duration_sec=1.0
            )

    def _on_status(self, message: RawMessage) -> None:
        status = deserialize_message(message.data, EpisodeStatus)
        if status.state == EpisodeStatus.STATE_RUNNING:
            if status.episode_id not in (self._left, self.current.episode_id if self.current is not None else ""):
                self._open(status)
            if self.current is not None:
                self.current.heard = time.monotonic()
        self._write(message)
        current = self.current
        if status.state == EpisodeStatus.STATE_ENDED and current is not None and not current.reason:
            if current.episode_id == status.episode_id:
                current.reason = self._named(status)
                current.linger = time.monotonic() + LINGER
                current.deadline = max(current.linger, time.monotonic() + self.settings.outcome_timeout)
                self._close_when_judged()

    def _named(self, status: EpisodeStatus) -> str:
        """Why it ended; a number that nobody knows is a fault of whoever said it, and no reason to lose a bag."""
        try:
            return reason_name(status.reason)
        except ValueError as error:
            self.get_logger().error(f"episode {status.episode_id}: {error}; recorded as fault")
            return "fault"

    def _on_outcome(self, outcome: EpisodeOutcome) -> None:
        if outcome.outcome >= len(OUTCOMES):
            self.get_logger().error(f"episode {outcome.episode_id}: outcome {outcome.outcome} is unknown; ignored")
            return
        if (current := self.current) is not None and outcome.episode_id == current.episode_id:
            if current.outcome is None or outcome.labelled_by not in DETECTORS:  # a person's word stands over theirs
                current.outcome = outcome
            self._close_when_judged()
            return
        try:
            self.closed.judge_late(outcome.episode_id, OUTCOMES[outcome.outcome], outcome.labelled_by, outcome.comment)
        except (BagError, LabelError, OSError) as error:
            self.get_logger().error(f"episode {outcome.episode_id}: its late outcome is not in the bag: {error}")

    def _close_when_judged(self) -> None:
        current = self.current
        if current is None or not current.reason or current.outcome is None:
            return
        if time.monotonic() > current.linger:
            label = _label(current.episode_id, current.outcome)
            self._close(label.outcome, current.reason, label)

    def _close_as_it_is(self, reason: str, problem: str = "") -> None:
        """Now, with what is known; ``reason`` where no end was heard of."""
        current = self.current
        assert current is not None
        if current.reason and current.outcome is not None:
            label = _label(current.episode_id, current.outcome)
            self._close(label.outcome, current.reason, label)
        else:
            self._close("unknown", current.reason or reason, problem=problem)

    def _watch(self) -> None:
        current, now = self.current, time.monotonic()
        if current is None:
            return
        self._close_when_judged()
        if self.current is not current:
            return
        if current.reason and now > current.deadline:
            self._close("unknown", current.reason)
        elif not current.reason and now - current.heard > self.settings.silence_timeout:
            self.get_logger().error(f"episode {current.episode_id}: nothing from the policy any more; closing its bag")
            self._close("unknown", "lost_policy")

    # --- bags --------------------------------------------------------------------------------------------------------

    def _open(self, status: EpisodeStatus) -> None:
        if self.current is not None:  # its end was never announced, or nobody judged it, or it lingers
            self._close_as_it_is("lost_policy")
        self.current, self._left = None, status.episode_id
        begun = stamp_to_ns(status.start) or stamp_to_ns(status.header.stamp)
        late = stamp_to_ns(status.header.stamp) - begun > UNDER_WAY
        if late and (self.root / status.episode_id).exists():
            # Its bag is of a recorder that was stopped, or ours until the policy fell silent; that one was told of.
            self.get_logger().warning(f"episode {status.episode_id} has a bag already; the rest of it is not recorded")
            return
        try:
            self.recorder.start(status.episode_id, describe(self.contract, status))
        except (RecordingError, ValueError) as error:
            self.get_logger().error(f"episode {status.episode_id} is not recorded: {error}")
            self._publish(EpisodeRecord(episode_id=status.episode_id, error=str(error)))
            return
        self._left = ""
        self.current = Current(status.episode_id, time.monotonic())
        for episode_id, message, received in self._early:
            if episode_id == status.episode_id:
                self._write(message, received)
        self._early.clear()

    def _close(self, outcome: str, reason: str, label: Label | None = None, problem: str = "") -> None:
        assert self.current is not None
        self._left = "" if self.current.reason else self.current.episode_id
        episode_id, dry_run, self.current = self.current.episode_id, self.current.dry_run, None
        known = label_data(label) if label is not None and label.by else {}
        if dry_run is not None:
            known[keys.DRY_RUN] = "true" if dry_run else "false"
        future = self.recorder.finish(outcome, reason, known)
        self._tell_missing()
        self.closed.add(episode_id, future)
        told = threading.Event()
        self._telling = [event for event in self._telling if not event.is_set()] + [told]
        future.add_done_callback(lambda done: self._report(done, problem, told))

    def _report(self, done: Future[RecordReport], problem: str, told: threading.Event) -> None:
        """Called by the recorder's thread when the bag is closed."""
        report = self._last = done.result()
        record = EpisodeRecord(episode_id=report.episode_id, uri=str(report.uri))
        record.outcome, record.reason = OUTCOMES.index(report.outcome), reason_code(report.reason)
        record.messages, record.dropped = report.messages, report.dropped
        record.complete, record.error = report.complete and not problem, report.error or problem
        text = (
            f"{report.messages} messages, {report.dropped} dropped, {report.outcome} ({report.reason}) {record.error}"
        )
        if record.error or report.dropped:  # two calls: rclpy ties a line of code to one severity
            self.get_logger().error(f"episode {report.episode_id}: {text}")
        else:
            self.get_logger().info(f"episode {report.episode_id}: {text}")
        self._publish(record)
        told.set()

    def _publish(self, record: EpisodeRecord) -> None:
        record.header.stamp = self.get_clock().now().to_msg()
        self._record_out.publish(record)

    def _on_set_outcome(self, request: SetOutcome.Request, response: SetOutcome.Response) -> SetOutcome.Response:
        current = self.current
        episode_id = request.episode_id or (current.episode_id if current is not None else self.closed.last)
        try:
            if request.outcome >= len(OUTCOMES):
                raise LabelError(f"outcome {request.outcome} is unknown; 1 is success, 2 failure")
            label = make_label(episode_id, OUTCOMES[request.outcome], request.labelled_by, request.comment)
            if current is None or current.episode_id != episode_id:
                self.closed.label(episode_id, label.outcome, label.by, label.comment)
            elif not current.reason and not request.episode_id:
                raise LabelError(f"episode {episode_id} is still running; name it to end it with this label")
            else:  # Said aloud: policy_node waits for it, and it comes back to us by its topic.
                said = EpisodeOutcome(episode_id=episode_id, outcome=request.outcome)
                said.header.stamp = self.get_clock().now().to_msg()
                said.labelled_by, said.comment = label.by, label.comment
                self._outcome_out.publish(said)
            response.success, response.message = True, f"{episode_id}: {label.outcome}"
        except (BagError, LabelError, OSError) as error:
            response.message = str(error)
        return response

    def health(self, now: float) -> list[Health]:
        """What /diagnostics says: what is being recorded, what the last bag lacks, room on the disk."""
        last = self._last
        told = {"last_bag": str(last.uri), "messages": str(last.messages), "dropped": str(last.dropped)} if last else {}
        there = next(path for path in (self.root, *self.root.parents) if path.exists())
        episode_id = self.current.episode_id if self.current is not None else ""
        dropped, error = (last.dropped, last.error) if last else (0, "")
        return [recorder_health(episode_id, shutil.disk_usage(there).free, told, dropped, error)]

    def destroy_node(self) -> None:
        """Close whatever is open before the node goes; the bag then says that the recorder was stopped."""
        if (current := self.current) is not None:
            problem = "" if current.reason else "the recorder was stopped in mid-episode"
            self._close_as_it_is("operator", problem)
        self.recorder.close()
        for told in self._telling:
            told.wait(10.0)
        self._record_out.wait_for_all_acked(Duration(seconds=0.5))
        super().destroy_node()


def describe(contract: RobotContract, status: EpisodeStatus) -> dict[str, str]:
    """What is known about an episode when it begins, for the bag's metadata.

    Where no checkpoint decides, the status names the source in its place (teleop_node: 'teleop').
    """
    source = status.checkpoint if status.checkpoint in SOURCES else "autonomous"
    return {
        keys.INSTRUCTION: status.instruction,
        keys.CHECKPOINT: status.checkpoint if source == "autonomous" else "",
        keys.SOURCE: source,
        keys.ROBOT: contract.robot,
        keys.CONTRACT_SHA256: contract.sha256,
        keys.CONTRACT_YAML: contract.text,
        keys.ACTION_SPACE_SHA256: contract.action_space.sha256,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run(RecorderNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
