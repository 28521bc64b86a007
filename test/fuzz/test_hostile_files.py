"""Files made to harm: each would end the process or take its memory if it were simply read."""

from __future__ import annotations

import contextlib
import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from qt_ros.contract.codecs import MalformedImage, decode_image
from qt_ros.contract.robot import load_contract, parse_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.contract.untrusted import Refused, check_image_bounds, image_size, load_json, load_yaml_text, read_bounded
from qt_ros.episodes.bag import read_raw, recover
from qt_ros.episodes.bag_metadata import BagError, parse_metadata
from qt_ros.episodes.manifest import Manifest, StoreError
from qt_ros.episodes.rows import decode_png

CONTRACT = load_contract("mobile_manipulator")


@pytest.mark.parametrize(
    "text",
    ["[ " * 200_000, "- " * 200_000, "{a: " * 100_000, "? " * 100_000, "x: !!timestamp y", "x: 2001-99-99",
     "? [a]\n: 1", "x: " + "9" * 100_000, "\x00", "a: &a [1]\nb: *a", "<<: 3", "x: !!python/object:os.system echo"],
)  # fmt: skip
def test_yaml_that_ends_other_parsers_is_refused(text: str) -> None:
    """Nesting by the ten thousand ends the process of PyYAML's C parser; the others raise what nobody expects."""
    with pytest.raises(Refused):
        load_yaml_text(text)
    with pytest.raises(ConfigError, match="robot.yaml"):
        parse_contract(text, "robot.yaml")
    with pytest.raises(BagError, match="metadata.yaml"):
        parse_metadata(text, "metadata.yaml")


def test_a_few_lines_that_stand_for_gigabytes_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(Refused, match="aliases"):
        load_yaml_text("\n".join(lines))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "NaN", '{"x": Infinity}', "9" * 10_000, "\ud800", ""]
)
def test_json_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        load_json(text)
    with pytest.raises(StoreError):
        Manifest.from_json(text.encode("utf-8", errors="surrogatepass"), "store.json")


def test_a_contract_cannot_ask_for_tables_of_gigabytes() -> None:
    line = next(line for line in CONTRACT.text.splitlines() if "name: terminate" in line)
    many = "\n".join(
        line.replace("terminate", f"d{i}").replace("low: 0.0", "bins: 32767, low: 0.0") for i in range(100)
    )
    with pytest.raises(ConfigError, match="dimensions; at most 64"):
        parse_contract(CONTRACT.text.replace(line, many))
    with pytest.raises(ConfigError, match="a configuration is at most"):
        parse_contract(CONTRACT.text + "#" * (2 << 20))


def test_special_files_and_large_ones_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no plain file"):
        read_bounded(Path("/dev/zero"))
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(17 << 20)
    with pytest.raises(Refused, match="larger than 16 MiB"):
        read_bounded(large)


class Picture:
    def __init__(self, data: bytes, form: str = "png") -> None:
        self.format, self.data = form, data


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and is not."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_images_that_unpack_to_gigabytes_are_refused_unseen() -> None:
    bomb = png_of(30_000, 30_000)
    assert image_size(bomb) == (30_000, 30_000)
    with pytest.raises(MalformedImage, match="30000x30000 pixels"):
        decode_image(Picture(bomb))
    with pytest.raises(ValueError, match="30000x30000 pixels"):
        decode_png(bomb)
    jpeg = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    assert image_size(jpeg) == (64, 48)
    at = jpeg.index(b"\xff\xc0") + 5
    with pytest.raises(Refused, match="65535x65535"):
        check_image_bounds(jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :])
    assert image_size(b"GIF89a") is None


def bag_with(tmp_path: Path, compression: CompressionType, payload: bytes) -> Path:
    """A whole MCAP file with one message."""
    folder = tmp_path / "bag"
    folder.mkdir()
    with (folder / "bag_0.mcap").open("wb") as stream:
        writer = Writer(stream, compression=compression, chunk_size=1 << 30)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
        channel = writer.register_channel("/a", "cdr", schema)
        writer.add_message(channel, 1, payload, 1)
        writer.finish()
    return folder


@pytest.mark.parametrize("compression", [CompressionType.LZ4, CompressionType.ZSTD])
def test_chunks_that_unpack_to_more_than_a_chunk_holds_are_refused(
    tmp_path: Path, compression: CompressionType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qt_ros.episodes.mcap_guard.MAX_CHUNK", 1 << 20)
    folder = bag_with(tmp_path, compression, bytes(4 << 20))
    assert (folder / "bag_0.mcap").stat().st_size < 1 << 16, "a few kilobytes that stand for megabytes"
    with pytest.raises(BagError, match="the most that is read|unpacks to more"):
        list(read_raw(folder))
    assert recover(folder, force=True).messages == 0


def test_a_chunk_that_lies_about_its_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qt_ros.episodes.mcap_guard.MAX_CHUNK", 1 << 20)
    folder = bag_with(tmp_path, CompressionType.LZ4, bytes(4 << 20))
    path = folder / "bag_0.mcap"
    data = bytearray(path.read_bytes())
    start = data.index(b"lz4") - 4 - 4 - 8  # uncompressed size, CRC, length of the name
    struct.pack_into("<QI", data, start, 100, 0)
    path.write_bytes(data)
    with pytest.raises(BagError, match="unpacks to more"):
        list(read_raw(folder))


def test_a_record_of_a_length_that_nothing_has_takes_no_memory(tmp_path: Path) -> None:
    folder = bag_with(tmp_path, CompressionType.NONE, b"\x00\x01\x00\x00\x02\x00\x00\x00a\x00")
    path = folder / "bag_0.mcap"
    assert len(list(read_raw(folder))) == 1
    whole = path.read_bytes()
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    chunk = summary.chunk_indexes[0].chunk_start_offset
    tracemalloc.start()
    for position in (
        9,
        chunk + 1,
        chunk + 1 + 8 + 16,
        chunk + 1 + 8 + 28,
    ):  # header, chunk, its size, its text's length
        for length in (1 << 40, (1 << 63) - 1, (1 << 64) - 1):
            data = bytearray(whole)
            struct.pack_into("<Q", data, position, length)
            path.write_bytes(data)
            with contextlib.suppress(BagError):
                assert len(list(read_raw(folder))) <= 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_store_cannot_claim_more_frames_than_its_shards_hold(tmp_path: Path) -> None:
    from episode_factory import make_episode

    from qt_ros.episodes.store import EpisodeStore, StoreWriter

    with StoreWriter(tmp_path / "s", CONTRACT, (24, 32)) as writer:
        writer.add(make_episode(CONTRACT, steps=3))
    manifest = tmp_path / "s" / "store.json"
    document = json.loads(manifest.read_text())
    for change, message in (
        (lambda d: d["shards"][0]["episodes"][0].update(length=900_000), "3 frames, the manifest says 900000"),
        (lambda d: d["shards"][0]["episodes"][0].update(length=10**12), "impossible length"),
        (lambda d: d.update(image_height=10**9), "not made here"),
    ):
        altered = json.loads(json.dumps(document))
        change(altered)
        manifest.write_text(json.dumps(altered))
        with pytest.raises(StoreError, match=message):
            EpisodeStore(tmp_path / "s").load_all()


def test_a_checkpoint_cannot_ask_for_a_network_larger_than_its_weights(tmp_path: Path) -> None:
    from small_checkpoint import make_checkpoint

    from qt_ros.model.checkpoint import load_checkpoint
    from qt_ros.model.tensor_files import CheckpointError

    make_checkpoint(tmp_path / "c")
    record = tmp_path / "c" / "checkpoint.json"
    document = json.loads(record.read_text())
    for size, message in ((65536, "tensors missing, unknown or of another shape"), (10**9, "at most 65536")):
        document["model"]["width"] = size
        record.write_text(json.dumps(document))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / "c")


def test_nothing_in_the_package_unpickles(repository: Path) -> None:
    words = (
        "import pickle",
        "from pickle",
        "torch.load(",
        "allow_pickle=True",
        "yaml.unsafe",
        "yaml.full_load",
        "marshal",
    )
    for path in (repository / "qt_ros").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [w for w in words if w in text], path
