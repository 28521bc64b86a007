"""The same message, live and read back from a bag by two independent readers, gives bit-equal arrays.

Live means: serialised and deserialised by the real rclpy. From the bag means: by mcap-ros2-support and by rosbags.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="no ROS here")

from bag_factory import joint_state, type_name  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from rosbags.highlevel import AnyReader  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image, JointState  # noqa: E402
from std_msgs.msg import Header, String  # noqa: E402

from qt_ros.contract.codecs import decode_image, decode_joint_state, decode_text, stamp_to_ns  # noqa: E402
from qt_ros.contract.observations import Proprioception, resize_rgb  # noqa: E402
from qt_ros.contract.robot import RobotContract  # noqa: E402
from qt_ros.episodes.bag import BagTopic, EpisodeBagWriter, read_bag  # noqa: E402

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "rgba8": 4, "bgra8": 4}


def three_ways(folder: Path, message: Any) -> list[Any]:
    """The message live, from a bag by mcap-ros2-support, and from the same bag by rosbags."""
    data = serialize_message(message)
    writer = EpisodeBagWriter(folder / "bag", [BagTopic.find("/topic", type_name(message))])
    writer.write("/topic", data, 1, 1)
    writer.close()
    ((_, _, _, by_mcap),) = read_bag(folder / "bag")
    with AnyReader([folder / "bag"]) as reader:
        ((connection, _, raw),) = reader.messages()
        by_rosbags = reader.deserialize(raw, connection.msgtype)
    return [deserialize_message(data, type(message)), by_mcap, by_rosbags]


def assert_parity(folder: Path, message: Any, decode: Callable[[Any], Any]) -> None:
    live, *offline = (decode(m) for m in three_ways(folder, message))
    for other in offline:
        if isinstance(live, np.ndarray):
            assert other.dtype == live.dtype and np.array_equal(live, other)
        else:
            assert live == other


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", sorted(CHANNELS))
def test_raw_images(tmp_path: Path, encoding: str, padding: int) -> None:
    step = 64 * CHANNELS[encoding] + padding
    message = Image(height=48, width=64, encoding=encoding, step=step, header=Header(frame_id="camera"))
    message.data = array.array("B", np.random.default_rng(0).integers(0, 256, 48 * step, dtype=np.uint8).tobytes())
    assert_parity(tmp_path, message, decode_image)


def test_a_camera_frame_down_to_what_the_policy_sees(tmp_path: Path) -> None:
    message = Image(height=480, width=640, encoding="rgb8", step=1920)
    message.data = array.array("B", np.random.default_rng(0).integers(0, 256, 480 * 1920, dtype=np.uint8).tobytes())
    assert_parity(tmp_path, message, lambda m: resize_rgb(decode_image(m), 96, 128))


@pytest.mark.parametrize("form", ["jpeg", "png", "rgb8; jpeg compressed bgr8"])
def test_compressed_images(tmp_path: Path, form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    message = CompressedImage(format=form)
    message.data = array.array("B", cv2.imencode(".png" if form == "png" else ".jpg", pixels)[1].tobytes())
    assert_parity(tmp_path, message, decode_image)


def test_joint_states_down_to_proprioception(tmp_path: Path, contract: RobotContract) -> None:
    message = joint_state(contract, 1_700_000_000_123_456_789, 3)
    proprioception = Proprioception(contract)
    assert_parity(tmp_path / "a", message, decode_joint_state)
    assert_parity(tmp_path / "b", message, lambda m: stamp_to_ns(m.header.stamp))
    assert_parity(
        tmp_path / "c",
        message,
        lambda m: proprioception.encode({n: r.position for n, r in decode_joint_state(m).items()}),
    )


def test_extreme_joint_values(tmp_path: Path) -> None:
    values = [5e-324, -0.0, 1.7976931348623157e308, 0.1]
    message = JointState(name=["a", "b", "c", "d"], position=values, velocity=values, effort=values)
    assert_parity(tmp_path, message, decode_joint_state)


@pytest.mark.parametrize("words", ["", "pick up the red cube", "nimm die Tasse \N{LATIN SMALL LETTER SHARP S} \u2615"])
def test_text(tmp_path: Path, words: str) -> None:
    assert_parity(tmp_path, String(data=words), decode_text)
