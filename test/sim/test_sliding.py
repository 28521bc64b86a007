"""The rule of the drawer, on states made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from qt_ros.sim.grasping import GraspSettings, GraspState, Move, grasp_action
from qt_ros.sim.scoring import OPEN, SHUT
from qt_ros.sim.sliding import SlideSettings, SlideState, slide_action

STEP = 0.05
GRASP, SLIDE = GraspSettings(), SlideSettings()
KNOB = np.array([0.6, 0.0, 0.73])
TURN = 0.05


def move(opening: float, opens: bool, held: bool = True, hand: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Move:
    axis = np.array([-np.cos(TURN), np.sin(TURN), 0.0])
    grasp = GraspState(KNOB + np.array(hand), KNOB, 0.62 if held else 0.0, held, 0.0)
    return slide_action(SlideState(grasp, axis, opening), opens, GRASP, SLIDE, STEP)


@pytest.mark.parametrize("opens", [True, False])
def test_the_knob_is_gripped_first(opens: bool) -> None:
    found = move(0.1, opens, held=False, hand=(0.05, 0.1, 0.2))
    state = GraspState(KNOB + (0.05, 0.1, 0.2), KNOB, 0.0, held=False, lifted=0.0)
    assert found.motion == pytest.approx(grasp_action(state, GRASP, STEP).motion)
    assert not found.terminate


@pytest.mark.parametrize(("opens", "sign"), [(True, -1.0), (False, 1.0)])
def test_it_pulls_or_pushes_along_the_rail_at_full_speed(opens: bool, sign: float) -> None:
    found = move(0.1, opens)
    assert found.motion[0] == pytest.approx(sign * STEP)
    assert found.motion[1] == pytest.approx(-sign * STEP * np.sin(TURN), abs=GRASP.resolution / 2)
    assert found.close and not found.terminate


def test_the_hand_stays_on_the_knob() -> None:
    found = move(0.1, True, hand=(0.0, 0.02, 0.02))
    assert found.motion[1] < -0.005 and found.motion[2] < -0.005


@pytest.mark.parametrize(("opening", "opens", "over"), [(0.17, True, False), (0.19, True, True)])
def test_open_enough_is_the_end(opening: float, opens: bool, over: bool) -> None:
    assert move(opening, opens).terminate is over


@pytest.mark.parametrize(("opening", "over"), [(0.02, False), (0.005, True)])
def test_shut_is_the_end(opening: float, over: bool) -> None:
    assert move(opening, False).terminate is over


def test_what_it_calls_done_the_detectors_call_done() -> None:
    assert SLIDE.done_open > OPEN and SLIDE.done_shut < SHUT
