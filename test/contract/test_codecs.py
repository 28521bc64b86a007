from __future__ import annotations

import array
import math
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.contract.codecs import (
    ENCODINGS,
    MalformedImage,
    MalformedJointState,
    NonFiniteObservation,
    UnsupportedEncoding,
    check_image_size,
    decode_image,
    decode_joint_positions,
    decode_joint_state,
    decode_text,
    ns_to_seconds,
    stamp_to_ns,
)

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "rgba8": 4, "bgra8": 4}
FORMS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": lambda b: memoryview(b),
    "array": lambda b: array.array("B", b),
    "list": list,
    "numpy": lambda b: np.frombuffer(b, np.uint8),
}


def image(
    encoding: str, data: Any, height: int = 2, width: int = 3, step: int | None = None, big: int = 0
) -> SimpleNamespace:
    step = width * CHANNELS.get(encoding, 1) if step is None else step
    return SimpleNamespace(height=height, width=width, step=step, encoding=encoding, is_bigendian=big, data=data)


def compressed(data: Any, form: str) -> SimpleNamespace:
    return SimpleNamespace(format=form, data=data)


def photo(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, x + y], -1).astype(np.uint8)


def encode(rgb: np.ndarray, extension: str, *parameters: int) -> bytes:
    done, data = cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), list(parameters))
    assert done
    return bytes(data)


@given(
    encoding=st.sampled_from(ENCODINGS),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 5),
    seed=st.integers(0, 1000),
    form=st.sampled_from(sorted(FORMS)),
)
def test_every_encoding_padding_and_kind_of_buffer_gives_the_same_rgb(
    encoding: str, height: int, width: int, padding: int, seed: int, form: str
) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = np.full((height, width, 1), 7, np.uint8)
    if encoding == "mono8":
        rgb = np.repeat(rgb[:, :, :1], 3, axis=2)
    pixels = {
        "rgb8": rgb,
        "bgr8": rgb[:, :, ::-1],
        "mono8": rgb[:, :, :1],
        "rgba8": np.concatenate([rgb, alpha], 2),
        "bgra8": np.concatenate([rgb[:, :, ::-1], alpha], 2),
    }[encoding]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=99)
    decoded = decode_image(image(encoding, FORMS[form](rows.tobytes()), height, width, rows.shape[1], big=seed % 2))
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous and decoded.flags.owndata
    assert np.array_equal(decoded, rgb)


def test_the_decoded_image_does_not_change_with_the_message() -> None:
    data = bytearray(18)
    decoded = decode_image(image("rgb8", data))
    data[:] = b"\xff" * 18
    assert not decoded.any()


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "yuv422", "bayer_rggb8", "8UC3", "RGB8", ""])
def test_another_encoding_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match=repr(encoding)):
        decode_image(image(encoding, bytes(18)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": bytes(17)}, "17 bytes"),
        ({"data": bytes(19)}, "19 bytes"),
        ({"data": b""}, "0 bytes"),
        ({"height": 0}, "size 3x0"),
        ({"width": 0}, "size 0x2"),
        ({"step": 8}, "step 8"),
        ({"data": [0] * 17 + [256]}, "no list of bytes"),
        ({"data": np.zeros(18, np.int16)}, "int16"),
        ({"data": "text"}, "str"),
        ({"data": None}, "NoneType"),
    ],
)
def test_an_image_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    msg = image("rgb8", bytes(18))
    vars(msg).update(changes)
    with pytest.raises(MalformedImage, match=message):
        decode_image(msg)


@pytest.mark.parametrize("form", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8"])
@pytest.mark.parametrize("kind", sorted(FORMS))
def test_jpeg_decodes_to_rgb_close_to_the_original(form: str, kind: str) -> None:
    rgb = photo()
    decoded = decode_image(compressed(FORMS[kind](encode(rgb, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)), form))
    assert decoded.shape == rgb.shape and decoded.flags.c_contiguous
    assert np.abs(decoded.astype(int) - rgb).mean() < 3


@pytest.mark.parametrize("form", ["png", "rgb8; png compressed bgr8", "mono8; png compressed "])
def test_png_decodes_exactly(form: str) -> None:
    rgb = photo()
    assert np.array_equal(decode_image(compressed(encode(rgb, ".png"), form)), rgb)


def test_grey_and_transparent_pngs_become_rgb() -> None:
    rgb = photo()
    grey = bytes(cv2.imencode(".png", rgb[:, :, 0])[1])
    assert np.array_equal(decode_image(compressed(grey, "png")), np.repeat(rgb[:, :, :1], 3, axis=2))
    bgra = np.dstack([rgb[:, :, ::-1], np.full(rgb.shape[:2], 9, np.uint8)])
    assert np.array_equal(decode_image(compressed(bytes(cv2.imencode(".png", bgra)[1]), "png")), rgb)


@pytest.mark.parametrize("form", ["h264", "16UC1; compressedDepth", "webp", "", "tiff"])
def test_another_compression_is_refused_by_name(form: str) -> None:
    with pytest.raises(UnsupportedEncoding, match=repr(form)):
        decode_image(compressed(encode(photo(), ".png"), form))


def test_a_sixteen_bit_png_is_refused() -> None:
    deep = bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint16))[1])
    with pytest.raises(UnsupportedEncoding, match="uint16"):
        decode_image(compressed(deep, "png"))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@given(part=st.floats(0, 0.999))
def test_a_cut_off_compressed_image_is_refused(extension: str, part: float) -> None:
    data = encode(photo(), extension)
    with pytest.raises(MalformedImage):
        decode_image(compressed(data[: int(len(data) * part)], extension[1:].replace("jpg", "jpeg")))


def test_a_damaged_png_is_refused() -> None:
    data = bytearray(encode(photo(), ".png"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(MalformedImage):
        decode_image(compressed(bytes(data), "png"))


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(MalformedImage, match="neither JPEG nor PNG"):
        decode_image(compressed(b"GIF89a" + bytes(40), "jpeg"))


def test_the_size_is_checked_against_the_contract() -> None:
    check_image_size(photo(), 48, 64)
    with pytest.raises(MalformedImage, match="head_camera: got 64x48, the contract says 640x480"):
        check_image_size(photo(), 480, 640, "head_camera")


def joints(name: list[str], position: Any = (), velocity: Any = (), effort: Any = ()) -> SimpleNamespace:
    return SimpleNamespace(name=name, position=position, velocity=velocity, effort=effort)


def test_joint_states_decode_by_name() -> None:
    readings = decode_joint_state(joints(["a", "b"], [0.1, 0.2], array.array("d", [1.0, math.nan])))
    assert readings == {"a": (0.1, 1.0), "b": (0.2, None)}


def test_any_array_of_a_joint_state_may_be_empty() -> None:
    assert decode_joint_state(joints([])) == {}
    assert decode_joint_state(joints(["a"])) == {"a": (None, None)}
    assert decode_joint_state(joints(["a"], velocity=[2.0])) == {"a": (None, 2.0)}
    assert decode_joint_state(joints(["a"], np.array([1.0]), np.zeros(0), np.zeros(1))) == {"a": (1.0, None)}
    assert decode_joint_positions(joints(["a"], velocity=[2.0])) == {}


@pytest.mark.parametrize(
    ("msg", "message"),
    [
        (joints(["a", "b"], [1.0]), "2 names but 1 values in position"),
        (joints(["a"], [1.0], [1.0, 2.0]), "1 names but 2 values in velocity"),
        (joints(["a"], effort=[1.0, 2.0]), "effort"),
        (joints([], [1.0]), "0 names but 1 values"),
        (joints(["a", "a"], [1.0, 2.0]), "a twice"),
    ],
)
def test_a_joint_state_that_contradicts_itself_is_refused(msg: SimpleNamespace, message: str) -> None:
    with pytest.raises(MalformedJointState, match=message):
        decode_joint_state(msg)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_position_that_is_not_finite_is_refused_by_name_unless_nobody_needs_it(value: float) -> None:
    msg = joints(["good", "bad"], [0.0, value])
    with pytest.raises(NonFiniteObservation, match="bad"):
        decode_joint_state(msg)
    assert decode_joint_positions(msg, ["good"]) == {"good": 0.0}


def test_an_infinite_velocity_is_refused() -> None:
    with pytest.raises(NonFiniteObservation, match="velocity of a"):
        decode_joint_state(joints(["a"], [0.0], [math.inf]))


def test_text_and_stamps() -> None:
    assert decode_text(SimpleNamespace(data="pick up the mug")) == "pick up the mug"
    with pytest.raises(ValueError, match="bytes"):
        decode_text(SimpleNamespace(data=b"mug"))
    assert stamp_to_ns(SimpleNamespace(sec=3, nanosec=4)) == 3_000_000_004
    assert ns_to_seconds(1_500_000_000) == 1.5
    with pytest.raises(ValueError, match="below one second"):
        stamp_to_ns(SimpleNamespace(sec=0, nanosec=1_000_000_000))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_raw_images_agree_with_cv_bridge_bit_for_bit(encoding: str) -> None:
    pytest.importorskip("rclpy", reason="no ROS here")
    bridge = pytest.importorskip("cv_bridge").CvBridge()
    messages = pytest.importorskip("sensor_msgs.msg")
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, CHANNELS[encoding]), dtype=np.uint8)
    msg = messages.Image(height=48, width=64, encoding=encoding, step=64 * CHANNELS[encoding])
    msg.data = array.array("B", pixels.tobytes())
    theirs = bridge.imgmsg_to_cv2(msg, "passthrough")
    to_rgb = {
        "bgr8": cv2.COLOR_BGR2RGB,
        "mono8": cv2.COLOR_GRAY2RGB,
        "rgba8": cv2.COLOR_RGBA2RGB,
        "bgra8": cv2.COLOR_BGRA2RGB,
    }
    wanted = theirs if encoding == "rgb8" else cv2.cvtColor(np.ascontiguousarray(theirs), to_rgb[encoding])
    assert np.array_equal(decode_image(msg), wanted)


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_compressed_images_agree_with_cv_bridge_bit_for_bit(extension: str) -> None:
    pytest.importorskip("rclpy", reason="no ROS here")
    bridge = pytest.importorskip("cv_bridge").CvBridge()
    messages = pytest.importorskip("sensor_msgs.msg")
    msg = messages.CompressedImage(format=extension)
    msg.data = array.array("B", encode(photo(480, 640), f".{extension}"))
    theirs = bridge.compressed_imgmsg_to_cv2(msg, "passthrough")
    assert np.array_equal(decode_image(msg), cv2.cvtColor(theirs, cv2.COLOR_BGR2RGB))
