from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="no ROS here")

from bag_factory import BEGIN, Said, custom_data, episode, time_of, write_bag  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from qt_ros.contract.robot import RobotContract  # noqa: E402
from qt_ros.episodes import bag_metadata as keys  # noqa: E402
from qt_ros.episodes.audit import Audit, TopicAudit, audit  # noqa: E402
from qt_ros.episodes.bag import BagTopic, EpisodeBagWriter  # noqa: E402
from qt_ros.episodes.recorder import Recorder  # noqa: E402

JOINTS = BagTopic.find("/joint_states", "sensor_msgs/msg/JointState")
PERIOD = 20_000_000


def of_topic(result: Audit, topic: str) -> TopicAudit:
    return next(t for t in result.topics if t.topic == topic)


def joints_at(uri: Path, stamps: list[int], sequences: list[int] | None = None) -> Path:
    """A bag with one JointState per stamp, received 1 ms after it."""
    writer = EpisodeBagWriter(uri, [JOINTS])
    for i, ns in enumerate(stamps):
        data = serialize_message(JointState(header=Header(stamp=time_of(ns))))
        writer.write("/joint_states", data, ns + 1_000_000, ns, None if sequences is None else sequences[i])
    writer.close()
    return uri


def test_a_good_bag_has_counts_and_rates_and_no_problem(tmp_path: Path, contract: RobotContract) -> None:
    write_bag(tmp_path / "a", episode(contract, "episode-1"), custom_data(contract))
    result = audit(tmp_path / "a", contract)
    assert result.complete and result.problems == []
    camera, joints = of_topic(result, "/head_camera/image_raw"), of_topic(result, "/joint_states")
    assert camera.messages == 12 and camera.expected_rate == 15
    assert camera.mean_rate == pytest.approx(15, abs=0.01) and camera.largest_gap == pytest.approx(1 / 15, abs=1e-3)
    assert joints.mean_rate == pytest.approx(50, abs=0.01) and joints.missing == 0 and joints.lost_in_transport == 0
    assert (result.outcome, result.reason, result.episode_id) == ("success", "terminate", "episode-1")
    assert result.messages == sum(t.messages for t in result.topics) and result.bytes > 12 * 640 * 480 * 3
    document = json.loads(json.dumps(result.to_dict()))
    assert document["topics"][0]["topic"] and document["dropped"] == 0


def test_gaps_are_counted_in_messages_of_the_expected_rate(tmp_path: Path, contract: RobotContract) -> None:
    stamps = [BEGIN + i * PERIOD for i in range(100) if i not in (10, 11, 12, 50)]
    result = audit(joints_at(tmp_path / "a", stamps), contract)
    joints = of_topic(result, "/joint_states")
    assert joints.missing == 4 and joints.largest_gap == pytest.approx(0.08)
    assert any("4 short of 50 Hz, largest gap 0.080 s" in p for p in result.problems)
    assert of_topic(audit(tmp_path / "a"), "/joint_states").missing is None


def test_jitter_is_no_loss(tmp_path: Path, contract: RobotContract) -> None:
    stamps = [BEGIN + i * PERIOD + (i % 2) * PERIOD // 3 for i in range(100)]
    assert of_topic(audit(joints_at(tmp_path / "a", stamps), contract), "/joint_states").missing == 0


def test_stamps_that_go_backwards_are_counted(tmp_path: Path) -> None:
    stamps = [BEGIN + i * PERIOD for i in (0, 1, 3, 2, 4, 6, 5)]
    result = audit(joints_at(tmp_path / "a", sorted(stamps)))
    assert of_topic(result, "/joint_states").out_of_order == 0
    writer = EpisodeBagWriter(tmp_path / "b", [JOINTS])
    for i, ns in enumerate(stamps):
        writer.write("/joint_states", serialize_message(JointState(header=Header(stamp=time_of(ns)))), BEGIN + i, 0)
    writer.close()
    result = audit(tmp_path / "b")
    assert of_topic(result, "/joint_states").out_of_order == 2
    assert any("2 stamps go backwards" in p for p in result.problems)


def test_numbers_of_the_publisher_that_never_came_are_lost_on_the_way(tmp_path: Path) -> None:
    stamps = [BEGIN + i * PERIOD for i in range(4)]
    result = audit(joints_at(tmp_path / "a", stamps, [7, 8, 11, 12]))
    assert of_topic(result, "/joint_states").lost_in_transport == 2
    assert any("2 lost on the way" in p for p in result.problems)
    two_publishers = audit(joints_at(tmp_path / "b", stamps, [7, 1, 8, 2]))
    assert of_topic(two_publishers, "/joint_states").lost_in_transport is None


def test_drops_of_the_recorder_are_taken_from_its_own_count(tmp_path: Path) -> None:
    data = serialize_message(JointState())
    with Recorder(tmp_path, [JOINTS], queue_bytes=len(data), preroll=0) as recorder:
        recorder.start("e1")
        recorder.write("/joint_states", data + bytes(100), BEGIN, BEGIN)
        recorder.finish("failure", "timeout")
    result = audit(tmp_path / "e1")
    assert result.dropped == 1 and result.topics[0].messages == 0
    assert any("the recorder dropped 1" in p for p in result.problems)


def test_a_cut_off_bag_is_audited_as_far_as_it_goes(tmp_path: Path, contract: RobotContract) -> None:
    writer = EpisodeBagWriter(tmp_path / "a", [JOINTS], {keys.EPISODE_ID: "a"})
    writer.write("/joint_states", serialize_message(JointState()), BEGIN, BEGIN)
    writer.flush()
    result = audit(tmp_path / "a", contract)
    assert not result.complete and of_topic(result, "/joint_states").messages == 1
    assert any("cut off" in p for p in result.problems)
    assert any("head_camera/image_raw: nothing was recorded" in p for p in result.problems)
    assert any("no outcome" in p for p in result.problems)


def test_a_bag_without_messages_can_be_audited(tmp_path: Path) -> None:
    EpisodeBagWriter(tmp_path / "a", [JOINTS]).close()
    result = audit(tmp_path / "a")
    assert (result.messages, result.duration, result.topics[0].mean_rate) == (0, 0.0, None)


def test_messages_without_header_are_judged_by_their_receipt(tmp_path: Path) -> None:
    from std_msgs.msg import String

    said = [Said(BEGIN + i * PERIOD, "text", String(data="x")) for i in range(11)]
    write_bag(tmp_path / "a", said)
    assert of_topic(audit(tmp_path / "a"), "/text").mean_rate == pytest.approx(50)
