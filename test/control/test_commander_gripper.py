"""What the commander's stops do to a gripper that its episode has moved."""

from __future__ import annotations

import pytest
from commander_episode import CONTRACT, TICK, Episode, action

FINGER = CONTRACT.kinematics.gripper_joint
OPEN = CONTRACT.kinematics.gripper_open


@pytest.fixture
def episode() -> Episode:
    return Episode()


def close(episode: Episode, ticks: int = 5) -> float:
    """Closes the gripper for so many ticks, 2 mm in each; where it is then."""
    episode.act(0, action(dx=0.01, gripper=1.0))
    command = episode.tick()
    episode.commander.close_to(command.gripper, episode.now)
    for i in range(ticks):
        episode.now += TICK
        episode.joints(**{FINGER: OPEN - 0.002 * (i + 1)})
        episode.commander.tick(episode.now)
    return OPEN - 0.002 * ticks


def test_every_stop_of_an_episode_that_moves_the_gripper_holds_it_also_deactivation(episode: Episode) -> None:
    place = close(episode)
    episode.commander.deactivate(episode.now)
    assert episode.commander.take_grip_stop() == pytest.approx(place)


@pytest.mark.parametrize("refusal", ["inactive", "estop", "in mid-episode", "ended before any command"])
def test_a_stop_holds_no_gripper_that_its_episode_did_not_move(episode: Episode, refusal: str) -> None:
    """Left half-way by an earlier episode, it is moved by somebody else since."""
    close(episode)
    episode.commander.end("e1", "user", episode.now)
    assert episode.commander.take_grip_stop() is not None, "its own episode's stop"
    episode.commander.begin("e2", episode.now)
    episode.commander.close_to(1.0, episode.now)
    episode.commander.end("e2", "user", episode.now)
    episode.commander.take_grip_stop()
    episode.commander.grip.sent(0.0, episode.now)  # the last goal that is known of lies far away
    if refusal == "inactive":
        episode.commander.deactivate(episode.now)
    elif refusal == "estop":
        episode.commander.press_estop(True, episode.now)
    for i in range(10):
        episode.now += TICK
        episode.joints(**{FINGER: 0.04 - 0.002 * i})
    assert episode.commander.grip.travels(episode.now), "it is on its way"
    episode.commander.begin("e3", episode.now, step=7 if refusal == "in mid-episode" else 0)
    if refusal == "ended before any command":
        episode.commander.end("e3", "user", episode.now)
    assert episode.commander.state == "stopped" and episode.commander.episode_id == "e3"
    assert episode.commander.take_grip_stop() is None


def test_a_clock_that_was_set_back_lets_go_of_nothing(episode: Episode) -> None:
    close(episode)

    def press() -> None:
        episode.now += TICK
        episode.joints(**{FINGER: OPEN - 0.01})
        episode.commander.tick(episode.now)

    for _ in range(40):
        press()
    assert not episode.commander.grip.travels(episode.now)
    episode.now = 1.0
    for _ in range(100):
        press()
        assert not episode.commander.grip.travels(episode.now)
