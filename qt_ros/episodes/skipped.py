"""Shards that a reader leaves out: never silently, and only for as long as they cannot be used."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qt_ros.episodes.manifest import Shard
from qt_ros.episodes.roots import Root

log = logging.getLogger(__name__)

KEPT, NAMED = 64, 6
"""Episodes of one shard whose ids are kept, and told in a sentence."""

GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""What is said where no file is."""


@dataclass(frozen=True)
class SkippedShard:
    """A shard that was left out, how many episodes went with it, and why.

    ``ids``: of the first `KEPT` of them, as the manifest has them; ``sha256`` and ``bytes`` too. ``whole``: its content
    is what the manifest says, but it cannot be used.
    """

    file: str
    episodes: int
    problem: str
    ids: tuple[str, ...] = ()
    sha256: str = ""
    bytes: int = 0
    whole: bool = False

    @classmethod
    def of(cls, shard: Shard, problem: str, whole: bool = False) -> SkippedShard:
        """``shard`` and what is wrong with it."""
        ids = tuple(meta.id for meta in shard.episodes[:KEPT])
        return cls(shard.file, len(shard.episodes), problem, ids, shard.sha256, shard.bytes, whole)

    @property
    def names(self) -> str:
        """Its episodes' ids, of many the first."""
        return first_of(self.ids, self.episodes)

    def __str__(self) -> str:
        return f"shard {self.file} skipped with {self.episodes} episodes ({self.names}): {self.problem}"


def first_of(ids: Sequence[str], count: int) -> str:
    """In words: ``count`` episodes, of which ``ids`` are the first; few are all named."""
    named = ", ".join(ids[:NAMED])
    return named if count <= NAMED else f"{named} and {count - NAMED} more"


def told(where: str, skipped: Sequence[SkippedShard]) -> int:
    """Log every shard that the store at ``where`` is read without; how many episodes they have."""
    lost = sum(shard.episodes for shard in skipped)
    for shard in skipped:
        log.warning("%s: %s", where, shard)
    if len(skipped) > 1:
        log.warning("%s: %d episodes in %d shards are left out", where, lost, len(skipped))
    return lost


def mended(root: Root, shard: SkippedShard) -> SkippedShard | None:
    """``shard`` with what is wrong with it now; None when it is there again with the content of the manifest.

    Whatever hindered the reading may pass, so nothing but content is judged for good: by its size, then, when that is
    right, by one read of all of it. Raises StoreUnreachable.
    """
    if shard.whole:
        return shard
    try:
        size = root.size(shard.file)
        if size != shard.bytes:
            problem = _other_size(size, shard.bytes)
        else:
            problem = wrong_content(root.read(shard.file), shard.bytes, shard.sha256)
    except OSError as error:
        problem = unreadable(error)
    return replace(shard, problem=problem) if problem else None


def unreadable(error: OSError) -> str:
    """What is wrong with a shard that could not be read."""
    return "file is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"


def wrong_content(data: bytes, size: int, sha256: str) -> str:
    """What is wrong with the content of a shard; '' when it is what the manifest says."""
    if len(data) != size:
        return _other_size(len(data), size)
    return "" if hashlib.sha256(data).hexdigest() == sha256 else "content does not match its SHA-256"


def _other_size(found: int, size: int) -> str:
    return f"{found} bytes, the manifest says {size}"
