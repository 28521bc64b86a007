from __future__ import annotations

import random
import shutil
import struct
from collections import Counter
from pathlib import Path

import pytest

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag import (
    BagError,
    BagTopic,
    EpisodeBagWriter,
    RecordingError,
    find_bags,
    is_complete,
    read_bag,
    read_metadata,
    read_raw,
    recover,
)
from qt_ros.episodes.message_definitions import MessageDefinition

pytest.importorskip("rclpy", reason="no ROS here")

import mcap.reader  # noqa: E402
from bag_factory import custom_data, episode, type_name, write_bag  # noqa: E402
from mcap_ros2.decoder import DecoderFactory  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from rosbags.highlevel import AnyReader  # noqa: E402
from rosbags.rosbag2 import Reader  # noqa: E402

TEXT = BagTopic.find("/text", "std_msgs/msg/String")


def text(number: int) -> bytes:
    """A std_msgs/String as CDR; every message is 1 kB so that files have many chunks."""
    content = f"{number:06d}".encode() + b"." * 1000 + b"\0"
    return b"\x00\x01\x00\x00" + struct.pack("<I", len(content)) + content


def number_of(data: bytes) -> int:
    return int(data[8:14])


def write_numbers(uri: Path, count: int, **options: object) -> None:
    writer = EpisodeBagWriter(uri, [TEXT], {keys.EPISODE_ID: uri.name}, **options)  # type: ignore[arg-type]
    for i in range(count):
        writer.write("/text", text(i), 10**9 + i * 10**6, 10**9 + i * 10**6)
    writer.close({keys.OUTCOME: "success", keys.REASON: "terminate"})


@pytest.fixture
def recorded(tmp_path: Path, contract: RobotContract) -> Path:
    write_bag(tmp_path / "episode-1", episode(contract, steps=2), custom_data(contract))
    return tmp_path / "episode-1"


def test_the_bag_holds_every_message_in_order_of_receipt(recorded: Path, contract: RobotContract) -> None:
    said = list(episode(contract, steps=2))
    raw = list(read_raw(recorded))
    assert [(r.topic, r.type, r.log_ns) for r in raw] == [(f"/{s.topic}", type_name(s.message), s.ns) for s in said]
    assert [deserialize_message(r.data, type(s.message)) for r, s in zip(raw, said)] == [s.message for s in said]
    decoded = [m for topic, _, _, m in read_bag(recorded, ["/policy_action"])]
    assert [m.step for m in decoded] == [0, 1]
    assert decoded[0].names == list(contract.action_space.names) and decoded[0].q == [0.25] * 10


def test_plain_mcap_reads_it_and_finds_profile_schema_qos_and_hash(recorded: Path) -> None:
    with open(recorded / "episode-1_0.mcap", "rb") as stream:
        reader = mcap.reader.make_reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        for channel in summary.channels.values():
            schema = summary.schemas[channel.schema_id]
            assert channel.message_encoding == "cdr" and schema.encoding == "ros2msg"
            assert channel.metadata["topic_type_hash"].startswith("RIHS01_")
            assert "reliability: reliable" in channel.metadata["offered_qos_profiles"]
        (first, last) = [r for r in reader.iter_metadata() if r.name == "rosbag2"]
        assert "qt_ros.outcome: success" in last.metadata["serialized_metadata"]
        counts = Counter(c.topic for _, c, _, _ in reader.iter_decoded_messages())
        assert counts["/head_camera/image_raw"] == 6 and sum(counts.values()) == summary.statistics.message_count
    assert first.metadata["serialized_metadata"] != last.metadata["serialized_metadata"]


def test_rosbags_reads_it_with_its_metadata(recorded: Path) -> None:
    with AnyReader([recorded]) as reader:
        raw = [(c.topic, ns, bytes(data)) for c, ns, data in reader.messages()]
        assert raw == [(r.topic, r.log_ns, r.data) for r in read_raw(recorded)]
        for connection, _, data in reader.messages():
            if connection.topic in ("/head_camera/image_raw", "/joint_states", "/policy_action"):
                reader.deserialize(data, connection.msgtype)
    with Reader(recorded) as reader:
        assert reader.ros_distro == "jazzy" and reader.message_count == len(raw)
        assert {c.topic: c.msgcount for c in reader.connections} == Counter(topic for topic, _, _ in raw)


def test_metadata_counts_times_and_types_agree_with_the_messages(recorded: Path) -> None:
    metadata = read_metadata(recorded)
    raw = list(read_raw(recorded))
    assert {t.name: t.message_count for t in metadata.topics} == Counter(r.topic for r in raw)
    assert metadata.starting_time_ns == raw[0].log_ns
    assert metadata.starting_time_ns + metadata.duration_ns == raw[-1].log_ns
    assert metadata.files == ("episode-1_0.mcap",) and is_complete(recorded)
    assert sorted(p.name for p in recorded.iterdir()) == ["episode-1_0.mcap", "metadata.yaml"]


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_compressed_bags_read_the_same(tmp_path: Path, compression: str) -> None:
    write_numbers(tmp_path / "a", 300, compression=compression, chunk_bytes=20_000)
    assert [number_of(r.data) for r in read_raw(tmp_path / "a")] == list(range(300))
    with AnyReader([tmp_path / "a"]) as reader:
        assert sum(1 for _ in reader.messages()) == 300


def test_a_bag_without_messages_and_topics_without_messages_are_valid(tmp_path: Path) -> None:
    EpisodeBagWriter(tmp_path / "empty").close()
    silent = EpisodeBagWriter(tmp_path / "silent", [TEXT])
    silent.close()
    for name in ("empty", "silent"):
        assert is_complete(tmp_path / name) and list(read_raw(tmp_path / name)) == []
        with AnyReader([tmp_path / name]) as reader:
            assert reader.message_count == 0
    assert read_metadata(tmp_path / "silent").topics[0].message_count == 0


def test_the_stamp_is_read_without_decoding_and_only_where_there_is_a_header(recorded: Path) -> None:
    for raw in read_raw(recorded):
        stamp = raw.decode().header.stamp
        assert raw.stamp_ns == stamp.sec * 10**9 + stamp.nanosec
    write_numbers(recorded.parent / "text", 1)
    assert next(read_raw(recorded.parent / "text")).stamp_ns is None


def test_wrong_use_is_named(tmp_path: Path) -> None:
    writer = EpisodeBagWriter(tmp_path / "a", [TEXT])
    with pytest.raises(KeyError, match="/other"):
        writer.write("/other", b"", 0, 0)
    with pytest.raises(ValueError, match="no times"):
        writer.write("/text", text(0), -1, 0)
    with pytest.raises(ValueError, match="recorded as std_msgs/msg/String"):
        writer.add_topic(BagTopic("/text", MessageDefinition("std_msgs/msg/Bool", "bool data\n")))
    writer.write("/text", text(0), 5, 6, sequence=41)
    writer.close()
    writer.close()
    assert [(r.log_ns, r.publish_ns, r.sequence) for r in read_raw(tmp_path / "a")] == [(5, 6, 41)]
    with pytest.raises(RecordingError, match="never overwritten"):
        EpisodeBagWriter(tmp_path / "a")
    with pytest.raises(ValueError, match="compression"):
        EpisodeBagWriter(tmp_path / "b", compression="gzip")
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="cannot be created"):
        EpisodeBagWriter(tmp_path / "file" / "bag")
    with pytest.raises(BagError, match="no folder"):
        find_bags([tmp_path / "nothing"])
    with pytest.raises(BagError, match="no bag is here"):
        list(read_raw(tmp_path / "file"))


def test_bags_are_found_at_any_depth(tmp_path: Path) -> None:
    write_numbers(tmp_path / "day" / "b", 1)
    write_numbers(tmp_path / "a", 1)
    assert find_bags([tmp_path]) == [tmp_path / "a", tmp_path / "day" / "b"]
    assert find_bags([tmp_path / "a"]) == [tmp_path / "a"]


def test_wherever_a_file_is_cut_recovery_keeps_the_messages_before(tmp_path: Path) -> None:
    write_numbers(tmp_path / "whole", 200, chunk_bytes=10_000)
    source = tmp_path / "whole" / "whole_0.mcap"
    size = source.stat().st_size
    rng = random.Random(1)
    cuts = sorted({8, 9, 60, size - 1, size - 8, *(rng.randrange(60, size) for _ in range(40))})
    kept = []
    for cut in cuts:
        uri = tmp_path / f"cut{cut}"
        uri.mkdir()
        (uri / f"{uri.name}_0.mcap").write_bytes(source.read_bytes()[:cut])
        assert not is_complete(uri)
        with pytest.raises(BagError, match="recover"):
            list(read_raw(uri))
        readable = [number_of(r.data) for r in read_raw(uri, allow_incomplete=True)]
        found = recover(uri)
        assert found.needed and is_complete(uri) and not recover(uri).needed
        numbers = [number_of(r.data) for r in read_raw(uri)]
        assert numbers == list(range(len(numbers))) == readable and found.messages == len(numbers)
        kept.append(len(numbers))
        with AnyReader([uri]) as reader:
            assert [number_of(bytes(data)) for _, _, data in reader.messages()] == numbers
        with open(uri / f"{uri.name}_0.mcap", "rb") as stream:
            reader_ = mcap.reader.make_reader(stream, validate_crcs=True)
            assert sum(1 for _ in reader_.iter_messages(topics=["/text"])) == len(numbers)
            assert reader_.get_summary() is not None
    assert kept == sorted(kept) and kept[-1] == 200
    assert all(k >= 200 * cut / size - 25 for k, cut in zip(kept, cuts))


def test_a_recovered_bag_is_an_unknown_outcome_by_fault_of_the_same_episode(tmp_path: Path) -> None:
    writer = EpisodeBagWriter(tmp_path / "a", [TEXT], {keys.EPISODE_ID: "a", keys.INSTRUCTION: "pick"})
    for i in range(10):
        writer.write("/text", text(i), i, i)
    writer.flush()
    recover(tmp_path / "a")
    custom = read_metadata(tmp_path / "a").custom_data
    assert (custom[keys.EPISODE_ID], custom[keys.INSTRUCTION]) == ("a", "pick")
    assert (custom[keys.OUTCOME], custom[keys.REASON], custom[keys.COMPLETE]) == ("unknown", "fault", "false")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["a_0.mcap", "metadata.yaml"]


def test_metadata_that_was_lost_or_broken_is_rebuilt_with_the_outcome(tmp_path: Path) -> None:
    write_numbers(tmp_path / "a", 5)
    before = read_metadata(tmp_path / "a")
    (tmp_path / "a" / "metadata.yaml").unlink()
    assert recover(tmp_path / "a").messages == 5
    assert read_metadata(tmp_path / "a").custom_data[keys.OUTCOME] == "success"
    (tmp_path / "a" / "metadata.yaml").write_text("rosbag2_bagfile")
    assert recover(tmp_path / "a").needed
    after = read_metadata(tmp_path / "a")
    assert after.topics == before.topics and after.custom_data[keys.OUTCOME] == "success"


def test_damage_inside_a_closed_bag_is_noticed_and_can_be_cut_away(tmp_path: Path) -> None:
    write_numbers(tmp_path / "a", 100, chunk_bytes=10_000)
    path = tmp_path / "a" / "a_0.mcap"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BagError, match="damaged.*recover"):
        list(read_raw(tmp_path / "a"))
    assert not recover(tmp_path / "a").needed
    found = recover(tmp_path / "a", force=True)
    numbers = [number_of(r.data) for r in read_raw(tmp_path / "a")]
    assert numbers == list(range(found.messages)) and 30 <= len(numbers) < 60 and found.bytes_cut > 0


def test_what_is_no_mcap_cannot_be_recovered(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(BagError, match="0 MCAP files"):
        recover(tmp_path / "a")
    (tmp_path / "a" / "a_0.mcap").write_bytes(b"something else")
    with pytest.raises(BagError, match="first bytes are wrong"):
        recover(tmp_path / "a")


def test_a_listed_file_that_is_missing_is_named(tmp_path: Path) -> None:
    write_numbers(tmp_path / "a", 1)
    shutil.move(tmp_path / "a" / "a_0.mcap", tmp_path / "elsewhere")
    assert not is_complete(tmp_path / "a")
    with pytest.raises(BagError, match="a_0.mcap is missing"):
        list(read_raw(tmp_path / "a"))
