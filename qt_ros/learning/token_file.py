"""Encoded frames on disk, for data that do not fit into memory: written once, read a few rows at a time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qt_ros.contract.files import locked, write_atomically
from qt_ros.model.acting import Network

KEEP_EVERY = 64
"""Chunks between two notes of how far the file is; an interrupted run encodes at most so many again."""


def vision_key(model: Network, text: Tensor) -> str:
    """SHA-256 of all that turns a frame into tokens: the vision side's weights and the sentence embeddings."""
    digest = hashlib.sha256(text.detach().cpu().numpy().tobytes())
    for part in model.seeing_parts():
        for name, value in part.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class TokenFile:
    """Tokens (count, K, width) float16 of the steps of some data, in ``folder``.

    ``names``: says what was encoded by what; another gives another file. Rows are read, not mapped, so that what was
    read once does not count as this process's memory.
    """

    def __init__(self, folder: Path, names: str, count: int, shape: tuple[int, int]) -> None:
        key = hashlib.sha256(f"{names}:{count}:{shape}".encode()).hexdigest()[:16]
        self.path, self._record = folder / f"tokens-{key}.bin", folder / f"tokens-{key}.json"
        self.count, self.shape = count, shape
        self._row = 2 * shape[0] * shape[1]
        folder.mkdir(parents=True, exist_ok=True)

    def fill(
        self,
        make: Callable[[int, int], tuple[NDArray[np.float16], dict[int, str]]],
        chunk: int,
        progress: Callable[[int], None] | None = None,
    ) -> dict[int, str]:
        """Write all that is not there yet; ``make(first, last)`` gives tokens and damaged episodes of some steps.

        Returns the damaged episodes and their problems. Goes on where an interrupted one stopped; of several processes
        that ask at once, one works and the others wait.
        """
        with locked(self.path.with_suffix(".lock")):
            done, corrupt = self._state()
            if done == self.count:
                return corrupt
            with open(self.path, "r+b" if done else "wb") as stream:
                stream.truncate(done * self._row)
                stream.seek(done * self._row)
                for number, first in enumerate(range(done, self.count, chunk), 1):
                    last = min(first + chunk, self.count)
                    tokens, damaged = make(first, last)
                    corrupt |= damaged
                    stream.write(tokens.tobytes())
                    if progress is not None:
                        progress(last - first)
                    if number % KEEP_EVERY == 0 or last == self.count:
                        stream.flush()
                        os.fsync(stream.fileno())
                        note = {"done": last, "corrupt": {str(k): v for k, v in corrupt.items()}}
                        write_atomically(self._record, json.dumps(note).encode())
        return corrupt

    def read(self, first: int, count: int) -> NDArray[np.float16]:
        """Tokens (count, K, width) of the steps from ``first`` on."""
        with open(self.path, "rb", buffering=0) as stream:
            data = os.pread(stream.fileno(), count * self._row, first * self._row)
        return np.frombuffer(data, np.float16).reshape(count, *self.shape).copy()

    def _state(self) -> tuple[int, dict[int, str]]:
        try:
            note = json.loads(self._record.read_bytes())
            if self.path.stat().st_size >= note["done"] * self._row:
                return int(note["done"]), {int(k): v for k, v in note["corrupt"].items()}
        except (FileNotFoundError, ValueError, KeyError):
            pass
        return 0, {}
