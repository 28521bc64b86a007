"""Give an MCAP file its end back: index, statistics and footer for whatever is complete in it.

A recorder that was killed, or whose disk was full, leaves a file without footer and perhaps with half a record at its
end. ``seal`` walks the records, cuts the file after the last complete one and appends what readers need, in place: no
second copy of gigabytes of images is made. Format: https://mcap.dev/spec (sections Data and Summary).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    Message,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)
from mcap.stream_reader import breakup_chunk, get_chunk_data_stream
from mcap.writer import MCAP0_MAGIC

from qt_ros.episodes.bag_metadata import BagError
from qt_ros.episodes.mcap_guard import check_chunk

_HEAD = struct.Struct("<BQ")
_UNREADABLE = (Exception,)  # what parsers and decompressors raise for damaged data has no common base


@dataclass
class Contents:
    """What stands in the complete part of a file. Times in nanoseconds, of receipt."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    start_ns: int = 0
    end_ns: int = 0
    metadata: list[Metadata] = field(default_factory=list)
    chunks: list[ChunkIndex] = field(default_factory=list)
    metadata_indexes: list[MetadataIndex] = field(default_factory=list)
    end: int = 0
    """Offset after the last complete record of the data section."""
    tail: list[MessageIndex] = field(default_factory=list)
    """Message indexes of the last chunk that are not in the file yet."""

    def count(self, channel: int, log_time: int) -> None:
        if not self.counts:
            self.start_ns = self.end_ns = log_time
        self.start_ns, self.end_ns = min(self.start_ns, log_time), max(self.end_ns, log_time)
        self.counts[channel] += 1


def is_sealed(path: Path) -> bool:
    """Whether the file ends as a finished MCAP does (footer and magic)."""
    size = path.stat().st_size
    footer = _HEAD.size + 20
    if size < len(MCAP0_MAGIC) * 2 + footer:
        return False
    with open(path, "rb") as stream:
        stream.seek(size - len(MCAP0_MAGIC) - footer)
        tail = stream.read()
    return tail.endswith(MCAP0_MAGIC) and _HEAD.unpack_from(tail) == (Opcode.FOOTER, 20)


def scan(path: Path) -> Contents:
    """Read all complete records of the data section. Raises BagError when the file does not even begin as an MCAP."""
    with open(path, "rb") as stream:
        if stream.read(len(MCAP0_MAGIC)) != MCAP0_MAGIC:
            raise BagError(f"{path}: no MCAP file (its first bytes are wrong); nothing can be recovered from it")
        return _scan(stream, os.fstat(stream.fileno()).st_size)


def seal(path: Path, extra: Callable[[Contents], Mapping[str, Mapping[str, str]]] | None = None) -> Contents:
    """Cut ``path`` after its last complete record and append index, statistics and footer; return what it holds.

    ``extra`` may return more metadata records {name: {key: value}} to append. Calling it on a finished file only
    rebuilds its end. Raises BagError when the file is no MCAP, OSError when the file cannot be written (it stays
    recoverable).
    """
    contents = scan(path)
    with open(path, "r+b") as stream:
        stream.truncate(contents.end)
        stream.seek(contents.end)
        if contents.end == len(MCAP0_MAGIC):  # cut so early that not even the header is whole
            stream.write(_record(Header(profile="ros2", library="qt_ros")))
        for index in contents.tail:
            chunk = contents.chunks[-1]
            chunk.message_index_offsets[index.channel_id] = stream.tell()
            chunk.message_index_length += stream.write(_record(index))
        for name, values in (extra(contents) if extra else {}).items():
            record = Metadata(name=name, metadata=dict(values))
            data = _record(record)
            contents.metadata_indexes.append(MetadataIndex(offset=stream.tell(), length=len(data), name=name))
            contents.metadata.append(record)
            stream.write(data)
        stream.write(_record(DataEnd(0)))
        stream.write(_summary(contents, stream.tell()))
        stream.flush()
        os.fsync(stream.fileno())
    return contents


def cut_off_messages(
    stream: IO[bytes], topics: Collection[str] | None = None
) -> Iterator[tuple[Schema | None, Channel, Message]]:
    """Messages of an unfinished file in the order they were written, up to the first record that is not whole."""
    if stream.read(len(MCAP0_MAGIC)) != MCAP0_MAGIC:
        return
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    for opcode, length, _ in _whole_records(stream, os.fstat(stream.fileno()).st_size):
        if opcode not in _READERS:
            continue
        try:
            content = stream.read(length)
            if opcode == Opcode.CHUNK:
                check_chunk(content)
            record = _READERS[Opcode(opcode)](ReadDataStream(BytesIO(content)), length)
            records = breakup_chunk(record, validate_crc=True) if isinstance(record, Chunk) else [record]
        except _UNREADABLE:
            return
        for record in records:
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels.get(record.channel_id)
                if channel is None:
                    return
                if topics is None or channel.topic in topics:
                    yield schemas.get(channel.schema_id), channel, record


_READERS: dict[Opcode, Callable[[ReadDataStream, int], Any]] = {
    Opcode.SCHEMA: lambda data, _: Schema.read(data),
    Opcode.CHANNEL: lambda data, _: Channel.read(data),
    Opcode.CHUNK: lambda data, _: Chunk.read(data),
    Opcode.MESSAGE: Message.read,
}


def _whole_records(stream: IO[bytes], size: int) -> Iterator[tuple[int, int, int]]:
    """(opcode, length, offset) of each whole record of the data section; the stream then stands at its content."""
    offset = stream.tell()
    while True:
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        opcode, length = _HEAD.unpack(head)
        after = offset + _HEAD.size + length
        if after > size or opcode in (0, Opcode.DATA_END, Opcode.FOOTER):
            return
        yield opcode, length, offset
        stream.seek(after)
        offset = after


def _scan(stream: IO[bytes], size: int) -> Contents:
    found = Contents(end=stream.tell())
    pending: dict[int, MessageIndex] = {}
    for opcode, length, offset in _whole_records(stream, size):
        after = offset + _HEAD.size + length
        try:
            if opcode == Opcode.CHUNK:
                pending = _take_chunk(found, stream.read(length), offset, after)
            elif opcode == Opcode.MESSAGE_INDEX:
                index = MessageIndex.read(ReadDataStream(BytesIO(stream.read(length))))
                if pending.pop(index.channel_id, None) is not None:
                    found.chunks[-1].message_index_offsets[index.channel_id] = offset
                    found.chunks[-1].message_index_length += after - offset
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE, Opcode.METADATA):
                _take_record(found, opcode, stream.read(length), offset, after)
        except _UNREADABLE:
            break
        found.end = after
    found.tail = list(pending.values())
    return found


def _take_record(found: Contents, opcode: int, content: bytes, offset: int, after: int) -> None:
    data = ReadDataStream(BytesIO(content))
    if opcode == Opcode.SCHEMA:
        schema = Schema.read(data)
        found.schemas[schema.id] = schema
    elif opcode == Opcode.CHANNEL:
        channel = Channel.read(data)
        found.channels[channel.id] = channel
    elif opcode == Opcode.MESSAGE:
        message = Message.read(data, len(content))
        found.count(message.channel_id, message.log_time)
    else:
        record = Metadata.read(data)
        found.metadata.append(record)
        found.metadata_indexes.append(MetadataIndex(offset=offset, length=after - offset, name=record.name))


def _take_chunk(found: Contents, content: bytes, offset: int, after: int) -> dict[int, MessageIndex]:
    """Count what a chunk holds and note its index; returns the message indexes that should follow it in the file."""
    check_chunk(content)
    chunk = Chunk.read(ReadDataStream(BytesIO(content)))
    stream, length = get_chunk_data_stream(chunk, validate_crc=True)
    inside = Contents()
    indexes: dict[int, MessageIndex] = {}
    while (position := stream.count) < length:
        opcode, size = stream.read1(), stream.read8()
        body = stream.read(size)
        if len(body) != size:
            raise ValueError("record runs past its chunk")
        _take_record(inside, opcode, body, 0, 0)
        if opcode == Opcode.MESSAGE:
            channel, _, log_time = struct.unpack_from("<HIQ", body)
            indexes.setdefault(channel, MessageIndex(channel_id=channel, records=[])).records.append(
                (log_time, position)
            )
    found.schemas.update(inside.schemas)
    found.channels.update(inside.channels)
    if inside.counts:
        start, end = inside.start_ns, inside.end_ns
        found.start_ns = min(found.start_ns, start) if found.counts else start
        found.end_ns = max(found.end_ns, end) if found.counts else end
        found.counts.update(inside.counts)
    found.chunks.append(
        ChunkIndex(
            message_start_time=chunk.message_start_time,
            message_end_time=chunk.message_end_time,
            chunk_start_offset=offset,
            chunk_length=after - offset,
            message_index_offsets={},
            message_index_length=0,
            compression=chunk.compression,
            compressed_size=len(chunk.data),
            uncompressed_size=chunk.uncompressed_size,
        )
    )
    return indexes


def _record(record: Any) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())


def _summary(found: Contents, start: int) -> bytes:
    """Summary section, summary offsets, footer and magic, for a summary that begins at file offset ``start``."""
    statistics = Statistics(
        attachment_count=0,
        channel_count=len(found.channels),
        channel_message_counts=dict(found.counts),
        chunk_count=len(found.chunks),
        message_count=sum(found.counts.values()),
        message_start_time=found.start_ns,
        message_end_time=found.end_ns,
        metadata_count=len(found.metadata_indexes),
        schema_count=len(found.schemas),
    )
    groups: list[tuple[Opcode, list[Any]]] = [
        (Opcode.SCHEMA, list(found.schemas.values())),
        (Opcode.CHANNEL, list(found.channels.values())),
        (Opcode.STATISTICS, [statistics]),
        (Opcode.CHUNK_INDEX, list(found.chunks)),
        (Opcode.METADATA_INDEX, list(found.metadata_indexes)),
    ]
    body, offsets = b"", b""
    for opcode, records in groups:
        if not records:
            continue
        data = b"".join(_record(r) for r in records)
        offsets += _record(SummaryOffset(group_opcode=opcode, group_start=start + len(body), group_length=len(data)))
        body += data
    summary = body + offsets
    head = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, start + len(body))
    crc = zlib.crc32(head, zlib.crc32(summary))
    footer = Footer(summary_start=start, summary_offset_start=start + len(body), summary_crc=crc)
    return summary + _record(footer) + MCAP0_MAGIC
