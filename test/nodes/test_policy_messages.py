"""What policy_node says is complete, finite and in the contract's order."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time  # noqa: E402

from qt_ros.action import ExecuteInstruction  # noqa: E402
from qt_ros.contract.robot import load_contract  # noqa: E402
from qt_ros.control.runner import Episode, Frame, Step  # noqa: E402
from qt_ros.episodes.episode import OUTCOMES, REASONS  # noqa: E402
from qt_ros.msg import EpisodeStatus  # noqa: E402
from qt_ros.nodes.policy_messages import (  # noqa: E402
    action_message,
    goal_problem,
    q_curves_message,
    reason_code,
    status_message,
    stop_message,
)

SPACE = load_contract("mobile_manipulator").action_space


def episode(**changes: object) -> Episode:
    return Episode("e1", "pick up the red cube", start=10.0, max_duration=12.0, **changes)  # type: ignore[arg-type]


def test_reasons_and_outcomes_mean_the_same_in_messages_and_in_episodes() -> None:
    assert [reason_code(name) for name in REASONS] == list(range(len(REASONS)))
    assert [getattr(EpisodeStatus, f"OUTCOME_{name.upper()}") for name in OUTCOMES] == [0, 1, 2]
    assert reason_code("") == EpisodeStatus.REASON_NONE


def test_an_action_names_its_image_and_every_dimension() -> None:
    image = SimpleNamespace(header=SimpleNamespace(stamp=Time(sec=3, nanosec=5)))
    bins = np.arange(SPACE.size)
    decision = SimpleNamespace(values=SPACE.decode(bins), bins=bins, q=np.full(SPACE.size, 0.5, np.float32), value=0.75)
    step = Step(episode(steps=5), 4, decision, Frame(image, 3.0, 0.0), latency_ms=21.0, network_ms=20.0)
    message = action_message(step, SPACE, "base_link", "abc", Time(sec=4))
    assert (message.episode_id, message.instruction, message.step) == ("e1", "pick up the red cube", 4)
    assert (message.observation_stamp, message.header.stamp) == (Time(sec=3, nanosec=5), Time(sec=4))
    assert message.header.frame_id == "base_link"
    assert tuple(message.names) == SPACE.names
    assert list(message.bins) == bins.tolist()
    assert message.values.tolist() == SPACE.decode(bins).tolist()
    assert list(message.q) == [0.5] * SPACE.size
    assert (message.value, message.latency_ms, message.checkpoint) == (0.75, 21.0, "abc")


def test_the_neutral_stop_moves_nothing_terminates_and_is_no_decision() -> None:
    message = stop_message(episode(steps=7, reason="timeout"), SPACE, "base_link", "abc", Time(sec=4))
    values = dict(zip(message.names, message.values, strict=True))
    assert values.pop("terminate") >= 0.5
    values.pop("gripper")  # held whatever it says
    assert set(values.values()) == {0.0}
    assert (len(message.q), len(message.bins), message.step) == (0, 0, 7)


def test_a_status_says_where_the_episode_stands() -> None:
    running, ended = episode(steps=2), episode(steps=3, reason="stale_camera", message="no image")
    running.latency.add(20.0)
    said = status_message(running, "abc", Time())
    assert (said.state, said.reason, said.step) == (EpisodeStatus.STATE_RUNNING, EpisodeStatus.REASON_NONE, 2)
    assert (said.latency_ms_p50, said.latency_ms_p95) == (20.0, 20.0)
    said = status_message(ended, "abc", Time())
    assert (said.state, said.reason, said.message) == (2, EpisodeStatus.REASON_STALE_CAMERA, "no image")
    assert said.latency_ms_p50 == 0.0  # nothing was measured: numbers in messages are finite
    assert status_message(None, "abc", Time(), "ready").state == EpisodeStatus.STATE_IDLE


def test_q_curves_keep_every_bin_under_its_dimension() -> None:
    q_all = np.random.default_rng(0).random((SPACE.size, SPACE.bins), dtype=np.float32)
    message = q_curves_message(q_all, SPACE)
    rows, columns = message.layout.dim
    assert (rows.label.split(","), rows.size, columns.size) == (list(SPACE.names), SPACE.size, SPACE.bins)
    data = np.array(message.data, dtype=np.float32)
    assert np.array_equal(data.reshape(rows.size, columns.size), q_all)
    assert data[3 * columns.stride + 7] == q_all[3, 7]


@pytest.mark.parametrize(
    ("goal", "active", "busy_with", "words"),
    [
        ({"instruction": "pick"}, False, "", "not active"),
        ({"instruction": "  "}, True, "", "instruction is empty"),
        ({"instruction": "pick", "max_duration": float("nan")}, True, "", "max_duration"),
        ({"instruction": "pick", "max_duration": -1.0}, True, "", "max_duration"),
        ({"instruction": "pick"}, True, "e1", "busy with episode e1"),
    ],
)
def test_a_goal_that_cannot_be_accepted_is_told_why(goal: dict, active: bool, busy_with: str, words: str) -> None:
    assert words in goal_problem(ExecuteInstruction.Goal(**goal), active, busy_with)


def test_an_episode_id_is_used_once() -> None:
    goal = ExecuteInstruction.Goal(instruction="pick", episode_id="e1")
    assert "e1 already" in goal_problem(goal, True, "", {"e1"})
    assert goal_problem(goal, True, "", {"e2"}) == ""


def test_any_sentence_is_a_goal() -> None:
    assert goal_problem(ExecuteInstruction.Goal(instruction="xyzzy"), True, "") == ""
