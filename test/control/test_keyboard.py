"""Keys become a virtual joystick that lets go by itself; any sequence of keys moves at most what was mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.contract.robot import load_contract, package_root
from qt_ros.contract.strict import ConfigError
from qt_ros.control.keyboard import VirtualStick, is_keyboard, load_keyboard

CONTRACT = load_contract("mobile_manipulator")
KEYS = load_keyboard("teleop_keyboard", CONTRACT)
HOLD = KEYS.hold


def speeds(stick: VirtualStick, now: float) -> dict[str, float]:
    """What moves, and how fast."""
    reading = KEYS.joystick.read(*stick.read(now))
    return {name: speed for name, speed in reading.speeds.items() if speed}


def pressed(stick: VirtualStick, now: float) -> frozenset[str]:
    return KEYS.joystick.read(*stick.read(now)).pressed


def test_a_tap_moves_for_the_hold_time_and_then_lets_go() -> None:
    stick = VirtualStick(KEYS)
    assert (speeds(stick, 0.0), pressed(stick, 0.0)) == ({}, frozenset())
    stick.type("w", 1.0)
    assert speeds(stick, 1.0 + 0.9 * HOLD) == {"dx": KEYS.speeds["dx"]}
    assert pressed(stick, 1.0 + 0.9 * HOLD) == {"deadman"}
    assert (speeds(stick, 1.0 + HOLD), pressed(stick, 1.0 + HOLD)) == ({}, frozenset())


def test_a_key_that_repeats_moves_on_without_a_gap() -> None:
    stick = VirtualStick(KEYS)
    for i in range(20):
        stick.type("s", 0.1 * i)
        assert speeds(stick, 0.1 * i + 0.09) == {"dx": -KEYS.speeds["dx"]}


def test_two_keys_move_together_and_opposite_ones_do_not_fight() -> None:
    stick = VirtualStick(KEYS)
    stick.type("w", 0.0)
    stick.type("r", 0.01)
    assert speeds(stick, 0.02) == {"dx": KEYS.speeds["dx"], "dz": KEYS.speeds["dz"]}
    stick.type("s", 0.03)
    assert speeds(stick, 0.04) == {"dx": -KEYS.speeds["dx"], "dz": KEYS.speeds["dz"]}


def test_a_key_that_means_nothing_stops_everything() -> None:
    stick = VirtualStick(KEYS)
    for key in ("w", "up", "c"):
        stick.type(key, 0.0)
    stick.type("unknown", 0.01)
    assert (speeds(stick, 0.02), pressed(stick, 0.02)) == ({}, frozenset())
    stick.type("w", 0.03)
    stick.release()
    assert speeds(stick, 0.04) == {}


@pytest.mark.parametrize("others", [("z",), ("unknown", "escape"), ("w", "z")])
def test_an_emergency_stop_outlives_a_key_that_means_nothing(others: tuple[str, ...]) -> None:
    """Both may come in one read: nobody has looked at the stick between them."""
    stick = VirtualStick(KEYS)
    for key in ("w", "c", "space", *others):
        stick.type(key, 0.0)
    assert (speeds(stick, 0.01), pressed(stick, 0.01)) == ({}, frozenset({"estop"}))
    assert pressed(stick, HOLD) == frozenset(), "it is let go like any other key"


def test_the_gripper_needs_no_other_key_and_the_emergency_stop_moves_nothing() -> None:
    stick = VirtualStick(KEYS)
    stick.type("c", 0.0)
    assert pressed(stick, 0.1) == {"deadman", "close"}
    stick.release()
    stick.type("space", 1.0)
    assert (pressed(stick, 1.1), speeds(stick, 1.1)) == ({"estop"}, {})


every_key = st.sampled_from([*KEYS.moves, *KEYS.roles, "unknown", "z", "escape"])


@given(typed=st.lists(st.tuples(every_key, st.floats(0.0, 0.5))), later=st.floats(0.0, 1.0))
def test_whatever_is_typed_moves_no_faster_than_mapped_and_only_what_was_typed_lately(
    typed: list[tuple[str, float]], later: float
) -> None:
    stick, now = VirtualStick(KEYS), 0.0
    last: dict[str, float] = {}
    for key, pause in typed:
        now += pause
        stick.type(key, now)
        last[key] = now
    now += later
    moving = speeds(stick, now)
    lately = {KEYS.moves[key][1:] for key, at in last.items() if key in KEYS.moves and now < at + HOLD}
    assert set(moving) <= lately
    assert all(abs(speed) == KEYS.speeds[name] for name, speed in moving.items())
    assert ("deadman" in pressed(stick, now)) >= bool(moving)


def test_every_dimension_of_the_shipped_robot_has_its_two_keys_and_a_line_of_help() -> None:
    moving = {d.name for d in CONTRACT.action_space.dimensions if d.target in ("arm", "base")}
    assert set(KEYS.moves.values()) == {sign + name for sign in "+-" for name in moving}
    assert ("w  s", "+/- dx") in KEYS.help()
    assert ("space", "estop") in KEYS.help()
    assert is_keyboard("teleop_keyboard") and not is_keyboard("teleop_xbox")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"speling": 1}, "speling"),
        ({"schema": 3}, "schema 3"),
        ({"hold": 3.0}, "hold 3.0"),
        ({"fractions": {"dx": 1.0}}, "moves: a"),
        ({"fractions": {"dx": 1.5}, "moves": {"w": "+dx"}}, "at most 1"),
        ({"fractions": {"forward": 1.0}, "moves": {"w": "+forward"}}, "no dimension"),
        ({"schema": 1}, "fractions"),
        ({"moves": {"w": "dx"}}, "no \\+ or -"),
        ({"moves": {True: "+dx"}}, "quote them"),
        ({"moves": {"c": "+dx"}}, "choose one"),
        ({"roles": {"space": "estop"}}, "no key for success, failure"),
        ({"roles": {"space": "deadman"}}, "deadman"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_with_its_file(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    document = yaml.safe_load((package_root() / "config" / "nodes" / "teleop_keyboard.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**document, **change}))
    with pytest.raises(ConfigError, match=f"mine.yaml.*{words}"):
        load_keyboard(tmp_path / "mine.yaml", CONTRACT)


def in_si(speed: float) -> str:
    """A file of schema 1, as it was written for one robot: m/s and rad/s."""
    document = yaml.safe_load((package_root() / "config" / "nodes" / "teleop_keyboard.yaml").read_text())
    del document["fractions"]
    return str(yaml.safe_dump({**document, "schema": 1, "speeds": {"dx": speed}, "moves": {"w": "+dx", "s": "-dx"}}))


def test_speeds_of_one_s_own_are_taken_as_they_are_or_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(in_si(0.2))
    mapping = load_keyboard(tmp_path / "mine.yaml", CONTRACT)
    assert mapping.speeds == {"dx": 0.2}
    assert "does not move dy, dz, droll, dpitch, dyaw, base_forward, base_turn" in " ".join(mapping.notes)
    (tmp_path / "mine.yaml").write_text(in_si(0.3))
    with pytest.raises(ConfigError, match=r"at most 0.25 m/s.*or give fractions"):
        load_keyboard(tmp_path / "mine.yaml", CONTRACT)
    (tmp_path / "mine.yaml").write_text(in_si(0.01))
    with pytest.raises(ConfigError, match=r"dx: robot stretch moves dy, dz, dyaw.*leave it out"):
        load_keyboard(tmp_path / "mine.yaml", load_contract("stretch"))


def test_the_keys_of_what_the_robot_does_not_have_stop_motion_like_any_other_key() -> None:
    keys = load_keyboard("teleop_keyboard", load_contract("stretch"))
    stick = VirtualStick(keys)
    stick.type("a", 0.0)
    moving = keys.joystick.read(*stick.read(0.01)).speeds
    assert moving["dy"] == keys.speeds["dy"] > 0.0
    stick.type("w", 0.02)
    after = keys.joystick.read(*stick.read(0.03))
    assert not any(after.speeds.values()) and after.pressed == frozenset()
    assert not any("dx" in line for _, line in keys.help())
