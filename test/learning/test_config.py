"""Settings of a training run are strict, and their overrides too."""

from __future__ import annotations

from pathlib import Path

import pytest

from qt_ros.contract.robot import package_root
from qt_ros.contract.strict import ConfigError
from qt_ros.learning.config import TrainConfig, load_train_config


@pytest.mark.parametrize("path", sorted((package_root() / "config" / "train").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_setting_loads_and_survives_a_round_trip(path: Path) -> None:
    settings = load_train_config(path.stem)
    assert settings == load_train_config(path)
    assert TrainConfig.from_dict(settings.to_dict()) == settings


def test_an_override_reaches_the_setting_it_names_and_nothing_else() -> None:
    plain = load_train_config("small")
    changed = load_train_config("small", {"loss.alpha": 3, "backup.n_step": 4, "model.history": 1, "seed": 7})
    assert (changed.loss.alpha, changed.backup.n_step, changed.seed) == (3.0, 4, 7)
    assert changed.model == {**plain.model, "history": 1}
    assert changed.batch == plain.batch and changed.loss.td == plain.loss.td


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"learning_rat": 1.0}, "learning_rat"),
        ({"loss.alhpa": 1.0}, "alhpa"),
        ({"batch.size": 3}, "batch is no group"),
        ({"learning_rate": "1e-4"}, "1.0e-4"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"gradient_clip": 0}, "gradient_clip must be positive"),
        ({"image_shift": -1}, "image_shift must not be negative"),
        ({"success_share": 1.5}, "success_share"),
        ({"image_shift": 4}, "no effect with freeze_vision"),
        ({"schedule": "linear"}, "constant, cosine"),
        ({"save_weights": "best"}, "ema or online"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"backup.gamma": 0}, "gamma"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_a_wrong_setting_is_named(override: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_train_config("small", override)


def test_the_learning_rate_warms_up_and_comes_down() -> None:
    settings = load_train_config("small", {"warmup_steps": 10, "gradient_steps": 100, "learning_rate": 1.0})
    rates = [settings.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9]
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[-1] == pytest.approx(0.02, abs=1e-3)
    flat = load_train_config("small", {"schedule": "constant", "warmup_steps": 0, "learning_rate": 1.0})
    assert flat.rate_at(0) == flat.rate_at(10**6) == 1.0
