"""Work for the next steps done in the background, so that a training step does not wait for its data."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """``make(step)`` for consecutive steps, ``depth`` of them ahead of the one asked for, by ``workers`` threads.

    What ``make`` raises is raised by the `get` of that step; what failed before it was asked for is made once more.
    ``waited_s``: how long `get` kept its caller waiting so far.
    """

    def __init__(self, make: Callable[[int], T], depth: int = 4, workers: int = 2) -> None:
        self._make, self._depth = make, depth
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
        self._waiting: dict[int, Future[T]] = {}
        self.waited_s = 0.0

    def get(self, step: int, end: int | None = None) -> T:
        """The result for ``step``; nothing is begun for ``end`` or later."""
        for old in [s for s in self._waiting if not step <= s <= step + self._depth]:
            self._waiting.pop(old).cancel()
        last = step + self._depth if end is None else max(step, min(step + self._depth, end - 1))
        for number in range(step, last + 1):
            if number not in self._waiting:
                self._waiting[number] = self._pool.submit(self._make, number)
        began = time.perf_counter()
        try:
            found = self._waiting.pop(step)
            if found.done() and found.exception() is not None:  # what was the matter may have passed
                found = self._pool.submit(self._make, step)
            return found.result()
        finally:
            self.waited_s += time.perf_counter() - began

    def close(self) -> None:
        """Drop what was not begun; what was begun ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
