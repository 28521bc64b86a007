"""What is read without some of its shards says so, by name."""

from __future__ import annotations

import logging

import pytest

from qt_ros.episodes.manifest import EpisodeMeta, Shard
from qt_ros.episodes.skipped import KEPT, SkippedShard, told


def shard(count: int, file: str = "shards/a.parquet") -> Shard:
    metas = [EpisodeMeta(f"e{i}", "pick", "pick", "failure", "done", "noise", 3, True) for i in range(count)]
    return Shard(file, "0" * 64, 10, tuple(metas))


def test_all_of_few_episodes_are_named_and_the_first_of_many() -> None:
    assert str(SkippedShard.of(shard(2), "torn")) == "shard shards/a.parquet skipped with 2 episodes (e0, e1): torn"
    many = SkippedShard.of(shard(1000), "torn")
    assert "1000 episodes (e0, e1, e2, e3, e4, e5 and 994 more): torn" in str(many)
    assert many.episodes == 1000 and len(many.ids) == KEPT


def test_several_shards_are_logged_each_and_together(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert told("store", []) == 0 and not caplog.records
        assert told("store", [SkippedShard.of(shard(n, f"shards/{n}"), "torn") for n in (3, 4)]) == 7
    assert [record.getMessage() for record in caplog.records] == [
        "store: shard shards/3 skipped with 3 episodes (e0, e1, e2): torn",
        "store: shard shards/4 skipped with 4 episodes (e0, e1, e2, e3): torn",
        "store: 7 episodes in 2 shards are left out",
    ]
