"""Behaviour of the vision warm-up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_data, tiny_model, tiny_text

from qt_ros.learning.errors import Diverged, TrainingError
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


def warm_up(folder: Path, **changes: object) -> PointingTrainer:
    settings = PointingConfig(gradient_steps=6, batch=4, threads=1, log_every=4, **changes)  # type: ignore[arg-type]
    return PointingTrainer(tiny_model(), tiny_data(), tiny_text(), settings, folder, held_out=0.2)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_a_warm_up_with_its_batch_and_not_in_its_state(tmp_path: Path, what: str) -> None:
    first = warm_up(tmp_path, save_every=1)
    assert not first.run(lambda *_: None, stop=lambda: first.step == 2)
    saved = (tmp_path / "state.safetensors").read_bytes()
    trainer = warm_up(tmp_path, save_every=1)
    before = [p.clone() for p in trainer.parts.parameters()]
    if what == "loss":
        first_map = trainer.model.token_learner
        first_map.register_forward_hook(lambda module, given, made: tuple(m * float("nan") for m in made))
    else:
        next(trainer.parts.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(Diverged, match=rf"the {what} is not finite at step 2; its batch is in .*bad_batch_2.*--rate"):
        trainer.run(lambda *_: None)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.parts.parameters(), strict=True))
    assert (tmp_path / "state.safetensors").read_bytes() == saved
    kept, data = load_file(str(tmp_path / "bad_batch_2.safetensors")), trainer.data
    frames = kept["frames"].numpy()
    assert (kept["images"].numpy() == data.images[frames]).all() and len(frames) == 4
    assert (data.starts[kept["episodes"].numpy()] <= frames).all()


def test_a_warm_up_that_diverges_is_never_saved(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        warm_up(tmp_path, learning_rate=float("inf")).run(lambda *_: None)
    assert not (tmp_path / "state.safetensors").exists()


def test_a_warm_up_that_was_stopped_between_two_reports_reports_what_it_would_have(tmp_path: Path) -> None:
    def told(trainer: PointingTrainer, stop: int = 0) -> list[tuple[int, dict[str, float]]]:
        found: list[tuple[int, dict[str, float]]] = []
        trainer.run(lambda step, metrics: found.append((step, metrics)), lambda: trainer.step == stop)
        return [(step, {k: v for k, v in m.items() if k != "samples_per_second"}) for step, m in found]

    whole = told(warm_up(tmp_path / "a"))
    parts = told(warm_up(tmp_path / "b"), 3) + told(warm_up(tmp_path / "b"), 5) + told(warm_up(tmp_path / "b"))
    assert parts == whole and [step for step, _ in whole] == [4, 6]
