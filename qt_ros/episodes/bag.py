"""Bags of one episode each: reading them, describing them, mending them. Works without ROS.

A bag is a folder as rosbag2 makes it (``metadata.yaml`` and MCAP files); bags of ``ros2 bag record`` are read as well.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from mcap.records import Channel, Message, Schema
from mcap_ros2.decoder import DecoderFactory

from qt_ros.contract.codecs import stamp_to_ns
from qt_ros.contract.untrusted import Refused, load_yaml_text
from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag_metadata import BagError, BagMetadata, TopicInfo, parse_metadata, qos_mappings, read_metadata
from qt_ros.episodes.bag_writer import METADATA_RECORD, RESERVE, SERIALIZED, BagTopic, EpisodeBagWriter, RecordingError
from qt_ros.episodes.mcap_guard import guarded_reader
from qt_ros.episodes.mcap_seal import Contents, cut_off_messages, is_sealed, seal

__all__ = [
    "BagError",
    "BagMetadata",
    "BagTopic",
    "EpisodeBagWriter",
    "RawMessage",
    "RecordingError",
    "Recovery",
    "find_bags",
    "is_complete",
    "read_bag",
    "read_metadata",
    "read_raw",
    "recover",
]

log = logging.getLogger(__name__)

_STAMP = struct.Struct("<iI")
MAX_DEFINITION = 1 << 20  # bytes of one type's definition with all it needs


class RawMessage(NamedTuple):
    """One message of a bag, still serialised. Times in ns; ``kind`` knows how to decode it."""

    topic: str
    log_ns: int
    publish_ns: int
    sequence: int
    data: bytes
    kind: MessageKind

    @property
    def type(self) -> str:
        return self.kind.type

    def decode(self) -> Any:
        """An object with the message's fields. Raises BagError when type or content cannot be decoded."""
        return self.kind.decode(self.data)

    @property
    def stamp_ns(self) -> int | None:
        """The header's stamp (ns) without decoding the rest; None for types that do not begin with std_msgs/Header.

        CDR: four bytes of encapsulation (little endian is 00 01), then int32 seconds and uint32 nanoseconds.
        """
        if not self.kind.stamped or len(self.data) < 12:
            return None
        if self.data[1] != 1:
            return stamp_to_ns(self.decode().header.stamp)
        seconds, nanoseconds = _STAMP.unpack_from(self.data, 4)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)


class MessageKind:
    """A message type as one bag file defines it; its decoder is generated at first use."""

    def __init__(self, schema: Schema | None, channel: Channel, path: Path) -> None:
        self.type = schema.name if schema is not None else ""
        self.stamped = schema is not None and _begins_with_header(schema.data.decode(errors="replace"))
        self._schema, self._encoding, self._where = schema, channel.message_encoding, f"{path}: topic {channel.topic}"
        self._decoder: Callable[[bytes], Any] | None = None

    def decode(self, data: bytes) -> Any:
        if self._decoder is None:
            self._decoder = self._make_decoder()
        try:
            return self._decoder(data)
        except Exception as error:  # definition and data are a stranger's: there is no telling what the decoder meets
            raise BagError(f"{self._where}: a {self.type} of {len(data)} bytes does not decode ({error})") from error

    def _make_decoder(self) -> Callable[[bytes], Any]:
        if self._schema is None:
            raise BagError(f"{self._where} has no message definition, so it cannot be decoded")
        if len(self._schema.data) > MAX_DEFINITION:
            raise BagError(f"{self._where} has a message definition of {len(self._schema.data)} bytes; none is so long")
        try:
            decoder = DecoderFactory().decoder_for(self._encoding, self._schema)
        except Exception as error:
            raise BagError(f"{self._where}: its message definition is none ({error!r:.200})") from error
        if decoder is None:
            encoding = f"{self._encoding} with a {self._schema.encoding} definition"
            raise BagError(f"{self._where} is {encoding}; only cdr with ros2msg is read")
        return decoder


def _begins_with_header(definition: str) -> bool:
    """Whether the first field (not constant) of a ros2msg definition is a std_msgs/Header."""
    for line in definition.splitlines():
        line = line.partition("#")[0].strip()
        if line and "=" not in line:
            return line.split()[0] in ("std_msgs/Header", "std_msgs/msg/Header", "Header")
    return False


def find_bags(roots: Collection[str | Path]) -> list[Path]:
    """All bag folders at or below ``roots`` (folders with metadata.yaml or MCAP files), sorted. Raises BagError if a
    root does not exist."""
    found: set[Path] = set()
    for root in map(Path, roots):
        if not root.is_dir():
            raise BagError(f"{root} is no folder; give a bag or a folder of bags")
        found.update(p.parent for p in (*root.rglob(keys.METADATA_FILE), *root.rglob("*.mcap")))
    return sorted(found)


def is_complete(uri: str | Path) -> bool:
    """Whether the bag was closed properly: metadata.yaml is there and every file has its end."""
    uri = Path(uri)
    if not (uri / keys.METADATA_FILE).is_file():
        return False
    try:
        return all(f.is_file() and is_sealed(f) for f in _files(uri))
    except BagError:
        return False


def read_raw(
    uri: str | Path, topics: Collection[str] | None = None, *, allow_incomplete: bool = False
) -> Iterator[RawMessage]:
    """Messages of a bag in order of receipt, undecoded; ``topics`` are absolute names.

    An incomplete bag (killed recorder) raises BagError unless ``allow_incomplete``: then what is there is read, in the
    order it was written. Raises BagError, naming the file, also for damage in the middle.
    """
    uri = Path(uri)
    files = _files(uri)
    for path in files:
        if not path.is_file():
            raise BagError(f"{path} is missing, although metadata.yaml lists it")
        sealed = is_sealed(path)
        if not sealed and not allow_incomplete:
            raise BagError(f"{path}: the recording was cut off; run: qt-ros episodes recover {uri}")
        kinds: dict[int, MessageKind] = {}
        try:
            with open(path, "rb") as stream:
                source = _sealed(stream, topics) if sealed else cut_off_messages(stream, topics)
                for schema, channel, message in source:
                    if channel.id not in kinds:
                        kinds[channel.id] = MessageKind(schema, channel, path)
                    yield RawMessage(
                        topic=channel.topic,
                        log_ns=message.log_time,
                        publish_ns=message.publish_time,
                        sequence=message.sequence,
                        data=message.data,
                        kind=kinds[channel.id],
                    )
        except BagError as error:
            raise BagError(f"{path}: {error}") from error
        except Exception as error:  # whatever a parser meets in a damaged file or in one that is made to harm
            raise BagError(f"{path}: damaged ({error!r}); try: qt-ros episodes recover {uri}") from error


def read_bag(
    uri: str | Path, topics: Collection[str] | None = None, *, allow_incomplete: bool = False
) -> Iterator[tuple[str, str, int, Any]]:
    """Messages of a bag in order of receipt: (topic, type, log time in ns, decoded message). See :func:`read_raw`."""
    for raw in read_raw(uri, topics, allow_incomplete=allow_incomplete):
        yield raw.topic, raw.type, raw.log_ns, raw.decode()


@dataclass(frozen=True)
class Recovery:
    """What ``recover`` found: whether the bag needed it, messages in it now, and bytes of half records cut away."""

    uri: Path
    needed: bool
    messages: int
    bytes_cut: int


def recover(uri: str | Path, *, force: bool = False) -> Recovery:
    """Make a bag of a killed recorder valid again, in place, up to its last complete record.

    ``metadata.yaml`` is rebuilt; an episode without a recorded outcome gets outcome unknown and reason fault. A bag
    that is complete is left alone, unless ``force``: then it is cut before its first damaged record. Raises BagError
    when there is nothing to recover, OSError when the disk refuses.
    """
    uri = Path(uri)
    if is_complete(uri) and not force:
        return Recovery(uri, False, read_metadata(uri).message_count, 0)
    files = sorted(uri.glob("*.mcap"))
    if len(files) != 1:
        raise BagError(f"{uri}: {len(files)} MCAP files; recovery needs exactly one")
    path = files[0]
    before = path.stat().st_size
    known = _metadata_if_readable(uri)
    sealed = is_sealed(path)
    note = None if sealed else lambda found: {METADATA_RECORD: {SERIALIZED: _rebuild(path, found, known).text()}}
    contents = seal(path, note)
    (uri / RESERVE).unlink(missing_ok=True)
    metadata = _rebuild(path, contents, known)
    metadata.write(uri)
    cut = max(0, before - (path.stat().st_size if sealed else contents.end))
    return Recovery(uri, True, metadata.message_count, cut)


def _metadata_if_readable(uri: Path) -> BagMetadata | None:
    try:
        return read_metadata(uri)
    except BagError:
        return None


def _rebuild(path: Path, found: Contents, known: BagMetadata | None) -> BagMetadata:
    """metadata.yaml from a file's own content; custom data from its metadata.yaml or its latest ``rosbag2`` record."""
    for record in reversed(found.metadata):
        if known is None and record.name == METADATA_RECORD:
            try:
                known = parse_metadata(record.metadata.get(SERIALIZED, ""), f"{path}: metadata record")
            except BagError as error:
                log.warning("%s; an earlier one is taken", error)
    custom = dict(known.custom_data) if known else {}
    distro = known.ros_distro if known else ""
    custom.setdefault(keys.OUTCOME, "unknown")
    custom.setdefault(keys.REASON, "fault")
    custom.setdefault(keys.COMPLETE, "false")
    topics = []
    for number, channel in sorted(found.channels.items()):
        schema = found.schemas.get(channel.schema_id)
        qos = _qos_of(channel)
        topics.append(
            TopicInfo(
                name=channel.topic,
                type=schema.name if schema else "",
                message_count=found.counts[number],
                type_hash=channel.metadata.get("topic_type_hash", ""),
                qos=qos_mappings(qos),
            )
        )
    return BagMetadata(
        (path.name,), found.start_ns, found.end_ns - found.start_ns, tuple(topics), custom, distro or keys.ros_distro()
    )


def _qos_of(channel: Channel) -> Any:
    try:
        return load_yaml_text(channel.metadata.get("offered_qos_profiles", "") or "[]")
    except Refused:
        return []


def _files(uri: Path) -> list[Path]:
    if (uri / keys.METADATA_FILE).is_file():
        metadata = read_metadata(uri)
        if metadata.storage != "mcap":
            raise BagError(f"{uri}: storage {metadata.storage} is not read; convert it with: ros2 bag convert")
        return [uri / Path(f).name for f in metadata.files]
    files = sorted(uri.glob("*.mcap"))
    if not files:
        raise BagError(f"{uri}: no bag is here (neither {keys.METADATA_FILE} nor an MCAP file)")
    return files


def _sealed(stream: IO[bytes], topics: Collection[str] | None) -> Iterator[tuple[Schema | None, Channel, Message]]:
    yield from guarded_reader(stream).iter_messages(topics=None if topics is None else list(topics))
