"""Small file helpers: nothing in this package replaces a file in place other than atomically."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write fails with where the disk, a quota or the limit on the size of files is used up."""


def fsync_directory(directory: Path) -> None:
    """Make a rename inside ``directory`` survive a power cut (a no-op where directories cannot be synced)."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the entries of a folder, are on disk. OSError when the disk says no."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """A file name in the same folder for a library to write; at the end the file takes the place of ``path``.

    Readers see the old content or all of the new one. The file exists, empty, when the block begins, and gets the mode
    that the umask asks for whatever the library does. On an error inside, ``path`` stays as it was and nothing is left
    behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(b"")
        mode = temporary.stat().st_mode & 0o777
        yield temporary
        temporary.chmod(mode)
        sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE and error.filename is None:
            error.filename = str(path)  # a failed write does not say of which file
        raise
    fsync_directory(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of ``path`` at the end, as `replacing_path` does."""
    with replacing_path(path) as temporary, open(temporary, "wb") as stream:
        yield stream


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as `replacing` does."""
    with replacing(path) as stream:
        stream.write(data)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content (reads in 1 MiB blocks; releases the GIL)."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive advisory lock on ``path`` (created when missing) between processes.

    Without ``wait``, BlockingIOError when it is held already. The lock of a process that is killed is free.
    """
    with open(path, "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)


@contextlib.contextmanager
def locked_or(path: Path, busy: Exception) -> Iterator[None]:
    """Hold the lock of `locked` on ``path``; raises ``busy`` at once when it is held already."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path, wait=False))
        except BlockingIOError:
            raise busy from None
        yield  # not inside the try: what is raised in there is nobody's lock
