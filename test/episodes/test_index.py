"""The index gives every step of a store by two short reads, and finds what was damaged, by name."""

from __future__ import annotations

import hashlib
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from index_checks import add, check_same, index_of, rewrite
from range_server import serving

from qt_ros.contract.robot import RobotContract, parse_contract
from qt_ros.episodes import index_build
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.index import SUCCESS, CorruptEpisode, open_index
from qt_ros.episodes.manifest import StoreError
from qt_ros.episodes.mirror import fetch_store
from qt_ros.episodes.roots import LocalRoot, StoreUnreachable, UrlRoot, open_root
from qt_ros.episodes.store import EpisodeStore
from qt_ros.episodes.store_labels import label_episode

Maker = Callable[..., Episode]
SKIPPED = {"file": "shards/x.parquet", "episodes": 3, "problem": "file is missing"}


@pytest.fixture
def store(tmp_path: Path, contract: RobotContract, new_episode: Maker) -> Path:
    """Nine episodes of 3 to 7 steps in three shards."""
    add(tmp_path / "store", contract, [new_episode(i, steps=3 + i % 5) for i in range(9)])
    return tmp_path / "store"


def test_every_step_comes_out_as_it_went_in(store: Path) -> None:
    check_same(index_of(store), EpisodeStore(store))


def test_an_index_is_made_once_and_again_when_the_store_has_grown(
    store: Path, contract: RobotContract, new_episode: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_of(store)
    read: list[str] = []
    plain = LocalRoot.read
    monkeypatch.setattr(LocalRoot, "read", lambda root, name: (read.append(name), plain(root, name))[1])
    index_of(store)
    assert not any(name.endswith(".parquet") for name in read)
    add(store, contract, [new_episode(20), new_episode(21)])
    read.clear()
    grown = index_of(store)
    assert [name for name in read if name.endswith(".parquet")] == ["shards/shard-00003.parquet"]
    assert len(grown.lengths) == 11
    check_same(grown, EpisodeStore(store))
    assert len(list((store / "index").glob("*.bin"))) == 1


def test_labels_given_later_change_rewards_and_ends_as_they_do_for_everybody(store: Path, tmp_path: Path) -> None:
    index_of(store)
    label_episode(store, "episode-0000", "success", "anna")
    label_episode(store, "episode-0005", "unknown", "anna")
    labelled = index_of(store)
    assert labelled.records(0)["reward"][-1] == 1 and labelled.records(5)["reward"][-1] == 0
    assert labelled.manifest_sha256 == hashlib.sha256(EpisodeStore(store).manifest.to_json()).hexdigest()
    check_same(labelled, EpisodeStore(store))
    with serving(store) as server:
        check_same(open_index(open_root(server.url), tmp_path / "remote"), EpisodeStore(store))
        copy = fetch_store(open_root(server.url), tmp_path / "remote")
        assert EpisodeStore(copy).meta == EpisodeStore(store).meta
    (store / "labels.jsonl").write_text("oops\n")
    with pytest.raises(StoreError, match="line 1"):
        index_of(store)


def test_only_shards_whose_labels_changed_are_read_again(
    store: Path, contract: RobotContract, new_episode: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_episode(store, "episode-0000", "success", "anna")
    index_of(store)
    read: list[str] = []
    plain = LocalRoot.read
    monkeypatch.setattr(LocalRoot, "read", lambda root, name: (read.append(name), plain(root, name))[1])
    add(store, contract, [new_episode(20)])
    label_episode(store, "episode-0000", "success", "bert")
    label_episode(store, "episode-0004", "failure", "bert")
    check_same(index_of(store), EpisodeStore(store))
    assert {Path(name).stem for name in read if name.endswith(".parquet")} == {"shard-00001", "shard-00003"}
    read.clear()
    label_episode(store, "episode-0000", "failure", "anna")
    check_same(index_of(store), EpisodeStore(store))
    assert [name for name in read if name.endswith(".parquet")] == ["shards/shard-00000.parquet"]


def test_a_label_behind_a_url_that_was_corrected_in_its_place_is_noticed(store: Path, tmp_path: Path) -> None:
    label_episode(store, "episode-0000", "success", "anna")
    labels = store / "labels.jsonl"
    with serving(store) as server:
        assert open_index(open_root(server.url), tmp_path / "remote").flag(SUCCESS)[0]
        size = labels.stat().st_size
        labels.write_text(labels.read_text().replace("success", "failure"))
        assert labels.stat().st_size == size
        corrected = open_index(open_root(server.url), tmp_path / "remote")
    assert not corrected.flag(SUCCESS)[0] and corrected.records(0)["reward"][-1] == 0
    check_same(corrected, EpisodeStore(store))


def test_a_store_behind_a_url_that_was_made_anew_is_noticed_though_its_manifest_is_as_long(
    store: Path, contract: RobotContract, new_episode: Maker, tmp_path: Path
) -> None:
    size = (store / "store.json").stat().st_size
    shutil.copytree(store, tmp_path / "served")
    with serving(tmp_path / "served") as server:
        before = open_index(open_root(server.url), tmp_path / "remote")
        shutil.rmtree(tmp_path / "served")
        others = []
        for number, was in enumerate(before.flag(SUCCESS)):
            rewards = np.zeros(3 + number % 5, np.float32)
            rewards[-1] = not was
            outcome = "failure" if was else "success"
            others.append(new_episode(number, steps=len(rewards), outcome=outcome, rewards=rewards))
        add(tmp_path / "served", contract, others)
        assert (tmp_path / "served" / "store.json").stat().st_size == size
        after = open_index(open_root(server.url), tmp_path / "remote")
    assert after.flag(SUCCESS).tolist() == (~before.flag(SUCCESS)).tolist()
    check_same(after, EpisodeStore(tmp_path / "served"))


def test_a_url_that_does_not_answer_is_not_taken_for_a_damaged_index(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match="once it answers"):
        open_index(UrlRoot("http://127.0.0.1:9/store", pauses=()), tmp_path / "cache")


@pytest.mark.parametrize("column", ["images", "proprio", "bins", "rewards"])
@pytest.mark.parametrize("whole", [True, False])
def test_an_episode_that_lacks_something_is_refused_by_every_reader(store: Path, column: str, whole: bool) -> None:
    """Zeros in the place of what is missing would be learned from."""
    rewrite(store, column, lambda rows: [rows[0], None if whole else [None, *rows[1][1:]], *rows[2:]])
    problem = f"episode episode-0001 has gaps in its {column}"
    with pytest.raises(StoreError, match="9 frames, the manifest says" if whole and column == "images" else problem):
        EpisodeStore(store).load_all()
    index = index_of(store)
    (skipped,) = index.skipped
    assert problem in skipped.problem and skipped.episodes == 3 and len(index.lengths) == 6


def test_rewards_that_are_no_numbers_are_no_rewards(store: Path) -> None:
    rewrite(store, "rewards", lambda rows: [[float("nan")] * len(rows[0]), *rows[1:]])
    (skipped,) = index_of(store).skipped
    assert "episode episode-0000 has rewards that are no numbers" in skipped.problem


def test_an_older_index_that_is_damaged_is_not_built_upon(
    store: Path, contract: RobotContract, new_episode: Maker
) -> None:
    index_of(store)
    (steps,) = (store / "index").glob("*.bin")
    data = bytearray(steps.read_bytes())
    data[40] ^= 0xFF
    steps.write_bytes(data)
    with pytest.raises(CorruptEpisode, match=r"episode-0000 of shards/shard-00000.parquet: its records do not match"):
        index_of(store).records(0)
    add(store, contract, [new_episode(20)])
    check_same(index_of(store), EpisodeStore(store))


def test_what_is_damaged_afterwards_is_found_in_the_very_frame(store: Path) -> None:
    index = index_of(store)
    records = index.records(4)
    path = store / "shards" / "shard-00001.parquet"
    data = bytearray(path.read_bytes())
    data[int(records["at"][2]) + 30] ^= 0xFF
    path.write_bytes(data)
    assert len(index.frames(4, records[:2])) == 2
    with pytest.raises(CorruptEpisode, match=r"episode-0004 of shards/shard-00001.parquet: a frame does not match"):
        index.frames(4, records[1:3])
    path.write_bytes(data[: int(records["at"][1])])
    with pytest.raises(CorruptEpisode, match="cannot be read"):
        index.frames(4, records[1:3])
    path.unlink()
    with pytest.raises(CorruptEpisode, match="cannot be read"):
        index.frames(4, records[:1])


def test_frames_that_were_compressed_by_somebody_else_are_refused(store: Path) -> None:
    path = store / "shards" / "shard-00000.parquet"
    part = index_build._records
    shard = EpisodeStore(store).shards[0]
    pq.write_table(pq.read_table(path), path, compression="ZSTD")
    with pytest.raises(ValueError, match="not stored plainly; build the store anew"):
        part(path.read_bytes(), shard, index_of_dtype(store))


def index_of_dtype(store: Path) -> np.dtype:
    from qt_ros.episodes.index import step_dtype

    manifest = EpisodeStore(store, verify=False).manifest
    return step_dtype(len(manifest.action_space), len(manifest.proprio_names), 0)


def test_a_store_that_cannot_be_written_keeps_its_index_in_the_cache(store: Path, tmp_path: Path) -> None:
    (store / "index").write_text("in the way of a folder")
    check_same(index_of(store), EpisodeStore(store))
    assert (tmp_path / "cache" / "index.json").is_file()


@pytest.mark.parametrize("indexed", [False, True])
def test_a_store_behind_a_url_is_the_same(store: Path, tmp_path: Path, indexed: bool) -> None:
    if indexed:
        index_of(store)
    with serving(store) as server:
        index = open_index(open_root(server.url), tmp_path / "cache")
        check_same(index, EpisodeStore(store))
        whole = [path for path, size in server.served if size > 20_000]
        assert bool(whole) != indexed  # without an index beside it, shards had to be read through once
        server.served.clear()
        index.frames(0, index.records(0)[:2])
        assert sum(size for _, size in server.served) < 10_000
        copy = fetch_store(open_root(server.url), tmp_path / "cache")
        check_same(index_of(copy), EpisodeStore(store))
        server.served.clear()
        fetch_store(open_root(server.url), tmp_path / "cache")
        assert {path for path, _ in server.served} == {"/store.json", "/labels.jsonl"}


def test_a_store_in_memory_is_the_same(store: Path, tmp_path: Path) -> None:
    fsspec.filesystem("memory").put(str(store), "/copy", recursive=True)
    check_same(open_index(open_root("memory://copy"), tmp_path / "cache"), EpisodeStore(store))


def test_a_shard_that_arrives_damaged_is_not_kept(store: Path, tmp_path: Path) -> None:
    path = store / "shards" / "shard-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with serving(store) as server:
        copy = fetch_store(open_root(server.url), tmp_path / "cache")
    assert [s.file for s in EpisodeStore(copy).skipped] == ["shards/shard-00001.parquet"]
    assert not (copy / "shards" / "shard-00001.parquet").exists()


def test_no_store_and_another_contract_are_said_plainly(store: Path, contract: RobotContract, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no finished store"):
        index_of(tmp_path / "nothing")
    commented = parse_contract(contract.text + "# a remark\n", "changed contract")
    with pytest.raises(StoreError, match="made with contract"):
        open_index(open_root(store), tmp_path / "cache", commented)
    assert open_index(open_root(store), tmp_path / "cache", commented, allow_other_contract=True).steps


def test_a_damaged_index_says_what_to_do(store: Path) -> None:
    index_of(store)
    (table,) = (store / "index").glob("*.npy")
    table.write_bytes(table.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match="delete the index, it will be made anew"):
        index_of(store)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["shards"][0].__setitem__(0, "../../etc/passwd"), "leaves the store"),
        (lambda d: d["skipped"].append(SKIPPED | {"file": "../../etc/passwd"}), "leaves the store"),
        (lambda d: d["skipped"].append(SKIPPED | {"episodes": -3}), "below 0"),
        (lambda d: d["skipped"].append(SKIPPED | {"ids": 3}), "expected a list"),
        (lambda d: d["files"]["steps"].update(file="../../x"), "is not beside it"),
        (lambda d: d["files"]["steps"].update(file="x" * 3000), "is not beside it"),
        (lambda d: d["shards"][0].__setitem__(0, "shards/" + "x" * 3000), "is no path at all"),
        (lambda d: d["shards"].pop(), "shard outside 0..1"),
        (lambda d: d.update(instructions=[["pick"]]), "text outside|no text"),
        (lambda d: d["store"].update(image_height=10**9), "not made here"),
    ],
)
def test_an_index_that_came_with_a_store_is_believed_only_where_it_makes_sense(
    store: Path, change: Callable[[dict], None], message: str
) -> None:
    index_of(store)
    record = store / "index" / "index.json"
    document = json.loads(record.read_text())
    change(document)
    record.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=message):
        index_of(store)


def test_an_index_of_impossible_lengths_is_refused(store: Path) -> None:
    index_of(store)
    record = store / "index" / "index.json"
    (table,) = (store / "index").glob("*.npy")
    episodes = np.load(table)
    for length in (-5, 0, 10**9):
        episodes["length"][0] = length
        np.save(table, episodes)
        document = json.loads(record.read_text())
        document["files"]["episodes"]["sha256"] = hashlib.sha256(table.read_bytes()).hexdigest()
        record.write_text(json.dumps(document))
        with pytest.raises(StoreError, match="length outside"):
            index_of(store)


def test_more_bytes_than_a_file_has_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    root = LocalRoot(tmp_path)
    assert root.read_range("file", 1, 3) == b"234"
    tracemalloc.start()
    with pytest.raises(EOFError, match="2 of 1099511627776 bytes from 3 on"):
        root.read_range("file", 3, 1 << 40)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
