"""The files of a checkpoint: tensors described by size and SHA-256, and folders that appear complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from qt_ros.contract.files import fsync_directory, sha256_file

FILE_KEYS = ("file", "sha256", "bytes")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or must not be used; the message says what, where and what to do."""


def load_tensors(folder: Path, entry: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The tensors of folder / name, on the CPU, once its size and SHA-256 proved to be those of `entry`."""
    path = folder / name
    if entry["file"] != name:
        raise CheckpointError(f"{folder}: the record names the file {entry['file']!r}, expected {name!r}")
    if not path.is_file():
        raise CheckpointError(f"{path}: is missing; copy the whole folder")
    if path.stat().st_size != entry["bytes"]:
        raise CheckpointError(
            f"{path}: {path.stat().st_size} bytes instead of {entry['bytes']}: cut short; copy it again"
        )
    if sha256_file(path) != entry["sha256"]:
        raise CheckpointError(
            f"{path}: SHA-256 differs from the record: damaged or from another checkpoint; copy it again"
        )
    try:
        return load_file(str(path))
    except (SafetensorError, ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error


def on_cpu(tensors: Mapping[str, Tensor], target: Path) -> dict[str, Tensor]:
    """Copies fit for a safetensors file; CheckpointError when a value is not finite."""
    # Clones: safetensors wants contiguous memory that no two tensors share.
    found = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    check_finite(found, target)
    return found


def check_finite(tensors: Mapping[str, Tensor], where: Path) -> None:
    """CheckpointError naming the first tensor that holds a NaN or an infinity."""
    bad = sorted(
        name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())
    )
    if bad:
        raise CheckpointError(f"{where}: {len(bad)} tensors are not finite, first {bad[0]}; the training diverged")


def describe(path: Path) -> dict[str, Any]:
    """What `load_tensors` will want to see: file name, SHA-256 (hex) and size in bytes."""
    return {"file": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size}


def put_in_place(staging: Path, target: Path) -> None:
    """Give the finished folder `staging` the name `target`, replacing what stands there; both on one file system."""
    if target.exists():
        # A folder that is not empty cannot be replaced in one step: the old one stays complete under another name until
        # the new one has its place.
        old = staging.with_suffix(".old")
        target.rename(old)
        try:
            staging.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old)
    else:
        staging.rename(target)
    fsync_directory(target.parent)
