"""A person drives the simulated robot through the policy's own path, and what was recorded is what was sent.

Real sim_node, command_node, servo_node, recorder_node, teleop_node and marker_node; the joystick is the test.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from domains import reserved_domain
from patient import patient_contract
from rosbags.highlevel import AnyReader
from typer.testing import CliRunner
from visualization_msgs.msg import Marker, MarkerArray

from qt_ros.cli.main import build_app
from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import load_contract, package_root
from qt_ros.control.joystick import load_joystick
from qt_ros.episodes.bag_metadata import COMPLETE, INSTRUCTION, LABELLED_BY, OUTCOME, SOURCE, read_metadata
from qt_ros.episodes.store import EpisodeStore
from qt_ros.msg import CommandStatus, EpisodeStatus, PolicyAction
from qt_ros.nodes.demo_client import GoalRejected
from qt_ros.nodes.lifecycle import LATCHED
from qt_ros.nodes.record_client import RecordClient

CONTRACT = load_contract("mobile_manipulator")
MAPPING = load_joystick("teleop_xbox", CONTRACT)
INSTRUCTION_TEXT = "raise the hand"
LINKS = (
    ("record_client", "joy", "teleop_node"),
    ("teleop_node", "estop_press", "command_node"),
    ("teleop_node", "policy_action", "command_node"),
    ("teleop_node", "policy_action", "recorder_node"),
    ("teleop_node", "policy_action", "record_client"),
    ("teleop_node", "policy_action", "marker_node"),
    ("teleop_node", "episode_status", "command_node"),
    ("teleop_node", "episode_status", "recorder_node"),
    ("teleop_node", "episode_outcome", "recorder_node"),
    ("command_node", "command_status", "teleop_node"),
    ("command_node", "servo_node/delta_twist_cmds", "servo_node"),
    ("command_node", "servo_node/delta_twist_cmds", "recorder_node"),
    ("servo_node", "arm_controller/joint_trajectory", "sim_node"),
    ("sim_node", "head_camera/image_raw", "teleop_node"),
    ("sim_node", "head_camera/image_raw", "recorder_node"),
    ("sim_node", "joint_states", "teleop_node"),
    ("sim_node", "joint_states", "recorder_node"),
)
NODES = ("sim_node", "command_node", "servo_node", "recorder_node", "teleop_node", "marker_node")


class Pilot:
    """A client that holds a joystick: it publishes Joy at 20 Hz whenever it waits, and keeps what it hears."""

    def __init__(self, group: NodeGroup, folder: Path) -> None:
        self.group, self.folder = group, folder
        self.client = RecordClient(self._pump)
        self.plugged = True
        self._sent = 0.0
        self.let_go()
        node = self.client.node
        self.heard: dict[str, list[Any]] = {}
        for kind, topic, qos in (
            (PolicyAction, "policy_action", 50),
            (EpisodeStatus, "episode_status", LATCHED),
            (CommandStatus, "command_status", 50),
            (DiagnosticArray, "/diagnostics", 50),
            (MarkerArray, "intended_motion", 10),
        ):
            self.heard[topic] = []
            node.create_subscription(kind, topic, self.heard[topic].append, qos)

    def let_go(self) -> None:
        self.axes, self.buttons = [0.0] * 8, [0] * 11

    def hold(self, *roles: str, **dimensions: float) -> None:
        """Press these buttons, and deflect the axes of these dimensions (-1..1); everything else is let go."""
        self.let_go()
        for role in roles:
            self.buttons[MAPPING.buttons[role]] = 1
        for binding in MAPPING.axes:
            if binding.dimension in dimensions:
                self.axes[binding.axis] = dimensions[binding.dimension]

    def _pump(self) -> None:
        self.group.check()
        now = time.monotonic()
        if self.plugged and now - self._sent > 0.05:
            self._sent = now
            self.client.steer(self.axes, self.buttons)

    def until(self, topic: str, test: Any, what: str) -> Any:
        """The first message on ``topic`` heard from now on that passes ``test``."""
        self.heard[topic].clear()
        self.client.wait(lambda: any(test(m) for m in self.heard[topic]), 60.0, what)
        return next(m for m in self.heard[topic] if test(m))

    def actions(self, episode: str) -> list[Any]:
        return [m for m in self.heard["policy_action"] if m.episode_id == episode]

    def begin(self, episode: str) -> None:
        self.let_go()
        self.client.begin(INSTRUCTION_TEXT, episode, 0.0, lambda step, value: None)
        self.client.wait(lambda: self.actions(episode), 60.0, "the first action")

    def moving(self, episode: str) -> None:
        """Drive upwards until the robot is seen to be commanded."""
        self.hold("deadman", dz=1.0)
        rises = lambda m: m.episode_id == episode and m.values[4] > 0.03  # noqa: E731
        self.until("policy_action", rises, "an action upwards")

    def end(self, episode: str) -> Any:
        result = self.client.result()
        assert result.episode_id == episode
        return result


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pilot]:
    folder = tmp_path_factory.mktemp("teleop")
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with NodeGroup(folder / "logs", {"OMP_NUM_THREADS": "1"}).running() as group:
            robot = {"robot": str(patient_contract(folder))}
            timed = {**robot, "use_sim_time": True, "autostart": True}
            group.start("teleop_node", {**timed, "operator": "anna", "joy_timeout": 4.0, "outcome_wait": 0.1})
            group.start("command_node", {**timed, "clock_patience": 60.0})
            group.start("servo_node", {**timed, "twist_timeout": 1.0})
            group.start("sim_node", {**robot, "real_time_factor": 0.5})
            recorder = {"root": str(folder / "bags"), "silence_timeout": 60.0, "compression": "lz4"}
            group.start("recorder_node", {**robot, "use_sim_time": True, **recorder})
            group.start("marker_node", {**robot, "use_sim_time": True})
            made = Pilot(group, folder)
            try:
                made.client.wait_for_service("reset_scene")
                for name in ("teleop_node", "command_node", "servo_node"):
                    made.client.activate(name)
                made.client.wait_for_links(LINKS)
                made.client.reset_scene(2_000_031, "pick_red_cube")
                yield made
            finally:
                made.client.close()


def test_a_demonstration_is_recorded_as_it_was_sent_and_becomes_an_episode_of_a_store(pilot: Pilot) -> None:
    pilot.heard["policy_action"].clear()
    pilot.client.begin(INSTRUCTION_TEXT, "demo-1", 0.0, lambda step, value: None)
    seen = pilot.heard["policy_action"]
    pilot.client.wait(lambda: len(seen) >= 2, 60.0, "two actions while nothing is held")
    pilot.hold("deadman", dz=1.0)
    pilot.client.wait(lambda: sum(m.values[4] > 0.03 for m in seen) >= 3, 60.0, "three actions upwards")
    pilot.hold("deadman", "close", dy=-0.5)
    pilot.client.wait(lambda: sum(m.values[3] < 0.0 for m in seen) >= 2, 60.0, "two actions to the right")
    pilot.hold("success")
    result = pilot.end("demo-1")
    pilot.let_go()
    assert (result.reason, result.outcome) == ("terminate", "success")
    record = pilot.client.record("demo-1")
    assert (record.complete, record.error, record.dropped) == (True, "", 0)

    sent = [m for m in pilot.actions("demo-1") if len(m.bins)]
    assert len(sent) == result.steps >= 8
    assert {m.checkpoint for m in sent} == {"teleop"}
    bag = Path(record.uri)
    check_bag(bag, sent)
    check_store(bag, sent, pilot.folder / "store")


def check_bag(bag: Path, sent: list[Any]) -> None:
    """A reader that knows nothing of us finds the same actions, and the robot really moved."""
    custom = read_metadata(bag).custom_data
    facts = (custom[SOURCE], custom[INSTRUCTION], custom[OUTCOME], custom[LABELLED_BY], custom[COMPLETE])
    assert facts == ("teleop", INSTRUCTION_TEXT, "success", "anna", "true")
    found, heights = [], []
    spec = CONTRACT.kinematics
    joints = [*spec.arm_joints, "lift_joint"]
    kinematics = Kinematics(CONTRACT.urdf, spec.base_frame, spec.tool_frame, joints)
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            if connection.topic == "/policy_action":
                found.append(reader.deserialize(raw, connection.msgtype))
            elif connection.topic == "/joint_states":
                message = reader.deserialize(raw, connection.msgtype)
                position = dict(zip(message.name, message.position, strict=True))
                heights.append(kinematics.fk([position[j] for j in joints])[0][2])
    decided = [m for m in found if len(m.bins)]
    assert [list(m.values) for m in decided] == [list(m.values) for m in sent]
    assert [list(m.bins) for m in decided] == [list(m.bins) for m in sent]
    assert len(found) == len(decided) + 1  # and the neutral stop
    assert heights[-1] - heights[0] > 0.08  # three steps of 4 cm, less what the last one was cut short


def check_store(bag: Path, sent: list[Any], store: Path) -> None:
    """The command that users type makes an episode of it, equal to what was sent."""
    words = ["episodes", "build", str(bag), "--store", str(store), "--robot", str(bag.parents[1] / "patient.yaml")]
    told = CliRunner().invoke(build_app("episodes"), [*words, "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["added"] == ["demo-1"]
    (episode,) = EpisodeStore(store)
    values = np.array([m.values for m in sent])
    assert np.array_equal(episode.actions, values.astype(np.float32))
    assert np.array_equal(episode.bins, np.array([m.bins for m in sent]))
    facts = (episode.source, episode.outcome, episode.reason, episode.terminated, episode.instruction)
    assert facts == ("teleop", "success", "terminate", True, INSTRUCTION_TEXT)
    assert episode.checkpoint == ""
    terminate = CONTRACT.action_space.index("terminate")
    assert episode.actions[-1, terminate] >= 0.5 and (episode.actions[:-1, terminate] < 0.5).all()
    gripper = episode.actions[:, CONTRACT.action_space.index("gripper")]
    assert gripper[0] < 0.1 and gripper[-1] > 0.9


def test_letting_go_of_the_dead_man_button_stops_motion_and_the_episode_goes_on(pilot: Pilot) -> None:
    pilot.begin("let-go")
    pilot.moving("let-go")
    pilot.hold(dz=1.0)  # the stick is still deflected
    still = pilot.until("policy_action", lambda m: m.values[4] == 0.0, "a neutral action")
    assert len(still.bins) and still.episode_id == "let-go", pilot.heard["episode_status"][-1].message
    assert pilot.until("policy_action", lambda m: m.step > still.step, "another action").values[4] == 0.0
    pilot.hold("failure")
    result = pilot.end("let-go")
    assert (result.reason, result.outcome) == ("operator", "failure")
    assert pilot.client.record("let-go").outcome == EpisodeStatus.OUTCOME_FAILURE


def test_a_joystick_that_falls_silent_ends_the_episode_and_no_other_begins_without_one(pilot: Pilot) -> None:
    pilot.begin("unplugged")
    pilot.moving("unplugged")
    pilot.plugged = False
    result = pilot.end("unplugged")
    assert (result.reason, "joy" in result.message) == ("lost_policy", True)
    with pytest.raises(GoalRejected):
        pilot.client.send(INSTRUCTION_TEXT, "refused")
    pilot.plugged = True
    pilot.let_go()
    joy = lambda m: any(s.name == "teleop_node: joy" and s.level == b"\x00" for s in m.status)  # noqa: E731
    pilot.until("/diagnostics", joy, "the joystick to be there again")


def test_the_emergency_stop_button_ends_the_episode_and_stays_latched(pilot: Pilot) -> None:
    pilot.begin("estop")
    pilot.moving("estop")
    pilot.hold("deadman", "estop", dz=1.0)
    assert pilot.end("estop").reason == "estop"
    assert not pilot.client.reset_estop()[0], "it is still held"
    pilot.let_go()
    pilot.client.send(INSTRUCTION_TEXT, "too-early")
    assert pilot.end("too-early").reason == "estop"
    pilot.client.wait(lambda: pilot.client.reset_estop()[0], 60.0, "the released button to be known")


def test_a_joystick_that_does_not_fit_the_mapping_ends_the_episode(pilot: Pilot) -> None:
    pilot.begin("misfit")
    pilot.axes = [0.0, 0.0]
    result = pilot.end("misfit")
    assert (result.reason, "choose the mapping" in result.message) == ("fault", True)
    pilot.let_go()


def test_every_node_tells_its_health_once_a_second_and_says_what_to_do(pilot: Pilot) -> None:
    pilot.begin("healthy")
    pilot.moving("healthy")
    healthy: dict[str, Any] = {}

    def complete() -> bool:
        for array in pilot.heard["/diagnostics"]:
            for status in array.status:
                healthy[status.name] = status
        nodes = {name.partition(":")[0] for name in healthy}
        episode = healthy.get("teleop_node: episode")
        return nodes >= set(NODES) - {"marker_node"} and episode is not None and episode.message == "acting"

    pilot.heard["/diagnostics"].clear()
    pilot.client.wait(complete, 60.0, "every node to report")
    values = {name: {v.key: v.value for v in status.values} for name, status in healthy.items()}
    assert values["teleop_node: episode"]["episode"] == "healthy"
    assert float(values["teleop_node: latency"]["latency_ms_p95"]) >= 0.0
    assert float(values["teleop_node: head_camera/image_raw"]["rate_hz"]) > 0.0
    assert values["command_node: commands"]["state"] == "moving"
    assert float(values["command_node: ticks"]["rate_hz"]) > 0.0
    assert int(values["servo_node: servo_node/delta_twist_cmds"]["messages"]) > 0
    assert float(values["recorder_node: recording"]["disk_free_gib"]) > 0.0
    assert 0.0 < float(values["sim_node: simulation"]["real_time_factor"]) < 0.7
    assert {status.hardware_id for status in healthy.values()} == {CONTRACT.robot}
    pilot.hold("deadman", "estop")
    assert pilot.end("healthy").reason == "estop"
    told = lambda m: any(s.name == "command_node: commands" and s.level == b"\x02" for s in m.status)  # noqa: E731
    array = pilot.until("/diagnostics", told, "the emergency stop to be told")
    (status,) = (s for s in array.status if s.name == "command_node: commands")
    assert "command_node/reset" in status.message
    pilot.let_go()
    pilot.client.wait(lambda: pilot.client.reset_estop()[0], 60.0, "the released button to be known")


def test_the_intended_motion_is_drawn_while_an_episode_runs_and_taken_away_after_it(pilot: Pilot) -> None:
    pilot.begin("drawn")
    pilot.moving("drawn")

    def find(markers: Any, name: str) -> Any:
        return next(m for m in markers.markers if m.ns == name)

    def rising(markers: Any) -> bool:
        tool = find(markers, "tool")
        return tool.action == Marker.ADD and tool.points[1].z > tool.points[0].z + 0.03

    drawn = pilot.until("intended_motion", rising, "an arrow upwards")
    assert {m.header.frame_id for m in drawn.markers} == {"base_link"}
    assert len(find(drawn, "workspace").points) == 24
    assert f"{INSTRUCTION_TEXT} (running" in find(drawn, "episode").text
    pilot.hold("discard")
    assert pilot.end("drawn").reason == "operator"
    gone = pilot.until("intended_motion", lambda m: find(m, "tool").action == Marker.DELETE, "the arrow to go")
    assert "ended: operator" in find(gone, "episode").text
    assert pilot.client.record("drawn").outcome == EpisodeStatus.OUTCOME_UNKNOWN
    pilot.let_go()


def present(pilot: Pilot) -> dict[str, list[str]]:
    return {name.lstrip("/"): types for name, types in pilot.client.node.get_topic_names_and_types()}


def test_every_topic_of_the_foxglove_layout_and_of_the_rviz_file_exists_with_its_type(pilot: Pilot) -> None:
    from viewers import foxglove_topics, rviz_topics

    found = present(pilot)
    config = package_root() / "config"
    wanted = foxglove_topics(config / "foxglove" / "qt_ros.json")
    assert {"head_camera/image_raw", "policy_action", "servo_node/delta_twist_cmds", "episode_status"} <= set(wanted)
    assert {t: found.get(t) for t in wanted if t not in found} == {}
    typed = rviz_topics(config / "rviz" / "qt_ros.rviz")
    assert {"head_camera/image_raw", "intended_motion", "servo_node/delta_twist_cmds"} <= set(typed)
    assert {topic: found.get(topic) for topic in typed} == {topic: [kind] for topic, kind in typed.items()}
