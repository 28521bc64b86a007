"""Encoded frames lie on disk, are written once, and belong to what encoded them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_text

from qt_ros.learning import token_file
from qt_ros.learning.token_file import TokenFile, vision_key


def tokens(first: int, last: int) -> tuple[np.ndarray, dict[int, str]]:
    steps = np.arange(first, last, dtype=np.float16)[:, None, None]
    return np.broadcast_to(steps, (last - first, 2, 3)), {first: "damaged"} if first == 4 else {}


def test_rows_come_back_by_step_number_with_what_was_damaged(tmp_path: Path) -> None:
    file = TokenFile(tmp_path, "a", 10, (2, 3))
    assert file.fill(tokens, 4) == {4: "damaged"}
    found = file.read(3, 5)
    assert found.shape == (5, 2, 3) and found[:, 1, 2].tolist() == [3, 4, 5, 6, 7]


def test_a_full_file_is_not_filled_again_and_other_names_have_their_own(tmp_path: Path) -> None:
    TokenFile(tmp_path, "a", 10, (2, 3)).fill(tokens, 4)

    def never(first: int, last: int) -> tuple[np.ndarray, dict[int, str]]:
        raise AssertionError("encoded twice")

    assert TokenFile(tmp_path, "a", 10, (2, 3)).fill(never, 4) == {4: "damaged"}
    with pytest.raises(AssertionError, match="encoded twice"):
        TokenFile(tmp_path, "b", 10, (2, 3)).fill(never, 4)


def test_a_file_that_lost_its_end_is_filled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_file, "KEEP_EVERY", 1)
    file = TokenFile(tmp_path, "a", 10, (2, 3))
    file.fill(tokens, 4)
    file.path.write_bytes(file.path.read_bytes()[:-1])
    file.fill(tokens, 4)
    assert file.read(9, 1)[0, 0, 0] == 9


def test_the_key_follows_the_weights_of_vision_and_the_sentences_and_nothing_else() -> None:
    model, text = tiny_model(), tiny_text()
    key = vision_key(model, text)
    with torch.no_grad():
        model.head_bias.add_(1.0)
    assert vision_key(model, text) == key != vision_key(model, text + 1)
    with torch.no_grad():
        next(model.vision.parameters()).add_(1.0)
    assert vision_key(model, text) != key
