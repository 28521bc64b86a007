"""One episode as one Parquet row: frames as PNG (lossless), other arrays flat, row-major, in named list columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qt_ros.contract.untrusted import check_image_bounds
from qt_ros.episodes.episode import Episode

# Fast and still small: neither rendering nor training may wait for PNG.
_PNG_PARAMETERS = [cv2.IMWRITE_PNG_COMPRESSION, 1]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    _PNG_PARAMETERS += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]

ARRAYS: dict[str, tuple[type, Any]] = {
    "proprio": (np.float32, pa.float32()),
    "actions": (np.float32, pa.float32()),
    "bins": (np.int16, pa.int16()),
    "rewards": (np.float32, pa.float32()),
    "stamps": (np.float64, pa.float64()),
    "q_values": (np.float32, pa.float32()),
    "keypoints": (np.float32, pa.float32()),
    "privileged": (np.float32, pa.float32()),
}
"""Flat list columns: numpy dtype in memory, Arrow type on disk."""

OPTIONAL = ("q_values", "keypoints", "privileged")
"""Those that may be null. A store whose manifest names no privileged numbers lacks the last one altogether."""

_TEXT = (
    "episode_id",
    "instruction",
    "task",
    "outcome",
    "reason",
    "source",
    "contract_sha256",
    "action_space_sha256",
    "checkpoint",
)

SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in _TEXT]
    + [
        pa.field("seed", pa.int64()),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("terminated", pa.bool_(), nullable=False),
        pa.field("images", pa.list_(pa.binary()), nullable=False),
    ]
    + [pa.field(name, pa.list_(kind), nullable=name in OPTIONAL) for name, (_, kind) in ARRAYS.items()]
)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 RGB -> PNG bytes, lossless."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _PNG_PARAMETERS)
    if not done:
        raise ValueError(f"OpenCV could not encode a {image.shape} image as PNG")
    return bytes(data)


def decode_png(data: bytes | memoryview | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """PNG bytes -> (H, W, 3) uint8 RGB. Raises ValueError when they are no image."""
    flat = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    check_image_bounds(flat.data)
    try:
        image = cv2.imdecode(flat, cv2.IMREAD_COLOR) if flat.size else None
    except cv2.error as error:
        raise ValueError(f"{len(data)} bytes that are no readable PNG ({error})") from error
    if image is None:
        raise ValueError(f"{len(data)} bytes that are no readable PNG")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)  # type: ignore[return-value]


def to_row(episode: Episode) -> dict[str, Any]:
    """The columns of one episode, ready for :func:`to_table`."""
    row: dict[str, Any] = {name: getattr(episode, name) for name in (*_TEXT, "seed", "terminated")}
    row["length"] = len(episode)
    row["images"] = [encode_png(image) for image in episode.images]
    for name, (dtype, _) in ARRAYS.items():
        array = getattr(episode, name)
        row[name] = None if array is None else np.ascontiguousarray(array, dtype).reshape(-1)
    return row


def to_table(rows: Sequence[dict[str, Any]], privileged: bool = False) -> pa.Table:
    """Rows of :func:`to_row` as one Arrow table, with a column for privileged numbers if wanted."""
    schema = SCHEMA if privileged else SCHEMA.remove(SCHEMA.get_field_index("privileged"))
    return pa.Table.from_pylist(list(rows), schema=schema)


def from_row(table: pa.Table, index: int, dims: int, proprio: int, privileged: int = 0) -> Episode:
    """Row ``index`` of a table as an Episode; ``dims`` is D, ``proprio`` P and ``privileged`` S of its store."""
    row = {name: table.column(name)[index].as_py() for name in (*_TEXT, "seed", "terminated")}
    steps = table.column("length")[index].as_py()
    frames = table.column("images")[index].as_py()
    arrays: dict[str, NDArray[Any] | None] = {}
    for name, (dtype, _) in ARRAYS.items():
        scalar = table.column(name)[index] if name in table.column_names or name not in OPTIONAL else None
        if scalar is None or not scalar.is_valid:
            arrays[name] = None
            continue
        flat: NDArray[Any] = np.array(scalar.values.to_numpy(zero_copy_only=False), dtype=dtype)
        arrays[name] = flat.reshape(array_shape(name, steps, dims, proprio, privileged))
    if len(frames) != steps:
        raise ValueError(f"episode {row['episode_id']}: {len(frames)} frames for {steps} steps")
    return Episode(**row, images=np.stack([decode_png(f) for f in frames]), **arrays)  # type: ignore[arg-type]


def array_shape(name: str, steps: int, dims: int, proprio: int, privileged: int = 0) -> tuple[int, ...]:
    """Shape of array column ``name`` over ``steps`` rows."""
    width = {"proprio": (proprio,), "actions": (dims,), "bins": (dims,), "q_values": (dims,), "keypoints": (2, 3)}
    width["privileged"] = (privileged,)
    return (steps, *width.get(name, ()))
