"""A store behind a URL brought whole onto this machine, for data small enough to train on from memory."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qt_ros.contract.files import locked, sha256_file, write_atomically
from qt_ros.episodes.labels import LABELS
from qt_ros.episodes.manifest import MANIFEST, SHARDS, Shard
from qt_ros.episodes.roots import Root, cache_folder, root_manifest

log = logging.getLogger(__name__)


def fetch_store(root: Root, cache: Path | None = None, progress: Callable[[int, int], None] | None = None) -> Path:
    """Copy the store at ``root`` into this machine's cache, and return where: an `EpisodeStore` opens it.

    Shards that are there already with the right content are not fetched again, so that an interrupted copy goes on and
    a store that grew costs its new shards. A shard that arrives damaged is not kept: the store then lacks it, by name.
    ``progress(shards_done, shards)``. Raises StoreError, StoreUnreachable.
    """
    home = cache_folder(root.url, cache) / "copy"
    (home / SHARDS).mkdir(parents=True, exist_ok=True)
    with locked(home / ".lock"):
        held = root_manifest(root)
        manifest = held.manifest
        with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
            done = pool.map(lambda shard: _fetch(root, shard, home), manifest.shards)
            try:
                for number, _ in enumerate(done, 1):
                    if progress is not None:
                        progress(number, len(manifest.shards))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        write_atomically(home / LABELS, held.labels)
        write_atomically(home / MANIFEST, held.data)
    return home


def _fetch(root: Root, shard: Shard, home: Path) -> None:
    path = home / shard.file
    if path.is_file() and path.stat().st_size == shard.bytes:
        if sha256_file(path) == shard.sha256:
            return
    try:
        data = root.read(shard.file)
    except FileNotFoundError:
        log.warning("%s: shard %s is missing", root.url, shard.file)
        path.unlink(missing_ok=True)
        return
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        log.warning("%s: shard %s arrived with other content than its SHA-256 says", root.url, shard.file)
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
