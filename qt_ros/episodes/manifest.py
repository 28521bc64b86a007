"""The manifest of a training store: which shards belong to it, and what they hold.

A store is a folder::

    store.json              the manifest; what it does not list does not exist
    parts/<prefix>.json     one manifest per writer, rewritten after each of its shards
    shards/<prefix>-00000.parquet

Writers share nothing but the folder. ``merge_manifests`` makes ``store.json`` out of all parts, atomically and last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qt_ros.contract.actions import ActionSpace
from qt_ros.contract.strict import build
from qt_ros.contract.untrusted import Refused, load_json, read_bounded
from qt_ros.episodes.files import locked, write_atomically

FORMAT = "qt_ros.store"
VERSIONS = (1, 2)
"""Version 2 adds ``privileged_names`` and is written only by stores that have some."""
MANIFEST = "store.json"
PARTS = "parts"
SHARDS = "shards"
MAX_MANIFEST = 1 << 30  # bytes: millions of episodes
MAX_SIDE = 8192  # pixels of a stored frame
MAX_STEPS = 1_000_000  # of one episode


class StoreError(ValueError):
    """A training store is missing, damaged or does not fit; the message names the file and what to do."""


@dataclass(frozen=True)
class EpisodeMeta:
    """What the manifest knows of one episode without opening its shard."""

    id: str
    instruction: str
    task: str
    outcome: str
    reason: str
    source: str
    length: int
    terminated: bool
    seed: int | None = None
    checkpoint: str = ""


@dataclass(frozen=True)
class Shard:
    """One Parquet file: path inside the store, content hash, size in bytes, and its episodes in row order."""

    file: str
    sha256: str
    bytes: int
    episodes: tuple[EpisodeMeta, ...]

    @property
    def steps(self) -> int:
        return sum(e.length for e in self.episodes)


@dataclass(frozen=True)
class Manifest:
    """Everything a reader must agree with before it opens a shard."""

    robot: str
    contract_sha256: str
    contract_yaml: str = field(repr=False)
    action_space: list[dict[str, Any]] = field(repr=False)
    action_space_sha256: str
    proprio_names: tuple[str, ...]
    image_height: int
    image_width: int
    privileged_names: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()

    @property
    def actions(self) -> ActionSpace:
        return ActionSpace.from_config(self.action_space, "store manifest: action_space")

    @property
    def identity(self) -> dict[str, Any]:
        """What all parts of one store must have in common."""
        return {k: v for k, v in asdict(self).items() if k != "shards"}

    @property
    def episodes(self) -> list[EpisodeMeta]:
        return [e for shard in self.shards for e in shard.episodes]

    def to_json(self) -> bytes:
        head = {
            "format": FORMAT,
            "version": 2 if self.privileged_names else 1,
            "episodes": len(self.episodes),
            "steps": sum(s.steps for s in self.shards),
        }
        body = asdict(self)
        if not self.privileged_names:
            del body["privileged_names"]
        return json.dumps({**head, **body}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Manifest:
        """Parse a manifest; raises StoreError naming ``where`` for anything unreadable, unknown or inconsistent."""
        try:
            document = load_json(data, MAX_MANIFEST)
        except Refused as error:
            raise StoreError(f"{where}: no readable manifest ({error}); rebuild it with merge_manifests") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise StoreError(f"{where}: this is no {FORMAT} manifest")
        version = document.get("version")
        if version not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise StoreError(f"{where}: version {version!r}; this program reads versions {known}")
        if ("privileged_names" in document) != (version == 2):
            raise StoreError(f"{where}: privileged_names belongs to version 2 and only to it; the manifest was altered")
        body = {k: v for k, v in document.items() if k not in ("format", "version", "episodes", "steps")}
        try:
            shards = tuple(_shard(s, where) for s in body.pop("shards", ()))
            manifest = build(cls, {**body, "shards": shards}, where)
        except StoreError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{where}: {error!r}; rebuild it with merge_manifests") from error
        if document.get("episodes") != len(manifest.episodes):
            raise StoreError(
                f"{where}: says {document.get('episodes')} episodes, its shards list {len(manifest.episodes)}"
            )
        if not (0 < manifest.image_height <= MAX_SIDE and 0 < manifest.image_width <= MAX_SIDE):
            raise StoreError(f"{where}: images of {manifest.image_height} x {manifest.image_width}; not made here")
        return manifest


def _shard(data: Mapping[str, Any], where: str) -> Shard:
    episodes = tuple(build(EpisodeMeta, e, f"{where}: episode") for e in data["episodes"])
    shard: Shard = build(Shard, {**data, "episodes": episodes}, f"{where}: shard")
    if any(e.length < 1 or e.length > MAX_STEPS for e in episodes):
        raise StoreError(f"{where}: shard {shard.file!r} has an episode of impossible length")
    if Path(shard.file).is_absolute() or ".." in Path(shard.file).parts:
        raise StoreError(f"{where}: shard path {shard.file!r} leaves the store")
    return shard


def read_manifest(root: Path) -> Manifest:
    """The manifest of the store at ``root``; raises StoreError when it is missing or damaged."""
    path = root / MANIFEST
    try:
        data = read_bounded(path, MAX_MANIFEST)
    except (Refused, IsADirectoryError) as error:
        raise StoreError(f"{path}: {error}") from error
    except FileNotFoundError:
        hint = "; its writers have not finished, run merge_manifests" if (root / PARTS).is_dir() else ""
        raise StoreError(f"{path} does not exist: no finished store is here{hint}") from None
    return Manifest.from_json(data, str(path))


def merge_manifests(root: Path) -> Manifest:
    """Make ``store.json`` out of every writer's part, and return it. Safe to call again and from several processes.

    Raises StoreError when there is no part, when parts disagree (contract, action space, image size), or when one
    episode id stands in two shards.
    """
    root = Path(root)
    if not (root / PARTS).is_dir():
        raise StoreError(f"{root}: no {PARTS} folder, so nothing was written here; check the path")
    with locked(root / ".lock"):
        parts = sorted((root / PARTS).glob("*.json"))
        if not parts:
            raise StoreError(f"{root / PARTS}: no writer has finished a shard yet")
        manifests = [Manifest.from_json(p.read_bytes(), str(p)) for p in parts]
        first = manifests[0]
        for path, manifest in zip(parts, manifests, strict=True):
            for key, value in manifest.identity.items():
                if value != first.identity[key]:
                    raise StoreError(
                        f"{path}: {key} differs from {parts[0].name}; one store holds one contract and image size"
                    )
        owner: dict[str, str] = {}
        for shard in (s for m in manifests for s in m.shards):
            for episode in shard.episodes:
                if episode.id in owner:
                    raise StoreError(
                        f"{root}: episode {episode.id} is in {owner[episode.id]} and in {shard.file}; "
                        f"remove one of the two parts and merge again"
                    )
                owner[episode.id] = shard.file
        merged = Manifest(**first.identity, shards=tuple(s for m in manifests for s in m.shards))
        write_atomically(root / MANIFEST, merged.to_json())
    return merged
