"""A writer's part grows by one line a shard, survives kills and full disks, and is folded up when the writer closes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.labels import LabelError, read_labels
from qt_ros.episodes.parts import held_parts, merge_manifests, part_files, read_part
from qt_ros.episodes.store import EpisodeStore, StoreError, StoreWriter

Maker = Callable[..., Episode]
SIZE = (24, 32)


@pytest.fixture
def open_writer(tmp_path: Path, contract: RobotContract, new_episode: Maker) -> StoreWriter:
    """A writer that put three shards on disk and did not close."""
    writer = StoreWriter(tmp_path, contract, SIZE, shard_episodes=2)
    for number in range(6):
        writer.add(new_episode(number))
    return writer


def ids(root: Path) -> list[str]:
    return [e.id for path in part_files(root) for e in read_part(path).episodes]


def test_every_shard_costs_one_line_however_many_there_are(tmp_path: Path, open_writer: StoreWriter) -> None:
    part, log = tmp_path / "parts" / "shard.json", tmp_path / "parts" / "shard.jsonl"
    before = part.read_bytes()
    lengths = [len(line) for line in log.read_bytes().splitlines()]
    assert len(lengths) == 3 and max(lengths) - min(lengths) < 10
    assert json.loads(before)["episodes"] == 0 and len(ids(tmp_path)) == 6
    open_writer.close()
    assert json.loads(part.read_bytes())["episodes"] == 6 and not log.exists()
    assert len(EpisodeStore(tmp_path)) == 6


def test_a_line_that_a_kill_cut_off_is_ignored_and_written_over(
    tmp_path: Path, contract: RobotContract, new_episode: Maker, open_writer: StoreWriter
) -> None:
    root = tmp_path / "as a kill would leave it"
    shutil.copytree(open_writer.root, root, ignore=shutil.ignore_patterns(root.name))
    log = root / "parts" / "shard.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert ids(root) == [f"episode-{i:04d}" for i in range(4)]
    with StoreWriter(root, contract, SIZE, shard_episodes=1) as writer:
        assert writer.episode_ids == {f"episode-{i:04d}" for i in range(4)}
        writer.add(new_episode(7))
        assert len(ids(root)) == 5
    assert [m.id for m in EpisodeStore(root).meta] == [*(f"episode-{i:04d}" for i in range(4)), "episode-0007"]


def test_a_part_has_one_writer_at_a_time_and_each_finds_what_the_one_before_wrote(
    tmp_path: Path, contract: RobotContract, new_episode: Maker, open_writer: StoreWriter
) -> None:
    with pytest.raises(StoreError, match="another process writes the part shard of this store; wait"):
        StoreWriter(tmp_path, contract, SIZE)
    with StoreWriter(tmp_path, contract, SIZE, prefix="other", merge=False) as other:
        other.add(new_episode(6))
    assert held_parts(tmp_path, "*") == ["shard"] and held_parts(tmp_path, "o*") == []
    open_writer.close()
    with StoreWriter(tmp_path, contract, SIZE) as writer:
        assert len(writer.episode_ids) == 6
        writer.add(new_episode(7))
    assert len(EpisodeStore(tmp_path)) == 8 and held_parts(tmp_path, "*") == []


def test_a_writer_that_cannot_be_opened_or_closed_leaves_the_part_free(
    tmp_path: Path, contract: RobotContract, new_episode: Maker
) -> None:
    with StoreWriter(tmp_path, contract, SIZE):
        pass
    with pytest.raises(StoreError, match="image_height differs"):
        StoreWriter(tmp_path, contract, (48, 64))
    with pytest.raises(OSError), StoreWriter(tmp_path, contract, SIZE) as writer:
        writer.add(new_episode(0))
        (tmp_path / "shards").rmdir()
    (tmp_path / "shards").mkdir()
    writer.close()
    assert held_parts(tmp_path, "*") == [] and ids(tmp_path) == [], "what is over writes nothing any more"


def test_a_log_that_was_folded_in_but_not_deleted_counts_once(tmp_path: Path, open_writer: StoreWriter) -> None:
    log = tmp_path / "parts" / "shard.jsonl"
    lines = log.read_bytes()
    open_writer.close()
    log.write_bytes(lines)
    assert len(ids(tmp_path)) == 6 and len(merge_manifests(tmp_path).episodes) == 6


def test_a_line_that_was_altered_is_named(tmp_path: Path, open_writer: StoreWriter) -> None:
    log = tmp_path / "parts" / "shard.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], lines[1][10:], lines[2]]))
    with pytest.raises(StoreError, match=r"shard.jsonl:2: no readable shard"):
        merge_manifests(tmp_path)


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from episode_factory import make_episode
from qt_ros.contract.robot import load_contract
from qt_ros.episodes.store import StoreError, StoreWriter
contract = load_contract("mobile_manipulator")
writer = StoreWriter(sys.argv[1], contract, (24, 32), shard_episodes=2)
for number in range(4):
    writer.add(make_episode(contract, number))
writer.add(make_episode(contract, 4))
# No file may be larger than this from now on: the kernel refuses to write, as on a full disk.
largest = max(p.stat().st_size for p in Path(sys.argv[1], "shards").iterdir())
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, hard))
try:
    writer.add(make_episode(contract, 5))
except StoreError as error:
    print("refused:", error)
else:
    sys.exit("the disk was not full")
print(sorted(p.name for p in Path(sys.argv[1]).rglob("*") if p.is_file()))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
writer.close()
"""


def test_a_disk_that_is_full_while_building_leaves_nothing_half_written_to_be_read(tmp_path: Path) -> None:
    support = Path(__file__).parents[1] / "support"
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(support)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    refused, listing = done.stdout.splitlines()
    assert refused.startswith(f"refused: {tmp_path / 'shards' / 'shard-00002.parquet'}: cannot be written")
    assert "free some space" in refused and ".tmp" not in listing
    # What the writer still had in memory went to disk when there was room again.
    store = EpisodeStore(tmp_path)
    assert [m.id for m in store.meta] == [f"episode-{i:04d}" for i in range(6)] and not store.skipped
    assert [e.episode_id for e in store] == [m.id for m in store.meta]


FULL_LOG = """
import resource, sys
from pathlib import Path
from qt_ros.episodes.manifest import EpisodeMeta, Shard
from qt_ros.episodes.parts import PartLog, read_part
path = Path(sys.argv[1], "parts/shard.json")
log = PartLog(path, read_part(path))
shards = [Shard(f"shards/shard-{i:05d}.parquet", "0" * 64, 1, ()) for i in range(10, 12)]
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_suffix(".jsonl").stat().st_size + 40, hard))
try:
    log.append(shards[0])
except OSError:
    print(len(read_part(path).shards), path.with_suffix(".jsonl").read_bytes().endswith(b"\\n"))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
for shard in shards:
    log.append(shard)
print([s.file for s in read_part(path).shards[3:]] == [s.file for s in shards])
"""


def test_half_a_line_that_a_full_disk_took_is_not_read_and_the_next_one_replaces_it(
    tmp_path: Path, open_writer: StoreWriter
) -> None:
    command = [sys.executable, "-c", FULL_LOG, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["3", "False", "True"], done.stderr


def test_lines_and_labels_nested_without_end_are_refused(tmp_path: Path, contract: RobotContract) -> None:
    with StoreWriter(tmp_path / "s", contract, (24, 32), merge=False):
        pass
    (part,) = part_files(tmp_path / "s")
    for line in (b"[" * 100_000, b'{"episodes": null}', b"[]", b"7", b'{"episodes": [7]}'):
        part.with_suffix(".jsonl").write_bytes(line + b"\n")
        with pytest.raises(StoreError, match="jsonl:1"):
            read_part(part)
    labels = tmp_path / "labels.jsonl"
    labels.write_bytes(b"[" * 100_000 + b"\n")
    with pytest.raises(LabelError, match="line 1: no label"):
        read_labels(labels)
