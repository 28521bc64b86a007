"""The rule of putting things somewhere, on states made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from qt_ros.sim.carrying import CarrySettings, CarryState, beside, carry_action
from qt_ros.sim.grasping import GraspSettings, GraspState, grasp_action
from qt_ros.sim.scoring import NEAR

STEP = 0.05
GRASP, CARRY = GraspSettings(), CarrySettings()
GOAL = np.array([0.6, 0.1, 0.721])


def state(
    place: tuple[float, float, float],
    held: bool = True,
    closedness: float = 0.58,
    there: bool = False,
    hand: tuple[float, float, float] = (0.0, 0.0, 0.0),
    lost: bool = False,
) -> CarryState:
    """The object ``place`` from the goal, the tool ``hand`` from the object."""
    where = GOAL + np.array(place)
    grasp = GraspState(where + np.array(hand), where, closedness, held, max(0.0, place[2]), lost)
    return CarryState(grasp, where, GOAL, there)


def move(of: CarryState):  # type: ignore[no-untyped-def]
    return carry_action(of, GRASP, CARRY, STEP)


def test_an_object_not_yet_held_is_picked_first() -> None:
    open_hand = state((0.2, 0.0, 0.0), held=False, closedness=0.0, hand=(0.1, 0.0, 0.1))
    expected = grasp_action(open_hand.grasp, GRASP, STEP)
    found = move(open_hand)
    assert found.motion == pytest.approx(expected.motion) and found.close == expected.close


def test_what_is_held_low_is_raised_before_it_is_moved_sideways() -> None:
    found = move(state((0.2, 0.0, 0.0)))
    assert found.motion == pytest.approx([0.0, 0.0, STEP]) and found.close


def test_at_carrying_height_it_moves_straight_to_the_goal() -> None:
    found = move(state((0.2, -0.2, CARRY.clearance)))
    assert found.motion == pytest.approx([-STEP, STEP, 0.0]) and found.close and not found.terminate


def test_over_the_goal_it_comes_down() -> None:
    found = move(state((0.0, 0.0, CARRY.clearance)))
    assert found.motion[2] < -0.04 and found.close


def test_where_it_belongs_it_is_let_go_then_the_hand_draws_back_then_it_is_over() -> None:
    held = move(state((0.0, 0.0, 0.005), there=True))
    opening = move(state((0.0, 0.0, 0.0), held=False, closedness=0.5, there=True))
    rising = move(state((0.0, 0.0, 0.0), held=False, closedness=0.1, there=True))
    over = move(state((0.0, 0.0, 0.0), held=False, closedness=0.0, there=True, hand=(0.0, 0.0, 0.06)))
    assert [m.close for m in (held, opening, rising, over)] == [False] * 4
    assert not held.motion.any() and not opening.motion.any()
    assert rising.motion == pytest.approx([0.0, 0.0, STEP])
    assert [m.terminate for m in (held, opening, rising, over)] == [False, False, False, True]


def test_it_gives_up_when_the_object_is_out_of_reach() -> None:
    assert move(state((0.0, 0.0, 0.0), held=False, lost=True)).terminate


@pytest.mark.parametrize("angle", np.linspace(-np.pi, np.pi, 17))
def test_beside_is_straight_ahead_and_near_but_not_upon(angle: float) -> None:
    direction = np.array([np.cos(angle), np.sin(angle)])
    other = np.array([0.6, 0.0])
    goal = beside(other + 0.3 * direction, other)
    distance = float(np.linalg.norm(goal - other))
    assert (goal - other) / distance == pytest.approx(direction)
    assert 0.07 < distance < NEAR - 0.015
    assert beside(goal, other) == pytest.approx(goal), "it does not move on while it comes closer"
    assert np.linalg.norm(beside(goal, other, 0.01) - other) == pytest.approx(distance + 0.01)


def test_beside_is_somewhere_even_from_right_above() -> None:
    assert np.isfinite(beside(np.zeros(2), np.zeros(2))).all()
