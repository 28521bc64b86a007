"""`qt-ros record` as an operator uses it: keys typed in a terminal drive the robot, and end up as a labelled bag."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from domains import reserved_domain
from patient import patient_contract
from std_msgs.msg import Empty

from qt_ros.contract.robot import load_contract
from qt_ros.episodes.bag import is_complete
from qt_ros.episodes.bag_metadata import INSTRUCTION, LABELLED_BY, OUTCOME, SOURCE, TASK, read_metadata
from qt_ros.episodes.from_bag import episode_from_bag
from qt_ros.msg import EpisodeStatus, PolicyAction
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.lifecycle import LATCHED

CONTRACT = load_contract("mobile_manipulator")
UP = CONTRACT.action_space.index("dz")
LATE = {"stale_camera", "stale_joints", "lost_policy", "lost_command"}  # stops that a busy machine explains


class Terminal:
    """A person at a pseudo-terminal with `qt-ros record` in it, who also watches the graph."""

    def __init__(self, folder: Path, options: list[str], namespace: str = "") -> None:
        self._line, theirs = pty.openpty()
        command = [sys.executable, "-m", "qt_ros.cli", "record", "--out", str(folder), "--json", *options]
        command += ["--namespace", namespace] if namespace else []
        self._told = (folder.parent / "told.txt").open("w+")
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.PIPE, stderr=self._told, text=True, start_new_session=True
        )
        os.close(theirs)
        self.key, self._typed = b"", 0.0
        self.client = GraphClient(self._check, namespace=namespace)
        self.actions: list[Any] = []
        self.status: list[Any] = []
        self.client.node.create_subscription(PolicyAction, "policy_action", self.actions.append, 50)
        self.client.node.create_subscription(EpisodeStatus, "episode_status", self.status.append, LATCHED)

    def _check(self) -> None:
        if self.process.poll() is not None:
            raise AssertionError(self.told())
        now = time.monotonic()
        if self.key and now - self._typed > 0.05:  # a key that is held down repeats
            self._typed = now
            self.type(self.key)

    def type(self, key: bytes) -> None:
        os.write(self._line, key)

    def told(self) -> str:
        self._told.flush()
        self._told.seek(0)
        return self._told.read()

    def asked(self) -> int:
        """How many times it was asked what to do with an episode."""
        return self.told().count("keep it as")

    def hold(self, key: bytes, until: Callable[[], Any], what: str) -> None:
        """Hold a key down until something has come of it."""
        self.key = key
        try:
            self.client.wait(until, 180.0, what)
        except TimeoutError as error:
            nodes = sorted(self.client.node.get_node_names())
            states = [(m.state, m.reason, m.step) for m in self.status]
            seen = f"{len(self.actions)} actions, status {states}, nodes {nodes}"
            raise AssertionError(f"{error}\n{seen}\n{self.told()}") from error
        self.key = b""

    def raise_hand(self) -> int:
        """Hold the key until the arm is sent up; `asked` as it is then.

        A busy machine may stop an episode before that, as it should: it is discarded, and the next one tried.
        """
        answered = self.asked()

        def rising() -> bool:
            nonlocal answered
            if any(m.values[UP] > 0.01 for m in self.actions):
                return True
            if self.asked() > answered:
                self.type(b"\x15d\n")  # Control-U: what was typed into the line so far is no answer
                answered = self.asked()
            return False

        self.hold(b"r", rising, "the arm to be sent up")
        return answered

    def finish(self) -> dict[str, Any]:
        """Wait for the end of the program and read what it printed."""
        output = self.process.communicate(timeout=120)[0]
        self.client.close()
        os.close(self._line)
        return {"document": json.loads(output), "status": self.process.returncode, "told": self.told()}


@pytest.fixture(autouse=True)
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with reserved_domain() as number:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield


def test_an_operator_drives_labels_and_interrupts_and_every_bag_is_where_it_belongs(tmp_path: Path) -> None:
    options = ["--sim", "--task", "pick_red_cube", "--instruction", "raise the hand", "--countdown", "0"]
    robot = patient_contract(tmp_path)
    options += ["--real-time-factor", "0.5", "--joy-timeout", "8", "--operator", "anna", "--robot", str(robot)]
    person = Terminal(tmp_path / "out", options)
    answered = person.raise_hand()
    first = person.actions[-1].episode_id
    ended = lambda: any(m.episode_id == first and m.state == EpisodeStatus.STATE_ENDED for m in person.status)  # noqa: E731
    person.hold(b"\r", ended, "the episode to be done")
    person.client.wait(lambda: person.asked() > answered, 180.0, "the question what to do with it")
    person.type(b"\n")  # keep it as it is labelled; the next episode begins
    person.client.wait(lambda: person.actions[-1].episode_id != first, 180.0, "the next episode")
    person.process.send_signal(signal.SIGINT)
    result = person.finish()
    assert result["status"] == 130, result["told"]

    rows = result["document"]["episodes"]
    assert all(row["discarded"] and row["reason"] in LATE for row in rows if row["episode_id"] < first), rows
    kept, canceled = next(row for row in rows if row["episode_id"] == first), rows[-1]
    assert (kept["outcome"], kept["discarded"], kept["complete"]) == ("success", False, True)
    assert (canceled["discarded"], result["document"]["interrupted"]) == (True, True)
    bag = Path(kept["bag"])
    assert bag.parent == tmp_path / "out" / "bags"
    custom = read_metadata(bag).custom_data
    facts = (custom[SOURCE], custom[OUTCOME], custom[LABELLED_BY], custom[INSTRUCTION], custom[TASK])
    assert facts == ("teleop", "success", "anna", "raise the hand", "pick_red_cube")
    episode = episode_from_bag(bag, load_contract(robot))
    assert (episode.actions[:, UP] > 0.01).any() and episode.reason == "terminate"
    aside = Path(canceled["bag"])
    assert aside.parent == tmp_path / "out" / "discarded" and is_complete(aside)
    assert [p.name for p in bag.parent.iterdir()] == [first]


def test_in_a_namespace_the_emergency_stop_is_pressed_confirmed_and_released(tmp_path: Path) -> None:
    robot = patient_contract(tmp_path)
    options = ["--sim", "--task", "pick_red_cube", "--instruction", "raise the hand", "--countdown", "0"]
    options += ["--episodes", "1", "--real-time-factor", "0.5", "--joy-timeout", "8", "--robot", str(robot)]
    person = Terminal(tmp_path / "out", options, "left")
    stops: list[Any] = []
    person.client.node.create_subscription(Empty, "estop_press", stops.append, 10)
    answered = person.raise_hand()
    ours = ("teleop_node", "sim_node", "command_node", "servo_node", "recorder_node", "record_client")
    found = lambda: set(person.client.node.get_node_names_and_namespaces())  # noqa: E731
    person.client.wait(lambda: {(name, "/left") for name in ours} <= found(), 60.0, "all nodes in the namespace")
    topics = {name for name, _ in person.client.node.get_topic_names_and_types()}
    assert not {"/clock", "/diagnostics", "/joy", "/estop_press"} & topics and "/left/clock" in topics
    person.type(b" ")
    person.client.wait(lambda: person.asked() > answered, 180.0, "the question what to do with it")
    assert stops
    person.type(b"\n")
    person.client.wait(lambda: "press Enter when it is safe" in person.told(), 60.0, "the question when to go on")
    person.type(b"\n")
    result = person.finish()
    assert result["status"] == 0, result["told"]
    *before, row = result["document"]["episodes"]
    assert all(late["discarded"] and late["reason"] in LATE for late in before), before
    assert row["reason"] == "estop" and Path(row["bag"]).is_dir()
    assert "/left/estop_press" in {t.name for t in read_metadata(Path(row["bag"])).topics if t.message_count}
    assert "emergency stop reset" in result["told"]
