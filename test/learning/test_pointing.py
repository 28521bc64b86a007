"""Behaviour of the vision warm-up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny import tiny_data, tiny_model, tiny_text

from qt_ros.learning.errors import TrainingError
from qt_ros.learning.pointing import PointingConfig, PointingLoss, PointingTrainer


def spot(row: int, column: int, size: int = 8) -> torch.Tensor:
    attention = torch.full((1, 1, size, size), 1e-6)
    attention[0, 0, row, column] = 1.0
    return attention / attention.sum()


def test_the_loss_is_least_when_the_map_rests_on_the_point() -> None:
    loss = PointingLoss(sigma=0.05)
    point = torch.tensor([[[2.5 / 8, 4.5 / 8, 1.0]]])
    on, off = loss(spot(4, 2), point), loss(spot(4, 5), point)
    assert on["loss"] < off["loss"]
    assert float(on["error"][0]) == pytest.approx(0, abs=1e-3)
    assert float(off["error"][0]) == pytest.approx(3 / 8, abs=1e-2)


def test_a_point_out_of_view_or_unknown_does_not_count() -> None:
    loss = PointingLoss()
    for point in (torch.tensor([[[0.5, 0.5, 0.0]]]), torch.tensor([[[float("nan")] * 3]])):
        assert float(loss(spot(1, 1), point)["loss"]) == 0


def test_training_learns_to_point_and_leaves_the_q_function_alone(tmp_path: Path) -> None:
    data, model = tiny_data(40), tiny_model()
    data.images[:] = 0
    for i, (u, v, _) in enumerate(data.keypoints[:, 0]):
        data.images[i, int(v * 16), int(u * 16)] = 255
    data.keypoints[:, 1] = data.keypoints[:, 0]
    head = model.head_weight.clone()
    settings = PointingConfig(
        gradient_steps=400, batch=32, learning_rate=5e-3, threads=1, loss=PointingLoss(sigma=0.06)
    )
    trainer = PointingTrainer(model, data, tiny_text(), settings, tmp_path, held_out=0.2)
    before = trainer.evaluate()["held_out_error_target"]
    trainer.run(lambda *_: None)
    assert trainer.evaluate()["held_out_error_target"] < 0.5 * before
    assert torch.equal(head, model.head_weight)


def test_a_warm_up_goes_on_only_with_its_own_settings_and_data(tmp_path: Path) -> None:
    settings = PointingConfig(gradient_steps=4, batch=4, threads=1)
    first = PointingTrainer(tiny_model(), tiny_data(), tiny_text(), settings, tmp_path)
    assert not first.run(lambda *_: None, stop=lambda: first.step == 2)
    assert PointingTrainer(tiny_model(), tiny_data(), tiny_text(), settings, tmp_path).step == 2
    for data, changed in ((tiny_data(), dataclasses.replace(settings, seed=1)), (tiny_data(20), settings)):
        with pytest.raises(TrainingError, match="other settings or data"):
            PointingTrainer(tiny_model(), data, tiny_text(), changed, tmp_path)


def test_data_without_key_points_is_refused(tmp_path: Path) -> None:
    data = tiny_data()
    data.keypoints[:] = float("nan")
    with pytest.raises(ValueError, match="key points"):
        PointingTrainer(tiny_model(), data, tiny_text(), PointingConfig(), tmp_path)
