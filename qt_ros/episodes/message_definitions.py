"""Full text and type hash of a ROS message, as a bag must carry them to be readable without ROS.

Format: MCAP's ``ros2msg`` schema encoding (the definition, then every type it uses, each behind a line of 80 ``=`` and
``MSG: package/Type``). Sources: the ``share`` folders of installed packages (``AMENT_PREFIX_PATH``), and this project's
own ``msg`` folder.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qt_ros.contract.robot import package_root

_TYPE = re.compile(r"([A-Za-z][A-Za-z0-9_]*)/(?:msg/)?([A-Za-z][A-Za-z0-9_]*)")
_FIELD = re.compile(r"^\s*([A-Za-z][A-Za-z0-9_/]*)\s*(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]")
_PRIMITIVES = frozenset(
    "bool byte char float32 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 string wstring".split()
)
_SEPARATOR = "=" * 80


class MissingDefinition(LookupError):
    """No installed package defines this message type."""


@dataclass(frozen=True)
class MessageDefinition:
    """``type`` is the long name (``sensor_msgs/msg/Image``); ``type_hash`` is REP-2016's RIHS01, "" when unknown."""

    type: str
    text: str
    type_hash: str = ""


def share_folders() -> tuple[Path, ...]:
    """Where packages may have installed their definitions, first match wins."""
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    # ROS from wheels lives in the Python environment itself, which is no ament prefix until somebody says so.
    return tuple(p / "share" for p in (*prefixes, Path(sys.prefix)))


def find_definition(type_name: str, folders: Sequence[Path] | None = None) -> MessageDefinition:
    """The definition of ``package/msg/Type`` (or ``package/Type``) with everything it refers to.

    Raises MissingDefinition naming the type and where was looked, ValueError for a name that is no message type.
    """
    return _find(type_name, tuple(folders) if folders is not None else share_folders())


@lru_cache(maxsize=512)
def _find(type_name: str, folders: tuple[Path, ...]) -> MessageDefinition:
    package, name = _split(type_name)
    path = _path(package, name, folders)
    text = path.read_text(encoding="utf-8")
    parts, seen, pending = [text], {(package, name)}, _references(text, package)
    while pending:
        dependency = pending.pop(0)
        if dependency in seen:
            continue
        seen.add(dependency)
        text = _path(*dependency, folders).read_text(encoding="utf-8")
        parts.append(f"{_SEPARATOR}\nMSG: {dependency[0]}/{dependency[1]}\n{text}")
        pending += _references(text, dependency[0])
    return MessageDefinition(f"{package}/msg/{name}", "\n".join(p.rstrip("\n") for p in parts) + "\n", _hash(path))


def _split(type_name: str) -> tuple[str, str]:
    match = _TYPE.fullmatch(type_name)
    if match is None:
        raise ValueError(f"{type_name!r} is no message type; write package/msg/Type")
    return match[1], match[2]


def _path(package: str, name: str, folders: tuple[Path, ...]) -> Path:
    for folder in folders:
        path = folder / package / "msg" / f"{name}.msg"
        if path.is_file():
            return path
    if package == "qt_ros" and (path := package_root() / "msg" / f"{name}.msg").is_file():
        return path
    looked = ", ".join(str(f / package / "msg") for f in folders) or "nowhere (AMENT_PREFIX_PATH is empty)"
    raise MissingDefinition(f"no definition of {package}/msg/{name}; looked in {looked}. Install or source {package}")


def _references(text: str, package: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        match = _FIELD.match(line.partition("#")[0])
        if match is None or match[1] in _PRIMITIVES:
            continue
        found.append(_split(match[1]) if "/" in match[1] else (package, match[1]))
    return found


def _hash(path: Path) -> str:
    """The RIHS01 hash that rosidl installs beside the definition (``<Type>.json``)."""
    try:
        document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        name = document["type_description_msg"]["type_description"]["type_name"]
        return str(next(h["hash_string"] for h in document["type_hashes"] if h["type_name"] == name))
    except (OSError, ValueError, KeyError, StopIteration):
        return ""
