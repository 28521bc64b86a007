"""A picture that stays the same while the arm moves is found; one of a robot that stands, or that changes, is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from qt_ros.contract.robot import RobotContract
from qt_ros.control.frozen_camera import MOVED, FrozenCamera

PICTURE = np.full((48, 64, 3), 100, np.uint8)


def joints(contract: RobotContract, lift: float = 0.0) -> dict[str, float]:
    """At home, but for the lift, which carries the tool straight up."""
    return {**contract.kinematics.home, "lift_joint": contract.kinematics.home["lift_joint"] + lift}


@pytest.fixture
def camera(contract: RobotContract) -> FrozenCamera:
    return FrozenCamera(contract)


def test_the_same_picture_while_the_tool_moves_is_told_after_the_cameras_age_limit(
    contract: RobotContract, camera: FrozenCamera
) -> None:
    found = [camera.look(PICTURE, joints(contract, 0.02 * i), 10.0 + 0.1 * i) for i in range(8)]
    assert found[:6] == [""] * 6, "for 0.5 s it may be the picture of a slow camera"
    assert "same picture for 0.60 s under new stamps while the robot moved 0.12 m" in found[6]


def test_the_same_picture_of_a_robot_that_stands_or_moves_its_gripper_only_is_fine(
    contract: RobotContract, camera: FrozenCamera
) -> None:
    for i in range(50):
        moved = {**joints(contract, 0.9 * MOVED * (i % 2)), "left_finger_joint": 0.001 * i}
        assert not camera.look(PICTURE, moved, 10.0 + 0.1 * i)


def test_one_pixel_that_changes_is_another_picture(contract: RobotContract, camera: FrozenCamera) -> None:
    for i in range(50):
        picture = PICTURE.copy()
        picture[3, 5, 1] += i % 2
        assert not camera.look(picture, joints(contract, 0.02 * (i % 7)), 10.0 + 0.3 * i)


def test_an_episode_says_nothing_about_the_next(contract: RobotContract, camera: FrozenCamera) -> None:
    assert not camera.look(PICTURE, joints(contract), 10.0)
    camera.forget()
    assert not camera.look(PICTURE, joints(contract, 0.1), 20.0)


def test_a_contract_that_ignores_a_stale_camera_ignores_a_frozen_one(contract: RobotContract) -> None:
    spec = dataclasses.replace(contract.observation("image"), on_stale="ignore")
    camera = FrozenCamera(dataclasses.replace(contract, observations={**contract.observations, spec.name: spec}))
    assert not any(camera.look(PICTURE, joints(contract, 0.02 * i), 10.0 + 0.1 * i) for i in range(20))


def test_a_base_that_is_sent_elsewhere_counts_as_motion(contract: RobotContract, camera: FrozenCamera) -> None:
    action = contract.action_space.neutral()
    action[contract.action_space.index("base_turn")] = -0.1
    found = []
    for i in range(8):
        found.append(camera.look(PICTURE, joints(contract), 10.0 + 0.1 * i))
        camera.drive(action)
    assert found[:6] == [""] * 6 and "while the robot moved 0.30 m" in found[6]
