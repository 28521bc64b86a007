"""Write one episode as a rosbag2 bag (MCAP) from messages that are already serialised.

No message is decoded or encoded here: what arrived over DDS as CDR is what stands in the file. The file is readable up
to the last flush whatever happens to the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mcap.exceptions import McapError
from mcap.well_known import MessageEncoding, Profile, SchemaEncoding
from mcap.writer import CompressionType, Writer

import qt_ros
from qt_ros.episodes.bag_metadata import BagMetadata, Qos, TopicInfo, qos_text, ros_distro
from qt_ros.episodes.mcap_seal import seal
from qt_ros.episodes.message_definitions import MessageDefinition, find_definition

log = logging.getLogger(__name__)

COMPRESSIONS = {"none": CompressionType.NONE, "lz4": CompressionType.LZ4, "zstd": CompressionType.ZSTD}
METADATA_RECORD, SERIALIZED = "rosbag2", "serialized_metadata"
"""Name and key of the MCAP metadata record in which rosbag2 keeps a copy of metadata.yaml."""

RESERVE = ".reserve"
RESERVE_BYTES = 1 << 20
"""Kept on disk while recording and given up when the disk is full, so that the file can still be finished."""


class RecordingError(OSError):
    """Recording failed (disk full, folder not writable...); the message names the file. What was finished is
    readable."""


@dataclass(frozen=True)
class BagTopic:
    """One topic to record: absolute name, full definition of its type, and the QoS its publishers offer."""

    name: str
    definition: MessageDefinition
    qos: tuple[Qos, ...] = (Qos(),)

    @classmethod
    def find(cls, name: str, type_name: str, qos: tuple[Qos, ...] = (Qos(),)) -> BagTopic:
        """A topic whose type's definition is looked up among the installed packages."""
        return cls(name, find_definition(type_name), qos)

    @property
    def type(self) -> str:
        return self.definition.type


class EpisodeBagWriter:
    """Writes ``<uri>/<name>_0.mcap`` and, at ``close``, ``<uri>/metadata.yaml``.

    ``compression`` is "none", "lz4" or "zstd" per chunk: none by default, because images arrive faster than two cores
    can also compress them. A chunk is closed and handed to the operating system when it has ``chunk_bytes`` or is
    ``flush_period`` seconds old, so a killed process loses no more than that. Not thread-safe.

    Any failing write raises RecordingError; the file is then cut to its last complete chunk and finished, and further
    calls raise the same error. ``close`` may then still be called and describes what is in the file.
    """

    def __init__(
        self,
        uri: str | Path,
        topics: Iterable[BagTopic] = (),
        custom_data: Mapping[str, str] | None = None,
        *,
        compression: str = "none",
        chunk_bytes: int = 2 << 20,
        flush_period: float = 0.25,
    ) -> None:
        if compression not in COMPRESSIONS:
            raise ValueError(f"compression {compression!r} is none of {', '.join(COMPRESSIONS)}")
        self.uri = Path(uri)
        self.path = self.uri / f"{self.uri.name}_0.mcap"
        self._metadata = BagMetadata((self.path.name,), 0, 0, (), ros_distro=ros_distro()).with_custom_data(
            custom_data or {}
        )
        self._topics: dict[str, BagTopic] = {}
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._start_ns = self._end_ns = 0
        self._flush_period = flush_period
        self._flushed = time.monotonic()
        self._unflushed = 0
        self._chunk_bytes = chunk_bytes
        self._error: RecordingError | None = None
        self._closed = False
        try:
            self.uri.mkdir(parents=True)
        except FileExistsError:
            raise RecordingError(f"{self.uri} exists already; an episode is never overwritten") from None
        except OSError as error:
            raise RecordingError(f"{self.uri}: cannot be created ({error.strerror})") from error
        try:
            self._reserve()
            self._stream = open(self.path, "wb", buffering=1 << 16)  # noqa: SIM115 - closed in close()
        except OSError as error:
            (self.uri / RESERVE).unlink(missing_ok=True)
            raise RecordingError(f"{self.path}: cannot be written ({error.strerror})") from error
        self._writer = Writer(self._stream, chunk_size=1 << 62, compression=COMPRESSIONS[compression])
        with self._named_errors():
            self._writer.start(profile=Profile.ROS2, library=f"qt_ros {qt_ros.__version__}")
            # Also written at the end; this copy tells recover() which episode a killed bag belongs to.
            self._writer.add_metadata(METADATA_RECORD, {SERIALIZED: self._describe().text()})
            self._stream.flush()
        for topic in topics:
            self.add_topic(topic)

    @property
    def counts(self) -> Counter[str]:
        """Messages per topic accepted so far; after an error, those that are in the file."""
        return self._counts

    @property
    def error(self) -> RecordingError | None:
        """What went wrong, or None."""
        return self._error

    def add_topic(self, topic: BagTopic) -> None:
        """Register a topic; again with the same type is a no-op, with another type ValueError."""
        if (known := self._topics.get(topic.name)) is not None:
            if known.type != topic.type:
                raise ValueError(f"topic {topic.name} is recorded as {known.type}, not {topic.type}")
            return
        definition = topic.definition
        with self._named_errors():
            if definition.type not in self._schemas:
                self._schemas[definition.type] = self._writer.register_schema(
                    name=definition.type, encoding=SchemaEncoding.ROS2, data=definition.text.encode()
                )
            self._channels[topic.name] = self._writer.register_channel(
                topic=topic.name,
                message_encoding=MessageEncoding.CDR,
                schema_id=self._schemas[definition.type],
                metadata={"offered_qos_profiles": qos_text(topic.qos), "topic_type_hash": definition.type_hash},
            )
        self._topics[topic.name] = topic

    def write(self, topic: str, data: bytes, log_ns: int, publish_ns: int, sequence: int | None = None) -> None:
        """Append one serialised message (CDR with its 4-byte header, as a raw subscription hands it out).

        ``log_ns`` and ``publish_ns`` are the times of receipt and of sending; ``sequence`` is the publisher's own
        number of the message where the middleware gives it (gaps show what was lost on the way), else they are
        counted. Raises KeyError for an unknown topic, RecordingError when the disk refuses, ValueError for negative
        times.
        """
        try:
            channel = self._channels[topic]
        except KeyError:
            raise KeyError(f"topic {topic} is not part of this bag; add_topic it first") from None
        if not (0 <= log_ns < 1 << 63 and 0 <= publish_ns < 1 << 63):
            raise ValueError(f"topic {topic}: times {log_ns} and {publish_ns} ns are no times since an epoch")
        with self._named_errors():
            self._writer.add_message(
                channel_id=channel,
                log_time=log_ns,
                publish_time=publish_ns,
                sequence=(self._counts[topic] if sequence is None else sequence) & 0xFFFFFFFF,
                data=data,
            )
            if not self._counts:
                self._start_ns = self._end_ns = log_ns
            self._start_ns, self._end_ns = min(self._start_ns, log_ns), max(self._end_ns, log_ns)
            self._counts[topic] += 1
            self._unflushed += len(data)
            if self._unflushed >= self._chunk_bytes or time.monotonic() - self._flushed >= self._flush_period:
                self._flush()

    def flush(self) -> None:
        """Hand everything to the operating system; call it too when no message comes for a while."""
        with self._named_errors():
            self._flush()

    def _flush(self) -> None:
        self._writer.flush()
        self._unflushed = 0
        self._flushed = time.monotonic()

    def close(self, custom_data: Mapping[str, str] | None = None) -> BagMetadata:
        """Finish the file and write ``metadata.yaml`` with ``custom_data`` (the outcome) merged in. Idempotent.

        Raises RecordingError when that fails; ``recover`` can then finish the bag once there is space again.
        """
        self._metadata = self._metadata.with_custom_data(custom_data or {})
        if self._closed:
            return self._describe()
        if self._error is None:
            with self._named_errors():
                self._flush()
                self._writer.add_metadata(METADATA_RECORD, {SERIALIZED: self._describe().text()})
                self._writer.finish()
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._stream.close()
        self._closed = True
        (self.uri / RESERVE).unlink(missing_ok=True)
        try:
            description = self._describe()
            description.write(self.uri)
        except OSError as error:
            raise RecordingError(f"{self.uri}: metadata.yaml cannot be written ({error.strerror})") from error
        return description

    def _describe(self) -> BagMetadata:
        topics = tuple(
            TopicInfo(
                name=t.name,
                type=t.type,
                message_count=self._counts[t.name],
                type_hash=t.definition.type_hash,
                qos=tuple(q.document() for q in t.qos),
            )
            for t in self._topics.values()
        )
        m = self._metadata
        return BagMetadata(m.files, self._start_ns, self._end_ns - self._start_ns, topics, m.custom_data, m.ros_distro)

    def _reserve(self) -> None:
        with open(self.uri / RESERVE, "wb") as stream:
            stream.write(bytes(RESERVE_BYTES))

    @contextlib.contextmanager
    def _named_errors(self):  # type: ignore[no-untyped-def]
        """Turn an error of the file into RecordingError once, and save what was complete before it."""
        if self._error is not None:
            raise self._error
        try:
            yield
        except (OSError, McapError) as error:
            self._error = RecordingError(f"{self.path}: recording failed ({error}); free space or check the disk")
            self._rescue()
            raise self._error from error

    def _rescue(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()
        (self.uri / RESERVE).unlink(missing_ok=True)
        try:
            found = seal(self.path)
        except (OSError, ValueError) as error:
            log.error("%s: could not be finished either (%s); recover it when there is space", self.path, error)
            return
        names = {i: c.topic for i, c in found.channels.items()}
        self._counts = Counter({names[i]: n for i, n in found.counts.items()})
        self._start_ns, self._end_ns = found.start_ns, found.end_ns
