"""Training data come out of stores as the episodes went in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from episode_factory import make_episode

from qt_ros.contract.robot import RobotContract, load_contract, parse_contract
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.store import StoreWriter
from qt_ros.episodes.store_labels import label_episode
from qt_ros.learning.dataset import StepData, TrainingData, load_training_data, require_rewards
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.streaming import Span, stream_training_data
from qt_ros.learning.targets import monte_carlo_returns

CONTRACT = load_contract("mobile_manipulator")
SIZE = (24, 32)


def store(
    root: Path, episodes: list[Episode], contract: RobotContract = CONTRACT, size: tuple[int, int] = SIZE
) -> Path:
    with StoreWriter(root, contract, size) as writer:
        for episode in episodes:
            writer.add(episode)
    return root


def test_every_step_keeps_its_image_state_bins_and_what_is_left_of_its_episode(tmp_path: Path) -> None:
    episodes = [make_episode(CONTRACT, i, steps=3 + i) for i in range(4)]
    episodes[2].terminated, episodes[2].reason, episodes[2].outcome = False, "canceled", "failure"
    paths = [store(tmp_path / "a", episodes[:3]), store(tmp_path / "b", episodes[3:])]
    data = load_training_data(paths, 0.9)
    assert data.lengths.tolist() == [3, 4, 5, 6] and data.starts.tolist() == [0, 3, 7, 12]
    assert data.success.tolist() == [False, True, False, True]
    for episode, start in zip(episodes, data.starts, strict=True):
        rows = slice(start, start + len(episode))
        assert np.array_equal(data.images[rows], episode.images)
        assert np.array_equal(data.proprio[rows], episode.proprio)
        assert np.array_equal(data.bins[rows], episode.bins)
        assert np.array_equal(data.rewards[rows], episode.rewards)
        assert np.allclose(data.returns[rows], monte_carlo_returns(episode.rewards, 0.9))
        assert data.remaining[rows].tolist() == list(range(len(episode) - 1, -1, -1))
        assert set(data.terminated[rows].tolist()) == {episode.terminated}
        assert {data.instructions[i] for i in data.text[rows]} == {episode.instruction}
        points = data.keypoints[rows]
        assert np.isnan(points).all() if episode.keypoints is None else np.array_equal(points, episode.keypoints)
    assert data.action_space_sha256 == CONTRACT.action_space.sha256
    assert [p["episodes"] for p in data.provenance] == [3, 1]


def test_what_has_no_outcome_or_lost_it_is_left_out_as_if_it_had_never_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    episodes = [make_episode(CONTRACT, i, steps=3 + i) for i in range(5)]
    kept = store(tmp_path / "kept", [episodes[i] for i in (1, 3, 4)])
    never = replace(episodes[0], outcome="unknown", terminated=False)  # not even for its instruction
    given = store(tmp_path / "given", [never, *episodes[1:]])
    label_episode(given, "episode-0002", "success", "anna")
    label_episode(given, "episode-0002", "unknown", "anna")
    caplog.clear()
    wanted, found = load_training_data([kept], 0.9), load_training_data([given], 0.9)
    for name in (f.name for f in fields(TrainingData) if f.name != "provenance"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name), equal_nan=name == "keypoints"), name
    (record,) = found.provenance
    assert (record["episodes"], record["unjudged_episodes"]) == (3, 2)
    assert wanted.provenance[0]["unjudged_episodes"] == 0
    assert caplog.text.count("2 episodes left out, as their outcome is unknown (episode-0000, episode-0002)") == 1


@pytest.mark.parametrize("load", [load_training_data, stream_training_data])
def test_where_no_outcome_is_known_labels_are_asked_for(tmp_path: Path, load: Callable[..., StepData]) -> None:
    root = store(tmp_path / "a", [make_episode(CONTRACT, i) for i in range(2)])
    for number in range(2):
        label_episode(root, f"episode-{number:04d}", "unknown", "anna")
    with pytest.raises(TrainingError, match="none of the 2 episodes in .*a has a known outcome; label them"):
        load([root], 0.9)
    sound = store(tmp_path / "b", [make_episode(CONTRACT, 3)])
    assert [p["episodes"] for p in load([root, sound], 0.9).provenance] == [0, 1]


def test_stores_that_do_not_go_together_are_refused_by_what_differs(tmp_path: Path) -> None:
    one = store(tmp_path / "one", [make_episode(CONTRACT, 0)])
    large = store(tmp_path / "large", [make_episode(CONTRACT, 1, size=(48, 64))], size=(48, 64))
    with pytest.raises(TrainingError, match=r"image_height: 24 in .*one, 48 in .*large"):
        load_training_data([one, large], 0.9)
    contract = parse_contract(CONTRACT.text.replace("high: 0.05", "high: 0.06", 1))
    other = store(tmp_path / "other", [make_episode(contract, 2)], contract)
    with pytest.raises(TrainingError, match="action_space_sha256"):
        load_training_data([one, other], 0.9)


def test_privileged_state_is_loaded_in_place_of_the_images_where_the_stores_keep_it(tmp_path: Path) -> None:
    state = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    with StoreWriter(tmp_path / "a", CONTRACT, SIZE, privileged_names=("x", "y")) as writer:
        writer.add(make_episode(CONTRACT, 0, privileged=state))
    data = load_training_data([tmp_path / "a"], 0.9, privileged=True)
    assert data.images is None and np.array_equal(data.privileged, state)
    assert load_training_data([tmp_path / "a"], 0.9).privileged is None
    old = store(tmp_path / "old", [make_episode(CONTRACT, 1)])
    with pytest.raises(TrainingError, match="holds no privileged state; collect it anew"):
        load_training_data([old], 0.9, privileged=True)
    with pytest.raises(TrainingError, match="disagree in privileged_names"):
        load_training_data([tmp_path / "a", old], 0.9, privileged=True)
    assert len(load_training_data([tmp_path / "a", old], 0.9).lengths) == 2  # for images it does not matter


def test_stores_of_another_contract_are_refused_unless_that_is_meant(tmp_path: Path) -> None:
    slower = parse_contract(CONTRACT.text + "\n# slower today\n")
    path = store(tmp_path / "slower", [make_episode(slower, 0)], slower)
    with pytest.raises(TrainingError, match="made with contract"):
        load_training_data([path], 0.9, contract=CONTRACT)
    assert len(load_training_data([path], 0.9, contract=CONTRACT, allow_other_contract=True).lengths) == 1
    both = [path, store(tmp_path / "today", [make_episode(CONTRACT, 1)])]
    for read in (load_training_data, stream_training_data):
        with pytest.raises(TrainingError, match="disagree in contract_sha256"):
            read(both, 0.9)
        assert len(read(both, 0.9, contract=CONTRACT, allow_other_contract=True).lengths) == 2
    wider = parse_contract(CONTRACT.text.replace("high: 0.05", "high: 0.06", 1))
    path = store(tmp_path / "wider", [make_episode(wider, 0)], wider)
    with pytest.raises(TrainingError, match="action space .* is not that of robot"):
        load_training_data([path], 0.9, contract=CONTRACT, allow_other_contract=True)


def test_rewards_outside_what_q_can_be_are_refused(tmp_path: Path) -> None:
    episode = make_episode(CONTRACT, 0)
    episode.rewards[1] = 1.5
    with pytest.raises(ValueError, match="rewards: outside"):
        store(tmp_path / "s", [episode])


def test_nothing_to_train_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="an empty list of stores"):
        load_training_data([], 0.9)


def test_rewards_that_come_to_more_than_q_can_be_are_refused_by_name(tmp_path: Path) -> None:
    generous = make_episode(CONTRACT, 3, rewards=np.array([0.0, 0.0, 0.3, 0.6, 1.0], np.float32))
    root = store(tmp_path / "generous", [make_episode(CONTRACT, 1), generous])
    with pytest.raises(TrainingError, match=r"episode-0003 .* return of 1\.848.*Q lies in \[0, 1\]"):
        load_training_data([root], 0.98)
    assert load_training_data([root], 0.4).returns.max() <= 1.0, "a discount may make them fit"
    streamed = stream_training_data([root], 0.98)
    with pytest.raises(TrainingError, match="episode-0003"):
        streamed.load([Span(1, 5, 9)])


@pytest.mark.parametrize("low, high", [(-0.1, 1.0), (0.0, 1.1), (math.nan, math.nan)])
def test_rewards_outside_of_zero_to_one_are_refused(low: float, high: float) -> None:
    with pytest.raises(TrainingError, match="rewards must lie in"):
        require_rewards(low, high)
