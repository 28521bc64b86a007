"""What a warmed-up, frozen vision side makes of whole stores, kept on disk for all runs that share it.

Tokens take a twentieth of the images' memory, and every method and seed of an experiment starts from the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qt_ros.episodes.files import locked, replacing
from qt_ros.episodes.store import EpisodeStore
from qt_ros.learning.dataset import judged_episodes
from qt_ros.learning.errors import TrainingError
from qt_ros.model.checkpoint import load_checkpoint, read_info
from qt_ros.model.language import TextEncoder

EPISODES = 64  # decoded at a time
CHUNK = 256  # frames encoded at a time


class Stopped(Exception):
    """Somebody asked to stop before all frames were encoded."""


def frozen_tokens(
    stores: Sequence[Path],
    init: Path,
    folder: Path,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> NDArray[np.float16]:
    """Tokens (N, K, width) float16 of every step of ``stores`` that is learnt from, as `load_training_data` has them.

    ``init``: the checkpoint whose vision side encodes. They are made once and kept in ``folder`` as an array file named
    after the SHA-256 of the stores' manifests and of the checkpoint's weights; later calls, also in other processes,
    map that file into memory (writes stay private). ``progress(done, total)`` counts steps. Raises Stopped when
    ``stopped()`` turns true, and TrainingError for a checkpoint without vision.
    """
    info = read_info(init)
    if info.config.vision == "state":
        raise TrainingError(f"{init} acts on privileged state; there are no images to encode")
    opened = [EpisodeStore(path) for path in stores]
    name = hashlib.sha256(info.id.encode())
    for store in opened:
        name.update(hashlib.sha256(store.manifest.to_json()).digest())
        name.update(repr([shard.file for shard in store.skipped]).encode())
        if len(judged_episodes(store)) < len(store):  # tokens of all of them were once kept under the plain name
            name.update(b"judged")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tokens-{name.hexdigest()[:16]}.npy"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            _encode(opened, init, path, device, progress, stopped)
    tokens: NDArray[np.float16] = np.load(path, mmap_mode="c", allow_pickle=False)
    return tokens


@torch.no_grad()
def _encode(
    stores: Sequence[EpisodeStore],
    init: Path,
    path: Path,
    device: str,
    progress: Callable[[int, int], None],
    stopped: Callable[[], bool],
) -> None:
    model, info = load_checkpoint(init, device=device)
    model.eval()
    encoder = TextEncoder(info.text_encoder)
    chosen = [judged_episodes(store) for store in stores]
    total = sum(store.meta[number].length for store, some in zip(stores, chosen, strict=True) for number in some)
    done = 0
    shape = (total, info.config.tokens_per_frame, info.config.width)
    with replacing(path) as stream:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for store, some in zip(stores, chosen, strict=True):
            for first in range(0, len(some), EPISODES):
                arrays = store.load_all(("images",), indices=some[first : first + EPISODES])
                assert arrays.images is not None
                text = encoder.encode(arrays.instructions)[torch.from_numpy(arrays.episode_of_step)]
                for start in range(0, arrays.steps, CHUNK):
                    if stopped():
                        raise Stopped(f"{done} of {total} frames were encoded")
                    chunk = slice(start, start + CHUNK)
                    images = torch.from_numpy(arrays.images[chunk]).to(device).permute(0, 3, 1, 2)
                    tokens = model.encode_frames(images, text[chunk].to(device)).half().cpu().numpy()
                    stream.write(np.ascontiguousarray(tokens).tobytes())
                    done += len(tokens)
                progress(done, total)
