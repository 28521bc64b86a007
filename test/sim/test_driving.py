"""The rule of driving up to an object, on states made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from qt_ros.sim.driving import DriveSettings, drive_action
from qt_ros.sim.grasping import GraspSettings, GraspState, Move, grasp_action

STEP, FORWARD, TURN = 0.05, 0.1, 0.25
GRASP, DRIVE = GraspSettings(), DriveSettings()
HAND = np.array([0.6, 0.0, 0.9])


def state(x: float, y: float = 0.0, held: bool = False) -> GraspState:
    return GraspState(HAND, np.array([x, y, 0.721]), 0.58 if held else 0.0, held, 0.0)


def move(of: GraspState) -> Move:
    return drive_action(of, GRASP, DRIVE, STEP, FORWARD, TURN)


def test_far_away_it_drives_at_full_speed_and_keeps_the_arm_still() -> None:
    found = move(state(1.3))
    assert found.base == pytest.approx((FORWARD, 0.0))
    assert not found.motion.any() and not found.close and not found.terminate


@pytest.mark.parametrize("y", [-0.3, 0.3])
def test_it_turns_towards_the_object(y: float) -> None:
    forward, turn = move(state(1.0, y)).base
    assert forward > 0.0 and np.sign(turn) == np.sign(y) and abs(turn) <= TURN


def test_it_does_not_turn_towards_what_the_camera_cannot_show_yet() -> None:
    assert move(state(DRIVE.seen + 0.01, 0.3)).base == pytest.approx((FORWARD, 0.0))


def test_close_by_it_slows_down() -> None:
    assert 0.0 < move(state(DRIVE.reach + 0.02)).base[0] < 0.5 * FORWARD


def test_too_near_it_drives_back_and_too_far_aside_it_turns_on_the_spot() -> None:
    forward, _ = move(state(DRIVE.back - 0.02)).base
    assert -FORWARD <= forward < 0.0
    forward, turn = move(state(0.6, -DRIVE.side - 0.02)).base
    assert forward == 0.0 and turn < 0.0


def test_within_reach_the_base_stands_and_the_arm_picks() -> None:
    near = state(DRIVE.reach - 0.01, 0.1)
    found = move(near)
    assert found.base == (0.0, 0.0)
    assert found.motion == pytest.approx(grasp_action(near, GRASP, STEP).motion) and found.motion.any()


def test_what_is_held_is_lifted_wherever_it_is() -> None:
    found = move(state(0.75, held=True))
    assert found.base == (0.0, 0.0) and found.motion == pytest.approx([0.0, 0.0, STEP])
