from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS here")

from bag_factory import (  # noqa: E402
    BEGIN,
    FRAME_NS,
    Said,
    camera_frame,
    custom_data,
    episode,
    joint_positions,
    joint_state,
    policy_action,
    time_of,
    write_bag,
)
from std_msgs.msg import Header  # noqa: E402

from qt_ros.contract.codecs import decode_image, decode_joint_positions, ns_to_seconds, stamp_to_ns  # noqa: E402
from qt_ros.contract.observations import Proprioception, observed_joints, resize_rgb  # noqa: E402
from qt_ros.contract.robot import RobotContract, parse_contract  # noqa: E402
from qt_ros.control.joint_history import JointHistory  # noqa: E402
from qt_ros.control.runner import Episode as LiveEpisode  # noqa: E402
from qt_ros.episodes import bag_metadata as keys  # noqa: E402
from qt_ros.episodes.bag_metadata import BagError  # noqa: E402
from qt_ros.episodes.bag_story import resolve_topic  # noqa: E402
from qt_ros.episodes.from_bag import episode_from_bag  # noqa: E402
from qt_ros.msg import EpisodeOutcome, EpisodeStatus, PolicyAction  # noqa: E402
from qt_ros.nodes.policy_messages import stop_message  # noqa: E402

Change = Callable[[list[Said]], list[Said]]
STEP_NS = 3 * FRAME_NS


def record(folder: Path, contract: RobotContract, change: Change | None = None, **data: str) -> Path:
    """A bag of four steps, after ``change`` had its way with the messages; ``data`` overrides custom data."""
    said = list(episode(contract))
    custom = {**custom_data(contract), **{getattr(keys, k): v for k, v in data.items()}}
    write_bag(folder / "episode-1", change(said) if change else said, {k: v for k, v in custom.items() if v})
    return folder / "episode-1"


def without(topic: str, keep: Callable[[Any], bool]) -> Change:
    return lambda said: [s for s in said if s.topic != topic or keep(s.message)]


def test_every_step_holds_exactly_what_the_policy_had_before_it(tmp_path: Path, contract: RobotContract) -> None:
    result = episode_from_bag(record(tmp_path, contract), contract, (96, 128))
    result.validate()
    proprioception = Proprioception(contract)
    assert len(result) == 4
    for step in range(4):
        stamp = BEGIN + step * STEP_NS
        frame = camera_frame(contract, stamp, 3 * step)
        assert np.array_equal(result.images[step], resize_rgb(decode_image(frame), 96, 128))
        newest = (stamp - (BEGIN - 50_000_000)) // 20_000_000
        expected = proprioception.encode(joint_positions(contract, newest))
        assert np.array_equal(result.proprio[step], expected)
        action = policy_action(contract, "episode-1", step, stamp)
        assert np.array_equal(result.actions[step], np.asarray(action.values, np.float32))
        assert list(result.bins[step]) == list(action.bins)
        assert result.stamps[step] == pytest.approx(stamp * 1e-9, abs=1e-6)
    assert result.q_values is not None and (result.q_values == 0.25).all()
    assert list(result.rewards) == [0, 0, 0, 1]
    assert (result.episode_id, result.instruction, result.checkpoint) == (
        "episode-1",
        "pick up the red cube",
        "c0ffee",
    )
    assert (result.source, result.seed, result.terminated) == ("autonomous", 7, True)
    assert result.contract_sha256 == contract.sha256


@pytest.mark.parametrize(
    ("outcome", "reason", "terminated", "reward"),
    [
        ("success", "terminate", True, 1),
        ("success", "operator", True, 1),
        ("failure", "terminate", True, 0),
        ("failure", "timeout", True, 0),
        ("failure", "done", True, 0),
        ("failure", "estop", False, 0),
        ("failure", "stale_camera", False, 0),
        ("failure", "lost_policy", False, 0),
        ("unknown", "timeout", False, 0),
    ],
)
def test_the_end_is_terminal_unless_it_came_from_outside_or_nobody_knows(
    tmp_path: Path, contract: RobotContract, outcome: str, reason: str, terminated: bool, reward: int
) -> None:
    result = episode_from_bag(record(tmp_path, contract, OUTCOME=outcome, REASON=reason), contract, (24, 32))
    assert (result.outcome, result.reason) == (outcome, reason)
    assert (result.terminated, result.rewards[-1]) == (terminated, reward)


def test_a_killed_recorders_bag_takes_outcome_and_reason_from_what_was_said(
    tmp_path: Path, contract: RobotContract
) -> None:
    def say_outcome(said: list[Said]) -> list[Said]:
        end = said[-1].ns
        other = EpisodeOutcome(episode_id="episode-0", outcome=EpisodeStatus.OUTCOME_FAILURE)
        ours = EpisodeOutcome(episode_id="episode-1", outcome=EpisodeStatus.OUTCOME_SUCCESS)
        return [*said, Said(end + 1, "episode_outcome", ours), Said(end + 2, "episode_outcome", other)]

    uri = record(tmp_path, contract, say_outcome, OUTCOME="unknown", REASON="fault")
    result = episode_from_bag(uri, contract, (24, 32))
    assert (result.outcome, result.reason, result.terminated) == ("success", "terminate", True)


def test_a_bag_of_another_recorder_without_our_metadata_is_understood(tmp_path: Path, contract: RobotContract) -> None:
    write_bag(tmp_path / "rosbag2", episode(contract), {})
    result = episode_from_bag(tmp_path / "rosbag2", contract, (24, 32), source="teleop")
    assert (result.episode_id, result.instruction) == ("episode-1", "pick up the red cube")
    assert (result.outcome, result.reason, result.source, result.seed) == ("unknown", "terminate", "teleop", None)


def test_a_namespaced_robot_is_found_and_two_robots_need_a_name(tmp_path: Path, contract: RobotContract) -> None:
    write_bag(tmp_path / "one", episode(contract), custom_data(contract), namespace="left")
    assert len(episode_from_bag(tmp_path / "one", contract, (24, 32))) == 4
    assert len(episode_from_bag(tmp_path / "one", contract, (24, 32), namespace="/left")) == 4
    with pytest.raises(BagError, match="policy_action"):
        episode_from_bag(tmp_path / "one", contract, (24, 32), namespace="right")
    topics = ["/left/joint_states", "/right/joint_states", "/other_joint_states"]
    assert resolve_topic("joint_states", topics, "right") == "/right/joint_states"
    assert resolve_topic("odom", topics) is None and resolve_topic("/left/joint_states", topics) == topics[0]
    with pytest.raises(BagError, match="/left/joint_states, /right/joint_states all fit"):
        resolve_topic("joint_states", topics)


def test_leading_steps_without_their_image_are_left_out(
    tmp_path: Path, contract: RobotContract, caplog: pytest.LogCaptureFixture
) -> None:
    second = time_of(BEGIN + STEP_NS)
    change = without("head_camera/image_raw", lambda m: m.header.stamp.nanosec >= second.nanosec)
    with caplog.at_level(logging.WARNING):
        result = episode_from_bag(record(tmp_path, contract, change), contract, (24, 32))
    assert len(result) == 3 and "first 1 of 4 steps are left out" in caplog.text
    assert np.array_equal(result.actions[0], np.float32(policy_action(contract, "", 1, BEGIN).values))


def test_a_recorder_that_was_late_is_told_of(
    tmp_path: Path, contract: RobotContract, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(episode_from_bag(record(tmp_path / "whole", contract), contract, (24, 32))) == 4
        assert "not recorded" not in caplog.text
        late = record(tmp_path / "late", contract, without("policy_action", lambda m: m.step >= 2))
        assert len(episode_from_bag(late, contract, (24, 32))) == 2
    assert "its first 2 steps were not recorded" in caplog.text


def test_a_hole_in_the_middle_is_refused(tmp_path: Path, contract: RobotContract) -> None:
    third = time_of(BEGIN + 2 * STEP_NS)
    no_image = without("head_camera/image_raw", lambda m: m.header.stamp != third)
    with pytest.raises(BagError, match="image of step 2 .*not recorded"):
        episode_from_bag(record(tmp_path / "a", contract, no_image), contract)
    no_action = without("policy_action", lambda m: m.step != 1)
    with pytest.raises(BagError, match="actions of steps 1 to 1 were not recorded"):
        episode_from_bag(record(tmp_path / "b", contract, no_action), contract)
    twice = record(tmp_path / "c", contract, lambda said: [*said, *(s for s in said if s.topic == "policy_action")])
    with pytest.raises(BagError, match="step 0 was recorded twice"):
        episode_from_bag(twice, contract)
    stopped = time_of(BEGIN + STEP_NS)
    no_joints = without(
        "joint_states", lambda m: (m.header.stamp.sec, m.header.stamp.nanosec) < (stopped.sec, stopped.nanosec)
    )
    with pytest.raises(BagError, match="joint state of step 2 .*not recorded"):
        episode_from_bag(record(tmp_path / "d", contract, no_joints), contract)


def test_a_bag_without_one_usable_step_is_refused(tmp_path: Path, contract: RobotContract) -> None:
    late = [Said(BEGIN - 10**9, "joint_states", joint_state(contract, BEGIN - 10**9, 0))]
    change: Change = lambda said: [*late, *(s for s in said if s.topic != "joint_states")]  # noqa: E731
    with pytest.raises(BagError, match="not one of its 4 steps"):
        episode_from_bag(record(tmp_path, contract, change), contract)


@pytest.mark.parametrize("topic", ["policy_action", "joint_states", "head_camera/image_raw"])
def test_a_missing_topic_is_named(tmp_path: Path, contract: RobotContract, topic: str) -> None:
    with pytest.raises(BagError, match=f"no message on {topic}"):
        episode_from_bag(record(tmp_path, contract, without(topic, lambda m: False)), contract)


def test_arm_and_gripper_may_come_from_two_publishers(tmp_path: Path, contract: RobotContract) -> None:
    def split(said: list[Said]) -> list[Said]:
        result: list[Said] = []
        for s in said:
            if s.topic != "joint_states":
                result.append(s)
                continue
            for part in (slice(0, -1), slice(-1, None)):
                m = type(s.message)(
                    header=s.message.header, name=s.message.name[part], position=s.message.position[part]
                )
                result.append(Said(s.ns, s.topic, m))
        return result

    whole = episode_from_bag(record(tmp_path / "whole", contract), contract, (24, 32))
    parts = episode_from_bag(record(tmp_path / "parts", contract, split), contract, (24, 32))
    assert np.array_equal(whole.proprio, parts.proprio)


def test_a_lift_that_is_not_reported_is_at_home(tmp_path: Path, contract: RobotContract) -> None:
    def unplug(said: list[Said]) -> list[Said]:
        for s in said:
            if s.topic == "joint_states":
                assert s.message.name[0] == "lift_joint"
                s.message.name, s.message.position = s.message.name[1:], s.message.position[1:]
                s.message.velocity, s.message.effort = [], []
        return said

    reported = episode_from_bag(record(tmp_path / "reported", contract), contract, (24, 32))
    silent = episode_from_bag(record(tmp_path / "silent", contract, unplug), contract, (24, 32))
    lift = joint_positions(contract, 2)["lift_joint"] - contract.kinematics.home["lift_joint"]
    half = (contract.limits.workspace_high[2] - contract.limits.workspace_low[2]) / 2
    assert reported.proprio[0, 2] - silent.proprio[0, 2] == pytest.approx(lift / half, abs=1e-4)
    assert np.allclose(np.delete(reported.proprio, 2, axis=1), np.delete(silent.proprio, 2, axis=1), atol=1e-6)


def test_a_lift_that_is_reported_now_and_then_counts_as_it_does_live(tmp_path: Path, contract: RobotContract) -> None:
    def seldom(said: list[Said]) -> list[Said]:
        for number, s in enumerate(s for s in said if s.topic == "joint_states"):
            if number % 19:  # every 0.38 s, while the contract forgets after 0.2 s
                s.message.name, s.message.position = s.message.name[1:], s.message.position[1:]
                s.message.velocity, s.message.effort = [], []
        return said

    said = seldom(list(episode(contract)))
    write_bag(tmp_path / "bag", said, custom_data(contract))
    result = episode_from_bag(tmp_path / "bag", contract, (24, 32))
    live, encoder = JointHistory(*observed_joints(contract)), Proprioception(contract)
    for s in said:
        if s.topic == "joint_states":
            positions = decode_joint_positions(s.message, live.known)
            live.add(ns_to_seconds(stamp_to_ns(s.message.header.stamp)), positions)
    max_age = contract.observation("joint_state").max_age
    seen: set[bool] = set()
    for step in range(4):
        positions, missing = live.as_of(ns_to_seconds(BEGIN + step * STEP_NS), max_age)
        assert missing == []
        assert np.array_equal(result.proprio[step], encoder.encode(positions))
        seen.add("lift_joint" in positions)
    assert seen == {True, False}


def test_a_nan_joint_state_is_passed_over_as_the_live_policy_does(tmp_path: Path, contract: RobotContract) -> None:
    def spoil(said: list[Said]) -> list[Said]:
        message = joint_state(contract, said[-1].ns, 0)
        message.position[0] = math.nan
        return [*said, Said(said[-1].ns + 1, "joint_states", message)]

    result = episode_from_bag(
        record(tmp_path, contract, spoil, OUTCOME="failure", REASON="non_finite"), contract, (24, 32)
    )
    assert len(result) == 4 and not result.terminated and np.isfinite(result.proprio).all()


def test_another_image_size_or_encoding_is_refused(tmp_path: Path, contract: RobotContract) -> None:
    def shrink(said: list[Said]) -> list[Said]:
        for s in said:
            if s.topic == "head_camera/image_raw":
                s.message.height //= 2
                s.message.data = s.message.data[: len(s.message.data) // 2]
        return said

    def rename(said: list[Said]) -> list[Said]:
        for s in said:
            if s.topic == "head_camera/image_raw":
                s.message.encoding = "yuv422"
        return said

    with pytest.raises(BagError, match="got 640x240, the contract says 640x480"):
        episode_from_bag(record(tmp_path / "a", contract, shrink), contract)
    with pytest.raises(BagError, match="yuv422"):
        episode_from_bag(record(tmp_path / "b", contract, rename), contract)


def test_another_contract_needs_leave_and_another_action_space_is_refused(
    tmp_path: Path, contract: RobotContract
) -> None:
    uri = record(tmp_path, contract)
    remarked = parse_contract(contract.text + "\n# a remark\n", "remarked")
    with pytest.raises(BagError, match="allow another contract"):
        episode_from_bag(uri, remarked, (24, 32))
    result = episode_from_bag(uri, remarked, (24, 32), allow_other_contract=True)
    assert result.contract_sha256 == remarked.sha256
    space = [{**d, "high": d["high"] * 2} for d in contract.action_space.to_config()]
    wider = dataclasses.replace(contract, action_space=type(contract.action_space).from_config(space))
    with pytest.raises(BagError, match="action space"):
        episode_from_bag(uri, wider, (24, 32), allow_other_contract=True)


def test_actions_of_another_robot_or_episode_are_refused(tmp_path: Path, contract: RobotContract) -> None:
    def rename(said: list[Said]) -> list[Said]:
        for s in said:
            if isinstance(s.message, PolicyAction):
                s.message.names[0] = "jump"
        return said

    with pytest.raises(BagError, match="step 0 has actions jump"):
        episode_from_bag(record(tmp_path / "a", contract, rename), contract)
    with pytest.raises(BagError, match="no actions of episode other; episodes with actions: episode-1"):
        episode_from_bag(record(tmp_path / "b", contract, EPISODE_ID="other"), contract)


def test_a_teleoperated_action_without_bins_is_encoded_and_has_no_q(tmp_path: Path, contract: RobotContract) -> None:
    def strip(said: list[Said]) -> list[Said]:
        for s in said:
            if isinstance(s.message, PolicyAction):
                s.message.bins, s.message.q = [], []
                s.message.header = Header()
        return said

    result = episode_from_bag(record(tmp_path, contract, strip), contract, (24, 32))
    assert result.q_values is None
    assert np.array_equal(result.bins, contract.action_space.encode(result.actions))


def test_bins_that_are_not_those_of_the_values_are_refused(tmp_path: Path, contract: RobotContract) -> None:
    def shift(said: list[Said]) -> list[Said]:
        actions = [s.message for s in said if isinstance(s.message, PolicyAction)]
        actions[2].bins[3] ^= 1
        return said

    def shorten(said: list[Said]) -> list[Said]:
        for s in said:
            if isinstance(s.message, PolicyAction):
                s.message.bins = s.message.bins[:-1]
        return said

    with pytest.raises(BagError, match="step 2 says bins"):
        episode_from_bag(record(tmp_path / "a", contract, shift), contract, (24, 32))
    with pytest.raises(BagError, match="step 0 says bins"):
        episode_from_bag(record(tmp_path / "b", contract, shorten), contract, (24, 32))


def test_a_value_that_is_not_finite_is_refused(tmp_path: Path, contract: RobotContract) -> None:
    def spoil(said: list[Said]) -> list[Said]:
        next(s.message for s in said if isinstance(s.message, PolicyAction)).values[2] = math.nan
        return said

    with pytest.raises(BagError, match="dx"):
        episode_from_bag(record(tmp_path, contract, spoil), contract, (24, 32))


def test_the_neutral_stop_at_the_end_is_no_step(tmp_path: Path, contract: RobotContract) -> None:
    def stop(said: list[Said]) -> list[Said]:
        ended = LiveEpisode("episode-1", "pick up the red cube", 0.0, 12.0, steps=4)
        neutral = stop_message(ended, contract.action_space, "base_link", "c0ffee", time_of(said[-1].ns))
        return [*said, Said(said[-1].ns + 1, "policy_action", neutral)]

    with_stop = episode_from_bag(record(tmp_path / "a", contract, stop), contract, (24, 32))
    without_stop = episode_from_bag(record(tmp_path / "b", contract), contract, (24, 32))
    assert len(with_stop) == len(without_stop) == 4
    assert np.array_equal(with_stop.actions, without_stop.actions)
    assert np.array_equal(with_stop.rewards, without_stop.rewards) and with_stop.rewards[-1] == 1
    assert with_stop.q_values is not None and with_stop.q_values.shape == (4, contract.action_space.size)


def test_the_neutral_stop_after_a_persons_episode_is_no_step_either(tmp_path: Path, contract: RobotContract) -> None:
    def teleoperate(said: list[Said]) -> list[Said]:
        for s in said:
            if isinstance(s.message, PolicyAction):
                s.message.q = []
        ended = LiveEpisode("episode-1", "pick up the red cube", 0.0, 12.0, steps=4)
        neutral = stop_message(ended, contract.action_space, "base_link", "teleop", time_of(said[-1].ns))
        return [*said, Said(said[-1].ns + 1, "policy_action", neutral)]

    result = episode_from_bag(record(tmp_path, contract, teleoperate, SOURCE="teleop"), contract, (24, 32))
    assert (len(result), result.q_values, result.source) == (4, None, "teleop")


def test_a_seed_that_is_no_number_is_named(tmp_path: Path, contract: RobotContract) -> None:
    with pytest.raises(BagError, match="qt_ros.seed is 'x'"):
        episode_from_bag(record(tmp_path, contract, SEED="x"), contract, (24, 32))
