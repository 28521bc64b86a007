"""`qt-ros evaluate --backend ros --manual` as an operator uses it: keys at a terminal, over DDS, labels in the bags."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from domains import reserved_domain
from patient import patient_contract

from qt_ros.cli.processes import NodeGroup
from qt_ros.episodes.bag_labels import bag_labels
from qt_ros.msg import EpisodeStatus
from qt_ros.nodes import manual_evaluation
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.lifecycle import LATCHED
from qt_ros.nodes.manual_evaluation import Cut, ManualEvaluation
from qt_ros.sim.evaluation import wilson

NAMESPACE = "robot1"
LIFT, PUSH = "raise the hand", "push it"
NODES = ("servo_node", "command_node", "policy_node")


@pytest.fixture
def robot(checkpoint: Path, tmp_path: Path) -> Iterator[tuple[NodeGroup, GraphClient, Path]]:
    """A running robot in a namespace, with a recorder; that it is simulated is nobody's business."""
    contract = str(patient_contract(tmp_path))
    names = {"__ns": f"/{NAMESPACE}", "/clock": "clock"}
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with NodeGroup(tmp_path / "logs").running() as group:
            common = {"robot": contract, "use_sim_time": True}
            group.start("policy_node", {**common, "checkpoint": str(checkpoint), "threads": 1}, names)
            group.start("command_node", common, names)
            group.start("servo_node", common, names)
            group.start("sim_node", {"robot": contract, "real_time_factor": 0.5}, names)
            group.start("recorder_node", {**common, "root": str(tmp_path / "bags"), "compression": "zstd"}, names)
            client = GraphClient(group.check, namespace=NAMESPACE)
            try:
                for name in NODES:
                    client.activate(name)
                client.reset_scene(0, "pick_red_cube")
                yield group, client, tmp_path
            finally:
                client.close()


class Person:
    """Somebody at a pseudo-terminal with the command in it."""

    def __init__(self, client: GraphClient, checkpoint: Path, folder: Path, number: int) -> None:
        self.client, self.read = client, 0
        self._line, theirs = pty.openpty()
        command = [sys.executable, "-m", "qt_ros.cli", "evaluate", str(checkpoint), "--backend", "ros", "--manual"]
        command += ["--namespace", NAMESPACE, "--instruction", LIFT, "--instruction", PUSH, "--episodes", "2"]
        command += ["--operator", "anna", "--results", str(folder / "results.json"), "--max-duration", "30", "--json"]
        self._told = (folder / f"told{number}.txt").open("w+")
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.PIPE, stderr=self._told, text=True, start_new_session=True
        )
        os.close(theirs)

    def told(self) -> str:
        self._told.seek(0)
        return self._told.read()

    def answer(self, question: str, key: bytes) -> None:
        """Wait for the next such question, then press a key."""

        def asked() -> bool:
            assert self.process.poll() is None, self.told()
            return question in self.told()[self.read :]

        self.client.wait(asked, 180.0, f"the question {question!r}")
        self.read += self.told()[self.read :].index(question) + len(question)
        os.write(self._line, key)

    def meanwhile(self, instruction: str, key: bytes) -> None:
        """Press a key once the robot acts on ``instruction``."""
        steps: list[Any] = []
        listener = self.client.node.create_subscription(EpisodeStatus, "episode_status", steps.append, LATCHED)

        def acting() -> bool:
            assert self.process.poll() is None, self.told()
            last = steps[-1] if steps else EpisodeStatus()
            return last.state == EpisodeStatus.STATE_RUNNING and last.instruction == instruction and last.step > 1

        self.client.wait(acting, 180.0, f"the robot to act on {instruction!r}")
        self.client.node.destroy_subscription(listener)
        os.write(self._line, key)

    def finish(self) -> tuple[dict[str, Any], int]:
        output = self.process.communicate(timeout=120)[0]
        os.close(self._line)
        assert output, self.told()
        return json.loads(output), self.process.returncode


def said(bag: str) -> tuple[str, str, str]:
    """The label that holds."""
    label = bag_labels(Path(bag))[-1]
    return label.outcome, label.by, label.comment


def test_an_operator_judges_redoes_interrupts_goes_on_and_is_told_when_the_policy_dies(
    robot: tuple[NodeGroup, GraphClient, Path], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, client, folder = robot
    person = Person(client, checkpoint, folder, 1)
    person.answer("ready?", b"\n")
    person.meanwhile(LIFT, b"x")  # seen enough of it
    person.answer("how did it go?", b"s")
    person.answer("set up: ", b"")
    person.answer("ready?", b"\n")
    person.meanwhile(PUSH, b"x")
    person.answer("how did it go?", b"r")
    person.answer("what, other than the policy", b"s")
    person.answer("ready?", b"")
    person.process.send_signal(signal.SIGINT)
    first, status = person.finish()
    assert status == 130 and not first["complete"]
    assert (first["success"], first["episodes"], first["mishaps"]) == (1, 1, {"scene set up wrongly": 1})
    done, spoilt = first["results"]
    assert (done["instruction"], done["outcome"], done["reason"]) == (LIFT, "success", "canceled")
    assert said(done["bag"]) == ("success", "anna", "") and done["steps"] > 0
    assert said(spoilt["bag"]) == ("unknown", "anna", "mishap: scene set up wrongly")

    person = Person(client, checkpoint, folder, 2)
    person.answer("going on after 1 of 2", b"")
    person.answer("ready?", b"\n")
    person.meanwhile(PUSH, b" ")  # the emergency stop
    person.answer("how did it go?", b"f")
    person.answer("the emergency stop is latched", b"r")
    second, status = person.finish()
    assert status == 0 and second["complete"] and second["results"][:2] == [done, spoilt]
    assert second["results"][2]["reason"] == "estop" and said(second["results"][2]["bag"])[:2] == ("failure", "anna")
    low, high = wilson(1, 2)
    assert (second["rate"], second["low"], second["high"]) == (0.5, round(low, 4), round(high, 4))
    assert {k: v["success"] for k, v in second["by_instruction"].items()} == {LIFT: 1, PUSH: 0}
    group.check()

    policy = next(node for node in group.nodes if node.name == "policy_node")
    monkeypatch.setattr(manual_evaluation, "SILENT", 5.0)
    monkeypatch.setattr(manual_evaluation, "GOING", 1.0)
    with ManualEvaluation(checkpoint, NAMESPACE) as evaluation:
        evaluation.require()
        with pytest.raises(Cut) as cut:  # nobody will ever tell how this one ended
            evaluation.attempt(LIFT, 30.0, on_step=lambda step, value: policy.process.kill())
    assert "nothing from /robot1/policy_node" in cut.value.problem
    assert cut.value.result.reason == "lost_policy" and cut.value.result.episode_id
