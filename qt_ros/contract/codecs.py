"""Messages to arrays: the one decoding used live and offline.

Functions read fields by name only, so they take messages of rclpy and messages decoded from a bag (mcap-ros2-support,
rosbags) alike; binary fields may be bytes, bytearray, memoryview, array.array, a list of ints or a numpy array.
Nothing here imports ROS.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.untrusted import Refused, check_image_bounds

_TO_RGB = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
}
"""sensor_msgs/image_encodings name: (channels, OpenCV conversion to RGB)."""

ENCODINGS = tuple(_TO_RGB)
COMPRESSED_FORMATS = ("jpeg", "png")

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class UnsupportedEncoding(ValueError):
    """An image encoding or compression this project does not decode; the message names it."""


class MalformedImage(ValueError):
    """An image message whose fields contradict each other, or whose compressed data cannot be decoded."""


class MalformedJointState(ValueError):
    """A JointState whose arrays contradict each other."""


class NonFiniteObservation(ValueError):
    """An observation holds NaN or infinity; the message names where."""


class JointReading(NamedTuple):
    """Position (rad or m) and velocity (rad/s or m/s) of one joint; None where the publisher did not give it."""

    position: float | None
    velocity: float | None


def decode_image(msg: Any) -> NDArray[np.uint8]:
    """sensor_msgs/Image or sensor_msgs/CompressedImage -> (H, W, 3) uint8 RGB, contiguous, owning its memory.

    Raw encodings: rgb8, bgr8, mono8, rgba8, bgra8 (alpha is dropped). Row padding (``step`` larger than the row) is
    removed; ``is_bigendian`` cannot matter for 8-bit channels. Compressed: JPEG and PNG of 8 bits. Raises
    UnsupportedEncoding for anything else, MalformedImage for sizes that do not fit the data or undecodable data.
    """
    if hasattr(msg, "format"):
        return _decode_compressed(msg)
    encoding = msg.encoding
    if encoding not in _TO_RGB:
        raise UnsupportedEncoding(f"image encoding {encoding!r} is not supported; use one of {', '.join(ENCODINGS)}")
    channels, conversion = _TO_RGB[encoding]
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    if height <= 0 or width <= 0:
        raise MalformedImage(f"image has size {width}x{height}; the driver publishes empty images")
    row = width * channels
    if step < row:
        raise MalformedImage(f"image step {step} is less than a row of {width} {encoding} pixels ({row} bytes)")
    data = _bytes_of(msg.data)
    if len(data) != step * height:
        raise MalformedImage(f"image has {len(data)} bytes, {height} rows of step {step} need {step * height}")
    pixels = data.reshape(height, step)[:, :row].reshape(height, width, channels)
    if conversion is None:
        return np.array(pixels, order="C")
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), conversion), dtype=np.uint8)


def _decode_compressed(msg: Any) -> NDArray[np.uint8]:
    """``format`` is "jpeg", "png", or image_transport's "<source encoding>; <codec> compressed <stored encoding>"."""
    description = str(msg.format)
    words = description.lower().replace(";", " ").split()
    if not any(word in ("jpeg", "jpg", "png") for word in words):
        known = ", ".join(COMPRESSED_FORMATS)
        raise UnsupportedEncoding(f"compressed image format {description!r} is not supported; use one of {known}")
    data = _bytes_of(msg.data)
    if not len(data):
        raise MalformedImage(f"compressed image ({description!r}) is empty")
    head, tail = data[:8].tobytes(), data[-256:].tobytes().rstrip(b"\0")
    # OpenCV fills a truncated file up with grey and only prints a warning, so look for the end marker ourselves.
    if head.startswith(_JPEG_START):
        complete = tail.endswith(_JPEG_END)
    elif head.startswith(_PNG_START):
        complete = tail.endswith(_PNG_END)
    else:
        raise MalformedImage(f"compressed image ({description!r}): {len(data)} bytes that are neither JPEG nor PNG")
    if not complete:
        raise MalformedImage(f"compressed image ({description!r}) is cut off after {len(data)} bytes")
    try:
        check_image_bounds(data.data)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except (Refused, cv2.error) as error:
        raise MalformedImage(f"compressed image ({description!r}): {error}") from error
    if image is None:
        raise MalformedImage(f"compressed image ({description!r}): {len(data)} bytes that do not decode")
    if image.dtype != np.uint8:
        raise UnsupportedEncoding(f"compressed image ({description!r}) has {image.dtype} channels; 8 bits are needed")
    channels = 1 if image.ndim == 2 else image.shape[2]
    conversion = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if conversion is None:
        raise UnsupportedEncoding(f"compressed image ({description!r}) has {channels} channels")
    return np.asarray(cv2.cvtColor(image, conversion), dtype=np.uint8)


def check_image_size(image: NDArray[np.uint8], height: int, width: int, name: str = "image") -> None:
    """Raise MalformedImage naming ``name`` unless ``image`` is ``height`` x ``width``."""
    if image.shape[:2] != (height, width):
        raise MalformedImage(
            f"{name}: got {image.shape[1]}x{image.shape[0]}, the contract says {width}x{height}; "
            f"set the camera or the contract"
        )


def decode_joint_state(msg: Any, joints: Iterable[str] | None = None) -> dict[str, JointReading]:
    """sensor_msgs/JointState -> {joint: JointReading(position, velocity)} for every joint it names.

    Any of its arrays may be empty (its definition says so); that quantity is then None. Raises MalformedJointState for
    a length that is neither 0 nor the number of names and for a name given twice, NonFiniteObservation for a position
    that is not finite or an infinite velocity. A NaN velocity means "not measured" (joint_state_broadcaster) and
    becomes None. With ``joints``, only those are decoded and checked for finite values; absent ones are left out.
    """
    names = list(msg.name)
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise MalformedJointState(f"joint state names {', '.join(twice)} twice")
    for field in ("position", "velocity", "effort"):
        if len(getattr(msg, field)) not in (0, len(names)):
            raise MalformedJointState(
                f"joint state has {len(names)} names but {len(getattr(msg, field))} values in {field}"
            )
    wanted = None if joints is None else set(joints)
    result: dict[str, JointReading] = {}
    for i, name in enumerate(names):
        if wanted is not None and name not in wanted:
            continue
        position = float(msg.position[i]) if len(msg.position) else None
        velocity = float(msg.velocity[i]) if len(msg.velocity) else None
        if position is not None and not math.isfinite(position):
            raise NonFiniteObservation(f"joint state: position of {name} is {position}")
        if velocity is not None and math.isinf(velocity):
            raise NonFiniteObservation(f"joint state: velocity of {name} is {velocity}")
        if velocity is not None and math.isnan(velocity):
            velocity = None
        result[name] = JointReading(position, velocity)
    return result


def decode_joint_positions(msg: Any, joints: Iterable[str] | None = None) -> dict[str, float]:
    """sensor_msgs/JointState -> {joint: position in rad or m}, checked as in :func:`decode_joint_state`.

    Joints without a position are left out; whoever needs one says which (``Proprioception.encode``).
    """
    readings = decode_joint_state(msg, joints)
    return {name: reading.position for name, reading in readings.items() if reading.position is not None}


def decode_text(msg: Any) -> str:
    """std_msgs/String -> str. Raises ValueError when ``data`` is no text."""
    if not isinstance(msg.data, str):
        raise ValueError(f"text message holds {type(msg.data).__name__}; publish std_msgs/String")
    return msg.data


def stamp_to_ns(stamp: Any) -> int:
    """builtin_interfaces/Time -> nanoseconds since its clock's epoch, exact. Raises ValueError for nanosec >= 1e9."""
    seconds, nanoseconds = int(stamp.sec), int(stamp.nanosec)
    if not 0 <= nanoseconds < 1_000_000_000:
        raise ValueError(f"time stamp has {nanoseconds} nanoseconds; they must be below one second")
    return seconds * 1_000_000_000 + nanoseconds


def ns_to_seconds(nanoseconds: int) -> float:
    """Nanoseconds -> float seconds (exact to about 0.2 us for today's wall-clock times)."""
    return nanoseconds * 1e-9


def _bytes_of(data: Any) -> NDArray[np.uint8]:
    """A binary message field as a flat uint8 array, without a copy where the field has a buffer."""
    if isinstance(data, np.ndarray):
        if data.dtype != np.uint8:
            raise MalformedImage(f"image data has dtype {data.dtype}; uint8 is needed")
        return data.reshape(-1)
    if isinstance(data, (list, tuple)):
        try:
            return np.frombuffer(bytes(data), np.uint8)
        except (TypeError, ValueError) as error:
            raise MalformedImage(f"image data is no list of bytes ({error})") from error
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError) as error:
        raise MalformedImage(f"image data of type {type(data).__name__} is no binary data ({error})") from error
