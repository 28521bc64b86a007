from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qt_ros.episodes.episode import REASONS, Episode, InvalidEpisode, is_terminal, outcome_name, reason_name

Maker = Callable[..., Episode]


def test_a_complete_episode_is_valid(new_episode: Maker) -> None:
    new_episode(0).validate()
    new_episode(1).validate()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("episode_id", "../evil", "episode_id"),
        ("outcome", "won", "outcome.*success"),
        ("reason", "bored", "reason.*timeout"),
        ("source", "web", "source.*autonomous"),
        ("images", np.zeros((0, 24, 32, 3), np.uint8), "images.*empty"),
        ("images", np.zeros((5, 24, 32), np.uint8), "images.*uint8"),
        ("images", np.zeros((5, 24, 32, 3), np.float32), "images.*uint8"),
        ("images", None, "images.*NoneType"),
        ("proprio", np.full((5, 10), np.nan, np.float32), "proprio.*not finite at step 0"),
        ("actions", np.zeros((4, 10), np.float32), "actions.*float32"),
        ("bins", np.zeros((5, 9), np.int16), "bins"),
        ("bins", np.full((5, 10), -1, np.int16), "negative bin"),
        ("rewards", np.full(5, 1.5, np.float32), "rewards.*outside"),
        ("stamps", np.array([0.0, 1.0, 1.0, 2.0, 3.0]), "step 2"),
        ("q_values", np.zeros((5, 3), np.float32), "q_values"),
        ("keypoints", np.zeros((5, 2, 2), np.float32), "keypoints"),
        ("seed", 2**64, "64 bits"),
        ("instruction", 3, "instruction.*string"),
    ],
)
def test_a_broken_field_is_refused_by_name(new_episode: Maker, field: str, value: object, message: str) -> None:
    with pytest.raises(InvalidEpisode, match=message):
        new_episode(0, **{field: value}).validate()


def test_success_needs_a_reward_and_an_end(new_episode: Maker) -> None:
    with pytest.raises(InvalidEpisode, match="success"):
        new_episode(1, terminated=False).validate()
    with pytest.raises(InvalidEpisode, match="success"):
        new_episode(1, rewards=np.zeros(5, np.float32)).validate()
    with pytest.raises(InvalidEpisode, match="failure"):
        new_episode(1, outcome="failure").validate()


def test_stops_from_outside_truncate_and_the_rest_terminates() -> None:
    terminal = {reason for reason in REASONS if is_terminal("failure", reason)}
    assert terminal == {"done", "terminate", "timeout"}
    assert is_terminal("success", "operator")


def test_numbers_outside_the_enums_are_refused() -> None:
    assert reason_name(3) == "timeout"
    assert outcome_name(1) == "success"
    with pytest.raises(ValueError, match="reason 99"):
        reason_name(99)
    with pytest.raises(ValueError, match="outcome 7"):
        outcome_name(7)


def test_the_names_are_those_of_the_generated_interface() -> None:
    messages = pytest.importorskip("qt_ros.msg", reason="the interfaces are not built")
    status = messages.EpisodeStatus
    assert [getattr(status, f"REASON_{name.upper()}") for name in REASONS] == list(range(len(REASONS)))
    assert (status.OUTCOME_UNKNOWN, status.OUTCOME_SUCCESS, status.OUTCOME_FAILURE) == (0, 1, 2)
