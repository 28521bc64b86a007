from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.labels import LABELS, Label, LabelError
from qt_ros.episodes.manifest import StoreError
from qt_ros.episodes.store import EpisodeStore, StoreWriter, merge_manifests
from qt_ros.episodes.store_labels import label_episode, store_labels, take_labels


@pytest.fixture
def root(tmp_path: Path, contract: RobotContract, new_episode: Callable[..., Episode]) -> Path:
    """Failures 0, 2, 4 and successes 1, 3, 5; 4 was stopped from outside."""
    with StoreWriter(tmp_path / "store", contract, (24, 32), shard_episodes=4) as writer:
        for number in range(6):
            stopped = {"reason": "estop", "terminated": False} if number == 4 else {}
            writer.add(new_episode(number, **stopped))
    return tmp_path / "store"


def name(number: int) -> str:
    return f"episode-{number:04d}"


def content(root: Path) -> str:
    """What a training run notes of a store."""
    return hashlib.sha256(EpisodeStore(root).manifest.to_json()).hexdigest()


def rewards(root: Path, number: int) -> list[float]:
    store = EpisodeStore(root)
    loaded = store.load_all(["rewards"], indices=[number]).rewards
    assert loaded is not None
    one, row = store.episode(number).rewards, list(store)[number].rewards
    assert np.array_equal(loaded, one) and np.array_equal(loaded, row), "whichever way it is read"
    return loaded.tolist()


def test_rewards_and_the_end_follow_the_label_in_every_way_of_reading(root: Path) -> None:
    shards = {p: p.read_bytes() for p in root.rglob("*.parquet")}
    label_episode(root, name(0), "success", "anna")
    label_episode(root, name(1), "failure", "anna")
    label_episode(root, name(3), "unknown", "anna")
    label_episode(root, name(4), "success", "anna")
    assert [rewards(root, n)[-1] for n in range(6)] == [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    assert all(not any(rewards(root, n)[:-1]) for n in range(6))
    store = EpisodeStore(root)
    assert [m.outcome for m in store.meta] == ["success", "failure", "failure", "unknown", "success", "success"]
    assert [m.terminated for m in store.meta] == [True, True, True, False, True, True]
    for number, episode in enumerate(store):
        episode.validate()
        assert (episode.outcome, episode.terminated) == (store.meta[number].outcome, store.meta[number].terminated)
        assert store.episode(number).outcome == episode.outcome
    assert {p: p.read_bytes() for p in root.rglob("*.parquet")} == shards


def test_a_correction_of_a_correction_brings_back_what_was_there(root: Path) -> None:
    before, meta = content(root), EpisodeStore(root).meta
    label_episode(root, name(4), "success", "anna")
    assert content(root) != before
    label_episode(root, name(4), "failure", "bert", "I looked at the video")
    assert content(root) == before and EpisodeStore(root).meta == meta
    said = [(label.outcome, label.by, label.comment) for label in store_labels(root, name(4))]
    assert said == [("failure", "store", ""), ("success", "anna", ""), ("failure", "bert", "I looked at the video")]


def test_a_label_that_agrees_is_kept_and_changes_no_data(root: Path) -> None:
    before = content(root)
    label_episode(root, name(1), "success", "anna")
    assert content(root) == before and len(store_labels(root)) == 1


def test_a_label_for_an_episode_that_is_not_there_is_refused(root: Path) -> None:
    for episode_id in (name(6), "../other", ""):
        with pytest.raises(LabelError):
            label_episode(root, episode_id, "success", "anna")
    with pytest.raises(LabelError):
        take_labels(root, name(6), [Label(name(6), "success", "anna", "")])
    with pytest.raises(StoreError):
        label_episode(root.parent / "nothing", name(0), "success", "anna")
    assert not (root / LABELS).exists()


def test_labels_stay_when_the_manifest_is_made_anew_or_the_store_grows(
    root: Path, contract: RobotContract, new_episode: Callable[..., Episode]
) -> None:
    label_episode(root, name(0), "success", "anna")
    merge_manifests(root)
    with StoreWriter(root, contract, (24, 32)) as writer:
        writer.add(new_episode(10))
    store = EpisodeStore(root)
    assert len(store) == 7 and store.meta[0].outcome == "success" and rewards(root, 0)[-1] == 1.0


def test_a_history_taken_over_twice_stands_there_once(root: Path) -> None:
    history = [Label("x", "failure", "sim", ""), Label("x", "success", "anna", "2026-01-01T12:00:00.000Z")]
    assert take_labels(root, name(0), history)
    assert not take_labels(root, name(0), history)
    assert [label.by for label in store_labels(root, name(0))] == ["store", "sim", "anna"]


def test_a_damaged_file_of_labels_stops_whoever_would_train_on_the_store(root: Path) -> None:
    (root / LABELS).write_text("oops\n")
    with pytest.raises(StoreError, match="line 1"):
        EpisodeStore(root)


def test_labels_of_episodes_that_are_gone_are_said_and_do_no_harm(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / LABELS).write_text('{"episode_id": "gone", "outcome": "success", "by": "a", "at": ""}\n')
    with caplog.at_level(logging.WARNING):
        assert len(EpisodeStore(root)) == 6
    assert "gone" in caplog.text
