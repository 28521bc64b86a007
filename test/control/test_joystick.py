"""Joystick mappings are read strictly; whatever a stick reports, speeds stay within what one action can say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.contract.robot import load_contract, package_root
from qt_ros.contract.strict import ConfigError
from qt_ros.control.joystick import AxisBinding, InputError, JoystickMapping, load_joystick
from qt_ros.control.limits import NonFiniteError

CONTRACT = load_contract("mobile_manipulator")
SHIPPED = ("teleop_xbox", "teleop_ps")
BUTTONS = {"deadman": 0, "modifier": 1, "estop": 2, "success": 3, "failure": 4}
MAPPING = JoystickMapping(
    "test",
    0.2,
    (
        AxisBinding("dx", 0, 0.25),
        AxisBinding("dpitch", 0, -1.0, modifier=True),
        AxisBinding("dz", 1, 0.1),
    ),
    BUTTONS,
)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_mappings_fit_the_shipped_robot_and_reach_every_dimension_that_moves(name: str) -> None:
    mapping = load_joystick(name, CONTRACT)
    moving = {d.name for d in CONTRACT.action_space.dimensions if d.target in ("arm", "base")}
    assert {b.dimension for b in mapping.axes} == moving
    assert set(mapping.buttons) >= {"deadman", "estop", "success", "failure", "discard", "close", "open"}


@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
def test_any_deflection_stays_within_one_action(name: str, data: st.DataObject) -> None:
    mapping = load_joystick(name, CONTRACT)
    axes = data.draw(st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=12))
    buttons = data.draw(st.lists(st.integers(0, 1), min_size=11, max_size=14))
    reading = mapping.read(axes, buttons)
    space = CONTRACT.action_space
    for dimension, speed in reading.speeds.items():
        i = space.index(dimension)
        assert space.low[i] - 1e-9 <= speed * CONTRACT.policy_period <= space.high[i] + 1e-9
    assert reading.pressed == {role for role, number in mapping.buttons.items() if buttons[number]}


@given(value=st.floats(-1.0, 1.0))
def test_the_dead_zone_is_cut_out_without_a_jump_and_full_deflection_is_full_speed(value: float) -> None:
    speed = MAPPING.read([value, 0.0], [0] * 5).speeds["dx"]
    assert abs(speed) <= 0.25
    assert speed == 0.0 if abs(value) <= 0.2 else math.copysign(1.0, speed) == math.copysign(1.0, value)
    assert MAPPING.read([math.copysign(1.0, value), 0.0], [0] * 5).speeds["dx"] == math.copysign(0.25, value)
    closer = MAPPING.read([value * 0.999, 0.0], [0] * 5).speeds["dx"]
    assert abs(speed - closer) <= 0.25 * 0.001 / 0.8 + 1e-9


def test_the_modifier_gives_an_axis_its_second_meaning_and_leaves_other_axes_theirs() -> None:
    plain = MAPPING.read([1.0, 1.0], [1, 0, 0, 0, 0])
    second = MAPPING.read([1.0, 1.0], [1, 1, 0, 0, 0])
    assert plain.speeds == {"dx": 0.25, "dpitch": 0.0, "dz": 0.1}
    assert second.speeds == {"dx": 0.0, "dpitch": -1.0, "dz": 0.1}
    assert (plain.pressed, second.pressed) == ({"deadman"}, {"deadman", "modifier"})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_axis_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(NonFiniteError, match="axis 1"):
        MAPPING.read([0.0, bad], [0] * 5)


def test_a_stick_with_too_few_axes_or_buttons_is_refused() -> None:
    for axes, buttons in (([0.0], [0] * 5), ([0.0, 0.0], [0] * 4), ([], [])):
        with pytest.raises(InputError, match="choose the mapping that fits"):
            MAPPING.read(axes, buttons)
    numbers = np.zeros(2, np.float32)
    assert MAPPING.read(numbers, np.zeros(5, np.int32)).speeds["dx"] == 0.0  # as rclpy gives them


def test_a_button_is_seen_by_itself_however_little_the_message_has_of_it() -> None:
    """An emergency stop must not wait for axes that make sense."""
    assert MAPPING.holds("estop", [0, 0, 1]) and MAPPING.holds("estop", [1] * 12)
    assert (
        not MAPPING.holds("estop", [1, 1, 0]) and not MAPPING.holds("estop", [1, 1]) and not MAPPING.holds("estop", [])
    )
    assert not MAPPING.holds("discard", [1] * 12), "no button has that role"


def changed(**changes: Any) -> dict[str, Any]:
    document = yaml.safe_load((package_root() / "config" / "nodes" / "teleop_xbox.yaml").read_text())
    return {**document, **changes}


def in_si(*axes: dict[str, Any], schema: int = 1) -> dict[str, Any]:
    """A file of schema 1: speeds in m/s and rad/s."""
    return changed(schema=schema, axes=list(axes))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (changed(speling=1), "speling"),
        (changed(schema=3), "schema 3"),
        (changed(deadzone=1.0), "deadzone"),
        (changed(buttons={**BUTTONS, "dance": 9}), "dance"),
        (changed(buttons={"deadman": 0, "estop": 1}), "success, failure"),
        (changed(buttons={**BUTTONS, "close": 0}), "a button number of its own"),
        (changed(axes=[]), "no axis"),
        (in_si({"dimension": "gripper", "axis": 0, "speed": 0.1}), "gripper"),
        (in_si({"dimension": "dx", "axis": 0, "speed": 0.3}), "at most 0.25 m/s"),
        (in_si({"dimension": "dx", "axis": 0, "speed": 0.0}), "0 m per policy step"),
        (in_si({"dimension": "dx", "axis": 0, "speed": ".nan"}), "axes\\[0\\]"),
        (in_si({"dimension": "dx", "axis": -1, "speed": 0.1}), "bind every dimension once"),
        (in_si(*({"dimension": d, "axis": 0, "speed": 0.1} for d in ("dx", "dy"))), "every axis once"),
        (in_si({"dimension": "dx", "axis": 0, "speed": 0.1}, schema=2), "speed"),
        (in_si({"dimension": "dx", "axis": 0, "fraction": 0.1}), "fraction"),
        (in_si({"dimension": "dx", "axis": 0, "fraction": 1.1}, schema=2), "above 0 and at most 1"),
        (in_si({"dimension": "dx", "axis": 0, "fraction": 0.0}, schema=2), "above 0 and at most 1"),
        (in_si({"dimension": "forward", "axis": 0, "fraction": 0.5}, schema=2), "'forward' is no dimension"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_with_its_file(
    tmp_path: Path, document: dict[str, Any], words: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=f"mine.yaml.*{words}"):
        load_joystick(path, CONTRACT)


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match="known: teleop_keyboard, teleop_ps, teleop_xbox"):
        load_joystick("teleop_gamecube", CONTRACT)
