"""The manifest of a training store: which shards belong to it, and what they hold.

A store is a folder::

    store.json              the manifest; what it does not list does not exist
    parts/<prefix>.json     one manifest per writer, and <prefix>.jsonl, a line for every shard since; see parts.py
                            and <prefix>.lock, which that writer holds while it writes
    shards/<prefix>-00000.parquet

Writers share nothing but the folder. ``merge_manifests`` (parts.py) makes ``store.json`` out of all parts, atomically
and last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from qt_ros.contract.actions import ActionSpace
from qt_ros.contract.robot import RobotContract
from qt_ros.contract.strict import build
from qt_ros.contract.untrusted import Refused, load_json, read_bounded

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

    @property
    def judged(self) -> bool:
        """Whether anybody, or a detector, said how it went. What nobody did is no failure, and is not learnt from."""
        return self.outcome != "unknown"


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
        identity = asdict(replace(self, shards=()))  # asdict copies whatever it meets: millions of episodes
        del identity["shards"]
        return identity

    @property
    def episodes(self) -> list[EpisodeMeta]:
        return [e for shard in self.shards for e in shard.episodes]

    @classmethod
    def of(
        cls,
        contract: RobotContract,
        image_size: tuple[int, int],
        proprio_names: Sequence[str],
        privileged_names: Sequence[str] = (),
    ) -> Manifest:
        """A manifest without shards, of episodes under ``contract`` with images of (height, width) pixels."""
        return cls(
            robot=contract.robot,
            contract_sha256=contract.sha256,
            contract_yaml=contract.text,
            action_space=contract.action_space.to_config(),
            action_space_sha256=contract.action_space.sha256,
            proprio_names=tuple(proprio_names),
            image_height=int(image_size[0]),
            image_width=int(image_size[1]),
            privileged_names=tuple(privileged_names),
        )

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any], where: str) -> Manifest:
        """A manifest without shards; the inverse of `identity`. StoreError when something is missing or unknown."""
        try:
            manifest: Manifest = build(cls, {**identity, "shards": ()}, where)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{where}: {error!r}") from error
        return manifest.checked(where)

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
            shards = tuple(shard_from_dict(s, where) for s in body.pop("shards", ()))
            manifest = build(cls, {**body, "shards": shards}, where)
        except StoreError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{where}: {error!r}; rebuild it with merge_manifests") from error
        if document.get("episodes") != len(manifest.episodes):
            raise StoreError(
                f"{where}: says {document.get('episodes')} episodes, its shards list {len(manifest.episodes)}"
            )
        return manifest.checked(where)

    def checked(self, where: str) -> Manifest:
        """This manifest, when its images are of a size that is made here. StoreError."""
        if not (0 < self.image_height <= MAX_SIDE and 0 < self.image_width <= MAX_SIDE):
            raise StoreError(f"{where}: images of {self.image_height} x {self.image_width}; not made here")
        return self


def shard_from_dict(data: Mapping[str, Any], where: str) -> Shard:
    """The inverse of ``asdict``. KeyError, TypeError or ValueError (StoreError) when something is missing or wrong."""
    episodes = tuple(build(EpisodeMeta, e, f"{where}: episode") for e in data["episodes"])
    shard: Shard = build(Shard, {**data, "episodes": episodes}, f"{where}: shard")
    if any(e.length < 1 or e.length > MAX_STEPS for e in episodes):
        raise StoreError(f"{where}: shard {shard.file!r} has an episode of impossible length")
    if Path(shard.file).is_absolute() or ".." in Path(shard.file).parts:
        raise StoreError(f"{where}: shard path {shard.file!r} leaves the store")
    return shard


def no_store(where: str | Path, unfinished: bool = False) -> StoreError:
    """What to raise where no manifest is."""
    hint = "; its writers have not finished, run merge_manifests" if unfinished else ""
    return StoreError(f"{where}/{MANIFEST} does not exist: no finished store is here{hint}")


def read_manifest(root: Path) -> Manifest:
    """The manifest of the store at ``root``; raises StoreError when it is missing or damaged."""
    try:
        return read_manifest_file(root / MANIFEST)
    except FileNotFoundError:
        raise no_store(root, (root / PARTS).is_dir()) from None


def read_manifest_file(path: Path) -> Manifest:
    """The manifest in this file, of a store or of one writer. FileNotFoundError; StoreError when it is damaged."""
    return Manifest.from_json(read_store_file(path, MAX_MANIFEST), str(path))


def read_store_file(path: Path, limit: int) -> bytes:
    """The content of a file of a store. FileNotFoundError; StoreError when it is no file or has more bytes."""
    try:
        return read_bounded(path, limit)
    except (Refused, IsADirectoryError) as error:
        raise StoreError(f"{path}: {error}") from error


def require_contract(manifest: Manifest, where: str | Path, contract: RobotContract, allow_other: bool) -> None:
    """StoreError when the store at ``where`` has another action space than ``contract``, or, unless ``allow_other``,
    was made with another contract text."""
    space = contract.action_space.sha256
    if space != manifest.action_space_sha256:
        raise StoreError(
            f"{where}: action space {manifest.action_space_sha256[:12]} is not that of robot "
            f"{contract.robot} ({space[:12]}); rebuild the store from its bags with this contract"
        )
    if contract.sha256 != manifest.contract_sha256 and not allow_other:
        raise StoreError(
            f"{where}: made with contract {manifest.contract_sha256[:12]}, robot {contract.robot} now has "
            f"{contract.sha256[:12]}; rebuild the store, or pass allow_other_contract if the change does not matter"
        )
