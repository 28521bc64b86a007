"""What is read without some of its shards says so, by name."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from index_checks import add, check_same, index_of
from range_server import serving

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.index import open_index
from qt_ros.episodes.manifest import EpisodeMeta, Shard
from qt_ros.episodes.roots import LocalRoot, open_root
from qt_ros.episodes.skipped import KEPT, SkippedShard, told
from qt_ros.episodes.store import EpisodeStore


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


@pytest.fixture
def store(tmp_path: Path, contract: RobotContract, new_episode: Callable[..., Episode]) -> Path:
    """Nine episodes in three shards."""
    add(tmp_path / "store", contract, [new_episode(i) for i in range(9)])
    return tmp_path / "store"


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_shards_damaged_before_are_skipped_by_name_and_counted(
    store: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    victim = store / "shards" / "shard-00001.parquet"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0xFF
    victim.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    if damage == "remove":
        victim.unlink()
    with caplog.at_level(logging.WARNING):
        index = index_of(store)
    ids = ("episode-0003", "episode-0004", "episode-0005")
    assert [(s.file, s.episodes, s.ids) for s in index.skipped] == [("shards/shard-00001.parquet", 3, ids)]
    assert f"shard-00001.parquet skipped with 3 episodes ({', '.join(ids)}): " in caplog.text
    check_same(index, EpisodeStore(store))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that were read whole from folders."""
    read: list[str] = []
    plain = LocalRoot.read
    monkeypatch.setattr(
        LocalRoot,
        "read",
        lambda root, name: (name.endswith(".parquet") and read.append(Path(name).stem), plain(root, name))[1],
    )
    return read


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "unreadable"])
def test_a_skipped_shard_is_told_at_every_opening_and_used_once_it_is_repaired(
    store: Path, damage: str, caplog: pytest.LogCaptureFixture, reads: list[str]
) -> None:
    victim = store / "shards" / "shard-00001.parquet"
    data = victim.read_bytes()
    victim.unlink()
    if damage == "unreadable":
        victim.mkdir()  # which is there, and for which reading fails
    elif damage != "remove":
        victim.write_bytes(data[:-1] + b"?" if damage == "flip" else data[:-1])
    for _ in range(3):
        reads.clear()
        caplog.clear()
        index = index_of(store)
        assert "shard-00001.parquet skipped with 3 episodes (episode-0003, episode-0004, episode-0005): " in caplog.text
        assert len(index.lengths) == 6
    assert set(reads) <= {"shard-00001"}, "the sound ones are indexed"
    if damage == "unreadable":
        victim.rmdir()
    victim.write_bytes(data)
    reads.clear()
    caplog.clear()
    mended = index_of(store)
    assert not mended.skipped and "skipped" not in caplog.text and set(reads) == {"shard-00001"}
    check_same(mended, EpisodeStore(store))
    reads.clear()
    check_same(index_of(store), EpisodeStore(store))
    assert reads == []


def test_of_a_skipped_shard_is_told_what_is_wrong_with_it_now(store: Path) -> None:
    victim = store / "shards" / "shard-00001.parquet"
    size = victim.stat().st_size
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    problems = [index_of(store).skipped[0].problem]
    victim.write_bytes(b"PAR1")
    problems.append(index_of(store).skipped[0].problem)
    victim.unlink()
    problems.append(index_of(store).skipped[0].problem)
    assert problems == [
        "content does not match its SHA-256", f"4 bytes, the manifest says {size}", "file is missing"
    ]  # fmt: skip


def test_what_is_whole_and_yet_of_no_use_is_told_but_not_tried_again(
    store: Path, caplog: pytest.LogCaptureFixture, reads: list[str]
) -> None:
    path = store / "shards" / "shard-00001.parquet"
    pq.write_table(pq.read_table(path), path, compression="ZSTD")
    manifest = store / "store.json"
    document = json.loads(manifest.read_text())
    shard = document["shards"][1]
    shard["bytes"], shard["sha256"] = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(document))
    assert len(index_of(store).lengths) == 6
    reads.clear()
    caplog.clear()
    assert "not stored plainly" in index_of(store).skipped[0].problem and reads == []
    assert "shard-00001.parquet skipped with 3 episodes" in caplog.text


def test_who_reads_an_index_goes_on_as_before_when_repaired_shards_make_others(
    store: Path, contract: RobotContract, new_episode: Callable[..., Episode]
) -> None:
    victims = [store / "shards" / f"shard-0000{number}.parquet" for number in (1, 2)]
    content = [victim.read_bytes() for victim in victims]
    for victim in victims:
        victim.unlink()
    readers = [(index_of(store), EpisodeStore(store))]
    for victim, data in zip(victims, content, strict=True):  # one after the other, while the first still reads
        victim.write_bytes(data)
        readers.append((index_of(store), EpisodeStore(store)))
    assert [len(index.lengths) for index, _ in readers] == [3, 6, 9]
    files = [f["file"] for index, _ in readers for f in index.files.values()]
    assert len(set(files)) == len(files)
    for index, wanted in readers:
        check_same(index, wanted)
    add(store, contract, [new_episode(9)])
    index_of(store)
    assert set(files).isdisjoint(path.name for path in (store / "index").iterdir()), "of a store that is no more"


def test_a_shard_repaired_behind_a_url_is_used_though_the_index_there_leaves_it_out(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    victim = store / "shards" / "shard-00001.parquet"
    data = victim.read_bytes()
    victim.unlink()
    index_of(store)
    with serving(store) as server:
        there = open_index(open_root(server.url), tmp_path / "remote")
        assert there.skipped[0].problem == "file is missing" and there.folder == "index/"
        victim.write_bytes(data)
        check_same(open_index(open_root(server.url), tmp_path / "remote"), EpisodeStore(store))
        caplog.clear()
        server.served.clear()
        check_same(open_index(open_root(server.url), tmp_path / "remote"), EpisodeStore(store))
        assert not [path for path, size in server.served if size == len(data)], "the cache has the better index"
    assert "skipped" not in caplog.text
