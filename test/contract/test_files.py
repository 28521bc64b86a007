"""Files are replaced whole or not at all; locks are between processes."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from qt_ros.contract.files import locked, replacing, replacing_path, sha256_file, write_atomically


def test_readers_see_the_old_content_until_all_of_the_new_one_is_there(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    write_atomically(path, b"old")
    with replacing(path) as stream:
        stream.write(b"ne")
        stream.flush()
        assert path.read_bytes() == b"old"
        stream.write(b"w")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_on_the_way_leaves_the_old_content_and_no_scrap(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as stream:
        stream.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_with_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    with pytest.raises(OSError, match="No space left") as full, replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(path) in str(full.value) and list(tmp_path.iterdir()) == []


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000  # more than one block
    write_atomically(tmp_path / "data", data)
    assert sha256_file(tmp_path / "data") == hashlib.sha256(data).hexdigest()


def test_a_held_lock_is_refused_to_who_does_not_wait_and_free_afterwards(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait=False):
            pass
    with locked(tmp_path / "lock", wait=False):
        pass


def test_a_file_gets_the_mode_of_the_umask_even_when_a_library_makes_it_private(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing_path(tmp_path / "state") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o640
