"""Behaviour of the training loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import tiny_data, tiny_model, tiny_text

from qt_ros.learning.columns import Columns
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.group import Group
from qt_ros.learning.losses import LossConfig
from qt_ros.learning.state import Sums, save_state
from qt_ros.learning.targets import Backup
from qt_ros.learning.trainer import StepReport, Trainer


def config(**changes: object) -> TrainConfig:
    fields = {
        "model": {}, "gradient_steps": 10, "batch": 8, "learning_rate": 3e-3, "warmup_steps": 1, "log_every": 5,
        "save_every": 5, "backup": Backup(gamma=0.9), "loss": LossConfig("cross_entropy", 1.0), "threads": 1, **changes,
    }  # fmt: skip
    return TrainConfig(**fields)


def trainer(folder: Path, **changes: object) -> Trainer:
    return Trainer(tiny_model(), tiny_data(), tiny_text(), config(**changes), folder)


def run(t: Trainer, **kwargs: object) -> list[StepReport]:
    reports: list[StepReport] = []
    t.run(reports.append, **kwargs)
    return reports


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("backup", [Backup(0.9), Backup(0.9, to_next_step=True), Backup(0.9, n_step=3)])
def test_an_interrupted_run_goes_on_to_exactly_the_same_weights(tmp_path: Path, freeze: bool, backup: Backup) -> None:
    whole = trainer(tmp_path / "a", freeze_vision=freeze, backup=backup)
    run(whole)
    first = trainer(tmp_path / "b", freeze_vision=freeze, backup=backup)
    assert not first.run(lambda _: None, stop=lambda: first.step == 5)
    second = trainer(tmp_path / "b", freeze_vision=freeze, backup=backup)
    assert second.step == 5
    run(second)
    for a, b in ((whole.model, second.model), (whole.target, second.target)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_of_the_bins_taken_in_one_situation_training_prefers_those_that_succeeded(tmp_path: Path) -> None:
    t = trainer(tmp_path, gradient_steps=250, log_every=250, save_every=250)
    data = t.data
    data.images[:], data.proprio[:], data.text[:] = 100, 0.5, 0  # one situation; only bins and outcomes differ
    success = data.success.repeat(data.lengths)
    data.bins[:] = [2, 0]  # what every failure does
    data.bins[success] = [1, 3]
    run(t)
    frames = data.starts[:1, None].repeat(2, axis=1)
    mask = torch.tensor([[False, True]])
    tokens = t.batches.tokens(t.model, t.batches.source.around(frames.reshape(-1))[1], frames)
    bins, q = t.model.decode(tokens, torch.from_numpy(data.proprio[frames]), mask)
    assert bins.tolist() == [[1, 3]]
    assert q[0, 0, 1] > q[0, 0, 2] > q[0, 0, 4]


def test_the_loss_feels_reward_and_the_end_of_an_episode(tmp_path: Path) -> None:
    base = trainer(tmp_path / "a").losses(0)["td"]
    paid = trainer(tmp_path / "b")
    paid.data.rewards[:] = 1.0
    assert paid.losses(0)["td"] != base
    endless = trainer(tmp_path / "c")
    endless.data.terminated[:] = False
    assert endless.losses(0)["td"] != base


def test_frozen_vision_stays_as_it_was_and_its_cache_changes_nothing(tmp_path: Path) -> None:
    frozen = trainer(tmp_path / "a", freeze_vision=True)
    before = [p.clone() for p in frozen.model.vision.parameters()]
    live = float(frozen.losses(0)["loss"].detach())
    frozen.cache_tokens()
    cached = float(frozen.losses(0)["loss"].detach())
    assert cached == pytest.approx(live, rel=1e-2)  # tokens are kept in half precision
    run(frozen)
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.model.vision.parameters(), strict=True))


def test_image_shift_changes_what_trained_vision_sees_but_not_what_is_drawn_twice(tmp_path: Path) -> None:
    plain, shifted = trainer(tmp_path / "a"), trainer(tmp_path / "b", image_shift=2)
    first = float(shifted.losses(0)["loss"].detach())
    assert first != float(plain.losses(0)["loss"].detach())
    assert first == float(shifted.losses(0)["loss"].detach())


def test_dropout_too_is_the_same_after_an_interruption_and_another_with_another_seed(tmp_path: Path) -> None:
    def made(folder: str, **changes: object) -> Trainer:
        return Trainer(tiny_model(dropout=0.3), tiny_data(), tiny_text(), config(**changes), tmp_path / folder)

    whole = made("a")
    run(whole)
    first = made("b")
    first.run(lambda _: None, stop=lambda: first.step == 5)
    torch.rand(7)  # whatever else used the generator in between
    second = made("b")
    run(second)
    states = (whole.model.state_dict().values(), second.model.state_dict().values())
    assert all(torch.equal(x, y) for x, y in zip(*states, strict=True))
    other = made("c", seed=1)
    assert other._seed(0, 2) != whole._seed(0, 2) != whole._seed(1, 2)


def test_a_model_without_proprioception_trains_on_data_that_has_it(tmp_path: Path) -> None:
    t = Trainer(tiny_model(proprio_size=0), tiny_data(), tiny_text(), config(), tmp_path)
    reports = run(t)
    assert t.step == 10 and all(r.metrics["loss"] > 0 for r in reports)


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    before = [p.clone() for p in t.model.parameters()]
    t.model.head_bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match="the gradient is not finite at step 0"):
        t.train_step()
    assert all(torch.equal(a, b) for a, b in zip(before, t.model.parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_batch(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.data.proprio[:] = float("nan")
    with pytest.raises(FloatingPointError, match="bad_batch_0"):
        t.train_step()
    assert (tmp_path / "bad_batch_0.safetensors").is_file()


def test_keeping_a_batch_takes_no_more_pictures_to_the_device_than_training_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = trainer(tmp_path)
    t.data.proprio[:] = float("nan")
    taken: list[str] = []
    plain = Columns.tensor
    monkeypatch.setattr(Columns, "tensor", lambda columns, name: (taken.append(name), plain(columns, name))[1])
    with pytest.raises(FloatingPointError, match="bad_batch_0"):
        t.train_step()
    assert "bins" in taken and "images" not in taken, "all of the data's pictures may not fit there"
    kept = load_file(str(tmp_path / "bad_batch_0.safetensors"))
    assert torch.equal(kept["images"], torch.from_numpy(t.data.images[kept["frames"].numpy()]))


def test_the_state_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    run(trainer(tmp_path / "run", gradient_steps=1))
    (tmp_path / "file").touch()
    assert (tmp_path / "run" / "state.safetensors").stat().st_mode == (tmp_path / "file").stat().st_mode
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state.safetensors"]


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    run(trainer(tmp_path))
    with pytest.raises(ValueError, match=r"other settings or data \(learning_rate was \S+, is 0.0001\)"):
        trainer(tmp_path, learning_rate=1e-4)
    (tmp_path / "state.safetensors").write_bytes(b"x" * 10)
    with pytest.raises(RuntimeError, match="delete it"):
        trainer(tmp_path)


def test_the_value_spread_is_zero_when_all_scenes_look_alike(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    assert t.value_spread()["value_spread"] >= 0
    t.data.images[:], t.data.proprio[:], t.data.text[:] = 0, 0, 0
    assert t.value_spread()["value_spread"] == pytest.approx(0, abs=1e-6)


def with_stores(*hashes: str) -> TrainingData:
    data = tiny_data()
    data.provenance = [{"manifest_sha256": value} for value in hashes]
    return data


def test_a_store_of_equal_size_and_other_content_is_refused(tmp_path: Path) -> None:
    first = Trainer(tiny_model(), with_stores("aa", "bb"), tiny_text(), config(), tmp_path)
    assert not first.run(lambda _: None, stop=lambda: first.step == 2)
    assert Trainer(tiny_model(), with_stores("aa", "bb"), tiny_text(), config(), tmp_path).step == 2
    with pytest.raises(TrainingError, match=r"other settings or data \(stores\)"):
        Trainer(tiny_model(), with_stores("aa", "cc"), tiny_text(), config(), tmp_path)


def test_a_state_that_does_not_know_its_stores_is_told_apart(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    earlier = {key: value for key, value in t._identity().items() if key != "stores"}
    save_state(tmp_path, 3, {"online": t.model, "target": t.target}, t.optimiser, earlier)
    with pytest.raises(TrainingError, match="earlier version, which did not note what its stores held"):
        trainer(tmp_path)


def test_a_run_that_began_from_something_else_is_refused_and_told_from_what(tmp_path: Path) -> None:
    def begin(**changes: str) -> Trainer:
        start = {"init": "aa", "text_encoder": "minilm", "vision_weights": "", **changes}
        return Trainer(tiny_model(), tiny_data(), tiny_text(), config(), tmp_path, start=start)

    first = begin()
    assert not first.run(lambda _: None, stop=lambda: first.step == 2)
    assert begin().step == 2
    for what, other in (("init", "bb"), ("text_encoder", "bag of words"), ("vision_weights", "timm/b3")):
        with pytest.raises(TrainingError, match=rf"other settings or data \({what}\)"):
            begin(**{what: other})


def test_a_state_saved_before_starts_were_noted_goes_on(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    earlier = {key: value for key, value in t._identity().items() if key != "start"}
    save_state(tmp_path, 3, {"online": t.model, "target": t.target}, t.optimiser, earlier)
    again = Trainer(tiny_model(), tiny_data(), tiny_text(), config(), tmp_path, start={"init": "aa"})
    assert again.step == 3


def told(t: Trainer, **kwargs: object) -> list[tuple[int, dict[str, float]]]:
    """What is reported, less what a clock measures."""
    return [(r.step, {k: v for k, v in r.metrics.items() if k != "samples_per_second"}) for r in run(t, **kwargs)]


def test_a_run_that_was_stopped_between_two_reports_reports_what_it_would_have(tmp_path: Path) -> None:
    whole, parts = told(trainer(tmp_path / "a", gradient_steps=13)), []
    for stop in (3, 4, 8, 10, 12):
        t = trainer(tmp_path / "b", gradient_steps=13)
        parts += told(t, stop=lambda t=t, stop=stop: t.step == stop)
    t = trainer(tmp_path / "b", gradient_steps=13)
    parts += told(t, stop=lambda: True) + told(t)  # stopped and run on in the same process, as marks do
    assert parts == whole and [step for step, _ in whole] == [5, 10, 13]


def test_a_report_that_lost_its_data_is_made_when_the_run_goes_on(tmp_path: Path) -> None:
    whole = told(trainer(tmp_path / "a"))
    first = trainer(tmp_path / "b")

    def away(*_: object) -> None:
        raise OSError("the URL went away")

    first.method.first_values = away
    with pytest.raises(OSError, match="went away"):
        first.run(lambda _: None)
    assert told(trainer(tmp_path / "b")) == whole


def test_a_report_that_cannot_be_written_is_not_mixed_into_the_next(tmp_path: Path) -> None:
    whole = told(trainer(tmp_path / "a"))

    def full(_: StepReport) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        trainer(tmp_path / "b").run(full)
    assert told(trainer(tmp_path / "b")) == whole[1:]


def test_a_state_without_sums_goes_on(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.run(lambda _: None, stop=lambda: first.step == 3)
    path = tmp_path / "state.safetensors"
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    del header["sums"]
    save_file(load_file(path), path, metadata=header)
    again = trainer(tmp_path)
    assert again.step == 3 and [step for step, _ in told(again)] == [5, 10]


class OneOfTwo(Group):
    """A process of two; ``other``: what the other gives to the totals."""

    def __init__(self, rank: int, other: float = 0.0) -> None:
        self.rank, self.size, self.other = rank, 2, other

    def total(self, value: torch.Tensor) -> torch.Tensor:
        return value + torch.tensor([[self.other, 0.0] if self.rank else [0.0, self.other]])


def test_every_process_goes_on_from_its_own_sums_and_another_number_of_them_from_the_mean() -> None:
    cpu = torch.device("cpu")
    sums = Sums(cpu)
    for value in (0.1, 0.2):
        sums.add({"loss": torch.tensor(value)})
    kept = json.loads(json.dumps(sums.kept(OneOfTwo(0, other=0.5))))
    mine = float(torch.tensor(0.1) + torch.tensor(0.2))
    assert kept["count"] == 2 and kept["sums"] == {"loss": [mine, 0.5]}
    assert [Sums(cpu, kept, OneOfTwo(rank)).kept(OneOfTwo(0))["sums"]["loss"][0] for rank in (0, 1)] == [mine, 0.5]
    assert Sums(cpu, kept).means() == {"loss": pytest.approx((mine + 0.5) / 4)}
    sums.clear()
    assert sums.kept(OneOfTwo(0)) == {}


def test_every_saved_state_is_announced_whatever_is_logged(tmp_path: Path) -> None:
    t = trainer(tmp_path, save_every=4, log_every=5)
    steps: list[int] = []
    t.run(lambda _: None, saved=lambda: steps.append(t.step))
    assert steps == [4, 8, 10]


def test_spread_over_steps_sees_what_first_steps_cannot_show(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.data.proprio[:] = 0.0
    t.data.images[t.data.starts], t.data.text[t.data.starts] = 100, 0  # every episode begins alike
    spread = t.value_spread()
    assert spread["value_spread"] == pytest.approx(0.0, abs=1e-7)
    assert spread["value_spread_steps"] > 1e-6
    assert spread == t.value_spread()
