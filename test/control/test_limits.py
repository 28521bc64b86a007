from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.control import limits

numbers = st.floats(-10.0, 10.0, allow_nan=False)
vectors = st.lists(numbers, min_size=3, max_size=3).map(np.array)
LOW, HIGH = np.array([-1.0, -1.0, 0.0]), np.array([1.0, 1.0, 2.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_number_never_passes(bad: float) -> None:
    good, worse = np.zeros(3), np.array([0.0, bad, 0.0])
    for call in (
        lambda: limits.finite("x", worse),
        lambda: limits.limit_norm(worse, 1.0),
        lambda: limits.slew(good, worse, 1.0),
        lambda: limits.slew(worse, good, 1.0),
        lambda: limits.clip_to_box(worse, LOW, HIGH),
        lambda: limits.limit_outward(worse, good, LOW, HIGH, 0.1),
        lambda: limits.limit_outward(good, worse, LOW, HIGH, 0.1),
        lambda: limits.limit_joint_step(worse, np.ones(3), 0.02),
    ):
        with pytest.raises(limits.NonFiniteError):
            call()


def test_a_wrong_size_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="arm twist: expected 6"):
        limits.finite("arm twist", np.zeros(5), 6)


def test_finite_returns_a_copy() -> None:
    source = np.zeros(3)
    limits.finite("x", source)[0] = 1.0
    assert source[0] == 0.0


@given(vectors, st.floats(0.01, 5.0))
def test_limit_norm_shortens_and_keeps_the_direction(vector: np.ndarray, maximum: float) -> None:
    out = limits.limit_norm(vector, maximum)
    assert np.linalg.norm(out) <= maximum + 1e-9
    assert np.allclose(np.cross(out, vector), 0.0, atol=1e-6)
    assert float(out @ vector) >= 0.0


@given(vectors, vectors, st.floats(0.01, 2.0))
def test_slew_arrives_exactly_and_never_jumps(start: np.ndarray, goal: np.ndarray, change: float) -> None:
    value = start
    for _ in range(int(np.linalg.norm(goal - start) / change) + 2):
        after = limits.slew(value, goal, change)
        assert np.linalg.norm(after - value) <= change + 1e-9
        value = after
    assert (value == goal).all()


@given(vectors, vectors)
def test_limit_outward_keeps_the_tool_inside_for_its_horizon(position: np.ndarray, velocity: np.ndarray) -> None:
    inside = limits.clip_to_box(position, LOW, HIGH)
    after = inside + 0.1 * limits.limit_outward(inside, velocity, LOW, HIGH, 0.1)
    assert (after >= LOW - 1e-9).all() and (after <= HIGH + 1e-9).all()


def test_outside_the_box_only_the_way_back_is_open() -> None:
    velocity = limits.limit_outward([2.0, 0.0, 1.0], [0.3, 0.1, 0.0], LOW, HIGH, 0.1)
    assert velocity.tolist() == [0.0, 0.1, 0.0]
    assert limits.limit_outward([2.0, 0.0, 1.0], [-0.3, 0.0, 0.0], LOW, HIGH, 0.1)[0] == -0.3


def test_a_joint_step_is_scaled_as_a_whole() -> None:
    step = limits.limit_joint_step([0.1, -0.02, 0.0], [1.0, 1.0, 1.0], 0.05)
    assert np.allclose(step, [0.05, -0.01, 0.0])
