"""Step data on the training device: whole columns, or the rows that one batch needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Columns:
    """Arrays with one row per step, looked up by step number.

    ``get(name)`` gives the array of a column. ``numbers`` (n,) int64 sorted: which steps its rows are; None for all.
    """

    def __init__(
        self, get: Callable[[str], NDArray], device: torch.device, numbers: NDArray[np.int64] | None = None
    ) -> None:
        self._get, self._device, self._numbers = get, device, numbers
        self._tensors: dict[str, Tensor] = {}

    @classmethod
    def loaded(cls, numbers: NDArray[np.int64], arrays: Mapping[str, NDArray], device: torch.device) -> Columns:
        """Of some steps only."""
        return cls(arrays.__getitem__, device, numbers)

    def rows(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the steps ``frames`` (any shape) lie in the arrays."""
        if self._numbers is None:
            return frames
        at = np.searchsorted(self._numbers, frames)
        if len(self._numbers) == 0 or (self._numbers[np.minimum(at, len(self._numbers) - 1)] != frames).any():
            raise KeyError("a step was asked for that is not loaded")
        return at

    def index(self, frames: NDArray[np.int64]) -> Tensor:
        """The same, on the device, for `take`."""
        return torch.from_numpy(self.rows(frames)).to(self._device)

    def take(self, name: str, index: Tensor) -> Tensor:
        """Rows of a column, (*index.shape, ...), on the device."""
        return self.tensor(name)[index]

    def tensor(self, name: str) -> Tensor:
        """All rows of a column, on the device."""
        if name not in self._tensors:
            self._tensors[name] = torch.from_numpy(self._get(name)).to(self._device)
        return self._tensors[name]

    def add(self, name: str, rows: Tensor) -> None:
        """A further column, on the device already."""
        self._tensors[name] = rows

    def seen(self, name: str, frames: NDArray[np.int64]) -> NDArray:
        """Rows of a column of pictures, (*frames.shape, ...), in this machine's memory: too large for the device."""
        rows: NDArray = self._get(name)[self.rows(frames)]
        return rows
