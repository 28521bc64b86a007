"""Judgements of episodes: who said when how an episode went. The later one holds, none is ever lost.

A history is a file ``labels.jsonl``, one JSON object a line, that only grows. One lies in a bag's folder, about its
episode, and one in a training store, about any of its episodes; neither the sealed recording nor a shard is rewritten.
What reads a bag's metadata or a store's manifest reads the history too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from qt_ros.contract.strict import ConfigError, build
from qt_ros.contract.untrusted import Refused, load_json, read_bounded
from qt_ros.episodes.episode import OUTCOMES, is_episode_id
from qt_ros.episodes.files import fsync_directory, locked

LABELS = "labels.jsonl"
MAX_HISTORY = 1 << 28  # bytes: a million labels
_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")  # in such texts the later time is the greater
NAME_LENGTH, COMMENT_LENGTH = 200, 2000


class LabelError(ValueError):
    """A label, or a file of labels, cannot be used; the message says why."""


@dataclass(frozen=True)
class Label:
    """One judgement. ``at``: when, as `now` says it; empty where a recording did not say when it was judged."""

    episode_id: str
    outcome: str
    by: str
    at: str
    comment: str = ""


def now() -> str:
    """The time of this machine's clock as labels hold it, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def make_label(episode_id: str, outcome: str, by: str, comment: str = "") -> Label:
    """A label of this moment. LabelError for an unknown outcome, an id that is none, or a name that names nobody."""
    if not is_episode_id(episode_id):
        raise LabelError(f"{episode_id!r} is no episode id; use one that `qt-ros episodes ls` shows, without a folder")
    if outcome not in OUTCOMES:
        raise LabelError(f"outcome {outcome!r} is none of {', '.join(OUTCOMES)}")
    by, comment = by.strip(), comment.strip()
    if not by:
        raise LabelError(f"episode {episode_id}: a label needs the name of the person who judges; give it with --by")
    if not by.isprintable() or len(by) > NAME_LENGTH:
        raise LabelError(f"episode {episode_id}: the name {by[:40]!r} is too long or holds control characters")
    if len(comment) > COMMENT_LENGTH:
        raise LabelError(f"episode {episode_id}: the comment has {len(comment)} characters, at most {COMMENT_LENGTH}")
    return Label(episode_id, outcome, by, now(), comment)


def read_labels(path: Path) -> list[Label]:
    """All labels of the file ``path`` as they were written; none when it does not exist.

    A last line without its end was being written when the power went; it was never promised to anybody and is left out.
    LabelError for any other line that is no label.
    """
    try:
        data = read_bounded(path, MAX_HISTORY)
    except FileNotFoundError:
        return []
    except Refused as error:
        raise LabelError(f"{path}: {error}") from error
    return parse_labels(data, str(path))


def parse_labels(data: bytes, where: str) -> list[Label]:
    """The content ``data`` of a file of labels that lies at ``where``, as `read_labels` reads it."""
    *lines, _ = data.split(b"\n")
    return [_parse(line, f"{where}: line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _parse(line: bytes, where: str) -> Label:
    try:
        label: Label = build(Label, load_json(line), where)
        if label.outcome not in OUTCOMES:
            raise ValueError(f"outcome {label.outcome!r} is unknown")
        if label.at and not _AT.fullmatch(label.at):
            raise ValueError(f"{label.at!r} is no time such as {now()}")
    except (ValueError, ConfigError) as error:
        raise LabelError(f"{where}: no label ({error}); correct the line or delete it") from error
    return label


def append_label(path: Path, label: Label, first: Sequence[Label] = ()) -> Label:
    """Add a fresh label to the history ``path``, durably, and return it as it stands there.

    ``first`` goes before it when the history was empty. Whatever this machine's clock says, a label is never dated
    before the one of its episode that it overrules. Several processes may do so at once.
    """
    with locked(path):
        before = [] if (known := read_labels(path)) else list(first)
        last = max((other.at for other in (*before, *known) if other.episode_id == label.episode_id), default="")
        label = replace(label, at=max(label.at, last))
        _write(path, [*before, label])
    return label


def take_over(path: Path, labels: Iterable[Label]) -> None:
    """Add labels of another history to ``path``, but for those that stand there word for word, durably."""
    with locked(path):
        known = read_labels(path)
        new = [label for label in dict.fromkeys(labels) if label not in known]
        if new:
            _write(path, new)


def _write(path: Path, labels: Iterable[Label]) -> None:
    with open(path, "r+b") as stream:
        stream.seek(stream.read().rfind(b"\n") + 1)  # a half-written last line goes
        stream.truncate()
        stream.write(b"".join(json.dumps(asdict(label)).encode() + b"\n" for label in labels))
        stream.flush()
        os.fsync(stream.fileno())
    fsync_directory(path.parent)


def in_order(labels: Iterable[Label]) -> list[Label]:
    """Oldest first; of equal times, and of those without one, the first written first."""
    return sorted(labels, key=lambda label: label.at)


def latest(labels: Iterable[Label]) -> dict[str, Label]:
    """The label that holds, of every episode."""
    return {label.episode_id: label for label in in_order(labels)}
