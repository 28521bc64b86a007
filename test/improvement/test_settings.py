from __future__ import annotations

from collections.abc import Callable

import pytest

from qt_ros.contract.strict import ConfigError
from qt_ros.improvement.settings import ImprovementError, Settings
from qt_ros.sim.seeds import TEST_SEEDS, TRAINING_SEEDS, TUNING_SEEDS


def test_no_scene_serves_two_purposes_and_no_round_chooses_where_another_did(settings: Callable[..., Settings]) -> None:
    s = settings(episodes=500, choice_episodes=200, test_episodes=300)
    s.require_ranges(3)
    collected = [seed for number in (1, 2, 3) for seed in s.training_seeds(number)]
    compared = [seed for number in (1, 2, 3) for seed in s.choice_seeds(number)]
    assert len(set(collected)) == 1500 and all(seed in TRAINING_SEEDS for seed in collected)
    assert len(set(compared)) == 600 and all(seed in TUNING_SEEDS for seed in compared)
    assert len(s.test_seeds) == 300 and all(seed in TEST_SEEDS for seed in s.test_seeds)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 999_999, "episodes": 2}, "training range"),
        ({"seed": 2_000_000}, "training range"),
        ({"choice_seed": 2_000_000}, "tuning range"),
        ({"choice_seed": 0}, "tuning range"),
        ({"test_seed": 1_999_999}, "test range"),
    ],
)
def test_scenes_of_another_range_are_refused(
    settings: Callable[..., Settings], changes: dict[str, object], told: str
) -> None:
    with pytest.raises(ImprovementError, match=told):
        settings(**changes).require_ranges(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"backend": "magic"}, {"steps": 0}, {"stores": ()}, {"episodes": -1}, {"noise": ("burst=2",)},
        {"noise": ("flawed=1",)}, {"noise": ("burst=0.1",), "backend": "ros"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(
    settings: Callable[..., Settings], changes: dict[str, object]
) -> None:
    with pytest.raises(ImprovementError):
        settings(**changes)


def test_settings_come_back_from_json_and_unknown_keys_do_not(settings: Callable[..., Settings]) -> None:
    s = settings(tasks=("pick_red_cube",), changes=("learning_rate=0.001",), noise=("burst=0.1",))
    assert Settings.from_dict(s.to_dict(), "here") == s
    with pytest.raises(ConfigError, match="luck"):
        Settings.from_dict({**s.to_dict(), "luck": 1}, "here")


def test_where_the_start_lies_makes_no_difference_but_its_id_does(settings: Callable[..., Settings]) -> None:
    assert settings().differences(settings(checkpoint="elsewhere")) == []
    assert settings().differences(settings(checkpoint_id="f00", steps=2)) == ["checkpoint_id", "steps"]
