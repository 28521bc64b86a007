from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.episodes.bag_metadata import BagError, BagMetadata, Qos, TopicInfo, parse_metadata, read_metadata

TOPIC = TopicInfo("/camera", "sensor_msgs/msg/Image", 3, "RIHS01_ab", (Qos("best_effort", depth=5).document(),))
METADATA = BagMetadata(("bag_0.mcap",), 10**18, 5 * 10**9, (TOPIC,), {"qt_ros.outcome": "success"})


def test_metadata_has_the_layout_of_version_9() -> None:
    info = yaml.safe_load(METADATA.text())["rosbag2_bagfile_information"]
    assert info["version"] == 9 and info["storage_identifier"] == "mcap" and info["ros_distro"]
    assert info["duration"] == {"nanoseconds": 5 * 10**9}
    assert info["starting_time"] == {"nanoseconds_since_epoch": 10**18}
    assert info["message_count"] == 3 and info["relative_file_paths"] == ["bag_0.mcap"]
    assert info["compression_format"] == info["compression_mode"] == ""
    assert info["custom_data"] == {"qt_ros.outcome": "success"}
    (file,) = info["files"]
    assert set(file) == {"path", "starting_time", "duration", "message_count"}
    (topic,) = info["topics_with_message_count"]
    assert topic["message_count"] == 3
    assert set(topic["topic_metadata"]) == {
        "name",
        "type",
        "serialization_format",
        "offered_qos_profiles",
        "type_description_hash",
    }
    (qos,) = topic["topic_metadata"]["offered_qos_profiles"]
    assert (qos["history"], qos["reliability"], qos["durability"]) == ("keep_last", "best_effort", "volatile")
    assert qos["deadline"] == {"sec": 9223372036, "nsec": 854775807}
    assert "&" not in METADATA.text().replace("&&", "")


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_custom_data_survives_whatever_text_it_holds(data: dict[str, str]) -> None:
    try:
        text = METADATA.with_custom_data(data).text()
    except UnicodeEncodeError:
        return
    parsed = parse_metadata(text, "test")
    assert parsed.custom_data == {"qt_ros.outcome": "success", **data}
    assert parsed.topics == METADATA.topics


def test_custom_data_takes_strings_only() -> None:
    with pytest.raises(ValueError, match="seed.*strings only"):
        METADATA.with_custom_data({"seed": 7})  # type: ignore[dict-item]


def test_qos_is_taken_from_a_profile_by_its_words() -> None:
    forever, never = SimpleNamespace(nanoseconds=2**63 - 1), SimpleNamespace(nanoseconds=0)
    profile = SimpleNamespace(
        reliability=SimpleNamespace(name="BEST_EFFORT"),
        durability=SimpleNamespace(name="TRANSIENT_LOCAL"),
        history=SimpleNamespace(name="KEEP_LAST"),
        liveliness=SimpleNamespace(name="AUTOMATIC"),
        depth=5,
        deadline=SimpleNamespace(nanoseconds=1_500_000_000),
        lifespan=forever,
        liveliness_lease_duration=never,
    )
    assert Qos.of(profile) == Qos("best_effort", "transient_local", depth=5, deadline_ns=1_500_000_000)
    assert Qos.of(profile).document()["deadline"] == {"sec": 1, "nsec": 500_000_000}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no valid rosbag2 metadata"),
        ("a: [", "no valid rosbag2 metadata"),
        ("rosbag2_bagfile_information: {version: 10}", "version 10 is not supported"),
        ("rosbag2_bagfile_information: {version: 9}", "topics_with_message_count"),
    ],
)
def test_broken_metadata_is_refused(text: str, message: str) -> None:
    with pytest.raises(BagError, match=f"here.*{message}"):
        parse_metadata(text, "here")


def test_older_metadata_of_other_recorders_is_read(tmp_path: Path) -> None:
    info: dict[str, Any] = yaml.safe_load(METADATA.text())["rosbag2_bagfile_information"]
    info["version"] = 6
    del info["ros_distro"], info["custom_data"]
    info["topics_with_message_count"][0]["topic_metadata"]["offered_qos_profiles"] = "- history: 1\n"
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": info}))
    assert read_metadata(tmp_path).topics[0].qos == ()


def test_a_bag_without_metadata_says_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="no metadata.yaml$"):
        read_metadata(tmp_path)
    (tmp_path / "x_0.mcap").touch()
    with pytest.raises(BagError, match="qt-ros episodes recover"):
        read_metadata(tmp_path)
