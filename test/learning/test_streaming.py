"""Streamed data train exactly as data in memory do, whatever is damaged or away on the way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from episode_factory import make_episode
from fast_folder import fast_folder
from range_server import serving
from store_factory import CONTRACT, SIZE, losses, make_store, trainer_on
from tiny import METHODS

from qt_ros.episodes import roots
from qt_ros.episodes.index import StoreIndex
from qt_ros.episodes.roots import StoreUnreachable
from qt_ros.episodes.store import EpisodeStore, StoreWriter
from qt_ros.episodes.store_labels import label_episode
from qt_ros.learning.dataset import TrainingData, load_training_data
from qt_ros.learning.errors import DataLost, TrainingError
from qt_ros.learning.stores import open_data
from qt_ros.learning.streaming import ByteCache, Span, StreamedData, joined, stream_training_data
from qt_ros.learning.trainer import Trainer

GAMMA = 0.9
QUICK = {"gradient_steps": 4, "log_every": 1, "save_every": 2}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store", range(18))


def stream(*stores: Path | str, cache: Path | None = None, **options: object) -> StreamedData:
    return stream_training_data(list(stores), GAMMA, cache=cache, **options)  # type: ignore[arg-type]


def same_weights(one: Trainer, two: Trainer) -> bool:
    states = [list(t.method.state()["online"].state_dict().values()) for t in (one, two)]
    return all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_every_column_is_that_of_the_data_in_memory(tmp_path: Path, store: Path) -> None:
    other = make_store(tmp_path / "other", range(30, 37))
    memory, streamed = load_training_data([store, other], GAMMA), stream(store, other)
    for name in ("lengths", "success", "starts"):
        assert np.array_equal(getattr(memory, name), getattr(streamed, name))
    for name in ("instructions", "hashes", "count", "image_size", "proprio_size", "action_space_sha256", "provenance"):
        assert getattr(memory, name) == getattr(streamed, name)
    for episode, (start, length) in enumerate(zip(memory.starts, memory.lengths, strict=True)):
        (rows,) = streamed.load([Span(episode, int(start), int(start + length - 1))])
        assert isinstance(rows, dict)
        part = slice(start, start + length)
        for name in ("bins", "rewards", "returns", "remaining", "terminated", "text", "proprio", "images"):
            wanted = getattr(memory, name)[part]
            assert rows[name].dtype == wanted.dtype and np.array_equal(rows[name], wanted), name


def test_what_a_damaged_shard_takes_with_it_is_counted_alike(tmp_path: Path, store: Path) -> None:
    for number in (1, 4):
        path = store / "shards" / f"shard-{number:05d}.parquet"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    memory, streamed = load_training_data([store], GAMMA), stream(store)
    (record,) = memory.provenance
    assert (record["episodes"], record["skipped_shards"], record["skipped_episodes"]) == (12, 2, 6)
    assert streamed.provenance == stream(store).provenance == memory.provenance


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("scheme", ["folder", "file", "memory"])
def test_labels_given_later_count_as_they_do_in_memory(tmp_path: Path, store: Path, scheme: str, indexed: bool) -> None:
    def where() -> Path | str:
        if scheme != "memory":
            return f"file://{store}" if scheme == "file" else store
        fsspec.filesystem("memory").put(f"{store}/", f"/{tmp_path.name}/store/", recursive=True)
        return f"memory://{tmp_path.name}/store"

    cache = tmp_path / "cache"
    recorded = load_training_data([store], GAMMA)
    if indexed:
        stream(where(), cache=cache)
    won, lost = int(np.argmax(recorded.success)), int(np.argmin(recorded.success))
    ids = [meta.id for meta in EpisodeStore(store).meta]
    for episode, outcome in ((lost, "success"), (won, "unknown"), (won, "failure")):
        label_episode(store, ids[episode], outcome, "anna")
    memory, streamed = load_training_data([store], GAMMA), stream(where(), cache=cache)
    copied = open_data([str(where())], GAMMA, stream=False, cache=cache)
    assert isinstance(copied, TrainingData)
    last = memory.starts + memory.lengths - 1
    assert memory.success[lost] and not memory.success[won]
    assert (memory.rewards[last[lost]], memory.rewards[last[won]]) == (1, 0)
    assert (recorded.rewards[last[lost]], recorded.rewards[last[won]]) == (0, 1)
    assert memory.hashes == streamed.hashes == copied.hashes != recorded.hashes
    assert np.array_equal(memory.success, streamed.success) and np.array_equal(memory.success, copied.success)
    spans = [Span(e, int(s), int(t)) for e, (s, t) in enumerate(zip(memory.starts, last, strict=True))]
    rows = joined(part for part in streamed.load(spans) if isinstance(part, dict))
    assert len(rows["rewards"]) == memory.count
    for name in ("rewards", "returns", "terminated"):
        wanted = getattr(memory, name)
        assert np.array_equal(rows[name], wanted) and np.array_equal(getattr(copied, name), wanted), name
    assert np.array_equal(rows["success"], np.repeat(memory.success, memory.lengths))


@pytest.mark.parametrize("weights", [None, (3.0, 1.0, 2.0)])
def test_episodes_without_an_outcome_are_left_out_as_they_are_in_memory(
    tmp_path: Path, store: Path, weights: tuple[float, ...] | None, caplog: pytest.LogCaptureFixture
) -> None:
    stores = [store, make_store(tmp_path / "other", range(30, 37)), make_store(tmp_path / "third", range(50, 54))]
    stream(*stores)
    for root, numbers in ((stores[0], (0, 1, 7)), (stores[2], (50, 51, 52, 53))):
        for number in numbers:
            label_episode(root, f"episode-{number:04d}", "unknown", "anna")
    caplog.clear()
    memory = load_training_data(stores, GAMMA, weights=weights)
    told = [record.getMessage() for record in caplog.records]
    caplog.clear()
    streamed = stream(*stores, weights=weights)
    assert [record.getMessage() for record in caplog.records] == told and "(episode-0000, episode-0001," in told[0]
    assert [p["unjudged_episodes"] for p in memory.provenance] == [3, 0, 4]
    assert memory.provenance == streamed.provenance and memory.instructions == streamed.instructions
    assert len(memory.lengths) == 22 and np.array_equal(memory.lengths, streamed.lengths)
    assert np.array_equal(memory.success, streamed.success) and np.array_equal(memory.store_of, streamed.store_of)
    for episode, (start, length) in enumerate(zip(memory.starts, memory.lengths, strict=True)):
        (rows,) = streamed.load([Span(episode, int(start), int(start + length - 1))])
        assert isinstance(rows, dict)
        for name in ("bins", "rewards", "returns", "remaining", "terminated", "text", "proprio", "images"):
            assert np.array_equal(rows[name], getattr(memory, name)[start : start + length]), name
    one, two = trainer_on(memory, tmp_path / "a", **QUICK), trainer_on(streamed, tmp_path / "b", **QUICK)
    assert losses(one) == losses(two) and same_weights(one, two)


@pytest.mark.parametrize("method", METHODS)
def test_training_gives_bit_for_bit_the_same_losses(tmp_path: Path, store: Path, method: str) -> None:
    changes = QUICK | {"image_shift": 2, "segment_steps": 2}
    memory = trainer_on(load_training_data([store], GAMMA), tmp_path / "a", method, **changes)
    streamed = trainer_on(stream(store, cache_bytes=10_000), tmp_path / "b", method, **changes)
    assert losses(memory) == losses(streamed) and same_weights(memory, streamed)


def test_frozen_vision_is_encoded_once_to_disk_with_the_same_losses(tmp_path: Path, store: Path) -> None:
    memory = trainer_on(load_training_data([store], GAMMA), tmp_path / "a", freeze_vision=True, **QUICK)
    streamed = trainer_on(stream(store), tmp_path / "b", freeze_vision=True, **QUICK)
    assert losses(memory) == losses(streamed)
    (file,) = (tmp_path / "b").glob("tokens-*.bin")
    assert file.stat().st_size == memory.data.count * 2 * 16 * 2  # 2 tokens of 16 half-precision numbers a frame
    before = file.stat().st_mtime_ns
    again = trainer_on(stream(store), tmp_path / "b", freeze_vision=True, **QUICK)
    again.cache_tokens()
    assert file.stat().st_mtime_ns == before


def test_encoding_that_was_interrupted_goes_on_where_it_was(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qt_ros.learning.token_file.KEEP_EVERY", 1)
    whole = trainer_on(stream(store), tmp_path / "a", freeze_vision=True)
    whole.batches.cache_tokens(chunk=16)

    def leave(_: int) -> None:
        counted.append(1)
        if len(counted) == 3:
            raise KeyboardInterrupt

    counted: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        trainer_on(stream(store), tmp_path / "b", freeze_vision=True).batches.cache_tokens(leave, chunk=16)
    counted = [0, 0, 0]
    trainer_on(stream(store), tmp_path / "b", freeze_vision=True).batches.cache_tokens(leave, chunk=16)
    assert len(counted) - 3 == -(-whole.data.count // 16) - 2  # the third chunk was not noted
    one, two = (next((tmp_path / name).glob("*.bin")).read_bytes() for name in "ab")
    assert one == two


def test_an_interrupted_run_goes_on_alike_streamed_or_not(tmp_path: Path, store: Path) -> None:
    whole = trainer_on(stream(store), tmp_path / "a", **QUICK)
    losses(whole)
    first = trainer_on(stream(store), tmp_path / "b", **QUICK)
    assert not first.run(lambda _: None, stop=lambda: first.step == 2)
    second = trainer_on(load_training_data([store], GAMMA), tmp_path / "b", **QUICK)
    assert second.step == 2
    losses(second)
    assert same_weights(whole, second)


def damage(store: Path, episode: int) -> str:
    """Flip a byte in every frame of an episode, after its index was made; the episode's id."""
    data = stream(store)
    index: StoreIndex = data._indexes[0]
    path = store / index.shards[index._shard_of[episode]].file
    content = bytearray(path.read_bytes())
    for at in index.records(episode)["at"]:
        content[int(at) + 20] ^= 0xFF
    path.write_bytes(content)
    return index.episode_id(episode)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_damaged_episode_is_named_counted_and_replaced_alike_after_an_interruption(
    tmp_path: Path, store: Path, freeze: bool, caplog: pytest.LogCaptureFixture
) -> None:
    name = damage(store, 5)
    changes = {"gradient_steps": 6, "log_every": 1, "save_every": 3, "freeze_vision": freeze, "success_share": 0.5}
    whole = trainer_on(stream(store), tmp_path / "a", **changes)
    reports = []
    with caplog.at_level(logging.WARNING):
        whole.run(reports.append)
    assert caplog.text.count(f"episode {name} of shards/") == 1
    assert reports[-1].metrics["skipped_episodes"] == 1
    halved = trainer_on(stream(store), tmp_path / "b", **changes)
    halved.run(lambda _: None, stop=lambda: halved.step == 3)
    again = trainer_on(stream(store), tmp_path / "b", **changes)
    again.run(lambda _: None)
    assert same_weights(whole, again)
    drawn = [whole.batches.source.at(step)[0] for step in range(6)]  # type: ignore[attr-defined]
    assert all((segments.episodes != 5).all() for segments in drawn)
    undisturbed = [whole.batches.source._sampler.batch_at(step) for step in range(6)]  # type: ignore[attr-defined]
    assert any((segments.episodes == 5).any() for segments in undisturbed)
    for got, wanted in zip(drawn, undisturbed, strict=True):
        sound = wanted.episodes != 5
        assert (got.frames[sound] == wanted.frames[sound]).all()


def test_a_store_of_nothing_but_damage_ends_the_run_with_its_state_saved(tmp_path: Path, store: Path) -> None:
    stream(store)
    for path in (store / "shards").iterdir():
        path.unlink()
    trainer = trainer_on(stream(store), tmp_path / "a", **QUICK)
    with pytest.raises(DataLost, match="damaged, 18 in all"):
        losses(trainer)
    assert (tmp_path / "a" / "state.safetensors").is_file()


def test_an_episode_of_too_large_a_return_ends_the_run_with_its_state_saved(tmp_path: Path) -> None:
    """It is found when it is first drawn, with the words of the data in memory."""
    generous = make_episode(CONTRACT, 3, size=SIZE, rewards=np.full(5, 0.5, np.float32))
    with StoreWriter(tmp_path / "store", CONTRACT, SIZE, shard_episodes=4) as writer:
        for episode in (*(make_episode(CONTRACT, n, size=SIZE) for n in (0, 1)), generous):
            writer.add(episode)
    with pytest.raises(TrainingError, match="episode-0003 come to a discounted return of 2") as told:
        load_training_data([tmp_path / "store"], GAMMA)
    assert not isinstance(told.value, DataLost)
    trainer = trainer_on(stream(tmp_path / "store"), tmp_path / "a", gradient_steps=100, log_every=100, save_every=100)
    with pytest.raises(DataLost) as lost:
        losses(trainer)
    assert str(lost.value) == str(told.value)
    assert (tmp_path / "a" / "state.safetensors").is_file()


@pytest.mark.parametrize("freeze", [False, True])
def test_a_url_that_goes_away_in_mid_run_is_named_and_training_goes_on_later(
    tmp_path: Path, store: Path, freeze: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "PAUSES", (0.0, 0.0))
    stream(store)  # makes the index beside the shards
    changes = {"gradient_steps": 12, "log_every": 12, "save_every": 100, "freeze_vision": freeze}
    local = trainer_on(stream(store), tmp_path / "a", **changes)
    losses(local)
    with serving(store) as server:
        server.failures = 2
        data = stream(server.url, cache=tmp_path / "cache", cache_bytes=1)
        trainer = trainer_on(data, tmp_path / "b", **changes)

        def go_away() -> bool:
            server.down |= trainer.step == 2
            return False

        with pytest.raises(StoreUnreachable, match=r"not reached in 3 tries"):
            trainer.run(lambda _: None, stop=go_away)
        assert 2 <= trainer.step < 12
        server.down = False
        again = trainer_on(stream(server.url, cache=tmp_path / "cache"), tmp_path / "b", **changes)
        assert again.step == trainer.step
        losses(again)
    assert same_weights(local, again)


def test_a_store_in_memory_trains_the_same(tmp_path: Path, store: Path) -> None:
    fsspec.filesystem("memory").put(str(store), f"/{tmp_path.name}", recursive=True)
    url = f"memory://{tmp_path.name}"
    runs = [
        losses(trainer_on(stream(where, cache=tmp_path / "cache"), tmp_path / name, **QUICK))
        for where, name in ((store, "a"), (url, "b"))
    ]
    assert runs[0] == runs[1] and (tmp_path / "cache").is_dir()


def test_stores_that_do_not_go_together_and_no_store_are_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(TrainingError, match="no finished store"):
        stream(tmp_path / "nothing")
    with pytest.raises(TrainingError, match="holds no privileged state"):
        stream(store, privileged=True)


def test_the_cache_keeps_what_was_used_lately_within_its_limit() -> None:
    cache = ByteCache(10)
    for number in range(3):
        cache.put(("frame", number), 4, number)
    assert (cache.get(("frame", 0)), cache.get(("frame", 1)), cache.get(("frame", 2))) == (None, 1, 2)
    cache.get(("frame", 1))
    cache.put(("frame", 3), 4, 3)
    assert cache.get(("frame", 2)) is None and cache.get(("frame", 1)) == 1 and cache.bytes == 8
    cache.put(("frame", 1), 2, 1)
    cache.put(("frame", 9), 99, 9)
    assert cache.bytes == 0 and cache.get(("frame", 9)) is None


def test_threads_may_share_the_data(store: Path) -> None:

    data = stream(store, cache_bytes=5_000, threads=2)
    spans = [Span(e, int(s), int(s + n - 1)) for e, (s, n) in enumerate(zip(data.starts, data.lengths, strict=True))]
    wanted = [rows["images"] for rows in data.load(spans) if isinstance(rows, dict)]
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: data.load(spans), range(8)):
            assert all(np.array_equal(a, b["images"]) for a, b in zip(wanted, found, strict=True))  # type: ignore[index]
