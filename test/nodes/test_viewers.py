"""The Foxglove layout and the RViz file are well formed and name fields that the messages have."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("rclpy")

from viewers import foxglove, message_paths, panels, rviz, rviz_topics  # noqa: E402

from qt_ros.contract.robot import load_contract, package_root  # noqa: E402
from qt_ros.nodes.raw_topics import message_class  # noqa: E402

CONTRACT = load_contract("mobile_manipulator")
LAYOUT = package_root() / "config" / "foxglove" / "qt_ros.json"
RVIZ = package_root() / "config" / "rviz" / "qt_ros.rviz"
TYPES = {
    "head_camera/image_raw": "sensor_msgs/msg/Image",
    "head_camera/camera_info": "sensor_msgs/msg/CameraInfo",
    "policy_action": "qt_ros/msg/PolicyAction",
    "episode_status": "qt_ros/msg/EpisodeStatus",
    "command_status": "qt_ros/msg/CommandStatus",
    "servo_node/delta_twist_cmds": "geometry_msgs/msg/TwistStamped",
    "cmd_vel": "geometry_msgs/msg/TwistStamped",
    "intended_motion": "visualization_msgs/msg/MarkerArray",
    "diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}


def test_every_panel_of_the_layout_is_shown_once_and_every_shown_one_is_configured() -> None:
    document = foxglove(LAYOUT)
    shown = list(panels(document["layout"]))
    assert sorted(shown) == sorted(document["configById"])
    assert all(re.fullmatch(r"[A-Za-z0-9]+![a-z]+", name) for name in shown)
    assert {name.partition("!")[0] for name in shown} >= {"Image", "Plot", "3D", "DiagnosticSummary"}


def test_every_message_path_of_the_layout_leads_to_a_field() -> None:
    for topic, fields in message_paths(LAYOUT):
        message = message_class(TYPES[topic])()
        for field in fields:
            name, _, index = field.partition("[")
            assert name in message.get_fields_and_field_types(), f"/{topic}.{'.'.join(fields)}"
            message = getattr(message, name)
            if index:
                assert int(index.rstrip("]")) < CONTRACT.action_space.size


def test_the_layout_shows_q_and_value_of_every_dimension_under_its_name() -> None:
    for panel, field in (("Plot!q", "q"), ("Plot!actions", "values")):
        labels = {s["value"]: s["label"] for s in foxglove(LAYOUT)["configById"][panel]["paths"]}
        shown = [labels[f"/policy_action.{field}[{i}]"] for i in range(CONTRACT.action_space.size)]
        assert tuple(shown) == CONTRACT.action_space.names


def test_the_rviz_file_has_displays_that_take_what_is_published() -> None:
    manager = rviz(RVIZ)["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == CONTRACT.kinematics.base_frame
    assert len({d["Name"] for d in manager["Displays"]}) == len(manager["Displays"])
    topics = rviz_topics(RVIZ)
    assert {topic: kind for topic, kind in topics.items() if topic in TYPES and TYPES[topic] != kind} == {}
    assert topics[CONTRACT.observation("image").topic] == CONTRACT.observation("image").type
    by_class = {d["Class"]: d for d in manager["Displays"]}
    camera = by_class["rviz_default_plugins/Image"]["Topic"]
    assert camera["Reliability Policy"] == "Best Effort"  # a driver may offer no more
