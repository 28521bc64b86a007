"""Behaviour of the discretised action space."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.contract.actions import ActionDimension, ActionSpace
from qt_ros.contract.robot import load_contract
from qt_ros.contract.strict import ConfigError

ranges = st.tuples(st.floats(-10, 10), st.floats(1e-3, 20)).map(lambda t: (t[0], t[0] + t[1]))


@st.composite
def dimensions(draw: st.DrawFn) -> ActionDimension:
    low, high = draw(ranges)
    neutral = draw(st.one_of(st.none(), st.floats(0, 1).map(lambda f: min(high, low + f * (high - low)))))
    return ActionDimension("a", "m", low, high, "arm", bins=draw(st.integers(2, 300)), neutral=neutral)


@given(dimensions())
def test_every_bin_centre_survives_the_round_trip(dimension: ActionDimension) -> None:
    space = ActionSpace([dimension])
    bins = np.arange(space.bins)[:, None]
    assert (space.encode(space.decode(bins)) == bins).all()


@given(dimensions(), st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_encoding_and_decoding_are_monotone_and_stay_in_range(dimension: ActionDimension, values: list[float]) -> None:
    space = ActionSpace([dimension])
    bins = space.encode(np.sort(values)[:, None])
    decoded = space.decode(bins)
    assert (np.diff(bins[:, 0]) >= 0).all() and (np.diff(decoded[:, 0]) >= 0).all()
    assert (decoded >= dimension.low).all() and (decoded <= dimension.high).all()


@given(dimensions(), st.floats(0, 1))
def test_the_decoded_value_is_within_a_bin_of_the_value(dimension: ActionDimension, fraction: float) -> None:
    space = ActionSpace([dimension])
    value = dimension.low + fraction * (dimension.high - dimension.low)
    width = (dimension.high - dimension.low) / dimension.bins
    assert abs(space.decode(space.encode([value]))[0] - value) <= width * (1 + 1e-9)


def test_standing_still_is_exactly_zero() -> None:
    space = load_contract("mobile_manipulator").action_space
    still = space.decode(space.encode(space.neutral()))
    assert all(still[i] == 0.0 for i, d in enumerate(space.dimensions) if d.neutral == 0.0)


def test_the_default_robot_has_the_ten_dimensions_with_256_bins() -> None:
    space = load_contract("mobile_manipulator").action_space
    assert set(space.names) == {
        "dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper", "base_forward", "base_turn", "terminate",
    }  # fmt: skip
    assert space.bins == 256


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_value_is_refused_by_name(bad: float) -> None:
    space = load_contract("mobile_manipulator").action_space
    values = space.neutral()
    values[space.index("dy")] = bad
    with pytest.raises(ValueError, match="dy"):
        space.encode(values)


def test_bins_out_of_range_or_of_float_type_are_refused() -> None:
    space = ActionSpace([ActionDimension("a", "m", 0, 1, "arm", bins=4)])
    for bins in ([4], [-1]):
        with pytest.raises(ValueError, match="0..3"):
            space.decode(bins)
    with pytest.raises(ValueError, match="integers"):
        space.decode([1.0])


def test_a_subset_in_another_order_is_another_space_with_another_hash() -> None:
    space = load_contract("mobile_manipulator").action_space
    subset = ActionSpace([space.dimensions[4], space.dimensions[2]])
    assert subset.names == ("dz", "dx") and subset.sha256 != space.sha256
    assert ActionSpace.from_config(subset.to_config()) == subset


def test_wrong_definitions_are_refused() -> None:
    with pytest.raises(ConfigError, match="low < high"):
        ActionDimension("a", "m", 1, 0, "arm")
    with pytest.raises(ConfigError, match="target"):
        ActionDimension("a", "m", 0, 1, "leg")
    with pytest.raises(ConfigError, match="unique"):
        ActionSpace([ActionDimension("a", "m", 0, 1, "arm")] * 2)
    with pytest.raises(ConfigError, match="'colour'"):
        ActionSpace.from_config([{"name": "a", "unit": "m", "low": 0.0, "high": 1.0, "target": "arm", "colour": 1}])
