"""The index of a store: where every frame lies in its shard, and every other number of a step, for reading one segment
at a time.

Shards are made to be read whole. The index (made by `index_build`) makes any step of them two short reads: one of the
step's record, one of its frames. Beside the store (``index/``), or in this machine's cache where nothing can be written
there:

    index.json                what it was made from (SHA-256 of manifest and labels), shards, instructions, the files
                              below
    episodes-<key>.npy        one record per episode, `EPISODE`
    steps-<key>.bin           one record per step, `step_dtype`, in the order of the episodes
    ids-<key>.txt             episode ids, one a line

``<key>`` is another one for each index; index.json is written last, so readers never see half of an index. Each frame
carries its CRC-32 and each episode that of its records: what was damaged after the index was made is found when it is
read, as a `CorruptEpisode`.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.robot import RobotContract
from qt_ros.contract.strict import build
from qt_ros.contract.untrusted import load_json
from qt_ros.episodes.labels import LABELS
from qt_ros.episodes.manifest import MANIFEST, MAX_MANIFEST, MAX_STEPS, Manifest, StoreError, require_contract
from qt_ros.episodes.roots import LocalRoot, Root, StoreUnreachable, read_optional
from qt_ros.episodes.rows import decode_png
from qt_ros.episodes.skipped import GONE, SkippedShard, mended, told

FORMAT, VERSION = "qt_ros.store_index", 3
FOLDER, RECORD = "index", "index.json"

SUCCESS, TERMINATED, KEYPOINTS, PRIVILEGED, UNJUDGED = 1, 2, 4, 8, 16
"""Bits of ``flags``."""

EPISODE = np.dtype([("length", "<i4"), ("shard", "<i4"), ("text", "<i4"), ("crc", "<u4"), ("flags", "<u4")])
"""``text`` counts into the index's instructions; ``crc`` is the CRC-32 of the episode's step records."""


DAMAGE = (FileNotFoundError, EOFError)
"""What a file that is gone or cut short says. Any other OSError is the machine's trouble, not the episode's."""


class CorruptEpisode(StoreError):
    """One episode's data are not what was put in. Others of the store may be sound."""

    def __init__(self, episode: int, message: str) -> None:
        super().__init__(message)
        self.episode = episode
        """Its number in the index."""


def _long(name: str) -> bool:
    """Whether a file system would not even look for it."""
    return max(len(part.encode(errors="replace")) for part in name.split("/")) > 255 or len(name) > 1000


def step_dtype(dims: int, proprio: int, privileged: int) -> np.dtype[Any]:
    """A step's record. ``at``, ``bytes``, ``frame_crc``: where its PNG lies in the shard. Arrays that an episode does
    not have are NaN."""
    return np.dtype(
        [
            ("at", "<u8"),
            ("bytes", "<u4"),
            ("frame_crc", "<u4"),
            ("reward", "<f4"),
            ("proprio", "<f4", (proprio,)),
            ("bins", "<i2", (dims,)),
            ("keypoints", "<f4", (2, 3)),
            ("privileged", "<f4", (privileged,)),
        ]
    )


@dataclass(frozen=True)
class IndexedShard:
    """A shard by its name in the store, its content's SHA-256 and its size."""

    file: str
    sha256: str
    bytes: int


@dataclass
class StoreIndex:
    """Random access to the E episodes of a store that were sound when the index was made.

    ``root``: of the shards; ``home`` and ``folder``: of the index's own files. ``starts`` (E,) int64: number of each
    episode's first step, of ``steps`` in all. ``skipped``: shards that were left out.
    """

    root: Root
    home: Root
    folder: str
    manifest: Manifest
    """Without shards."""
    manifest_sha256: str
    instructions: list[str]
    shards: list[IndexedShard]
    skipped: list[SkippedShard]
    reward_range: tuple[float, float]
    episodes: NDArray[Any] = field(repr=False)
    files: dict[str, dict[str, Any]] = field(repr=False)

    def __post_init__(self) -> None:
        self._check()
        m = self.manifest
        self.dtype = step_dtype(len(m.action_space), len(m.proprio_names), len(m.privileged_names))
        self.lengths = self.episodes["length"].astype(np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self._shard_of, self._crc = self.episodes["shard"], self.episodes["crc"]

    def _check(self) -> None:
        """ValueError unless counts and names are such as `make_index` writes: an index may come with the store of a
        stranger."""
        table = self.episodes
        if len(table):
            for name, low, high in (("length", 1, MAX_STEPS), ("shard", 0, len(self.shards) - 1),
                                    ("text", 0, len(self.instructions) - 1)):  # fmt: skip
                if table[name].min() < low or table[name].max() > high:
                    raise ValueError(f"{name} outside {low}..{high} in the table of episodes")
        for kind in ("episodes", "steps", "ids"):
            file = self.files[kind]["file"]
            if "/" in file or file in ("", "..") or _long(file):
                raise ValueError(f"its file {file[:80]!r} is not beside it")
        for file in [shard.file for shard in self.shards] + [shard.file for shard in self.skipped]:
            if Path(file).is_absolute() or ".." in Path(file).parts or "\0" in file:
                raise ValueError(f"shard path {file[:80]!r} leaves the store")
        for shard in self.shards:
            if _long(shard.file):
                raise ValueError(f"shard path {shard.file[:80]!r} is no path at all")
        if any(shard.episodes < 0 for shard in self.skipped):
            raise ValueError("a number of episodes below 0")
        if not all(isinstance(text, str) for text in self.instructions):
            raise ValueError("an instruction that is no text")

    def outdated(self) -> bool:
        """Whether a shard that was left out is there again and right; else ``skipped`` tells what is wrong now.

        Costs a look at the size of each shard that was left out, and where that is right, one read of it.
        """
        now = [mended(self.root, shard) for shard in self.skipped]
        if None in now:
            return True
        self.skipped = [shard for shard in now if shard is not None]
        return False

    @property
    def steps(self) -> int:
        """Steps of all episodes."""
        return int(self.lengths.sum())

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of every frame."""
        return self.manifest.image_height, self.manifest.image_width

    def flag(self, bit: int) -> NDArray[np.bool_]:
        """(E,) bool: which episodes have a bit of `EPISODE`'s flags."""
        return (self.episodes["flags"] & bit) != 0

    def episode_id(self, episode: int) -> str:
        """The id of an episode (read from disk: for messages)."""
        return self.episode_ids([episode])[0]

    def episode_ids(self, episodes: Iterable[int]) -> list[str]:
        """The ids of some episodes, by one read; their numbers where that fails."""
        listed = list(episodes)
        try:
            ids = self.home.read(self._name("ids")).decode(errors="replace").splitlines()
            return [ids[episode] for episode in listed]
        except (OSError, IndexError, StoreUnreachable):
            return [f"number {episode}" for episode in listed]

    def records(self, episode: int) -> NDArray[Any]:
        """The step records of an episode, (T,) of ``dtype``. CorruptEpisode, StoreUnreachable."""
        size = self.dtype.itemsize
        start, length = int(self.starts[episode]), int(self.lengths[episode])
        try:
            data = self.home.read_range(self._name("steps"), start * size, length * size)
        except DAMAGE as error:
            raise self._corrupt(episode, f"its records cannot be read ({error})") from error
        if zlib.crc32(data) != self._crc[episode]:
            raise self._corrupt(episode, "its records do not match their checksum")
        return np.frombuffer(data, self.dtype)

    def frames(self, episode: int, records: NDArray[Any]) -> list[NDArray[np.uint8]]:
        """The pictures (H, W, 3) uint8 RGB of some consecutive ``records`` of an episode, by one read.

        CorruptEpisode, StoreUnreachable.
        """
        shard = self.shards[self._shard_of[episode]].file
        first = int(records["at"][0])
        size = int(records["at"][-1]) + int(records["bytes"][-1]) - first
        if size < 1 or (records["at"] < first).any():
            raise self._corrupt(episode, "its frames are not in order")
        try:
            data = self.root.read_range(shard, first, size)
        except DAMAGE as error:
            raise self._corrupt(episode, f"its frames cannot be read ({error})") from error
        view, found = memoryview(data), []
        for record in records:
            at = int(record["at"]) - first
            png = view[at : at + int(record["bytes"])]
            if zlib.crc32(png) != record["frame_crc"]:
                raise self._corrupt(episode, "a frame does not match its checksum")
            try:
                picture = decode_png(np.frombuffer(png, np.uint8))
            except ValueError as error:
                raise self._corrupt(episode, f"a frame cannot be decoded ({error})") from error
            if picture.shape[:2] != self.image_size:
                raise self._corrupt(episode, f"a frame is {picture.shape[:2]}, the store has {self.image_size}")
            found.append(picture)
        return found

    def _name(self, kind: str) -> str:
        return f"{self.folder}{self.files[kind]['file']}"

    def _corrupt(self, episode: int, problem: str) -> CorruptEpisode:
        name = self.episode_id(episode)
        shard = self.shards[self._shard_of[episode]].file
        return CorruptEpisode(episode, f"{self.root.url}: episode {name} of {shard}: {problem}")


def parse_table(data: bytes) -> NDArray[Any]:
    """The table of episodes (E,) of `EPISODE`, from the bytes of an .npy file; ValueError when it is none."""
    try:
        table: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy reads the header with Python's tokenizer, which raises errors of its own
        raise ValueError(f"no readable table of episodes ({error})") from error
    if not isinstance(table, np.ndarray) or table.ndim != 1 or table.dtype != EPISODE:
        raise ValueError("a table of something else than episodes")
    return table


def read_index(root: Root, home: Root, folder: str) -> StoreIndex | None:
    """The index whose record is ``folder``index.json of ``home``, for the store at ``root``.

    None when there is none or when the store has changed since, by the content of its labels and of its manifest.
    StoreError when it is damaged, StoreUnreachable where a URL does not answer.
    """
    where = f"{home.url}/{folder}{RECORD}"
    try:
        document = load_json(home.read(f"{folder}{RECORD}"), MAX_MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except StoreUnreachable:  # a ValueError too
        raise
    except (ValueError, IsADirectoryError) as error:
        raise StoreError(f"{where}: no readable index ({error}); delete it, it will be made anew") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("version") != VERSION:
        return None  # of another version of this program: to be made anew
    try:
        if document["made_from"] != origin(root.read(MANIFEST), read_optional(root, LABELS)):
            return None
        table = home.read(f"{folder}{document['files']['episodes']['file']}")
        if hashlib.sha256(table).hexdigest() != document["files"]["episodes"]["sha256"]:
            raise StoreError(f"{where}: the table of episodes is damaged; delete the index, it will be made anew")
        return StoreIndex(
            root=root,
            home=home,
            folder=folder,
            manifest=Manifest.from_identity(document["store"], where),
            manifest_sha256=document["manifest_sha256"],
            instructions=document["instructions"],
            shards=[IndexedShard(*shard) for shard in document["shards"]],
            skipped=[build(SkippedShard, shard, where) for shard in document["skipped"]],
            reward_range=tuple(document["reward_range"]),
            episodes=parse_table(table),
            files=document["files"],
        )
    except StoreError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, MemoryError, EOFError, *GONE) as error:
        raise StoreError(f"{where}: incomplete ({error!r}); delete the index, it will be made anew") from error


def origin(manifest: bytes, labels: bytes) -> dict[str, Any]:
    """What tells an index that its store has changed, from the content of the two files that may change."""
    return {
        "manifest_sha256": _sha256(manifest),
        "labels_sha256": _sha256(labels),
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def open_index(
    root: Root,
    cache: Path,
    contract: RobotContract | None = None,
    *,
    allow_other_contract: bool = False,
    progress: Any = None,
) -> StoreIndex:
    """The index of the store at ``root``; made first where there is none or the store has changed, and again when a
    shard that it leaves out can be used.

    It is looked for beside the store, then in the folder ``cache``. ``contract``: as for `EpisodeStore`.
    ``progress(shards_done, shards)`` while it is made. What it holds follows the store's labels, as `EpisodeStore`
    does. Shards that it leaves out are logged at every opening. StoreError when there is no sound store.
    """
    from qt_ros.episodes.index_build import make_index

    found = read_index(root, root, f"{FOLDER}/")
    if found is None or found.skipped:  # the cache may have one that was made when more of the store was sound
        own = read_index(root, LocalRoot(cache), "")
        if own is not None and (found is None or len(own.skipped) < len(found.skipped)):
            found = own
    if found is None or found.outdated():
        found = make_index(root, cache, progress)
    told(root.url, found.skipped)
    if contract is not None:
        require_contract(found.manifest, root.url, contract, allow_other_contract)
    return found
