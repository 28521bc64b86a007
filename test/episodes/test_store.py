from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fast_folder import fast_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from qt_ros.contract.robot import RobotContract, parse_contract
from qt_ros.episodes.arrays import EpisodeArrays
from qt_ros.episodes.episode import Episode, InvalidEpisode
from qt_ros.episodes.store import EpisodeStore, StoreError, StoreWriter, merge_manifests

Maker = Callable[..., Episode]
SIZE = (24, 32)


def assert_same(a: Episode, b: Episode) -> None:
    for field in dataclasses.fields(Episode):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            assert isinstance(right, np.ndarray), field.name
            assert left.dtype == right.dtype and np.array_equal(left, right), field.name
        else:
            assert left == right and type(left) is type(right), field.name


def write(root: Path, contract: RobotContract, episodes: list[Episode], **options: object) -> None:
    with StoreWriter(root, contract, SIZE, **options) as writer:  # type: ignore[arg-type]
        for episode in episodes:
            writer.add(episode)


def test_every_field_comes_back_bit_for_bit(tmp_path: Path, contract: RobotContract, new_episode: Maker) -> None:
    episodes = [new_episode(i, steps=2 + i) for i in range(11)]
    episodes[4].seed = None
    episodes[4].checkpoint = "abc"
    write(tmp_path, contract, episodes, shard_episodes=4)
    store = EpisodeStore(tmp_path, contract)
    assert len(store.shards) == 3 and len(store) == 11 and store.steps == sum(map(len, episodes))
    for i, (episode, iterated) in enumerate(zip(episodes, store, strict=True)):
        assert_same(episode, iterated)
        assert_same(episode, store.episode(i))
        assert store.index(episode.episode_id) == i
    assert store.meta[4].seed is None and store.meta[4].checkpoint == "abc"
    with pytest.raises(IndexError):
        store.episode(11)


@settings(max_examples=15, deadline=None)
@given(
    steps=st.integers(1, 7),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    text=st.text(st.characters(codec="utf-8"), max_size=30),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    number=st.integers(0, 1000),
)
def test_any_valid_episode_survives_the_round_trip(
    contract: RobotContract,
    new_episode: Maker,
    steps: int,
    size: tuple[int, int],
    text: str,
    seed: int | None,
    number: int,
) -> None:
    episode = new_episode(number, steps=steps, size=size, instruction=text, seed=seed)
    with fast_folder() as folder:
        with StoreWriter(folder, contract, size) as writer:
            writer.add(episode)
        assert_same(episode, EpisodeStore(folder, contract).episode(0))


def test_load_all_gives_contiguous_arrays_in_the_order_asked_for(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    episodes = [new_episode(i, steps=2 + i % 3) for i in range(9)]
    write(tmp_path, contract, episodes, shard_episodes=4)
    store = EpisodeStore(tmp_path)
    seen: list[int] = []
    everything = store.load_all(threads=3, progress=seen.append)
    assert seen[-1] == everything.steps == sum(map(len, episodes))
    assert everything.images is not None and everything.images.flags.c_contiguous
    for order, arrays in ((range(9), everything), ([7, 0, 5], store.load_all(indices=[7, 0, 5]))):
        for position, number in enumerate(order):
            rows = slice(arrays.offsets[position], arrays.offsets[position + 1])
            episode = episodes[number]
            for name in ("images", "proprio", "actions", "bins", "rewards", "stamps"):
                column = getattr(arrays, name)[rows]
                assert column.dtype == getattr(episode, name).dtype and np.array_equal(column, getattr(episode, name))
            for name in ("q_values", "keypoints"):
                wanted, column = getattr(episode, name), getattr(arrays, name)[rows]
                assert np.isnan(column).all() if wanted is None else np.array_equal(column, wanted)
    assert list(everything.episode_of_step[:3]) == [0, 0, 1]
    assert everything.instructions[8] == "pick up object 8" and everything.terminated.all()


def test_load_all_without_images_leaves_them_out_and_refuses_unknown_columns(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    write(tmp_path, contract, [new_episode(0)])
    store = EpisodeStore(tmp_path)
    arrays = store.load_all(["bins", "rewards"])
    assert arrays.images is None and arrays.bins is not None and arrays.actions is None
    with pytest.raises(ValueError, match="unknown column.*depth"):
        store.load_all(["depth"])


def test_arrays_of_several_stores_join(tmp_path: Path, contract: RobotContract, new_episode: Maker) -> None:
    write(tmp_path / "a", contract, [new_episode(0), new_episode(1)])
    write(tmp_path / "b", contract, [new_episode(2, steps=7)])
    parts = [EpisodeStore(tmp_path / name).load_all() for name in "ab"]
    joined = EpisodeArrays.concatenate(parts)
    assert list(joined.offsets) == [0, 5, 10, 17] and joined.images is not None
    assert np.array_equal(joined.images[10:], new_episode(2, steps=7).images)


def test_parallel_writers_are_merged_and_unlisted_shards_are_never_read(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    writers = [
        StoreWriter(tmp_path, contract, SIZE, shard_episodes=2, prefix=f"worker{i}", merge=False) for i in range(3)
    ]
    for number in range(9):
        writers[number % 3].add(new_episode(number))
    for writer in writers[:2]:
        writer.close()
    with pytest.raises(StoreError, match="merge_manifests"):
        EpisodeStore(tmp_path)
    merge_manifests(tmp_path)
    # The third writer is still at work: its first shard (2 episodes) is listed, what it holds in memory is not.
    assert len(EpisodeStore(tmp_path)) == 3 + 3 + 2
    stray = tmp_path / "shards" / "worker9-00000.parquet"
    stray.write_bytes(b"not listed anywhere")
    writers[2].close()
    merge_manifests(tmp_path)
    store = EpisodeStore(tmp_path, contract)
    assert sorted(m.id for m in store.meta) == [f"episode-{i:04d}" for i in range(9)] and not store.skipped


def test_a_writer_continues_where_its_prefix_stopped(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    write(tmp_path, contract, [new_episode(0), new_episode(1)])
    with StoreWriter(tmp_path, contract, SIZE) as writer:
        assert writer.episode_ids == {"episode-0000", "episode-0001"}
        with pytest.raises(StoreError, match="already in this store"):
            writer.add(new_episode(1))
        writer.add(new_episode(2))
    assert [m.id for m in EpisodeStore(tmp_path).meta] == ["episode-0000", "episode-0001", "episode-0002"]


def test_one_id_in_two_parts_is_refused_at_merge(tmp_path: Path, contract: RobotContract, new_episode: Maker) -> None:
    for prefix in "ab":
        write(tmp_path, contract, [new_episode(0)], prefix=prefix, merge=False)
    with pytest.raises(StoreError, match=r"episode-0000 is in shards/a-00000.parquet and in shards/b-00000.parquet"):
        merge_manifests(tmp_path)


KILLED_WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from episode_factory import make_episode
from qt_ros.contract.robot import load_contract
from qt_ros.episodes.store import StoreWriter
contract = load_contract("mobile_manipulator")
writer = StoreWriter(sys.argv[1], contract, (24, 32), shard_episodes=3)
for number in range(100000):
    writer.add(make_episode(contract, number))
    print(number, flush=True)
"""


def test_a_killed_writer_loses_only_what_it_had_not_flushed(tmp_path: Path, contract: RobotContract) -> None:
    here = Path(__file__).parents[1] / "support"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITER, str(tmp_path), str(here)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    added = 0
    while added < 20:
        added = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    added = int(rest[-1]) if rest else added
    merge_manifests(tmp_path)
    store = EpisodeStore(tmp_path)
    assert len(store) >= (added + 1) // 3 * 3 and not store.skipped
    StoreWriter(tmp_path, contract, SIZE).close()  # nobody holds the part of a process that is no more
    assert [e.episode_id for e in store] == [m.id for m in store.meta]


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "replace"])
def test_a_damaged_shard_is_named_counted_and_skipped(
    tmp_path: Path, contract: RobotContract, new_episode: Maker, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, contract, [new_episode(i) for i in range(6)], shard_episodes=2)
    victim = tmp_path / "shards" / "shard-00001.parquet"
    data = bytearray(victim.read_bytes())
    if damage == "truncate":
        victim.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
        victim.write_bytes(data)
    elif damage == "remove":
        victim.unlink()
    else:
        victim.write_bytes(os.urandom(len(data)))
    store = EpisodeStore(tmp_path)
    assert [(s.file, s.episodes) for s in store.skipped] == [("shards/shard-00001.parquet", 2)]
    assert "shard-00001.parquet skipped with 2 episodes (episode-0002, episode-0003): " in caplog.text
    assert [m.id for m in store.meta] == [f"episode-{i:04d}" for i in (0, 1, 4, 5)]
    assert store.load_all().steps == 20
    assert_same(store.episode(2), new_episode(4))


def test_a_store_of_damaged_shards_only_does_not_open(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    write(tmp_path, contract, [new_episode(0)])
    (tmp_path / "shards" / "shard-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="all 1 shards are damaged"):
        EpisodeStore(tmp_path)


NAMES = ("target_x", "target_y", "contact")


def test_privileged_numbers_come_back_where_an_episode_has_them(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    state = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    episodes = [new_episode(0, privileged=state), new_episode(1)]
    write(tmp_path, contract, episodes, privileged_names=NAMES)
    store = EpisodeStore(tmp_path)
    assert store.manifest.privileged_names == NAMES
    for episode, found in zip(episodes, store, strict=True):
        assert_same(episode, found)
    arrays = store.load_all(["privileged"])
    assert arrays.privileged is not None and np.array_equal(arrays.privileged[:5], state)
    assert np.isnan(arrays.privileged[5:]).all()
    with pytest.raises(StoreError, match="2 privileged values, the store has 3"):
        write(tmp_path, contract, [new_episode(2, privileged=state[:, :2])], privileged_names=NAMES, prefix="b")
    with pytest.raises(StoreError, match="privileged_names differs"):
        write(tmp_path, contract, [new_episode(3)], prefix="c")


def test_a_store_without_privileged_numbers_is_as_it_always_was(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    write(tmp_path, contract, [new_episode(0)])
    manifest = json.loads((tmp_path / "store.json").read_text())
    assert manifest["version"] == 1 and "privileged_names" not in manifest
    assert "privileged" not in pq.read_schema(tmp_path / "shards" / "shard-00000.parquet").names
    store = EpisodeStore(tmp_path)
    assert store.episode(0).privileged is None
    arrays = store.load_all()
    assert arrays.privileged is not None and arrays.privileged.shape == (5, 0)
    with pytest.raises(StoreError, match="3 privileged values, the store has 0"):
        write(tmp_path, contract, [new_episode(1, privileged=np.zeros((5, 3), np.float32))], prefix="b")


def test_privileged_numbers_are_checked(new_episode: Maker) -> None:
    with pytest.raises(InvalidEpisode, match="privileged: not finite at step 1"):
        new_episode(0, privileged=np.array([[1.0], [np.nan]] + [[0.0]] * 3, np.float32)).validate()
    with pytest.raises(InvalidEpisode, match="privileged: float32"):
        new_episode(0, privileged=np.zeros((4, 3), np.float32)).validate()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "no readable manifest"),
        (b"[]", "no qt_ros.store manifest"),
        (b'{"format": "qt_ros.store", "version": 99}', "version 99"),
        (b'{"format": "qt_ros.store", "version": 1, "colour": 1}', "colour"),
        (b'{"format": "qt_ros.store", "version": 1, "privileged_names": []}', "belongs to version 2"),
        (b'{"format": "qt_ros.store", "version": 2}', "belongs to version 2"),
        (b'{"format": "qt_ros.store", "version": 1, "shards": [{"file": "x"}]}', "episodes"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(StoreError, match=message):
        EpisodeStore(tmp_path)


def test_a_manifest_may_not_point_outside_its_store(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    write(tmp_path, contract, [new_episode(0)])
    document = json.loads((tmp_path / "store.json").read_text())
    document["shards"][0]["file"] = "../other.parquet"
    (tmp_path / "store.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="leaves the store"):
        EpisodeStore(tmp_path)


def test_no_store_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no finished store"):
        EpisodeStore(tmp_path)
    with pytest.raises(StoreError, match="nothing was written"):
        merge_manifests(tmp_path)


def other_contract(contract: RobotContract, old: str, new: str) -> RobotContract:
    assert old in contract.text
    return parse_contract(contract.text.replace(old, new), "changed contract")


def test_another_contract_is_refused_unless_allowed_and_another_action_space_always(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    write(tmp_path, contract, [new_episode(0)])
    commented = parse_contract(contract.text + "# a remark\n", "changed contract")
    with pytest.raises(StoreError, match="contract"):
        EpisodeStore(tmp_path, commented)
    assert len(EpisodeStore(tmp_path, commented, allow_other_contract=True)) == 1
    space = [{**d, "high": d["high"] * 2} for d in contract.action_space.to_config()]
    widened = dataclasses.replace(contract, action_space=type(contract.action_space).from_config(space))
    with pytest.raises(StoreError, match="action space"):
        EpisodeStore(tmp_path, widened, allow_other_contract=True)
    with pytest.raises(StoreError, match="action_space differs|contract_sha256 differs"):
        StoreWriter(tmp_path, widened, SIZE)


def test_an_episode_that_does_not_fit_is_refused_and_changes_nothing(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    with StoreWriter(tmp_path, contract, SIZE) as writer:
        writer.add(new_episode(0))
        with pytest.raises(StoreError, match="frames are"):
            writer.add(new_episode(1, size=(10, 10)))
        with pytest.raises(StoreError, match="contract"):
            writer.add(new_episode(1, contract_sha256="0" * 64))
        with pytest.raises(StoreError, match="action space"):
            writer.add(new_episode(1, action_space_sha256="0" * 64))
        with pytest.raises(StoreError, match="proprioceptive"):
            writer.add(new_episode(1, proprio=np.zeros((5, 3), np.float32)))
        with pytest.raises(InvalidEpisode):
            writer.add(new_episode(1, outcome="won"))
    assert len(EpisodeStore(tmp_path)) == 1


def test_an_exception_keeps_the_finished_episodes(tmp_path: Path, contract: RobotContract, new_episode: Maker) -> None:
    with pytest.raises(RuntimeError, match="simulator"), StoreWriter(tmp_path, contract, SIZE) as writer:
        writer.add(new_episode(0))
        raise RuntimeError("the simulator broke")
    assert len(EpisodeStore(tmp_path)) == 1
