"""What stops training says what to do: memory that ran out, a device that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny_config, tiny_data, tiny_model, tiny_text, tiny_trainer

from qt_ros.cli.main import main
from qt_ros.learning.errors import OutOfMemory, TrainingError
from qt_ros.learning.guards import find_device
from qt_ros.learning.pointing import PointingConfig, PointingTrainer
from qt_ros.learning.trainer import Trainer


def full(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("begin", [Trainer.cache_tokens, lambda trainer: trainer.run(lambda _: None)])
def test_running_out_of_memory_while_frames_are_encoded_says_what_to_do(
    tmp_path: Path, begin: Callable[[Trainer], object]
) -> None:
    trainer = tiny_trainer(tmp_path, freeze_vision=True)
    trainer.model.encode_frames = full
    with pytest.raises(OutOfMemory, match=r"every frame was encoded once .*Take one of: --stream.*; a device with"):
        begin(trainer)
    assert not (tmp_path / "state.safetensors").exists()


def test_running_out_of_memory_in_a_report_says_what_to_do_and_keeps_the_state(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "qt_opt")
    trainer.run(lambda _: None, stop=lambda: trainer.step == 3)
    trainer.method.first_values = full
    with pytest.raises(OutOfMemory) as caught:
        trainer.run(lambda _: None)
    text = str(caught.value)
    assert "the report after gradient step 5" in text and "a smaller batch does not help" in text
    assert "freeze_vision=true" in text and "options.samples, now 8" in text
    assert tiny_trainer(tmp_path, "qt_opt").step == 3


def test_running_out_of_memory_in_a_warm_up_says_what_to_make_smaller(tmp_path: Path) -> None:
    settings = PointingConfig(gradient_steps=3, batch=4, threads=1)
    trainer = PointingTrainer(tiny_model(), tiny_data(), tiny_text(), settings, tmp_path, held_out=0.2)
    trainer.model.encode_frames = full
    for work in (lambda: trainer.run(lambda *_: None), trainer.evaluate):
        with pytest.raises(OutOfMemory, match=r"out of memory on cpu in the warm-up, .*now 4; --batch 2 "):
            work()


def test_a_device_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wanted = r"device 'cuda': torch .* sees no CUDA GPU; use --device cpu"
    with pytest.raises(TrainingError, match=wanted):
        Trainer(tiny_model(), tiny_data(), tiny_text(), tiny_config(), tmp_path, "cuda")
    with pytest.raises(TrainingError, match=wanted):
        PointingTrainer(tiny_model(), tiny_data(), tiny_text(), PointingConfig(), tmp_path, "cuda")
    with pytest.raises(TrainingError, match="knows no such device"):
        find_device("gpu")
    with pytest.raises(TrainingError, match="'mps': this torch sees no such device"):
        find_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda", 1) and find_device("cpu").type == "cpu"
    with pytest.raises(TrainingError, match=r"'cuda:2': torch sees 2 CUDA GPU\(s\), counted from 0"):
        find_device("cuda:2")


@pytest.mark.parametrize("words", [["train", "--privileged"], ["pretrain"]])
def test_the_commands_refuse_it_before_they_read_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    store, out = str(tmp_path / "none"), str(tmp_path / "out")
    assert main([*words, "--store", store, "--out", out, "--device", "cuda"]) == 2
    assert "qt-ros: device 'cuda': torch" in capsys.readouterr().err
