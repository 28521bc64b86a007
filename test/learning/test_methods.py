"""What holds for every method: exact resuming, stops with advice, frozen and trained vision, and a network that
acts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import METHODS, tiny_config, tiny_data, tiny_model, tiny_text, tiny_trainer

from qt_ros.learning.errors import OutOfMemory, TrainingError
from qt_ros.learning.methods import METHODS as REGISTRY
from qt_ros.learning.options import OPTIONS
from qt_ros.learning.trainer import StepReport, Trainer
from qt_ros.model.acting import VALUE_HEADS, act

EVERY = pytest.mark.parametrize("method", METHODS)


def run(trainer: Trainer, **kwargs: object) -> list[StepReport]:
    reports: list[StepReport] = []
    trainer.run(reports.append, **kwargs)
    return reports


def same(a: Trainer, b: Trainer) -> bool:
    first, second = a.method.state(), b.method.state()
    return first.keys() == second.keys() and all(
        torch.equal(x, y)
        for name in first
        for x, y in zip(first[name].state_dict().values(), second[name].state_dict().values(), strict=True)
    )


def test_every_method_has_a_name_a_network_and_options() -> None:
    assert set(REGISTRY) == set(OPTIONS) == set(VALUE_HEADS)


@EVERY
@pytest.mark.parametrize("vision", ["trained", "frozen"])
def test_an_interrupted_run_goes_on_to_exactly_the_same_weights_of_all_networks(
    tmp_path: Path, method: str, vision: str
) -> None:
    settings = {"freeze_vision": True} if vision == "frozen" else {"image_shift": 2}
    whole = tiny_trainer(tmp_path / "a", method, **settings)
    run(whole)
    first = tiny_trainer(tmp_path / "b", method, **settings)
    assert not first.run(lambda _: None, stop=lambda: first.step == 5)
    torch.rand(7)  # whatever else used the generator in between
    second = tiny_trainer(tmp_path / "b", method, **settings)
    assert second.step == 5 and same(first, second)
    run(second)
    assert same(whole, second)
    assert not same(whole, tiny_trainer(tmp_path / "c", method, **settings))


@EVERY
def test_dropout_and_another_seed(tmp_path: Path, method: str) -> None:
    def made(folder: str, seed: int) -> Trainer:
        model = tiny_model(method=method, dropout=0.3)
        return Trainer(model, tiny_data(), tiny_text(), tiny_config(method, seed=seed), tmp_path / folder)

    a, b, c = made("a", 0), made("b", 0), made("c", 1)
    for trainer in (a, b, c):
        torch.rand(3)
        run(trainer)
    assert same(a, b) and not same(a, c)


@EVERY
def test_every_network_learns_and_its_lagged_copy_follows(tmp_path: Path, method: str) -> None:
    trainer = tiny_trainer(tmp_path, method, ema_decay=0.5)
    before = {name: [p.clone() for p in module.parameters()] for name, module in trainer.method.state().items()}
    reports = run(trainer)
    for name, module in trainer.method.state().items():
        still = [
            key
            for (key, p), q in zip(module.named_parameters(), before[name], strict=True)
            # FiLM's scale and bins that no batch held may stay as they were
            if torch.equal(p, q) and "film" not in key and "return_embedding" not in key
        ]
        assert still == [], f"{name} did not change"
    assert all(np.isfinite(list(r.metrics.values())).all() for r in reports)
    assert ("value_spread" in reports[-1].metrics) == (method not in ("rt1_bc", "decision_transformer"))


@EVERY
def test_frozen_vision_stays_as_it_was_and_its_cache_changes_nothing(tmp_path: Path, method: str) -> None:
    trainer = tiny_trainer(tmp_path, method, freeze_vision=True)
    before = [p.clone() for p in trainer.model.vision.parameters()]
    live = float(trainer.losses(0)["loss"].detach())
    trainer.cache_tokens()
    assert float(trainer.losses(0)["loss"].detach()) == pytest.approx(live, rel=2e-2)
    run(trainer)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.vision.parameters(), strict=True))


@EVERY
def test_mixed_precision_changes_the_loss_little_and_trains(tmp_path: Path, method: str) -> None:
    exact = float(tiny_trainer(tmp_path / "a", method).losses(0)["loss"].detach())
    trainer = tiny_trainer(tmp_path / "b", method, autocast=True)
    terms = trainer.losses(0)
    assert terms["loss"].dtype == torch.float32 and float(terms["loss"].detach()) == pytest.approx(exact, rel=0.05)
    assert all(np.isfinite(list(r.metrics.values())).all() for r in run(trainer))


@pytest.mark.gpu
@EVERY
def test_on_a_gpu_it_starts_from_the_same_loss_and_trains(tmp_path: Path, method: str) -> None:
    exact = float(tiny_trainer(tmp_path / "a", method).losses(0)["loss"].detach())
    model = tiny_model(method=method)
    trainer = Trainer(model, tiny_data(), tiny_text(), tiny_config(method, autocast=True), tmp_path / "b", "cuda")
    assert float(trainer.losses(0)["loss"].detach()) == pytest.approx(exact, rel=0.05)
    run(trainer)
    again = Trainer(tiny_model(method=method), tiny_data(), tiny_text(), trainer.config, tmp_path / "b", "cuda")
    assert again.step == 10 and same(trainer, again)


@EVERY
def test_what_was_trained_acts(tmp_path: Path, method: str) -> None:
    trainer = tiny_trainer(tmp_path, method)
    run(trainer)
    window = trainer.batches.plain_window(trainer.acting, np.arange(4))
    choice = act(trainer.acting.eval(), trainer.config.acting, *window.seen)
    assert choice.bins.shape == (4, 2) and bool(choice.q.isfinite().all())


@EVERY
def test_a_step_after_the_episodes_end_or_before_its_start_never_counts(tmp_path: Path, method: str) -> None:
    """The loss of a batch is the same whatever stands in the store beside its episodes."""
    trainer = tiny_trainer(tmp_path, method, segment_steps=3)
    batch = trainer.batches.at(0)
    frames = batch.segments.frames
    used = np.unique(frames[batch.segments.frame_mask])
    base = float(trainer.losses(0)["loss"].detach())
    other = np.setdiff1d(np.arange(len(trainer.data.rewards)), used)
    assert len(other)
    trainer.data.images[other], trainer.data.proprio[other] = 0, 9.0
    trainer.data.bins[other], trainer.data.rewards[other] = 0, 1.0
    assert float(trainer.losses(0)["loss"].detach()) == base


@EVERY
def test_a_loss_that_is_not_finite_stops_and_keeps_the_batch(tmp_path: Path, method: str) -> None:
    trainer = tiny_trainer(tmp_path, method)
    trainer.data.proprio[:] = float("nan")
    with pytest.raises(FloatingPointError, match="bad_batch_0"):
        trainer.train_step()
    kept = load_file(str(tmp_path / "bad_batch_0.safetensors"))
    assert bool(kept["proprio"].isnan().all())
    wanted = trainer.batches.at(0)
    assert torch.equal(kept["frames"], torch.from_numpy(wanted.segments.frames))
    assert torch.equal(kept["bins"], wanted.bins) and torch.equal(kept["rewards"], wanted.rewards)
    frames, data = wanted.segments.frames, trainer.data
    assert np.array_equal(kept["images"], data.images[frames])
    belongs = np.repeat(np.arange(len(data.lengths)), data.lengths)
    assert np.array_equal(kept["episodes"], belongs[frames])


def test_running_out_of_memory_says_what_to_make_smaller_and_keeps_the_state(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "qt_opt", gradient_steps=20, segment_steps=2)
    trainer.run(lambda _: None, stop=lambda: trainer.step == 5)
    trainer.method.losses = lambda batch: {"loss": torch.empty(2**55).sum()}  # more than any machine has
    with pytest.raises(OutOfMemory) as caught:
        trainer.run(lambda _: None)
    text = str(caught.value)
    assert "out of memory on cpu in gradient step 5" in text and "--set batch=4" in text
    assert "segment_steps (now 2)" in text and "options.samples, now 8" in text
    assert tiny_trainer(tmp_path, "qt_opt", gradient_steps=20, segment_steps=2).step == 5


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    trainer.method.losses = lambda batch: {"loss": torch.zeros(2) @ torch.zeros(3)}
    with pytest.raises(RuntimeError, match="size"):
        trainer.train_step()


def outcome(success: bool) -> object:
    data = tiny_data()
    data.success[:] = success
    data.rewards[:] = 0.0
    data.returns[:] = 0.0
    return data


@EVERY
def test_episodes_without_a_single_success_are_refused(tmp_path: Path, method: str) -> None:
    with pytest.raises(TrainingError, match="none of the 12 episodes is a success"):
        tiny_trainer(tmp_path, method, data=outcome(False))


@pytest.mark.parametrize("method", ["decision_transformer", "qt_opt", "aw_opt"])
def test_methods_that_learn_from_failures_want_some(tmp_path: Path, method: str) -> None:
    with pytest.raises(TrainingError, match="all 12 episodes are successes"):
        tiny_trainer(tmp_path, method, data=outcome(True))


@pytest.mark.parametrize("method", ["q_transformer", "cql", "rt1_bc", "iql"])
def test_methods_that_keep_to_the_data_can_do_without_failures(tmp_path: Path, method: str) -> None:
    assert np.isfinite(run(tiny_trainer(tmp_path, method, data=outcome(True)))[-1].metrics["loss"])


@EVERY
def test_the_state_of_another_method_is_refused(tmp_path: Path, method: str) -> None:
    run(tiny_trainer(tmp_path, method))
    other = "iql" if method != "iql" else "rt1_bc"
    with pytest.raises((TrainingError, RuntimeError), match="other settings|another model"):
        tiny_trainer(tmp_path, other)


def test_a_network_made_for_another_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="rt1_bc needs value_head softmax"):
        Trainer(tiny_model(), tiny_data(), tiny_text(), tiny_config("rt1_bc"), tmp_path)
    with pytest.raises(TrainingError, match="qt_opt trains a ContinuousCritic, not a QTransformer"):
        Trainer(tiny_model(), tiny_data(), tiny_text(), tiny_config("qt_opt"), tmp_path)
    with pytest.raises(TrainingError, match="hl_gauss needs both"):
        Trainer(tiny_model(method="hl_gauss"), tiny_data(), tiny_text(), tiny_config(), tmp_path)
    with pytest.raises(TrainingError, match="hl_gauss needs both"):
        Trainer(tiny_model(), tiny_data(), tiny_text(), tiny_config("hl_gauss"), tmp_path)


# ---- privileged state in the place of images


def state_data() -> object:
    data = tiny_data()
    data.images = None
    data.privileged = np.random.default_rng(1).normal(size=(len(data.rewards), 4)).astype(np.float32)
    return data


@EVERY
def test_every_method_trains_from_privileged_state(tmp_path: Path, method: str) -> None:
    def made() -> Trainer:
        model = tiny_model(method=method, vision="state", state_size=4)
        return Trainer(model, state_data(), tiny_text(), tiny_config(method, log_every=1), tmp_path)

    trainer = made()
    assert len(run(trainer)) == 10 and made().step == 10
    seen = float(trainer.losses(0)["loss"].detach())
    trainer.data.privileged[:] = -trainer.data.privileged
    assert float(trainer.losses(0)["loss"].detach()) != seen


def test_privileged_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    def made(data: object, **changes: object) -> Trainer:
        return Trainer(tiny_model(**changes), data, tiny_text(), tiny_config(), tmp_path)

    with pytest.raises(TrainingError, match="takes 5 privileged numbers, the data have 4"):
        made(state_data(), vision="state", state_size=5)
    with pytest.raises(TrainingError, match="takes 5 privileged numbers, the data have None"):
        made(tiny_data(), vision="state", state_size=5)
    with pytest.raises(TrainingError, match="loaded without images"):
        made(state_data())
    gaps = state_data()
    gaps.privileged[3:5] = np.nan
    with pytest.raises(TrainingError, match="2 of .* steps have no privileged state"):
        made(gaps, vision="state", state_size=4)
