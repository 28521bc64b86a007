from __future__ import annotations

import dataclasses

import pytest

from qt_ros.contract.robot import ConfigError, RobotContract
from qt_ros.control.gripper import GripperLimits


def limited(contract: RobotContract, **changes: float) -> GripperLimits:
    return GripperLimits(dataclasses.replace(contract, limits=dataclasses.replace(contract.limits, **changes)))


def test_closedness_is_a_position_between_open_and_closed(contract: RobotContract) -> None:
    gripper = GripperLimits(contract)
    assert [gripper.position(c) for c in (0.0, 0.5, 1.0)] == pytest.approx([0.05, 0.025, 0.0])
    assert [gripper.position(c) for c in (-3.0, 7.0)] == pytest.approx([0.05, 0.0])


def test_the_contract_may_narrow_the_width(contract: RobotContract) -> None:
    gripper = limited(contract, gripper_low=0.01, gripper_high=0.04)
    assert [gripper.position(c) for c in (0.0, 0.5, 1.0)] == pytest.approx([0.04, 0.025, 0.01])


def test_a_width_that_leaves_nothing_is_refused(contract: RobotContract) -> None:
    with pytest.raises(ConfigError, match="leave nothing"):
        limited(contract, gripper_low=0.06, gripper_high=0.07)
    with pytest.raises(ConfigError, match="below gripper_high"):
        limited(contract, gripper_low=0.03, gripper_high=0.02)
    with pytest.raises(ConfigError, match="gripper_force must be positive"):
        limited(contract, gripper_force=0.0)


def test_closing_ends_where_the_force_is_reached_and_opening_goes_on(contract: RobotContract) -> None:
    gripper = limited(contract, gripper_force=20.0)
    gripper.measure(0.03, 5.0)
    assert gripper.position(1.0) == pytest.approx(0.0)
    gripper.measure(0.021, -25.0)
    assert gripper.position(1.0) == pytest.approx(0.021)
    gripper.measure(0.0205, 1.0)
    assert gripper.position(1.0) == pytest.approx(0.021), "it does not squeeze again as soon as the force is gone"
    assert gripper.position(0.0) == pytest.approx(0.05)
    assert gripper.position(1.0) == pytest.approx(0.0)


def test_the_next_episode_may_close_again(contract: RobotContract) -> None:
    gripper = limited(contract, gripper_force=20.0)
    gripper.measure(0.021, 25.0)
    gripper.position(1.0)
    gripper.measure(0.021, 0.0)
    gripper.release()
    assert gripper.position(1.0) == pytest.approx(0.0)


@pytest.mark.parametrize("measured", [(None, None), (0.03, None)])
def test_a_force_limit_that_nobody_measures_is_an_error(
    contract: RobotContract, measured: tuple[float | None, float | None]
) -> None:
    gripper = limited(contract, gripper_force=20.0)
    gripper.measure(*measured)
    with pytest.raises(ValueError, match="gripper_force"):
        gripper.position(1.0)
