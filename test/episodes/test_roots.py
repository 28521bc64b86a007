"""Files of a store are read alike from a folder, from memory and from a real HTTP server, which may fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from range_server import RangeServer, serving

from qt_ros.episodes.manifest import StoreError
from qt_ros.episodes.roots import LocalRoot, Root, StoreUnreachable, UrlRoot, cache_folder, is_url, open_root

DATA = bytes(range(256)) * 8
AT_ONCE = (0.0, 0.0, 0.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a").write_bytes(DATA)
    with serving(tmp_path) as server:
        yield server


def check_reading(root: Root) -> None:
    assert root.read("shards/a") == DATA and root.size("shards/a") == len(DATA)
    assert root.read_range("shards/a", 300, 7) == DATA[300:307]
    assert root.read_range("shards/a", 0, len(DATA)) == DATA
    for missing in (lambda: root.read("b"), lambda: root.read_range("b", 0, 4), lambda: root.size("b")):
        with pytest.raises(FileNotFoundError):
            missing()


def test_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a").write_bytes(DATA)
    check_reading(open_root(tmp_path))
    check_reading(open_root(f"file://{tmp_path}"))
    with pytest.raises(EOFError, match="2 of 9 bytes"):
        open_root(tmp_path).read_range("shards/a", len(DATA) - 2, 9)


def test_memory_is_read() -> None:
    with fsspec.open("memory://store/shards/a", "wb") as stream:
        stream.write(DATA)
    root = open_root("memory://store")
    check_reading(root)
    with pytest.raises(EOFError, match="2 of 9 bytes"):
        root.read_range("shards/a", len(DATA) - 2, 9)


def test_an_http_server_is_read_no_more_than_is_asked_for(server: RangeServer) -> None:
    check_reading(open_root(server.url))
    server.served.clear()
    open_root(server.url).read_range("shards/a", 300, 7)
    assert server.served == [("/shards/a", 7)]


def test_a_server_that_fails_for_a_while_is_asked_again(server: RangeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.failures = 3
    assert UrlRoot(server.url, AT_ONCE).read_range("shards/a", 1, 2) == DATA[1:3]
    assert "try 2 failed" in caplog.text and "503" in caplog.text and "try 3" not in caplog.text


def test_a_server_that_stays_away_is_named_and_said_to_be_worth_another_try(server: RangeServer) -> None:
    root = UrlRoot(server.url, AT_ONCE)
    server.down = True
    with pytest.raises(StoreUnreachable, match=r"shards/a: not reached in 4 tries .*503.* the same command goes on"):
        root.read("shards/a")
    server.down = False
    assert root.read("shards/a") == DATA
    with pytest.raises(StoreUnreachable, match="not reached in 4 tries"):
        UrlRoot("http://127.0.0.1:9", AT_ONCE).read("shards/a")


def test_a_server_without_byte_ranges_is_refused(server: RangeServer) -> None:
    server.ranges = False
    with pytest.raises(StoreError, match="sends whole files"):
        open_root(server.url).read_range("shards/a", 300, 7)


def test_a_scheme_that_nobody_knows_is_said_plainly() -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        open_root("nowhere://x")


def test_folders_and_urls_are_told_apart() -> None:
    assert is_url("s3://bucket/x") and is_url("filecache::https://x/y")
    assert not is_url("stores/demos") and not is_url(Path("http:/x"))
    assert isinstance(open_root("stores/demos"), LocalRoot)


def test_two_stores_of_one_name_have_their_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = cache_folder("http://a/demos", tmp_path), cache_folder("http://b/demos/", tmp_path)
    assert one != two and one.parent == two.parent == tmp_path / "stores" and one.name.startswith("demos-")
    monkeypatch.setenv("QT_ROS_CACHE", str(tmp_path / "c"))
    assert cache_folder("http://a/demos").parent == tmp_path / "c" / "stores"
