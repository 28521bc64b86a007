from __future__ import annotations

from pathlib import Path

import pytest
from episode_factory import make_episode

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.store import EpisodeStore, StoreWriter, merge_manifests
from qt_ros.episodes.store_labels import label_episode
from qt_ros.improvement.experience import add_episodes, audit_episodes

SIZE = (24, 32)


def make_store(root: Path, contract: RobotContract, *numbers: int, **changes: object) -> Path:
    with StoreWriter(root, contract, SIZE) as writer:
        for number in numbers:
            writer.add(make_episode(contract, number, **changes))
    return root


def ids(root: Path) -> list[str]:
    merge_manifests(root)
    return [meta.id for meta in EpisodeStore(root).meta]


def test_the_audit_counts_what_was_lived_and_refuses_what_must_not_be_learnt(
    tmp_path: Path, contract: RobotContract
) -> None:
    new = make_store(tmp_path / "new", contract, 0, 1, 2, checkpoint="c0ffee")
    label_episode(new, "episode-0002", "unknown", "anna")
    other = make_store(tmp_path / "other", contract, 3, seed=2_000_003)
    found = audit_episodes([new, other], contract, "c0ffee", {"episode-0001"})
    assert found["outcomes"] == {"failure": 1} and found["episodes"] == 1 and found["steps"] == 5
    assert set(found["refused"]) == {"episode-0001", "episode-0002", "episode-0003"}
    assert "in the store already" in found["refused"]["episode-0001"]
    assert "nobody has judged" in found["refused"]["episode-0002"]
    assert "scene 2000003" in found["refused"]["episode-0003"]


def test_a_damaged_shard_is_named_by_the_audit(tmp_path: Path, contract: RobotContract) -> None:
    with StoreWriter(tmp_path / "new", contract, SIZE, shard_episodes=1) as writer:
        for number in range(2):
            writer.add(make_episode(contract, number))
    shard = sorted((tmp_path / "new" / "shards").iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    found = audit_episodes([tmp_path / "new"], contract, "", set())
    assert found["episodes"] == 1 and shard.name in found["skipped_shards"][0]


@pytest.mark.parametrize("with_failures", [True, False])
def test_episodes_join_the_store_as_they_are_labelled_and_failures_only_if_wanted(
    tmp_path: Path, contract: RobotContract, with_failures: bool
) -> None:
    new = make_store(tmp_path / "new", contract, 0, 1, 2, 3)
    label_episode(new, "episode-0000", "success", "anna")
    label_episode(new, "episode-0003", "failure", "anna")
    counts = add_episodes(
        [new], tmp_path / "all", 1, contract, ["episode-0001"], with_failures=with_failures
    )  # fmt: skip
    wanted = ["episode-0000", "episode-0002", "episode-0003"] if with_failures else ["episode-0000"]
    assert ids(tmp_path / "all") == wanted
    assert (counts["added"], counts["failures_left_out"]) == (len(wanted), 3 - len(wanted))
    store = EpisodeStore(tmp_path / "all")
    assert store.meta[0].outcome == "success" and store.episode(0).rewards[-1] == 1.0
    assert (store.episode(0).images == make_episode(contract, 0).images).all()


def test_an_interrupted_copy_goes_on_and_rounds_do_not_disturb_each_other(
    tmp_path: Path, contract: RobotContract
) -> None:
    new, grown, asked = make_store(tmp_path / "new", contract, 0, 1, 2), tmp_path / "all", [0]

    def stopped() -> bool:
        asked[0] += 1
        return asked[0] > 1

    assert add_episodes([new], grown, 1, contract, (), stopped=stopped)["left"] == 2
    assert ids(grown) == ["episode-0000"]
    for _ in range(2):
        assert add_episodes([new], grown, 1, contract, ())["added"] == 3
    add_episodes([make_store(tmp_path / "next", contract, 7)], grown, 2, contract, ())
    assert ids(grown) == ["episode-0000", "episode-0001", "episode-0002", "episode-0007"]


def test_nothing_new_leaves_the_store_as_it_is(tmp_path: Path, contract: RobotContract) -> None:
    assert add_episodes([], tmp_path / "all", 1, contract, ())["added"] == 0
    assert not (tmp_path / "all").exists()
