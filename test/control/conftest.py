"""The shipped robot, for everything in control/."""

from __future__ import annotations

import pytest

from qt_ros.contract.robot import RobotContract, load_contract


@pytest.fixture(scope="session")
def contract() -> RobotContract:
    return load_contract("mobile_manipulator")
