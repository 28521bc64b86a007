"""Every shipped mapping drives every robot that has a contract: within its speeds, and what cannot be moved is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts import VOLATILE, fitting
from robots import shipped_urdf

from qt_ros.contract.actions import ActionSpace
from qt_ros.contract.draft import draft_contract
from qt_ros.contract.graph_facts import Endpoint, Topic
from qt_ros.contract.robot import RobotContract, load_contract, package_root, parse_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.control.fractions import fit_fractions, largest_speeds, unmoved
from qt_ros.control.joystick import JoystickMapping, load_joystick
from qt_ros.control.keyboard import is_keyboard, load_keyboard

SHIPPED = sorted(p.stem for p in (package_root() / "config" / "nodes").glob("teleop_*.yaml"))
ROBOTS = sorted(p.stem for p in (package_root() / "config" / "robots").glob("*.yaml"))
CONTRACT = load_contract("mobile_manipulator")


def contract_of(robot: str) -> RobotContract:
    """A shipped contract, or the first one that `qt-ros contract init` writes."""
    if robot != "a draft":
        return load_contract(robot)
    facts = fitting(CONTRACT)
    name = "/arm_controller/joint_trajectory"
    facts.topics[name] = Topic(name, [], [Endpoint("arm", "trajectory_msgs/msg/JointTrajectory", **VOLATILE)])
    facts.urdf = shipped_urdf()
    return parse_contract(draft_contract(facts, "mine"))


@pytest.mark.parametrize("robot", [*ROBOTS, "a draft"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_mapping_moves_all_that_the_robot_has(name: str, robot: str) -> None:
    assert len(SHIPPED) >= 3 and len(ROBOTS) >= 4
    contract = contract_of(robot)
    loaded = load_keyboard(name, contract) if is_keyboard(name) else load_joystick(name, contract)
    mapping = loaded if isinstance(loaded, JoystickMapping) else loaded.joystick
    largest = largest_speeds(contract)
    speeds = {b.dimension: abs(b.speed) for b in mapping.axes}
    assert set(speeds) == set(largest)
    assert all(0.2 * largest[n] < speed <= largest[n] for n, speed in speeds.items())
    absent = {"dx", "dy", "dz", "droll", "dpitch", "dyaw", "base_forward", "base_turn"} - set(largest)
    assert len(loaded.notes) == bool(absent)
    assert all(name in loaded.notes[0] for name in absent)


def test_the_speeds_for_the_simulated_robot_are_those_in_its_documentation() -> None:
    speeds = {b.dimension: b.speed for b in load_joystick("teleop_xbox", CONTRACT).axes}
    assert speeds == pytest.approx({"dx": 0.2, "dy": 0.2, "dz": 0.2, "dyaw": 0.8, "dpitch": 0.8, "droll": -0.8,
                                    "base_forward": 0.2, "base_turn": 0.5})  # fmt: skip


def one_way() -> RobotContract:
    """The robot with a base that cannot drive back."""
    space = CONTRACT.action_space
    changed = [replace(d, low=0.0) if d.name == "base_forward" else d for d in space.dimensions]
    return replace(CONTRACT, action_space=ActionSpace(changed))


def test_what_an_action_can_only_say_one_way_is_left_out_and_told() -> None:
    speeds, notes = fit_fractions({"dx": -0.5, "base_forward": 0.5}, one_way())
    assert (speeds, notes) == ({"dx": -0.125}, ())
    assert "base_forward (its actions go one way only)" in unmoved(speeds, one_way())[0]


@pytest.mark.parametrize("bad", [0.0, 1.01, -1.01])
def test_a_fraction_is_a_part_of_the_largest_speed(bad: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        fit_fractions({"dx": bad}, CONTRACT)
