"""What a person at the keyboard is told when training cannot begin or go on."""

from __future__ import annotations

import torch


class TrainingError(ValueError):
    """Data, settings or a saved state do not go together; the message says what, where and what to do."""


class Diverged(TrainingError, FloatingPointError):
    """The loss is not finite any more."""


class DataLost(TrainingError):
    """The data of a step cannot be read or learnt from, here or by another of the processes that train together."""


class OutOfMemory(TrainingError):
    """A batch does not fit into memory; the message says what to make smaller."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python ran out of memory: on a GPU, or on the CPU, where torch says so in words only."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
