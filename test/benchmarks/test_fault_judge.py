"""The judge of motion without a policy finds it, and excuses only what the clock explains."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fault_judge import MotionJudge, too_sudden

ALLOWED, BRAKES = 0.9, 0.3


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> MotionJudge:
    monkeypatch.setattr("benchmarks.fault_judge.LATE", -1.0)  # nothing is waited for
    return MotionJudge("arm command", ALLOWED, BRAKES)


def drive(judge: MotionJudge, begin: float, end: float, shift: float = 0.0) -> None:
    """Commands at 50 Hz, by a clock that is ``shift`` s ahead of the policy's images."""
    for i in range(round((end - begin) / 0.02) + 1):
        judge.saw(begin + shift + 0.02 * i, True)


def act(judge: MotionJudge, begin: float, end: float) -> None:
    for i in range(round((end - begin) / 0.2) + 1):
        judge.acted(begin + 0.2 * i)


def test_motion_on_actions_is_fine_and_the_longest_time_since_one_is_told(judge: MotionJudge) -> None:
    act(judge, 10.0, 12.0)
    drive(judge, 10.1, 12.5)
    judge.saw(60.0, False)
    assert judge.settled() and judge.problems() == []
    assert judge.longest == pytest.approx(0.5)


def test_a_command_that_goes_on_after_the_policy_is_gone_is_found(judge: MotionJudge) -> None:
    act(judge, 10.0, 12.0)
    drive(judge, 10.1, 12.0 + ALLOWED - 0.02)
    assert judge.problems() == []
    drive(judge, 12.0 + ALLOWED + 0.02, 27.0)
    (problem,) = judge.problems()
    assert problem.startswith("arm command: still moves 15.00 s after the last action (limit 0.90 s)")
    assert judge.problems() == [], "told once"


def test_motion_before_any_action_is_found(judge: MotionJudge) -> None:
    judge.saw(5.0, True, "arm_joint_3 0.2 rad/s")
    told = "arm command: still moves without any action (limit 0.90 s), 1 times; the newest: arm_joint_3 0.2 rad/s"
    assert judge.problems() == [told]


def test_an_action_heard_after_its_effect_explains_it(judge: MotionJudge) -> None:
    drive(judge, 10.1, 10.3)
    assert judge._open
    judge.acted(10.0)
    assert judge.settled() and judge.problems() == []


def test_an_action_from_later_explains_nothing(judge: MotionJudge) -> None:
    judge.saw(10.0, True)
    judge.acted(10.5)
    assert judge.problems()


@pytest.mark.parametrize("shift", [3.0, -3.0, 60.0, -60.0])
def test_after_a_leap_of_the_clock_that_was_ordered_it_may_only_brake(judge: MotionJudge, shift: float) -> None:
    act(judge, 100.0, 102.0)
    drive(judge, 100.1, 102.0)
    judge.ordered = shift
    drive(judge, 102.02, 102.02 + BRAKES, shift)
    assert judge.problems() == []
    act(judge, 102.2, 104.0)  # the images' stamps know nothing of the leap
    drive(judge, 102.04 + BRAKES, 104.0, shift)
    assert judge.problems()


def test_a_gap_that_nobody_ordered_excuses_nothing(judge: MotionJudge) -> None:
    act(judge, 10.0, 12.0)
    drive(judge, 10.1, 12.0)
    judge.saw(15.0, True)
    assert judge.problems()


def test_a_simulation_that_began_anew_is_judged_by_its_own_actions(judge: MotionJudge) -> None:
    act(judge, 50.0, 52.0)
    drive(judge, 50.1, 52.0)
    judge.saw(0.5, False)
    judge.saw(1.5, True)
    assert judge.problems(), "nothing from before counts"
    act(judge, 2.0, 3.0)
    drive(judge, 2.1, 3.5)
    assert judge.problems() == []


def test_a_robot_that_brakes_because_time_began_anew_may_do_so_from_when_its_commander_noticed(
    judge: MotionJudge,
) -> None:
    act(judge, 50.0, 52.0)
    drive(judge, 50.1, 52.0)
    judge.saw(0.5, False)  # measured before the new clock is heard by who commands
    judge.excuse(1.5)
    drive(judge, 1.5, 1.5 + BRAKES - 0.02)
    assert judge.problems() == []
    judge.saw(1.5 + BRAKES + 0.02, True)
    assert judge.problems()


def test_motion_that_no_controller_was_told_is_no_motion_without_a_policy_but_told(judge: MotionJudge) -> None:
    act(judge, 10.0, 12.0)
    judge.saw(12.1, True, passive=True)
    assert (judge.problems(), judge.passive()) == ([], []), "a policy acts: nobody asks"
    judge.saw(20.0, True, "arm_joint_1 0.06 rad/s", passive=True)
    judge.saw(21.0, True, "arm_joint_1 0.07 rad/s", passive=True)
    assert judge.problems() == []
    assert judge.passive() == ["arm command: 2 times; the newest: arm_joint_1 0.07 rad/s"]
    assert judge.passive() == [], "told once"


def test_a_stream_that_nobody_heard_is_known(judge: MotionJudge) -> None:
    assert judge.heard == 0
    judge.saw(1.0, False)
    assert judge.heard == 1


def test_what_an_action_explained_stays_so_when_time_begins_anew(judge: MotionJudge) -> None:
    drive(judge, 10.1, 10.3)
    judge.acted(10.0)  # heard after its effect
    judge.saw(0.5, False)
    assert judge.problems() == []


def stop(judge: MotionJudge, begin: float, end: float) -> None:
    """Said ten times a second."""
    for i in range(round((end - begin) / 0.1) + 1):
        judge.stopped(begin + 0.1 * i, BRAKES)


def test_whoever_says_that_it_is_stopped_may_only_brake_however_young_the_last_action(judge: MotionJudge) -> None:
    act(judge, 10.0, 12.0)
    drive(judge, 10.1, 11.0 + BRAKES - 0.02)
    stop(judge, 11.0, 11.5)
    assert judge.problems() == []
    drive(judge, 11.0 + BRAKES + 0.02, 11.6)
    stop(judge, 11.6, 11.7)
    told = "arm command: still moves though its commander says stopped, 0.30 s later than allowed"
    assert judge.problems() == [told]
    assert judge.problems() == [], "told once"


def test_after_a_stop_the_next_episode_moves_even_if_its_begin_is_heard_late(judge: MotionJudge) -> None:
    act(judge, 10.0, 14.0)
    stop(judge, 11.0, 13.0)
    drive(judge, 13.02, 13.1)
    judge.freed()
    drive(judge, 13.12, 14.0)
    stop(judge, 14.0, 15.0)
    assert judge.problems() == []


def test_a_stop_that_was_not_said_all_the_time_forbids_nothing_in_between(judge: MotionJudge) -> None:
    act(judge, 10.0, 14.0)
    stop(judge, 11.0, 11.5)
    drive(judge, 12.5, 13.5)  # by a node that took its place and is heard late
    stop(judge, 13.5, 14.5)
    assert judge.problems() == []


def test_a_stop_is_forgotten_when_time_begins_anew(judge: MotionJudge) -> None:
    judge.stopped(1.0, BRAKES)
    judge.saw(50.0, False)
    judge.saw(0.5, False)
    act(judge, 1.2, 3.0)
    drive(judge, 1.3, 1.4)
    judge.stopped(1.4, BRAKES)
    assert judge.problems() == []


SPEED, ACCELERATION, BRAKE_TIME = 0.5, 1.0, 0.16


@pytest.mark.parametrize(
    ("before", "after", "fine"),
    [
        (0.1, 0.12, True),
        (0.1, 0.13, False),  # it would be as hard as braking may be
        (0.12, 0.1, True),
        (0.16, 0.1, True),
        (0.2, 0.1, False),
        (0.5, 0.0, True),  # an emergency stop
        (-0.1, 0.1, False),
    ],
)
def test_only_what_gets_slower_may_brake_hard(before: float, after: float, fine: bool) -> None:
    told = too_sudden(np.array([before]), np.array([after]), 0.02, SPEED, ACCELERATION, BRAKE_TIME)
    assert (told == "") == fine and ("changed by" in told) != fine
