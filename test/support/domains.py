"""ROS domain ids that no other test on this machine uses at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# The ids whose ports stay below those that Linux hands out to other programs. 0 is everybody's default.
FIRST, LAST = 1, 101


@contextlib.contextmanager
def reserved_domain() -> Iterator[int]:
    """Holds a domain id for the length of the block, across threads, test workers and test runs of one machine.

    A lock file per id does it: the kernel frees the lock even when the process is killed. Raises RuntimeError when all
    ids are taken.
    """
    folder = Path(tempfile.gettempdir()) / f"qt_ros_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for domain in _order():
        with (folder / str(domain)).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain
            return
    raise RuntimeError(
        f"all ROS domain ids from {FIRST} to {LAST} are in use; end some of the processes that hold them"
    )


def _order() -> list[int]:
    """All ids, beginning at a place that differs between processes, so that a domain is not reused at once."""
    ids = list(range(FIRST, LAST + 1))
    start = (os.getpid() * 7 + next(_calls)) % len(ids)
    return ids[start:] + ids[:start]


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


_calls = _count()
