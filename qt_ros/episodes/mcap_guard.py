"""Reading MCAP files of strangers: lengths that a file claims are checked before memory is taken for them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO, Any

from mcap.reader import SeekingReader
from mcap.writer import MCAP0_MAGIC

from qt_ros.episodes.bag_metadata import BagError

MAX_RECORD = 1 << 30  # bytes of one record
MAX_CHUNK = 256 << 20  # bytes that one chunk may unpack to; recorders write a few MiB
_HEAD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<QQQI")  # start time, end time, uncompressed size, CRC
_CHUNK_OPCODE = 0x06


class BoundedFile:
    """A file in which no read asks for more than is left: a made-up length costs no memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = os.fstat(stream.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self._stream.tell())
        return self._stream.read(left if size < 0 else min(size, left)) if left else b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._stream.tell(), os.SEEK_END: self.size}[whence]
        return self._stream.seek(min(max(0, base + offset), self.size))

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def guarded_reader(stream: IO[bytes]) -> Any:
    """A reader of a finished MCAP file whose chunks have been found to unpack to a sane size. BagError otherwise."""
    bounded: Any = BoundedFile(stream)
    reader = SeekingReader(bounded, validate_crcs=True, record_size_limit=MAX_RECORD)
    summary = reader.get_summary()
    offsets = {index.chunk_start_offset for index in summary.chunk_indexes} if summary is not None else set()
    for offset in sorted(offsets | set(_chunk_offsets(bounded))):
        _check_chunk_at(bounded, offset)
    bounded.seek(0)
    return reader


def check_chunk(content: bytes) -> None:
    """Check the content of a chunk record before it is unpacked. BagError when it is, or may be, too large."""
    if len(content) < _CHUNK.size + 4:
        raise BagError("a chunk that is cut short")
    size = _CHUNK.unpack_from(content)[2]
    name_length = struct.unpack_from("<I", content, _CHUNK.size)[0]
    start = _CHUNK.size + 4
    compression = content[start : start + name_length]
    _check_size(size, bytes(compression), content[start + name_length + 8 :])


def _check_size(size: int, compression: bytes, data: bytes) -> None:
    if size > MAX_CHUNK:
        raise BagError(f"a chunk of {size} bytes; the most that is read is {MAX_CHUNK}")
    if compression == b"zstd":
        import zstandard

        known = zstandard.frame_content_size(data) if len(data) >= 18 else -1
        if known > MAX_CHUNK:
            raise BagError(f"a chunk that unpacks to {known} bytes; the most that is read is {MAX_CHUNK}")
    elif compression == b"lz4":
        import lz4.frame  # type: ignore[import-untyped]

        # Its reader unpacks without a limit, so it is done here once, with one.
        unpacker = lz4.frame.LZ4FrameDecompressor()
        if len(unpacker.decompress(data, max_length=MAX_CHUNK + 1)) > MAX_CHUNK:
            raise BagError(f"a chunk that unpacks to more than {MAX_CHUNK} bytes")


def _check_chunk_at(stream: BoundedFile, offset: int) -> None:
    stream.seek(offset)
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return  # beyond the end: the reader says so
    opcode, length = _HEAD.unpack(head)
    if opcode != _CHUNK_OPCODE:
        return
    start = stream.tell()
    head = stream.read(_CHUNK.size + 4 + 8)  # uncompressed chunks are not read for this
    if len(head) == _CHUNK.size + 4 + 8 and struct.unpack_from("<I", head, _CHUNK.size)[0] == 0:
        _check_size(_CHUNK.unpack_from(head)[2], b"", b"")
        return
    stream.seek(start)
    check_chunk(stream.read(min(length, MAX_RECORD)))


def _chunk_offsets(stream: BoundedFile) -> Iterator[int]:
    """Where chunks begin, walking from record to record."""
    offset = len(MCAP0_MAGIC)
    while offset + _HEAD.size <= stream.size:
        stream.seek(offset)
        head = stream.read(_HEAD.size)
        opcode, length = _HEAD.unpack(head)
        if opcode == _CHUNK_OPCODE:
            yield offset
        offset += _HEAD.size + length
