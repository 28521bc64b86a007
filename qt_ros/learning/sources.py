"""Where the rows of a batch come from: whole columns in memory, or segments that are read ahead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qt_ros.episodes.index import CorruptEpisode
from qt_ros.learning.ahead import Ahead
from qt_ros.learning.columns import Columns
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.errors import DataLost, TrainingError
from qt_ros.learning.sampling import SegmentBatch, SegmentSampler
from qt_ros.learning.streaming import Span, StreamedData, joined
from qt_ros.learning.token_file import TokenFile
from qt_ros.model.config import ModelConfig

Encode = Callable[[Columns, NDArray[np.int64]], Tensor]
"""Columns and step numbers (n,) -> tokens (n, K, width) float16."""

ATTEMPTS = 100
"""Damaged episodes drawn in a row for one sample before the store is given up."""


class Source(Protocol):
    """Rows of batches. ``sight``: the column that the model's vision takes. ``starts`` (E,): episodes' first steps."""

    sight: str
    starts: NDArray[np.int64]

    @property
    def encoded(self) -> bool:
        """Whether ``tokens`` is a column."""
        ...

    def at(self, step: int) -> tuple[SegmentBatch, Columns]:
        """The segments of a gradient step and what is known of their steps."""
        ...

    def around(self, steps: NDArray[np.int64]) -> tuple[NDArray[np.int64], Columns]:
        """Those of the steps (n,) that can be read, and what is known of them and the history before them."""
        ...

    def encode(self, encode: Encode, key: str, chunk: int, progress: Callable[[int], None] | None) -> None:
        """Encode every frame once; from then on ``tokens`` is a column. ``key``: names what encodes."""
        ...


class MemorySource:
    """Everything is in memory."""

    def __init__(
        self,
        data: TrainingData,
        sampler: SegmentSampler,
        rows: slice,
        shape: ModelConfig,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        check_dimensions(data.bins.shape[1], shape)
        self._frozen = config.freeze_vision
        self._data, self._sampler, self._rows, self._shape, self._device = data, sampler, rows, shape, device
        self.starts = data.starts
        self.sight = "privileged" if shape.vision == "state" else "images"
        self._require_sight()
        self._columns = Columns(self._array, device)
        self.encoded = False

    def at(self, step: int) -> tuple[SegmentBatch, Columns]:
        return self._sampler.batch_at(step).part(self._rows), self._columns

    def around(self, steps: NDArray[np.int64]) -> tuple[NDArray[np.int64], Columns]:
        return steps, self._columns

    def encode(self, encode: Encode, key: str, chunk: int, progress: Callable[[int], None] | None) -> None:
        count, shape = self._data.count, self._shape
        if self._data.tokens is not None:
            self._columns.add("tokens", torch.from_numpy(self._data.tokens).to(self._device))
            self.encoded = True
            return
        tokens = torch.empty(count, shape.tokens_per_frame, shape.width, dtype=torch.float16, device=self._device)
        for first in range(0, count, chunk):
            frames = np.arange(first, min(first + chunk, count))
            tokens[first : first + chunk] = encode(self._columns, frames)
            if progress is not None:
                progress(len(frames))
        self._columns.add("tokens", tokens)
        self.encoded = True

    def _array(self, name: str) -> NDArray:
        data = self._data
        found: NDArray = np.repeat(data.success, data.lengths) if name == "success" else getattr(data, name)
        return found

    def _require_sight(self) -> None:
        if self.sight == "images":
            if self._data.tokens is not None:
                self._require_tokens(self._data.tokens)
            elif self._data.images is None:
                raise TrainingError("these data were loaded without images, and the model sees; load them with images")
            return
        states, wanted = self._data.privileged, self._shape.state_size
        if states is None or states.shape[1] != wanted:
            found = None if states is None else states.shape[1]
            raise TrainingError(f"the model takes {wanted} privileged numbers, the data have {found}")
        if not np.isfinite(states).all():
            lost = int((~np.isfinite(states).all(axis=1)).sum())
            raise TrainingError(
                f"{lost} of {len(states)} steps have no privileged state; only episodes collected in the simulator "
                "have it"
            )

    def _require_tokens(self, tokens: NDArray[np.float16]) -> None:
        shape = self._shape
        wanted = (self._data.count, shape.tokens_per_frame, shape.width)
        if tokens.shape != wanted:
            raise TrainingError(f"the tokens have shape {tokens.shape}, data and model need {wanted}; make them anew")
        if not self._frozen:
            raise TrainingError(
                "these data hold tokens in the place of images, and vision is to be trained; load images"
            )


class StreamedSource:
    """Segments are read in the background, a few batches ahead; encoded frames lie in a file in ``folder``."""

    def __init__(
        self,
        data: StreamedData,
        sampler: SegmentSampler,
        rows: slice,
        shape: ModelConfig,
        config: TrainConfig,
        device: torch.device,
        folder: Path | None,
    ) -> None:
        check_dimensions(data.dims, shape)
        self._data, self._sampler, self._rows, self._shape, self._device = data, sampler, rows, shape, device
        self._folder = folder
        self.starts = data.starts
        self.sight = "privileged" if shape.vision == "state" else "images"
        if self.sight == "images" and data.image_size is None:
            raise TrainingError("these data were opened without images, and the model sees; open them with images")
        if self.sight == "privileged" and data.privileged_size != shape.state_size:
            raise TrainingError(
                f"the model takes {shape.state_size} privileged numbers, the data have {data.privileged_size}"
            )
        self._end = config.gradient_steps
        self._tokens: TokenFile | None = None
        self._lost: set[int] = set()  # episodes that could not be encoded
        self.ahead = Ahead(self._batch)

    @property
    def encoded(self) -> bool:
        return self._tokens is not None

    @property
    def corrupt(self) -> dict[int, str]:
        """Damaged episodes that were met so far, and their problems."""
        return self._data.corrupt

    def at(self, step: int) -> tuple[SegmentBatch, Columns]:
        segments, rows = self.ahead.get(step, self._end)
        return segments, self._held(rows)

    def around(self, steps: NDArray[np.int64]) -> tuple[NDArray[np.int64], Columns]:
        history = self._shape.history
        episodes = self._data.episodes_of(steps)
        spans = [
            Span(int(e), max(int(self.starts[e]), int(s) - history + 1), int(s))
            for e, s in zip(episodes, steps, strict=True)
        ]
        rows = self._read(spans)
        kept = np.array([part is not None for part in rows], np.bool_)
        if not kept.any():
            raise DataLost(f"none of {len(steps)} steps can be read; the first: {self._problem(int(episodes[0]))}")
        return steps[kept], self._held(joined(part for part in rows if part is not None))

    def encode(self, encode: Encode, key: str, chunk: int, progress: Callable[[int], None] | None) -> None:
        if self._folder is None:
            raise TrainingError("streamed data need a folder for the encoded frames")
        data = self._data

        def read(number: int) -> list[dict[str, NDArray] | CorruptEpisode]:
            return data.load(self._spans(number * chunk, min(number * chunk + chunk, data.count)))

        def make(first: int, last: int) -> tuple[NDArray[np.float16], dict[int, str]]:
            spans, found = self._spans(first, last), chunks.get(first // chunk, -(-data.count // chunk))
            rows = [part for part in found if not isinstance(part, CorruptEpisode)]
            tokens = np.zeros((last - first, *shape), np.float16)
            if rows:
                held = joined(rows)
                encoded = encode(self._held(held), held["numbers"])
                tokens[held["numbers"] - first] = encoded.cpu().numpy()
            lost = zip(spans, found, strict=True)
            return tokens, {span.episode: str(part) for span, part in lost if isinstance(part, CorruptEpisode)}

        shape = (self._shape.tokens_per_frame, self._shape.width)
        file = TokenFile(self._folder, ":".join((key, *map(str, data.hashes))), data.count, shape)
        chunks = Ahead(read)
        try:
            corrupt = file.fill(make, chunk, progress)
        finally:
            chunks.close()
        for episode, problem in corrupt.items():
            data.note_corrupt(episode, problem)
        self._tokens, self._lost = file, set(corrupt)
        self.ahead.close()
        self.ahead = Ahead(self._batch)

    def _spans(self, first: int, last: int) -> list[Span]:
        """Spans that cover the steps first..last-1."""
        episodes = np.arange(*(int(e) for e in self._data.episodes_of(np.array([first, last - 1])) + [0, 1]))
        ends = self.starts[episodes] + self._data.lengths[episodes] - 1
        return [
            Span(int(e), max(first, int(self.starts[e])), min(last - 1, int(end)))
            for e, end in zip(episodes, ends, strict=True)
        ]

    def _batch(self, step: int) -> tuple[SegmentBatch, dict[str, NDArray]]:
        whole = self._sampler.batch_at(step)
        positions = np.arange(len(whole.frames))[self._rows]
        batch = whole.part(self._rows)
        rows = self._read(segment_spans(batch))
        for attempt in range(ATTEMPTS):
            again = [i for i, part in enumerate(rows) if part is None]
            if not again:
                break
            for i in again:
                kind = bool(self._data.success[batch.episodes[i]])
                batch.put(i, self._sampler.replacement(step, int(positions[i]), attempt, kind))
            drawn = self._read(segment_spans(batch.part(again)))
            for i, part in zip(again, drawn, strict=True):
                rows[i] = part
        else:
            raise DataLost(
                f"{ATTEMPTS} episodes drawn one after another are damaged, {len(self._data.corrupt)} in all; copy the "
                "store again, or rebuild it from its bags"
            )
        return batch, joined(r for r in rows if r is not None)

    def _read(self, spans: list[Span]) -> list[dict[str, NDArray] | None]:
        """Rows of each span, None where they are damaged."""
        found: list[dict[str, NDArray] | None] = []
        for span, part in zip(spans, self._data.load(spans, pictures=self._tokens is None), strict=True):
            if isinstance(part, CorruptEpisode) or span.episode in self._lost:
                found.append(None)
                continue
            if self._tokens is not None:
                part["tokens"] = self._tokens.read(span.first, span.last - span.first + 1)
            found.append(part)
        return found

    def _problem(self, episode: int) -> str:
        return self._data.corrupt.get(episode, f"episode number {episode}")

    def _held(self, rows: dict[str, NDArray]) -> Columns:
        return Columns.loaded(rows["numbers"], rows, self._device)


def segment_spans(segments: SegmentBatch) -> list[Span]:
    """What must be read for each segment, whose frames are clamped to its episode."""
    ends = zip(segments.episodes, segments.frames.min(1), segments.frames.max(1), strict=True)
    return [Span(int(episode), int(first), int(last)) for episode, first, last in ends]


def check_dimensions(found: int, shape: ModelConfig) -> None:
    """TrainingError unless the data have the model's action dimensions."""
    if found != shape.action_dims:
        raise TrainingError(f"the data has {found} action dimensions and the model {shape.action_dims}")
