from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from commander_episode import CONTRACT, HOME, SPACE, TICK, Episode, action

from qt_ros.contract.kinematics import Kinematics
from qt_ros.control.commander import Commander
from qt_ros.control.estop import EStop


@pytest.fixture
def episode() -> Episode:
    return Episode()


def test_an_action_of_the_running_episode_moves_the_robot(episode: Episode) -> None:
    assert episode.commander.state == "moving" and not episode.tick().moving
    assert episode.act(0)
    assert episode.tick(3).arm_twist[0] > 0.1
    assert (episode.commander.step, episode.commander.reason) == (0, "")


def test_nothing_moves_before_an_episode_and_after_its_end(episode: Episode) -> None:
    fresh = Commander(CONTRACT)
    fresh.activate(1.0)
    assert fresh.state == "idle" and not fresh.act("e1", 0, SPACE.names, action(dx=0.05), "base_link", 1.0, 1.0)
    episode.act(0)
    episode.tick(3)
    episode.commander.end("e1", "terminate", episode.now)
    assert (episode.commander.state, episode.commander.reason) == ("stopped", "terminate")
    assert not episode.stand().moving
    assert not episode.act(1) and not episode.tick().moving


def test_actions_of_another_episode_are_dropped(episode: Episode) -> None:
    assert not episode.act(0, episode_id="e0")
    assert not episode.tick().moving and episode.commander.state == "moving"


def test_an_episode_is_known_from_its_begin_on_and_when_it_is_over(episode: Episode) -> None:
    assert episode.commander.knows("e1") and not episode.commander.knows("e2")
    episode.commander.end("e2", "timeout", episode.now)
    episode.commander.begin("e3", episode.now)
    assert all(episode.commander.knows(name) for name in ("e1", "e2", "e3"))


def test_duplicates_and_overtaken_actions_are_dropped(episode: Episode) -> None:
    assert episode.act(3, observation_time=9.98)
    assert not episode.act(3, observation_time=9.99), "the same step again"
    assert not episode.act(2, observation_time=9.99), "an older step"
    assert not episode.act(4, observation_time=9.98), "a newer step from the same image"
    assert not episode.act(4, observation_time=9.97), "a newer step from an older image"
    assert episode.act(4, observation_time=9.99)
    assert episode.commander.state == "moving"


def test_an_episode_that_begins_while_inactive_is_refused_for_good() -> None:
    episode = Episode(active=False)
    assert (episode.commander.state, episode.commander.reason) == ("stopped", "deactivated")
    episode.commander.activate(episode.now)
    episode.commander.begin("e1", episode.now)
    assert not episode.act(0) and not episode.tick().moving
    episode.commander.begin("e2", episode.now)
    assert episode.act(0, episode_id="e2") and episode.tick(2).moving


def test_deactivation_in_mid_motion_stops(episode: Episode) -> None:
    episode.act(0)
    assert episode.tick(3).moving
    episode.commander.deactivate(episode.now)
    assert not episode.stand().moving and episode.commander.reason == "deactivated"


def test_the_estop_stops_at_once_and_stays_latched_until_reset() -> None:
    estop = EStop()
    episode = Episode(estop)
    episode.act(0)
    assert episode.tick(3).moving
    episode.commander.press_estop(True, episode.now)
    assert not episode.tick().moving and episode.commander.reason == "estop"
    assert estop.reset() == (False, "the emergency stop is still pressed; release it first")
    episode.commander.press_estop(False, episode.now)
    episode.commander.begin("e2", episode.now)
    assert episode.commander.reason == "estop", "released, but not reset"
    assert not episode.act(0, episode_id="e2")
    assert estop.reset()[0]
    assert not episode.act(1, episode_id="e2"), "a reset does not resume motion"
    episode.commander.begin("e3", episode.now)
    assert episode.act(0, episode_id="e3") and episode.tick(2).moving


def test_an_estop_outlives_the_commander() -> None:
    estop = EStop()
    estop.press(True)
    estop.press(False)
    assert Episode(estop).commander.reason == "estop"


@pytest.mark.parametrize(
    ("changed", "reason", "told"),
    [
        ({"names": SPACE.names[::-1]}, "fault", "dimensions"),
        ({"names": SPACE.names[:-1]}, "fault", "dimensions"),
        ({"frame": "map"}, "fault", "'map'"),
        ({"frame": ""}, "fault", "frame"),
        ({"values": action(dy=np.nan)}, "non_finite", "not finite"),
        ({"values": np.zeros(3)}, "fault", "expected 10 numbers"),
        ({"observation_time": 9.0}, "lost_policy", "younger than 0.6 s"),
        ({"observation_time": 1.7e9}, "fault", "use_sim_time"),
    ],
)
def test_a_bad_action_stops_with_its_name(episode: Episode, changed: dict[str, Any], reason: str, told: str) -> None:
    episode.act(0, observation_time=8.99 if changed.get("observation_time") else 9.9)
    episode.commander.begin("e2", episode.now)
    values = changed.pop("values", None)
    assert not episode.act(1, values, episode_id="e2", **changed)
    assert episode.commander.reason == reason and told in episode.commander.message
    assert not episode.tick().moving


def test_a_policy_that_falls_silent_is_lost(episode: Episode) -> None:
    episode.act(0)
    episode.tick(40)
    assert episode.commander.reason == "lost_policy" and "policy_node" in episode.commander.message


def test_joints_that_fall_silent_stop_the_motion(episode: Episode) -> None:
    episode.act(0)
    assert episode.tick(5, joints=False).moving
    command = episode.tick(15, joints=False)
    assert not command.moving and episode.commander.reason == "stale_joints"
    assert "joint_states" in episode.commander.message


def test_without_any_joint_state_no_action_is_carried_out() -> None:
    commander = Commander(CONTRACT)
    commander.activate(5.0)
    commander.begin("e", 5.0)
    assert commander.tick(6.0).reason is None, "joint states may come until the first action"
    commander.act("e", 0, SPACE.names, action(dx=0.05), "base_link", 6.0, 6.0)
    assert commander.tick(6.02).reason == "stale_joints"


def test_a_joint_state_without_the_arm_is_an_error(episode: Episode) -> None:
    with pytest.raises(ValueError, match="arm_joint_4"):
        episode.commander.observe_joints({j: v for j, v in HOME.items() if j != "arm_joint_4"}, 10.0)


def test_a_joint_state_of_another_driver_neither_faults_nor_refreshes_the_arm(episode: Episode) -> None:
    episode.act(0)
    for _ in range(20):
        episode.now += TICK
        episode.commander.observe_joints({"left_finger_joint": 0.05}, episode.now)
        episode.commander.tick(episode.now)
    assert episode.commander.reason == "stale_joints"


def test_the_first_reason_of_a_stop_is_kept(episode: Episode) -> None:
    episode.commander.end("e1", "timeout", episode.now)
    episode.commander.press_estop(True, episode.now)
    episode.commander.deactivate(episode.now)
    assert episode.commander.reason == "timeout"


def test_a_newer_episode_takes_over_and_the_old_one_never_comes_back(episode: Episode) -> None:
    episode.act(0)
    episode.tick(3)
    episode.commander.begin("e2", episode.now)
    assert not episode.stand().moving, "the old action does not move the new episode"
    episode.commander.begin("e1", episode.now)
    assert episode.commander.episode_id == "e2"
    assert not episode.act(1) and episode.act(0, episode_id="e2")


def test_an_end_that_overtakes_its_beginning_prevents_it() -> None:
    commander = Commander(CONTRACT)
    commander.activate(0.0)
    commander.end("e9", "canceled", 0.0)
    commander.begin("e9", 0.1)
    assert commander.state == "idle"


def test_an_idle_policy_ends_a_running_episode(episode: Episode) -> None:
    episode.commander.idle(episode.now)
    assert episode.commander.reason == "lost_policy"


def outward(episode: Episode, seconds: float = 1.0, **values: float) -> list[Any]:
    """Commands while a fresh action asks for the same again and again and the measured arm stays where it is."""
    commands = []
    for tick in range(round(seconds / TICK)):
        if tick % 10 == 0:
            episode.act(tick + 1, action(**values), observation_time=episode.now)
        commands.append(episode.tick(joints=False))
    return commands


def test_the_tool_is_kept_in_the_workspace(episode: Episode) -> None:
    spec = CONTRACT.kinematics
    episode.act(0, action(dz=0.05))
    assert episode.tick(2).arm_twist[2] > 0.0
    edge = dict(HOME)
    kinematics = Kinematics(CONTRACT.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=HOME)
    while kinematics.fk([edge[j] for j in spec.arm_joints])[0][0] < CONTRACT.limits.workspace_high[0]:
        edge["arm_joint_4"] -= 0.01  # stretch the elbow until the tool is at the front wall
    episode = Episode()
    episode.joints(**edge)
    episode.act(1, action(dx=0.05, dy=0.01))
    episode.now += TICK
    episode.joints(**edge)
    command = episode.commander.tick(episode.now)
    assert command.arm_twist[0] == 0.0 and command.arm_twist[1] > 0.0


def test_above_the_box_only_the_way_back_is_open(episode: Episode) -> None:
    """The lift has carried the tool out before the episode began."""
    above = HOME["lift_joint"] + CONTRACT.limits.workspace_high[2] - CONTRACT.limits.workspace_low[2]
    episode.joints(lift_joint=above)
    episode.act(0, action(dz=0.05))
    episode.now += TICK
    assert episode.commander.tick(episode.now).arm_twist[2] == 0.0
    episode.act(1, action(dz=-0.05), observation_time=episode.now)
    episode.now += TICK
    assert episode.commander.tick(episode.now).arm_twist[2] < 0.0


def test_silent_joints_do_not_let_the_tool_run_through_the_wall(episode: Episode) -> None:
    """Between two joint states the tool is where it was sent meanwhile."""
    spec = CONTRACT.kinematics
    model = Kinematics(CONTRACT.urdf, spec.base_frame, spec.tool_frame, spec.arm_joints, fixed=HOME)
    side = HOME["arm_joint_1"]
    while model.fk([side, *(HOME[j] for j in spec.arm_joints[1:])])[0][1] < CONTRACT.limits.workspace_high[1] - 0.03:
        side += 0.005
    episode.joints(arm_joint_1=side)
    place = model.fk([side, *(HOME[j] for j in spec.arm_joints[1:])])[0][1]
    commands = outward(episode, 0.4, dy=0.05)
    assert episode.commander.reason == "stale_joints"
    sent = place + sum(c.arm_twist[1] for c in commands) * TICK
    assert max(c.arm_twist[1] for c in commands) > 0.1
    assert sent <= CONTRACT.limits.workspace_high[1] + 1e-9


def test_a_robot_that_leaves_its_limits_by_itself_is_stopped(episode: Episode) -> None:
    episode.act(0, action(dz=0.01))
    assert episode.tick(2).moving
    episode.now += TICK
    episode.joints(lift_joint=HOME["lift_joint"] + 0.5)
    episode.commander.tick(episode.now)
    assert episode.commander.reason == "limit" and "beyond its limit" in episode.commander.message


def test_a_joint_beyond_its_range_is_a_limit(episode: Episode) -> None:
    episode.act(0, action(dz=0.01))
    assert episode.tick(2).moving
    episode.now += TICK
    episode.joints(arm_joint_7=3.2)
    episode.commander.tick(episode.now)
    assert episode.commander.reason == "limit" and "arm_joint_7" in episode.commander.message


def test_joint_states_from_the_future_are_as_useless_as_old_ones(episode: Episode) -> None:
    episode.act(0)
    assert episode.tick(3).moving
    episode.commander.observe_joints(HOME, episode.now + 100.0)
    episode.tick(10, joints=False)
    assert episode.commander.reason == "stale_joints" and "future" in episode.commander.message
    assert not episode.stand().moving


@pytest.mark.parametrize(("step", "stamp"), [(3, 10.0), (0, 5.0), (7, None)])
def test_an_episode_that_was_under_way_before_activation_is_not_joined(step: int, stamp: float | None) -> None:
    commander = Commander(CONTRACT)
    commander.activate(10.0)
    commander.begin("e1", 10.0, step, stamp)
    assert (commander.state, commander.reason) == ("stopped", "lost_command")
    commander.begin("e1", 10.1, 0, 10.1)
    assert commander.reason == "lost_command", "not even when its first message comes late"
    commander.begin("e2", 10.2, 0, 10.2)
    assert commander.state == "moving"


def test_an_episode_that_began_after_activation_is_followed_however_late_it_is_heard_of() -> None:
    commander = Commander(CONTRACT)
    commander.activate(10.0)
    commander.begin("e1", 14.0, 7, 14.0, 12.0)
    assert commander.state == "moving"
    commander.begin("e2", 15.0, 0, 15.0, 9.0)
    assert commander.reason == "lost_command", "it says itself that it began before"


def test_an_episode_may_begin_after_a_simulated_clock_was_set_back() -> None:
    commander = Commander(CONTRACT)
    commander.activate(300.0)
    commander.tick(300.0)
    commander.tick(1.0)
    commander.begin("e1", 1.1, 0, 1.1)
    assert commander.state == "moving"


@pytest.mark.parametrize("acted", [True, False], ids=["in motion", "before its first action"])
def test_a_clock_that_is_set_back_during_an_episode_is_named_not_the_joint_states(
    episode: Episode, acted: bool
) -> None:
    if acted:
        episode.act(0)
    episode.tick(3)
    assert episode.commander.state == "moving"
    episode.now -= 5.0
    episode.commander.tick(episode.now)
    assert episode.commander.reason == "fault"
    assert "the clock was set back by 5.00 s" in episode.commander.message
    assert not episode.stand().moving


def test_no_episode_begins_before_the_clock_does() -> None:
    commander = Commander(CONTRACT)
    commander.activate(0.0)
    commander.begin("e1", 0.0, 0, 0.0)
    assert commander.reason == "deactivated"
    commander.tick(4.0)
    commander.begin("e2", 4.0, 0, 4.0)
    assert commander.state == "moving"


def test_who_is_told_that_the_clock_runs_may_begin_before_the_next_tick() -> None:
    commander = Commander(CONTRACT)
    commander.activate(0.0)
    commander.hear_clock(4.0)
    commander.begin("e1", 4.001, 0, 4.001, 4.0005)
    assert commander.state == "moving"


def test_an_episode_without_any_action_does_not_wait_for_ever(episode: Episode) -> None:
    episode.now += 11.0
    episode.tick()
    assert episode.commander.reason == "lost_policy"


def test_a_stop_brakes_and_an_emergency_stop_does_not(episode: Episode) -> None:
    for reason, brakes in (("timeout", True), ("estop", False)):
        episode = Episode()
        episode.act(0)
        before = episode.tick(5).arm_twist[0]
        if brakes:
            episode.commander.end("e1", reason, episode.now)
        else:
            episode.commander.press_estop(True, episode.now)
        after = episode.tick().arm_twist[0]
        assert (0.0 < after < before) if brakes else after == 0.0
        assert not episode.stand().moving


def test_an_emergency_stop_cuts_braking_short(episode: Episode) -> None:
    episode.act(0)
    episode.tick(5)
    episode.commander.end("e1", "timeout", episode.now)
    episode.commander.press_estop(True, episode.now)
    assert not episode.tick().moving
    assert episode.commander.reason == "timeout", "the first reason is kept"


def test_standing_tells_all_of_it(episode: Episode) -> None:
    episode.act(4)
    episode.tick(2)
    standing = episode.commander.standing
    assert (standing.state, standing.reason, standing.episode_id, standing.step) == ("moving", "", "e1", 4)
    assert standing.action_age == pytest.approx(0.09, abs=1e-6) and not standing.estop
    episode.commander.press_estop(True, episode.now)
    standing = episode.commander.standing
    assert (standing.state, standing.reason, standing.estop) == ("stopped", "estop", True)
    assert "reset" in standing.message
