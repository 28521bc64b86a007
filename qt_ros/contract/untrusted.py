"""Reading what strangers wrote: bounded sizes, no recursion without end, no images that unpack to gigabytes.

Contracts, bags, stores and checkpoints travel between people. Whatever is in such a file, reading it ends soon, in
little memory, and with one of the documented errors.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import yaml

MAX_TEXT = 16 << 20  # bytes of any JSON or YAML document
MAX_DEPTH = 64  # of nesting; ours need fewer than ten
MAX_PIXELS = 64 << 20  # of one image: more than any camera here has
_C_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Refused(ValueError):
    """A file is larger, deeper or stranger than anything this package writes; the message says how."""


def read_bounded(path: Path, limit: int = MAX_TEXT) -> bytes:
    """The content of a file of at most ``limit`` bytes. OSError; Refused for a larger one and for what is no file."""
    if path.exists() and not path.is_file():
        raise Refused(f"{path} is no plain file")
    with open(path, "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise Refused(f"{path} is larger than {limit >> 20} MiB; nothing of this kind is")
    return data


def load_yaml_text(text: str, loader: type[yaml.SafeLoader] | Any = _C_LOADER) -> Any:
    """One YAML document by a safe ``loader``; Refused for anything malformed, nested too deeply, or with aliases.

    The document is looked through as a stream of events first: the C parser ends the process when nesting exhausts the
    stack, and aliases let a few lines stand for gigabytes.
    """
    if len(text) > MAX_TEXT:
        raise Refused(f"YAML of more than {MAX_TEXT >> 20} MiB")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_C_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise Refused(f"line {event.start_mark.line + 1}: YAML aliases (*{event.anchor}) are not read")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise Refused(f"line {event.start_mark.line + 1}: nested more than {MAX_DEPTH} deep")
        return yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    except Refused:
        raise
    except yaml.YAMLError as error:
        raise Refused(str(error)) from error
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError) as error:
        # PyYAML's constructors let these through for impossible dates, numbers and keys.
        raise Refused(f"a value that cannot be read ({type(error).__name__}: {error})") from error


def load_json(data: bytes | str, limit: int = MAX_TEXT) -> Any:
    """One JSON document without NaN and infinity; Refused for anything malformed or nested too deeply."""
    if len(data) > limit:
        raise Refused(f"JSON of more than {limit >> 20} MiB")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise Refused("JSON is nested too deeply") from None
    except ValueError as error:
        raise Refused(str(error)) from error


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number in JSON")


def image_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """(width, height) that a PNG or JPEG says it has, without decoding it; None when it does not say."""
    head = bytes(data[:24])
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) == 24:
        width, height = struct.unpack(">II", head[16:24])
        return int(width), int(height)
    if head.startswith(b"\xff\xd8"):
        return _jpeg_size(bytes(data[: 1 << 20]))
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the start-of-frame segment, among the segments before the scan."""
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            position += 1
            continue
        marker = data[position + 1]
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        if marker in (0xD9, 0xDA):
            return None
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    return None


def check_image_bounds(data: bytes | memoryview) -> None:
    """Refused for a PNG or JPEG that would unpack to more than `MAX_PIXELS`."""
    size = image_size(data)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise Refused(f"an image of {size[0]}x{size[1]} pixels; the most that is read is {MAX_PIXELS >> 20} megapixels")
