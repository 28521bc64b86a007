"""Strict mapping -> dataclass conversion: an unknown or missing key is an error that names the file and the key."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from qt_ros.contract.untrusted import Refused, load_yaml_text, read_bounded

MAX_CONFIG = 1 << 20  # bytes
T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration file or mapping is wrong; the message says where and what to do."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML loader that refuses a key given twice (PyYAML silently keeps the last one)."""


def _construct_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=deep)  # type: ignore[no-untyped-call]
        if key in seen:
            raise ConfigError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice; keep one of them")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping from ``path``; ConfigError naming the file when it is missing, malformed or no mapping."""
    return parse_yaml(read_config(path), str(path))


def read_config(path: Path) -> str:
    """The text of a configuration file of sane size; ConfigError when it cannot be read."""
    try:
        return read_bounded(path, MAX_CONFIG).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (Refused, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); it must be a small text file") from error


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Parse YAML ``text`` into a mapping; ``where`` names the source in errors. Duplicate keys raise."""
    if len(text) > MAX_CONFIG:
        raise ConfigError(f"{where}: {len(text)} characters; a configuration is at most {MAX_CONFIG}")
    try:
        data = load_yaml_text(text, _UniqueKeyLoader)
    except (Refused, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping at the top level, found {type(data).__name__}")
    return data


def build(cls: type[T], data: Any, where: str) -> T:
    """Make dataclass ``cls`` from mapping ``data``.

    Unknown keys, missing required keys and non-finite numbers raise ConfigError with ``where``; plain int values given
    for float fields are converted, any other mismatch of a scalar type raises. Elements of lists, tuples and mappings
    are checked alike; a list becomes a tuple where the field is one.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected a mapping with the fields of {cls.__name__}, found {type(data).__name__}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ConfigError(
            f"{where}: unknown key(s) {', '.join(map(repr, unknown))}; known keys: {', '.join(sorted(fields))}"
        )
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in data:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise ConfigError(f"{where}: key {name!r} is missing; add it")
            continue
        values[name] = _check(data[name], str(field.type), f"{where}: {name}")
    try:
        return cls(**values)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


_LIST = re.compile(r"(?P<kind>tuple|list)\[(?P<of>.+?)(, \.\.\.)?\]")
_MAPPING = re.compile(r"(dict|Mapping)\[str, (?P<of>.+)\]")


def _check(value: Any, annotation: str, where: str) -> Any:
    kind = annotation.split("|")[0].strip()
    if value is None:
        if "None" in annotation:
            return None
        raise ConfigError(f"{where}: must not be empty")
    if several := _LIST.fullmatch(kind):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, found {value!r}")
        items = [_check_scalar(v, several["of"], f"{where}[{i}]") for i, v in enumerate(value)]
        return tuple(items) if several["kind"] == "tuple" else items
    if named := _MAPPING.fullmatch(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping, found {value!r}")
        if not all(isinstance(k, str) for k in value):
            raise ConfigError(f"{where}: keys must be text, found {', '.join(map(repr, value))}; quote them")
        return {k: _check(v, named["of"], f"{where}: {k}") for k, v in value.items()}
    return _check_scalar(value, kind, where)


def _check_scalar(value: Any, kind: str, where: str) -> Any:
    if kind == "float":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{where}: expected a number, found {value!r}{_written_as_text(value)}")
        try:
            number = float(value)
        except OverflowError:  # a whole number of hundreds of digits
            number = math.inf
        if not math.isfinite(number):
            raise ConfigError(f"{where}: must be finite, found {str(value)[:40]}")
        return number
    if kind == "int" and (isinstance(value, bool) or not isinstance(value, int)):
        raise ConfigError(f"{where}: expected a whole number, found {value!r}")
    if kind == "str" and not isinstance(value, str):
        raise ConfigError(f"{where}: expected text, found {value!r}")
    if kind == "bool" and not isinstance(value, bool):
        raise ConfigError(f"{where}: expected true or false, found {value!r}")
    return value


def _written_as_text(value: Any) -> str:
    """Advice for 1e-4 and 1.0e30, which YAML 1.1 takes for text: it wants a point, and a sign in the exponent."""
    try:
        number = float(value if isinstance(value, str) else "")
    except ValueError:
        return ""
    if not math.isfinite(number):
        return ""
    parts = re.fullmatch(r"\s*([-+]?\d*)(\.?)(\d*)[eE]([-+]?)(\d+)\s*", value)
    if parts is None:
        return " as text; write it without quotes"
    whole, point, fraction, sign, exponent = parts.groups()
    wanted = " and ".join(["a point"] * (not point) + ["a sign after the e"] * (not sign))
    good = f"{whole or '0'}.{fraction or '0'}e{sign or '+'}{exponent}"
    return f" as text; YAML wants {wanted or 'it bare'}, as in {good}, and no quotes"


def one_of(value: str, allowed: tuple[str, ...], where: str) -> None:
    """Raise ConfigError naming ``where`` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ConfigError(
            f"{where} must be {'one of ' if len(allowed) > 1 else ''}{', '.join(allowed)}, found {value!r}"
        )
