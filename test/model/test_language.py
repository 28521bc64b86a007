from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qt_ros.model.language import LanguageError, TextEncoder, bundled_minilm


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(cache_size=8)


def test_sentences_become_unit_vectors_of_384_numbers(encoder: TextEncoder) -> None:
    rows = encoder.encode(["pick up the red cube", "grasp the blue ball"])
    assert rows.shape == (2, encoder.size) == (2, 384)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))


def test_another_wording_is_nearer_than_another_object(encoder: TextEncoder) -> None:
    a, same, other = encoder.encode(["pick up the red cube", "grasp the red cube", "pick up the green bottle"])
    assert float(a @ same) > float(a @ other) + 0.1


def test_a_text_gives_the_same_bits_whatever_stands_beside_it(encoder: TextEncoder) -> None:
    alone = TextEncoder()
    alone._model = encoder._loaded()  # the same weights without this encoder's cache
    text = "lift the can"
    beside = alone.encode(["a much longer sentence that would make a batch pad all the others", text])[1]
    assert torch.equal(encoder.encode([text])[0], beside)


def test_white_space_around_a_text_does_not_matter(encoder: TextEncoder) -> None:
    rows = encoder.encode(["lift the can", "  lift the can\n"])
    assert torch.equal(rows[0], rows[1])


def test_the_cache_forgets_the_least_recently_used_text(encoder: TextEncoder) -> None:
    first = encoder.encode(["text 0"])
    for i in range(1, 12):
        encoder.encode([f"text {i}", "text 0"])
    assert encoder.cached == 8
    assert "text 0" in encoder._cache
    assert "text 1" not in encoder._cache
    assert torch.equal(encoder.encode(["text 0"]), first)


def test_changing_a_result_does_not_change_the_cache(encoder: TextEncoder) -> None:
    rows = encoder.encode(["lift the can"])
    kept = rows.clone()
    rows.zero_()
    assert torch.equal(encoder.encode(["lift the can"]), kept)


def test_the_encoder_is_frozen(encoder: TextEncoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder._loaded().parameters())
    row = encoder.encode(["lift the can"])
    assert not row.requires_grad
    (row * torch.ones(384, requires_grad=True)).sum().backward()  # usable in training all the same


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_instruction_is_refused_with_advice(encoder: TextEncoder, text: str) -> None:
    with pytest.raises(ValueError, match="instruction is empty; say what to do"):
        encoder.encode(["pick up the red cube", text])


def test_a_single_string_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="not a single string"):
        encoder.encode("pick up the red cube")


def test_no_texts_give_no_rows(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_a_folder_gives_the_same_vectors_as_the_default(encoder: TextEncoder) -> None:
    folder = TextEncoder(str(bundled_minilm()))
    assert torch.equal(folder.encode(["lift the can"]), encoder.encode(["lift the can"]))


def test_a_missing_folder_says_what_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="no such folder; give a folder, a hub name, or 'minilm'"):
        TextEncoder(str(tmp_path / "gone")).encode(["lift the can"])


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="could not be loaded"):
        TextEncoder(str(tmp_path)).encode(["lift the can"])


def test_importing_the_module_does_not_load_the_language_library() -> None:
    code = "import sys, qt_ros.model.language as m; m.TextEncoder(); print('sentence_transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_loading_writes_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    TextEncoder().encode(["pick up the red cube"])
    assert capfd.readouterr().err == ""
