from __future__ import annotations

from pathlib import Path

import pytest

from qt_ros.episodes.message_definitions import MissingDefinition, find_definition

STANDARD = [
    "std_msgs/msg/String",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/JointState",
    "nav_msgs/msg/Odometry",
    "trajectory_msgs/msg/JointTrajectory",
    "geometry_msgs/msg/TwistStamped",
    "rosgraph_msgs/msg/Clock",
]


@pytest.mark.parametrize("name", STANDARD)
def test_text_and_hash_agree_with_an_independent_reader(name: str) -> None:
    pytest.importorskip("rclpy", reason="no ROS here")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    definition = find_definition(name)
    empty = get_typestore(Stores.EMPTY)
    empty.register(get_types_from_msg(definition.text, name))
    assert empty.hash_rihs01(name) == definition.type_hash == get_typestore(Stores.ROS2_JAZZY).hash_rihs01(name)


@pytest.mark.parametrize("name", ["PolicyAction", "EpisodeStatus", "EpisodeOutcome", "EpisodeRecord", "CommandStatus"])
def test_our_own_messages_are_found_and_complete(name: str) -> None:
    pytest.importorskip("rclpy", reason="no ROS here")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    definition = find_definition(f"qt_ros/msg/{name}")
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition.text, definition.type))
    if definition.type_hash:
        assert store.hash_rihs01(definition.type) == definition.type_hash


def make(folder: Path, package: str, name: str, text: str) -> None:
    path = folder / package / "msg" / f"{name}.msg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_type_stands_once_behind_its_separator(tmp_path: Path) -> None:
    make(tmp_path, "a", "Top", "# b/Hidden is only mentioned here\nb/Leaf[] leaves\nMiddle<=3[2] middle\nint8 K=3\n")
    make(tmp_path, "a", "Middle", "b/Leaf leaf\nstring<=10 name\nfloat64[<=4] values\n")
    make(tmp_path, "b", "Leaf", "uint8 x # trailing\n")
    definition = find_definition("a/Top", [tmp_path])
    bar = "=" * 80
    assert definition.type == "a/msg/Top" and definition.type_hash == ""
    assert definition.text.count(bar) == 2
    assert f"{bar}\nMSG: b/Leaf\nuint8 x" in definition.text and f"{bar}\nMSG: a/Middle\nb/Leaf leaf" in definition.text


def test_a_missing_type_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        MissingDefinition, match="no definition of nowhere_msgs/msg/Thing.*Install or source nowhere_msgs"
    ):
        find_definition("nowhere_msgs/msg/Thing", [tmp_path])
    make(tmp_path, "a", "Top", "b/Leaf leaf\n")
    with pytest.raises(MissingDefinition, match="b/msg/Leaf"):
        find_definition("a/msg/Top", [tmp_path])
    with pytest.raises(ValueError, match="no message type"):
        find_definition("a/srv/Top")
