"""The recorder without ROS: takes serialised messages from any thread, writes one bag per episode in its own.

Handing over a message never blocks and copies nothing; a bounded queue stands between the callers and the disk. What
does not fit is dropped and counted per topic, and the counts are written into the bag.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag_writer import BagTopic, EpisodeBagWriter, RecordingError
from qt_ros.episodes.episode import OUTCOMES, REASONS

__all__ = ["BagTopic", "RecordReport", "Recorder", "RecordingError", "TopicCounts"]

log = logging.getLogger(__name__)

_IDLE_FLUSH = 0.1
_CONTENTS = 64  # of one latched topic


class _Item(NamedTuple):
    topic: str
    data: bytes
    log_ns: int
    publish_ns: int
    sequence: int | None


@dataclass(frozen=True)
class TopicCounts:
    """Messages of one topic: received while recording, written to the bag, and dropped for want of room or disk."""

    received: int
    written: int
    dropped: int


@dataclass(frozen=True)
class RecordReport:
    """How the recording of one episode went; ``error`` is "" unless the disk or a message was bad."""

    episode_id: str
    uri: Path
    outcome: str
    reason: str
    messages: int
    dropped: int
    complete: bool
    error: str
    counts: dict[str, TopicCounts] = field(default_factory=dict)


class Recorder:
    """Records episodes below ``root``, each into ``<root>/<episode_id>``. All methods may be called from any thread.

    ``queue_bytes`` bounds what waits for the disk. The last ``preroll`` seconds (by time of receipt) before ``start``
    are written too, so that the image of the first decision is in the bag; of ``latched`` topics the latest message is
    written however old it is, of ``latched_all`` topics, which several publishers latch, the latest of each content (at
    most 64); ``live_only`` topics (those about one episode) never come from before ``start``.
    """

    def __init__(
        self,
        root: str | Path,
        topics: Iterable[BagTopic] = (),
        *,
        compression: str = "none",
        queue_bytes: int = 256 << 20,
        preroll: float = 1.0,
        preroll_bytes: int = 96 << 20,
        latched: Collection[str] = (),
        latched_all: Collection[str] = (),
        live_only: Collection[str] = (),
    ) -> None:
        self._root = Path(root)
        self._compression = compression
        self._room = _Room(queue_bytes)
        self._lock = threading.Lock()
        self._topics: dict[str, BagTopic] = {}
        keep = {**dict.fromkeys(latched, 1), **dict.fromkeys(latched_all, _CONTENTS)}
        self._before = _Before(round(preroll * 1e9), preroll_bytes, keep, frozenset(live_only))
        self._session: _Session | None = None
        self._finishing: list[Future[RecordReport]] = []
        for topic in topics:
            self.add_topic(topic)

    @property
    def episode_id(self) -> str | None:
        """The episode being recorded, or None."""
        session = self._session
        return None if session is None else session.episode_id

    def add_topic(self, topic: BagTopic) -> None:
        """Make a topic known; also while recording."""
        with self._lock:
            self._topics[topic.name] = topic
            if self._session is not None:
                self._session.put(topic)

    def write(self, topic: str, data: bytes, log_ns: int, publish_ns: int, sequence: int | None = None) -> bool:
        """Hand over one serialised message (see ``EpisodeBagWriter.write``); False when it had to be dropped.

        While no episode is recorded, messages are kept for the pre-roll only (True). Raises KeyError for an unknown
        topic.
        """
        if topic not in self._topics:
            raise KeyError(f"topic {topic} is not recorded; add_topic it first")
        item = _Item(topic, data, log_ns, publish_ns, sequence)
        with self._lock:
            self._before.put(item)
            return True if self._session is None else self._session.put(item)

    def start(self, episode_id: str, custom_data: Mapping[str, str] | None = None) -> Path:
        """Open the bag of a new episode and return its folder.

        ``custom_data`` is what is known now (see ``bag_metadata``). Raises RuntimeError while another episode is
        recorded, ValueError for an id that is no plain file name, RecordingError when the bag cannot be created.
        """
        if not episode_id or Path(episode_id).name != episode_id or episode_id.startswith("."):
            raise ValueError(f"episode id {episode_id!r} cannot name a folder")
        with self._lock:
            if self._session is not None:
                raise RuntimeError(f"episode {self._session.episode_id} is being recorded; finish it first")
            data = {keys.EPISODE_ID: episode_id, keys.COMPLETE: "false", **(custom_data or {})}
            uri = self._root / episode_id
            writer = EpisodeBagWriter(uri, self._topics.values(), data, compression=self._compression)
            self._session = _Session(episode_id, writer, self._room)
            for item in self._before.take():
                self._session.put(item)
            return uri

    def finish(self, outcome: str, reason: str, custom_data: Mapping[str, str] | None = None) -> Future[RecordReport]:
        """End the episode: what was handed over so far is written, the bag closed, then the future resolves.

        The next ``start`` need not wait for it. Raises RuntimeError when nothing is recorded, ValueError for an unknown
        outcome or reason. Errors of the disk are in the report, not raised.
        """
        if outcome not in OUTCOMES or reason not in REASONS:
            raise ValueError(f"outcome {outcome!r} or reason {reason!r} is unknown")
        with self._lock:
            session, self._session = self._session, None
            if session is None:
                raise RuntimeError("no episode is being recorded")
            self._finishing = [f for f in self._finishing if not f.done()]
            self._finishing.append(session.report)
        session.end(outcome, reason, custom_data or {})
        return session.report

    def close(self) -> RecordReport | None:
        """End a running episode as a fault (its report is returned) and wait for all bags to be closed."""
        report = None
        if self._session is not None:
            report = self.finish("unknown", "fault").result()
        for future in list(self._finishing):
            future.result()
        return report

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Room:
    """Bytes that may still wait for the disk, shared by an episode and the one that is still being closed."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if size > self._free:
                return False
            self._free -= size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._free += size


class _Before:
    """The recent past of every topic, kept by reference. Guarded by the recorder's lock."""

    def __init__(self, span_ns: int, max_bytes: int, latched: Mapping[str, int], live_only: frozenset[str]) -> None:
        """``latched``: how many messages of different content are kept of each latched topic."""
        self._span, self._max_bytes, self._latched, self._live_only = span_ns, max_bytes, latched, live_only
        self._recent: deque[_Item] = deque()
        self._bytes = 0
        self._last: dict[str, dict[bytes, _Item]] = {topic: {} for topic in latched}  # by content, oldest first

    def put(self, item: _Item) -> None:
        if item.topic in self._live_only:
            return
        if item.topic in self._latched:
            last = self._last[item.topic]
            last.pop(item.data, None)
            last[item.data] = item
            if len(last) > self._latched[item.topic]:
                del last[next(iter(last))]
            return
        if self._span <= 0:
            return
        # A clock that jumps back (a simulation was reset) makes the past meaningless.
        if self._recent and item.log_ns + self._span < self._recent[-1].log_ns:
            self._recent.clear()
            self._bytes = 0
        self._recent.append(item)
        self._bytes += len(item.data)
        while self._recent and (self._bytes > self._max_bytes or self._recent[0].log_ns < item.log_ns - self._span):
            self._bytes -= len(self._recent.popleft().data)

    def take(self) -> list[_Item]:
        latched = (item for last in self._last.values() for item in last.values())
        items = sorted((*latched, *self._recent), key=lambda i: i.log_ns)
        self._recent.clear()
        self._bytes = 0
        return items


class _Session:
    """One episode: its queue, its writer thread, its counts."""

    def __init__(self, episode_id: str, writer: EpisodeBagWriter, room: _Room) -> None:
        self.episode_id = episode_id
        self.report: Future[RecordReport] = Future()
        self._writer = writer
        self._room = room
        self._queue: deque[_Item | BagTopic] = deque()
        self._ready = threading.Condition()
        self._ending: tuple[str, str, Mapping[str, str]] | None = None
        self._received: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name=f"recorder {episode_id}", daemon=False)
        self._thread.start()

    def put(self, item: _Item | BagTopic) -> bool:
        if isinstance(item, BagTopic):
            with self._ready:
                self._queue.append(item)
            return True
        self._received[item.topic] += 1
        if not self._room.take(len(item.data)):
            self._dropped[item.topic] += 1
            return False
        with self._ready:
            self._queue.append(item)
            self._ready.notify()
        return True

    def end(self, outcome: str, reason: str, custom_data: Mapping[str, str]) -> None:
        with self._ready:
            self._ending = outcome, reason, custom_data
            self._ready.notify()

    def _run(self) -> None:
        try:
            while True:
                with self._ready:
                    if not self._queue and self._ending is None:
                        self._ready.wait(_IDLE_FLUSH)
                    ending = self._ending
                    batch = list(self._queue)
                    self._queue.clear()
                self._write(batch)
                if ending is not None and not batch:
                    self._close(*ending)
                    return
        except BaseException as error:  # noqa: BLE001 - whoever waits for the report must hear of it
            self.report.set_exception(error)

    def _write(self, batch: list[_Item | BagTopic]) -> None:
        writer = self._writer
        for item in batch:
            try:
                if isinstance(item, BagTopic):
                    writer.add_topic(item)
                    continue
                # Senders without a clock give 0 or less; the time of receipt is the better guess then.
                log_ns = max(item.log_ns, 0)
                publish_ns = item.publish_ns if item.publish_ns > 0 else log_ns
                writer.write(item.topic, item.data, log_ns, publish_ns, item.sequence)
            except RecordingError:  # the writer keeps it; the report says so
                if isinstance(item, _Item):
                    self._dropped[item.topic] += 1
            except (ValueError, KeyError) as error:  # one bad message or topic must not end the episode's recording
                self._problem = self._problem or str(error)
                log.error("episode %s: %s", self.episode_id, error)
                if isinstance(item, _Item):
                    self._dropped[item.topic] += 1
            finally:
                if isinstance(item, _Item):
                    self._room.give_back(len(item.data))
        if not batch and writer.error is None:
            try:
                writer.flush()
            except RecordingError:
                return

    def _close(self, outcome: str, reason: str, custom_data: Mapping[str, str]) -> None:
        error = self._writer.error
        data = {keys.OUTCOME: outcome, keys.REASON: reason, **custom_data}
        try:
            data[keys.COMPLETE] = "true" if error is None else "false"
            data[keys.ERROR] = self._problem if error is None else str(error)
            data[keys.COUNTS] = json.dumps({t: asdict(c) for t, c in self._counts().items()})
            self._writer.close(data)
            error = error or self._writer.error
        except RecordingError as closing:
            error = error or closing
        counts = self._counts()
        self.report.set_result(
            RecordReport(
                episode_id=self.episode_id,
                uri=self._writer.uri,
                outcome=outcome,
                reason=reason,
                messages=sum(c.written for c in counts.values()),
                dropped=sum(c.dropped for c in counts.values()),
                complete=error is None,
                error=self._problem if error is None else str(error),
                counts=counts,
            )
        )

    def _counts(self) -> dict[str, TopicCounts]:
        """After an error, what stands in the file counts as written and all the rest as dropped."""
        failed, result = self._writer.error is not None, {}
        for topic, received in sorted(self._received.items()):
            written = self._writer.counts[topic] if failed else received - self._dropped[topic]
            result[topic] = TopicCounts(received, written, received - written)
        return result
