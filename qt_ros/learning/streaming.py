"""Step data that stay where they are: segments are read when a batch needs them, from disks or URLs.

Memory holds some tens of bytes an episode, and what was read lately in a cache of a fixed size.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.index import PRIVILEGED, SUCCESS, TERMINATED, UNJUDGED, CorruptEpisode, StoreIndex, open_index
from qt_ros.episodes.manifest import StoreError
from qt_ros.episodes.roots import StoreUnreachable, cache_folder, open_root
from qt_ros.episodes.skipped import NAMED
from qt_ros.learning.dataset import (
    StepData,
    provenance,
    require_alike,
    require_returns,
    require_rewards,
    tell_unjudged,
)
from qt_ros.learning.errors import DataLost, TrainingError
from qt_ros.learning.targets import monte_carlo_returns

log = logging.getLogger(__name__)

CACHE_BYTES = 512 << 20


@dataclass(frozen=True)
class Span:
    """Steps first..last (numbers over all data, inclusive) of one episode."""

    episode: int
    first: int
    last: int


class ByteCache:
    """What was used lately, up to so many bytes. Threads may share it."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._entries: OrderedDict[tuple[str, int], tuple[int, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int]) -> Any:
        """The value, or None."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[1]

    def put(self, key: tuple[str, int], size: int, value: Any) -> None:
        """Keep a value of ``size`` bytes; the ones that were not used for longest go."""
        with self._lock:
            old = self._entries.pop(key, None)
            self.bytes += size - (old[0] if old else 0)
            self._entries[key] = (size, value)
            while self.bytes > self.limit and self._entries:
                self.bytes -= self._entries.popitem(last=False)[1][0]


class StreamedData(StepData):
    """Step data of one or more stores, read piece by piece with the values that `TrainingData` would have.

    Episodes whose outcome is unknown are left out.

    ``threads`` read and decode at once. ``cache_bytes``: of decoded frames and records kept in memory. An episode that
    turns out to be damaged is logged by name once, and is in ``corrupt`` (episode -> problem) from then on.
    """

    def __init__(
        self,
        indexes: Sequence[StoreIndex],
        gamma: float,
        *,
        privileged: bool = False,
        weights: Sequence[float] | None = None,
        cache_bytes: int = CACHE_BYTES,
        threads: int = 0,
        allow_other_contract: bool = False,
    ) -> None:
        names, manifests = [i.root.url for i in indexes], [i.manifest for i in indexes]
        self._chosen = [_judged(i) for i in indexes]
        counts = [len(i.episodes) if c is None else len(c) for i, c in zip(indexes, self._chosen, strict=True)]
        unjudged = [len(i.episodes) - count for i, count in zip(indexes, counts, strict=True)]
        require_alike(names, manifests, counts, privileged, sum(unjudged), allow_other_contract=allow_other_contract)
        for index in indexes:
            require_rewards(*index.reward_range)
        self._indexes, self._gamma, self._privileged = list(indexes), gamma, privileged
        self._bounds, self._firsts = np.cumsum(counts), np.cumsum(counts) - counts
        texts = self._of([i.episodes["text"] for i in indexes])
        told = [_in_order(i, t) for i, t in zip(indexes, texts, strict=True)]
        self.instructions = list(dict.fromkeys(text for some in told for text in some))
        number = {text: at for at, text in enumerate(self.instructions)}
        one = indexes[0] if len(indexes) == 1 and self._chosen[0] is None else None
        self.lengths = one.lengths if one else np.concatenate(self._of([i.lengths for i in indexes]))
        self.success = np.concatenate(self._of([i.flag(SUCCESS) for i in indexes]))
        self._starts = one.starts if one else np.cumsum(self.lengths) - self.lengths
        self._ended = np.concatenate(self._of([i.flag(TERMINATED) for i in indexes]))
        self._text = np.concatenate(
            [
                np.array([number.get(text, -1) for text in i.instructions], np.int32)[t]
                for i, t in zip(indexes, texts, strict=True)
            ]
        )
        self.weights = None if weights is None else tuple(weights)
        self.store_of = None if weights is None else np.repeat(np.arange(len(indexes)), counts)
        self.action_space_sha256 = manifests[0].action_space_sha256
        self.provenance = [
            provenance(i.root.url.rstrip("/").rsplit("/", 1)[-1], count, i.skipped, left, i.manifest, i.manifest_sha256)
            for i, count, left in zip(indexes, counts, unjudged, strict=True)
        ]
        blind = self._of([np.where(i.flag(PRIVILEGED), 0, i.lengths) for i in indexes])
        if privileged and (lost := sum(int(steps.sum()) for steps in blind)):
            raise TrainingError(
                f"{lost} of {self.count} steps have no privileged state; only episodes collected in the simulator "
                "have it"
            )
        self.corrupt: dict[int, str] = {}
        self._noting = threading.Lock()
        self.cache = ByteCache(cache_bytes)
        self._pool = ThreadPoolExecutor(threads or min(16, 4 * (os.cpu_count() or 1)), thread_name_prefix="reader")

    def _of(self, columns: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Of a column of each index, the rows of the episodes that are learnt from."""
        return [column if c is None else column[c] for column, c in zip(columns, self._chosen, strict=True)]

    @property
    def starts(self) -> NDArray[np.int64]:
        return self._starts

    @property
    def image_size(self) -> tuple[int, int] | None:
        return None if self._privileged else self._indexes[0].image_size

    @property
    def dims(self) -> int:
        """D, the action's dimensions."""
        return len(self._indexes[0].manifest.action_space)

    @property
    def proprio_size(self) -> int:
        return len(self._indexes[0].manifest.proprio_names)

    @property
    def privileged_size(self) -> int:
        return len(self._indexes[0].manifest.privileged_names) if self._privileged else 0

    def close(self) -> None:
        """Stop the reading threads."""
        for index in self._indexes:
            index.root.close()
            index.home.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def episodes_of(self, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which episode each step belongs to."""
        return np.searchsorted(self._starts, steps, side="right") - 1

    def load(self, spans: Sequence[Span], pictures: bool = True) -> list[dict[str, NDArray] | CorruptEpisode]:
        """Read several spans at once; for each its rows, or what is wrong with what had to be read for it.

        Rows: ``numbers`` (n,) of the steps and the columns of `TrainingData` for them; images only with ``pictures``.
        What is found depends on the data alone, not on what was read before. Raises StoreUnreachable, and DataLost for
        an episode whose return Q cannot be.
        """

        def one(span: Span) -> dict[str, NDArray] | CorruptEpisode:
            try:
                return self._rows(span, pictures)
            except CorruptEpisode as damage:
                self.note_corrupt(span.episode, str(damage))
                return damage

        return list(self._pool.map(one, spans))

    def note_corrupt(self, episode: int, problem: str) -> None:
        """Remember a damaged episode (numbered over all data); the first time, say so."""
        with self._noting:
            if episode in self.corrupt:
                return
            self.corrupt[episode] = problem
            log.warning("episode skipped (%d so far): %s", len(self.corrupt), problem)

    def _rows(self, span: Span, pictures: bool) -> dict[str, NDArray]:
        number = int(np.searchsorted(self._bounds, span.episode, side="right"))
        index, local, chosen = self._indexes[number], span.episode - int(self._firsts[number]), self._chosen[number]
        if chosen is not None:
            local = int(chosen[local])
        records, returns = self._episode(span.episode, index, local)
        begin = int(self._starts[span.episode])
        part = slice(span.first - begin, span.last - begin + 1)
        wanted, count = records[part], span.last - span.first + 1
        rows: dict[str, NDArray] = {
            "numbers": np.arange(span.first, span.last + 1),
            "bins": wanted["bins"].astype(np.int64),
            "rewards": wanted["reward"].copy(),
            "returns": returns[part],
            "remaining": np.arange(len(records) - 1 - part.start, len(records) - 1 - part.start - count, -1),
            "terminated": np.full(count, self._ended[span.episode]),
            "success": np.full(count, self.success[span.episode]),
            "text": np.full(count, self._text[span.episode], np.int64),
            "proprio": wanted["proprio"].copy(),
        }
        if self._privileged:
            rows["privileged"] = wanted["privileged"].copy()
        elif pictures:
            rows["images"] = self._frames(span, index, local, wanted)
        return rows

    def _episode(self, episode: int, index: StoreIndex, local: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        key = ("episode", episode)
        found = self.cache.get(key)
        if found is None:
            records = index.records(local)
            found = records, monte_carlo_returns(np.ascontiguousarray(records["reward"]), self._gamma)
            try:
                require_returns(found[1], partial(index.episode_id, local))
            except TrainingError as error:  # found in mid-run: the state is to be saved, and other processes told
                raise DataLost(str(error)) from None
            self.cache.put(key, records.nbytes + found[1].nbytes, found)
        return found  # type: ignore[no-any-return]

    def _frames(self, span: Span, index: StoreIndex, local: int, records: NDArray[Any]) -> NDArray[np.uint8]:
        height, width = index.image_size
        out = np.empty((len(records), height, width, 3), np.uint8)
        kept = [self.cache.get(("frame", span.first + at)) for at in range(len(records))]
        missing = [at for at, picture in enumerate(kept) if picture is None]
        if missing:  # one read from the first to the last that is missing
            first, last = missing[0], missing[-1]
            for at, picture in enumerate(index.frames(local, records[first : last + 1]), first):
                kept[at] = picture
                self.cache.put(("frame", span.first + at), picture.nbytes, picture)
        for at, picture in enumerate(kept):
            out[at] = picture
        return out


def _judged(index: StoreIndex) -> NDArray[np.int32] | None:
    """Numbers of the index's episodes whose outcome is known; None for all. The others are logged."""
    unknown = index.flag(UNJUDGED)
    if not unknown.any():
        return None
    left_out = np.flatnonzero(unknown)
    tell_unjudged(index.root.url, index.episode_ids(left_out[:NAMED]), len(left_out))
    return np.flatnonzero(~unknown).astype(np.int32)


def _in_order(index: StoreIndex, texts: NDArray[np.int32]) -> list[str]:
    """The instructions of episodes with the numbers ``texts``, in the order in which they occur."""
    used, first = np.unique(texts, return_index=True)
    return [index.instructions[number] for number in used[np.argsort(first)]]


def joined(parts: Iterable[dict[str, NDArray]]) -> dict[str, NDArray]:
    """Rows of several loads as one, sorted by step number, each step once."""
    listed = list(parts)
    numbers = np.concatenate([part["numbers"] for part in listed])
    distinct, first = np.unique(numbers, return_index=True)
    return {name: np.concatenate([part[name] for part in listed])[first] for name in listed[0] if name != "numbers"} | {
        "numbers": distinct
    }


def stream_training_data(
    stores: Sequence[str | Path],
    gamma: float,
    *,
    contract: RobotContract | None = None,
    allow_other_contract: bool = False,
    privileged: bool = False,
    weights: Sequence[float] | None = None,
    cache: Path | None = None,
    cache_bytes: int = CACHE_BYTES,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> StreamedData:
    """Open stores (folders or URLs) for streaming; the counterpart of `load_training_data`.

    A store without index gets one, which takes one pass over it (``progress(shards_done, shards)``). ``cache``: see
    `cache_folder`. Raises TrainingError for what cannot be trained on, StoreUnreachable for a URL that does not answer.
    """
    try:
        indexes = [
            open_store_index(store, cache, contract, allow_other_contract=allow_other_contract, progress=progress)
            for store in stores
        ]
    except StoreUnreachable:
        raise
    except StoreError as error:
        raise TrainingError(str(error)) from error
    return StreamedData(
        indexes, gamma, privileged=privileged, weights=weights, cache_bytes=cache_bytes, threads=threads,
        allow_other_contract=allow_other_contract,
    )  # fmt: skip


def open_store_index(
    store: str | Path,
    cache: Path | None = None,
    contract: RobotContract | None = None,
    *,
    allow_other_contract: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> StoreIndex:
    """`open_index` of a folder or URL, with the cache folder that belongs to it."""
    root = open_root(store)
    home = cache_folder(root.url if root.remote else str(Path(root.url).resolve()), cache)
    return open_index(root, home, contract, allow_other_contract=allow_other_contract, progress=progress)
