"""The file helpers of `qt_ros.contract.files`, where everything that keeps episodes looks for them."""

from __future__ import annotations

from qt_ros.contract.files import (
    fsync_directory,
    locked,
    locked_or,
    replacing,
    replacing_path,
    sha256_file,
    sync,
    write_atomically,
)

__all__ = [
    "fsync_directory",
    "locked",
    "locked_or",
    "replacing",
    "replacing_path",
    "sha256_file",
    "sync",
    "write_atomically",
]
