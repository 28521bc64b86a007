"""Where the files of a store are: a folder, or any URL that fsspec knows (http, s3, gs, memory, file, ...).

Both are read in byte ranges. A URL that does not answer is tried again with growing pauses; then `StoreUnreachable`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from qt_ros.episodes.labels import LABELS, LabelError, latest, parse_labels
from qt_ros.episodes.manifest import MANIFEST, PARTS, Manifest, StoreError, no_store
from qt_ros.episodes.store_labels import with_labels

log = logging.getLogger(__name__)

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between tries: about a minute in all."""
TIMEOUT_S = 30.0
"""How long an HTTP server may stay silent before the request is tried again."""

T = TypeVar("T")


class StoreUnreachable(StoreError):
    """A URL did not answer, however often it was asked. What was trained so far is saved."""


class Root(Protocol):
    """Read access to the files below one place. Names are relative, with ``/``."""

    url: str
    remote: bool

    def read(self, name: str) -> bytes:
        """All of a file. FileNotFoundError when there is none."""
        ...

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``start``; EOFError when the file ends before."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file. FileNotFoundError when there is none."""
        ...

    def close(self) -> None:
        """Nothing is needed any more: whoever waits for an answer gives up."""
        ...


class LocalRoot:
    """A folder."""

    remote = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = str(path)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def read_range(self, name: str, start: int, size: int) -> bytes:
        # Opened anew each time: descriptors of many shards, shared by threads, would cost more care than time.
        descriptor = os.open(self.path / name, os.O_RDONLY)
        try:
            if start + size > (there := os.fstat(descriptor).st_size):  # before memory is taken for it
                raise EOFError(f"{name}: {max(0, there - start)} of {size} bytes from {start} on")
            data = os.pread(descriptor, size, start)
            while 0 < len(data) < size and (more := os.pread(descriptor, size - len(data), start + len(data))):
                data += more
        finally:
            os.close(descriptor)
        return _all_of(data, name, start, size)

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def close(self) -> None:
        pass


class UrlRoot:
    """A folder behind a URL, read through fsspec."""

    remote = True

    def __init__(self, url: str, pauses: Sequence[float] | None = None) -> None:
        """``pauses``: seconds between tries, `PAUSES` if absent."""
        self.url = url.rstrip("/")
        self._pauses = tuple(PAUSES if pauses is None else pauses)
        self._closed = threading.Event()
        self._quiet_until = 0.0  # many threads see one outage
        self._fs, base = _file_system(self.url)
        self._base = base.rstrip("/")

    def read(self, name: str) -> bytes:
        return self._try(name, lambda path: self._fs.cat_file(path))

    def read_range(self, name: str, start: int, size: int) -> bytes:
        def once(path: str) -> bytes:
            data = self._fs.cat_file(path, start=start, end=start + size)
            if len(data) > size:
                raise StoreError(
                    f"{self.url}: the server sends whole files where a range of bytes is asked for; put the store on "
                    "one that knows ranges, or copy it to a disk"
                )
            return data

        return _all_of(self._try(name, once), name, start, size)

    def size(self, name: str) -> int:
        found = self._try(name, lambda path: self._fs.size(path))
        if found is None:
            raise StoreError(f"{self.url}/{name}: the server does not say how large it is")
        return int(found)

    def close(self) -> None:
        self._closed.set()

    def _try(self, name: str, once: Callable[[str], T]) -> T:
        began = time.monotonic()
        for number, pause in enumerate((*self._pauses, None), 1):
            try:
                return once(f"{self._base}/{name}")
            except (FileNotFoundError, NotImplementedError, StoreError):
                raise
            except PermissionError as error:
                raise StoreUnreachable(
                    f"{self.url}/{name}: access is refused ({error}); renew the credentials"
                ) from error
            except Exception as error:  # every file system has errors of its own
                last = f"{type(error).__name__}: {error}".rstrip(": ")
                if pause is None:
                    raise StoreUnreachable(
                        f"{self.url}/{name}: not reached in {number} tries over {time.monotonic() - began:.0f} s "
                        f"({last}); once it answers, the same command goes on from the last saved state"
                    ) from error
                if (now := time.monotonic()) >= self._quiet_until:
                    self._quiet_until = now + pause
                    log.warning("%s/%s: try %d failed (%s); next in %g s", self.url, name, number, last, pause)
                if self._closed.wait(pause):
                    raise StoreUnreachable(f"{self.url}: no longer needed, and not reached ({last})") from error
        raise AssertionError("unreachable")


def is_url(where: str | Path) -> bool:
    """Whether this names a place for fsspec rather than a folder: ``scheme://...`` or a chain ``filecache::...``."""
    return isinstance(where, str) and ("://" in where or "::" in where)


def open_root(where: str | Path) -> Root:
    """The folder or URL ``where``. StoreError when no package can open such a URL."""
    if not is_url(where):
        return LocalRoot(Path(where))
    url = str(where)
    return LocalRoot(Path(url.removeprefix("file://"))) if url.startswith("file:///") else UrlRoot(url)


@dataclass(frozen=True)
class RootManifest:
    """What the store at a root holds: its ``manifest`` with the outcomes that its labels say, and the content of the
    two files that this comes from; no labels are b""."""

    manifest: Manifest
    data: bytes
    labels: bytes

    @property
    def labelled(self) -> dict[str, str]:
        """Outcomes of the episodes that somebody labelled, by id."""
        return {name: label.outcome for name, label in latest(parse_labels(self.labels, LABELS)).items()}


def root_manifest(root: Root) -> RootManifest:
    """What the store at ``root`` holds. StoreError when its manifest is missing, or when that or a label is damaged."""
    try:
        data = root.read(MANIFEST)
    except FileNotFoundError:
        raise no_store(root.url, isinstance(root, LocalRoot) and (root.path / PARTS).is_dir()) from None
    labels = read_optional(root, LABELS)
    where = f"{root.url}/{LABELS}"
    try:
        said = parse_labels(labels, where)
    except LabelError as error:
        raise StoreError(str(error)) from error
    return RootManifest(with_labels(Manifest.from_json(data, f"{root.url}/{MANIFEST}"), said, where), data, labels)


def read_optional(root: Root, name: str) -> bytes:
    """All of a file; b"" when there is none."""
    try:
        return root.read(name)
    except (FileNotFoundError, NotADirectoryError):
        return b""


def cache_folder(url: str, cache: Path | None = None) -> Path:
    """Where this machine keeps what it derived from, or fetched of, the store at ``url``.

    Below ``cache``, else $QT_ROS_CACHE, else $XDG_CACHE_HOME/qt_ros, else ~/.cache/qt_ros.
    """
    if cache is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = Path(os.environ.get("QT_ROS_CACHE") or Path(home) / "qt_ros")
    label = "".join(c if c.isalnum() or c in "-_" else "-" for c in url.rstrip("/").rsplit("/", 1)[-1])[:40]
    return cache / "stores" / f"{label}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def _file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        try:
            import aiohttp
        except ImportError as error:
            raise StoreError(f"{url}: needs the package aiohttp (pip install aiohttp)") from error
        options["client_kwargs"] = {
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=TIMEOUT_S)
        }
    try:
        return url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise StoreError(f"{url}: cannot be opened ({error})") from error


def _all_of(data: bytes, name: str, start: int, size: int) -> bytes:
    if len(data) != size:
        raise EOFError(f"{name}: {len(data)} of {size} bytes from {start} on")
    return data
