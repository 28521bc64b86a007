"""The JSON document of a demo run; the run itself is tested in test/graph/test_demo.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qt_ros.cli.demo import Demo, Row
from qt_ros.cli.demo_plan import make_plan
from qt_ros.cli.main import main
from qt_ros.cli.simulated import set_environment
from qt_ros.episodes.bag_metadata import SEED, TASK, read_metadata
from qt_ros.episodes.bag_writer import EpisodeBagWriter
from qt_ros.nodes.transport import PROFILES, RANGE, REACH

TASKS = [f"pick_{i}" for i in range(10)]


def row(outcome: str) -> Row:
    return Row("pick", 7, outcome, "terminate", 12, 20.0, 30.0, "bags/e1", task="pick_1", messages=9, complete=True)


def test_the_document_has_what_scripts_rely_on(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text('{"id": "abc"}')
    demo = Demo(make_plan(3, 4, TASKS), tmp_path, tmp_path / "run")
    demo.rows = [row("success"), row("success"), row("failure"), row("unknown")]
    document = json.loads(json.dumps(demo.summary()))
    assert document["success_rate"] == 0.5
    keys = {"instruction", "seed", "outcome", "reason", "steps", "latency_ms_p50", "latency_ms_p95", "bag"}
    assert all(keys <= set(episode) for episode in document["episodes"])
    assert (document["seed"], document["checkpoint"]) == (3, "abc")


def test_a_run_without_episodes_has_no_success(tmp_path: Path) -> None:
    assert Demo(make_plan(3, 4, TASKS), tmp_path, tmp_path / "run").success_rate == 0.0


class InterruptedClient:
    """A graph in which Ctrl-C is pressed during ``where``: execute, record, or both execute and cancel."""

    def __init__(self, where: str, bag: Path) -> None:
        self.where, self.bag, self.calls = where, bag, []

    def reset_scene(self, seed: int, task: str) -> Any:
        return SimpleNamespace(instruction="pick")

    def execute(self, *_: Any, **__: Any) -> Any:
        if self.where != "record":
            raise KeyboardInterrupt
        return SimpleNamespace(outcome="success", reason="terminate", steps=3, latency_ms_p50=1.0, latency_ms_p95=2.0)

    def cancel(self) -> None:
        self.calls.append("cancel")

    def record(self, episode_id: str, timeout: float = 30.0) -> Any:
        self.calls.append("record")
        if self.where == "record" and self.calls == ["record"]:
            raise KeyboardInterrupt
        if self.where == "before it began":
            raise TimeoutError("no bag")
        return SimpleNamespace(uri=str(self.bag), messages=5, dropped=0, complete=True, error="not read here")


@pytest.mark.parametrize(
    ("where", "calls", "kept"),
    [
        ("execute", ["cancel", "record"], 0),
        ("before it began", ["cancel", "record"], 0),
        ("record", ["record", "record"], 1),
    ],
)
def test_ctrl_c_is_an_interruption_whenever_it_comes_and_a_finished_episode_is_kept(
    tmp_path: Path, where: str, calls: list[str], kept: int
) -> None:
    demo, client = Demo(make_plan(3, 1, TASKS), tmp_path, tmp_path / "run"), InterruptedClient(where, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        demo._episode(client, 0, "pick_1", 7)
    assert (client.calls, len(demo.rows)) == (calls, kept)


@pytest.mark.parametrize("where", ["execute", "record", "before it began"])
def test_a_bag_says_of_which_scene_it_is_though_ctrl_c_or_an_error_came_between(tmp_path: Path, where: str) -> None:
    demo = Demo(make_plan(3, 1, TASKS), tmp_path, tmp_path / "run")
    bag = tmp_path / "run" / "bags" / "run-001"
    EpisodeBagWriter(bag, custom_data={}).close()
    with pytest.raises(KeyboardInterrupt):
        demo._episode(InterruptedClient(where, bag), 0, "pick_1", 7)
    demo.notes.finish()
    custom = read_metadata(bag).custom_data
    assert (custom.get(TASK), custom.get(SEED)) == ("pick_1", "7")


def test_words_that_are_not_what_is_scored_are_refused_where_the_bags_may_be_trained_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--wrong-instruction", "--training-scenes"]) == 2
    assert "not what was scored" in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("name", ["", RANGE, "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY"])
def test_a_domain_that_is_set_does_not_open_the_network_and_what_the_user_says_does(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in (*REACH, *PROFILES):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if name:
        monkeypatch.setenv(name, "SUBNET")
    set_environment()
    assert os.environ["ROS_DOMAIN_ID"] == "42"
    local = os.environ[PROFILES[0]].endswith("fastdds_local.xml")
    assert (os.environ.get(RANGE) == "LOCALHOST", local) == (not name, not name)
