"""What stops training with words that help: a device that is not there, memory that ran out, numbers that are no
numbers any more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import torch
from safetensors.torch import save_file
from torch import Tensor

from qt_ros.learning.errors import Diverged, OutOfMemory, TrainingError, is_out_of_memory


def find_device(name: str) -> torch.device:
    """The device of that name, e.g. 'cpu', 'cuda' or 'cuda:1'. TrainingError when torch knows or sees no such device.

    Nothing is put on a GPU: each of several processes asks for its own, and a context of it would take memory.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(f"device {name!r}: torch knows no such device; use 'cpu', 'cuda' or 'cuda:<number>'") from (
            error
        )
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise TrainingError(
                f"device {name!r}: torch {torch.__version__} sees no CUDA GPU; use --device cpu, or install a torch "
                "with CUDA and the GPU's driver (`qt-ros doctor` says what torch sees)"
            )
        if (device.index or 0) >= count:
            raise TrainingError(f"device {name!r}: torch sees {count} CUDA GPU(s), counted from 0; use one of those")
    elif device.type != "cpu":
        try:
            torch.empty(0, device=device)
        except (AssertionError, RuntimeError) as error:
            raise TrainingError(f"device {name!r}: this torch sees no such device; use --device cpu") from error
    return device


@contextlib.contextmanager
def memory_advice(advice: Callable[[], str]) -> Iterator[None]:
    """OutOfMemory with ``advice()`` for whatever runs out of memory inside; other errors pass."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(advice()) from error
        raise


def stop_diverged(what: str, step: int, path: Path, tensors: dict[str, Tensor], advice: str) -> NoReturn:
    """Diverged, with the batch of that gradient step in the file ``path``: ``tensors``. ``what`` is not finite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    raise Diverged(
        f"the {what} is not finite at step {step}; its batch is in {path}: what the networks were given, and "
        f"numbers of steps and episodes, counted from 0 through the stores in their order. {advice}, or "
        "look there for what does not belong into these data"
    )
