from __future__ import annotations

import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader

from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag import is_complete, read_metadata, read_raw, recover
from qt_ros.episodes.message_definitions import MessageDefinition
from qt_ros.episodes.recorder import BagTopic, Recorder, RecordingError, TopicCounts

STRING = MessageDefinition("std_msgs/msg/String", "string data\n")
A, B = BagTopic("/a", STRING), BagTopic("/b", STRING)
SECOND = 10**9


def text(number: int, size: int = 20) -> bytes:
    content = f"{number:08d}".encode() + b"." * size + b"\0"
    return b"\x00\x01\x00\x00" + struct.pack("<I", len(content)) + content


def numbers(uri: Path, topic: str = "/a") -> list[int]:
    return [int(r.data[8:16]) for r in read_raw(uri, [topic])]


def test_an_episode_is_recorded_from_start_to_finish_with_its_outcome(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A, B]) as recorder:
        uri = recorder.start("e1", {keys.INSTRUCTION: "pick"})
        assert uri == tmp_path / "e1" and recorder.episode_id == "e1"
        for i in range(100):
            assert recorder.write("/a", text(i), SECOND + i, SECOND + i, sequence=i + 5)
        recorder.write("/b", text(0), SECOND, 0)
        report = recorder.finish("success", "terminate", {keys.LABELLED_BY: "sim"}).result()
    assert recorder.episode_id is None
    assert (report.messages, report.dropped, report.complete, report.error) == (101, 0, True, "")
    assert report.counts == {"/a": TopicCounts(100, 100, 0), "/b": TopicCounts(1, 1, 0)}
    assert numbers(uri) == list(range(100)) and is_complete(uri)
    assert [r.sequence for r in read_raw(uri, ["/a"])][:2] == [5, 6]
    assert [r.publish_ns for r in read_raw(uri, ["/b"])] == [SECOND]
    custom = read_metadata(uri).custom_data
    wanted = {keys.INSTRUCTION: "pick", keys.OUTCOME: "success", keys.REASON: "terminate", keys.COMPLETE: "true"}
    assert custom.items() >= {**wanted, keys.EPISODE_ID: "e1", keys.LABELLED_BY: "sim"}.items()
    assert json.loads(custom[keys.COUNTS])["/a"] == {"received": 100, "written": 100, "dropped": 0}


def test_messages_outside_an_episode_are_not_recorded_but_the_last_second_before_it_is(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, [A, B], preroll=1.0, latched=["/b"])
    recorder.write("/b", text(1), SECOND, SECOND)
    recorder.write("/b", text(2), 2 * SECOND, SECOND)
    for i in range(40):
        recorder.write("/a", text(i), 10 * SECOND + i * SECOND // 10, SECOND)
    uri = recorder.start("e1")
    recorder.write("/a", text(99), 14 * SECOND, SECOND)
    recorder.finish("unknown", "operator").result()
    recorder.write("/a", text(100), 15 * SECOND, SECOND)
    recorder.close()
    assert numbers(uri) == [*range(29, 40), 99]
    assert numbers(uri, "/b") == [2]


def test_what_several_publishers_latch_is_all_there_each_content_once_in_the_order_of_its_last(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A], latched_all=["/a"]) as recorder:
        for i, number in enumerate((1, 2, 3, 1)):
            recorder.write("/a", text(number), SECOND + i, SECOND)
        first = recorder.start("e1")
        recorder.finish("failure", "timeout")
        for number in range(100, 200):
            recorder.write("/a", text(number), 9 * SECOND + number, SECOND)
        second = recorder.start("e2")
        recorder.finish("failure", "timeout")
    assert numbers(first) == [2, 3, 1]
    assert numbers(second) == list(range(136, 200)), "but no more than the newest"


def test_live_only_topics_do_not_leak_from_one_episode_into_the_next(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A, B], preroll=1.0, live_only=["/a"]) as recorder:
        recorder.start("e1")
        recorder.write("/a", text(1), SECOND, SECOND)
        recorder.write("/b", text(2), SECOND, SECOND)
        recorder.finish("failure", "timeout")
        uri = recorder.start("e2")
        recorder.finish("failure", "timeout")
    assert numbers(uri) == [] and numbers(uri, "/b") == [2]


def test_a_clock_that_jumps_back_empties_the_preroll(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A], preroll=1.0) as recorder:
        recorder.write("/a", text(1), 100 * SECOND, 0)
        recorder.write("/a", text(2), 1 * SECOND, 0)
        uri = recorder.start("e1")
        recorder.finish("failure", "timeout")
    assert numbers(uri) == [2]


def test_the_preroll_is_bounded_in_bytes(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A], preroll=100.0, preroll_bytes=5000) as recorder:
        for i in range(100):
            recorder.write("/a", text(i, 975), SECOND + i, 0)
        uri = recorder.start("e1")
        recorder.finish("failure", "timeout")
    assert numbers(uri) == [96, 97, 98, 99] or numbers(uri) == [95, 96, 97, 98, 99]


def test_what_does_not_fit_the_queue_is_dropped_and_counted(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A], queue_bytes=500) as recorder:
        uri = recorder.start("e1")
        assert recorder.write("/a", text(1), SECOND, 0)
        assert not recorder.write("/a", text(2, 1000), SECOND, 0)
        report = recorder.finish("success", "done").result()
    assert report.counts == {"/a": TopicCounts(2, 1, 1)} and report.dropped == 1 and report.complete
    assert numbers(uri) == [1]
    assert json.loads(read_metadata(uri).custom_data[keys.COUNTS])["/a"]["dropped"] == 1


def test_many_threads_may_write_at_once(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A, B], preroll=0) as recorder:
        uri = recorder.start("e1")

        def produce(topic: str) -> None:
            for i in range(500):
                assert recorder.write(topic, text(i), SECOND + i, 0)

        threads = [threading.Thread(target=produce, args=(t,)) for t in ("/a", "/b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        recorder.finish("success", "done")
    assert numbers(uri) == numbers(uri, "/b") == list(range(500))


def test_the_next_episode_may_start_while_the_last_is_being_closed(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A], preroll=0) as recorder:
        futures = []
        for episode in range(5):
            recorder.start(f"e{episode}")
            for i in range(50):
                recorder.write("/a", text(episode * 100 + i), SECOND + i, 0)
            futures.append(recorder.finish("failure", "timeout"))
    assert [f.result().messages for f in futures] == [50] * 5
    assert all(numbers(tmp_path / f"e{e}") == list(range(e * 100, e * 100 + 50)) for e in range(5))


def test_a_topic_may_appear_in_mid_episode(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A], preroll=0) as recorder:
        uri = recorder.start("e1")
        recorder.write("/a", text(0), SECOND, 0)
        recorder.add_topic(B)
        recorder.write("/b", text(1), SECOND, 0)
        recorder.finish("success", "done")
    assert numbers(uri, "/b") == [1]


def test_one_bad_message_or_topic_does_not_end_the_recording(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A], preroll=0) as recorder:
        uri = recorder.start("e1")
        recorder.write("/a", text(0), SECOND, 0)
        recorder.write("/a", text(1), 2**63, 0)
        recorder.add_topic(BagTopic("/a", MessageDefinition("std_msgs/msg/Bool", "bool data\n")))
        recorder.write("/a", text(2), SECOND, 0)
        report = recorder.finish("success", "done").result()
    assert numbers(uri) == [0, 2] and report.counts["/a"] == TopicCounts(3, 2, 1)
    assert report.complete and "no times" in report.error


def test_closing_in_mid_episode_makes_a_valid_bag_of_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, [A])
    uri = recorder.start("e1")
    recorder.write("/a", text(0), SECOND, 0)
    report = recorder.close()
    assert report is not None and (report.outcome, report.reason) == ("unknown", "fault")
    assert is_complete(uri) and read_metadata(uri).custom_data[keys.REASON] == "fault"
    assert recorder.close() is None


def test_wrong_use_is_named(tmp_path: Path) -> None:
    with Recorder(tmp_path, [A]) as recorder:
        with pytest.raises(RuntimeError, match="no episode"):
            recorder.finish("success", "done")
        with pytest.raises(KeyError, match="/other"):
            recorder.write("/other", b"", 0, 0)
        for name in ("", "..", "a/b", ".hidden"):
            with pytest.raises(ValueError, match="cannot name a folder"):
                recorder.start(name)
        recorder.start("e1")
        with pytest.raises(RuntimeError, match="e1 is being recorded"):
            recorder.start("e2")
        with pytest.raises(ValueError, match="won"):
            recorder.finish("won", "done")
        recorder.finish("success", "done")
        with pytest.raises(RecordingError, match="never overwritten"):
            recorder.start("e1")
        assert recorder.episode_id is None


KILLED = """
import sys, time
from qt_ros.episodes.message_definitions import MessageDefinition
from qt_ros.episodes.recorder import BagTopic, Recorder
recorder = Recorder(sys.argv[1], [BagTopic("/a", MessageDefinition("std_msgs/msg/String", "string data\\n"))])
recorder.start("e1", {"qt_ros.instruction": "pick"})
number = 0
while True:
    now = time.time_ns()
    content = b"%08d" % number + b"." * 20_000 + b"\\0"
    recorder.write("/a", b"\\0\\1\\0\\0" + len(content).to_bytes(4, "little") + content, now, now)
    print(number, now, flush=True)
    number += 1
    time.sleep(0.002)
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_recorder_lacks_at_most_the_last_second(tmp_path: Path, seed: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(random.Random(seed).randrange(100, 600))]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.read().splitlines(keepends=True)
    said = [line.split() for line in lines if line.endswith("\n")]
    process.wait()
    first_ns, last_ns = int(said[0][1]), int(said[-1][1])
    uri = tmp_path / "e1"
    assert not is_complete(uri) and recover(uri).needed
    messages = list(read_raw(uri))
    assert numbers(uri) == list(range(len(messages)))
    newest_ns = messages[-1].log_ns if messages else first_ns
    assert last_ns - newest_ns <= SECOND, f"{len(messages)} of {len(said)} messages were saved"
    with AnyReader([uri]) as reader:
        assert reader.message_count == len(messages)
    custom = read_metadata(uri).custom_data
    assert (custom[keys.INSTRUCTION], custom[keys.OUTCOME], custom[keys.REASON]) == ("pick", "unknown", "fault")


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 8 MB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no right to mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder  # type: ignore[misc]
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_reported_and_leaves_both_bags_readable(small_disk: Path) -> None:
    with Recorder(small_disk, [A], preroll=0) as recorder:
        recorder.start("e1")
        recorder.write("/a", text(7), SECOND, 0)
        assert recorder.finish("success", "done").result().complete
        uri = recorder.start("e2", {keys.INSTRUCTION: "pick"})
        for i in range(200):
            recorder.write("/a", text(i, 100_000), SECOND + i, 0)
        report = recorder.finish("failure", "timeout").result()
    assert not report.complete and "No space left" in report.error and str(uri) in report.error
    assert 20 < report.messages < 80 and report.messages + report.dropped == 200
    assert numbers(small_disk / "e1") == [7]
    assert is_complete(uri) and numbers(uri) == list(range(report.messages))
    custom = read_metadata(uri).custom_data
    assert custom[keys.COMPLETE] == "false" and "No space left" in custom[keys.ERROR]
    assert json.loads(custom[keys.COUNTS])["/a"] == {
        "received": 200,
        "written": report.messages,
        "dropped": report.dropped,
    }
    with AnyReader([uri]) as reader:
        assert reader.message_count == report.messages
    with Recorder(small_disk, [A]) as recorder, pytest.raises(RecordingError, match="e3"):
        (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
        recorder.start("e3")


LIMITED = """
import resource, sys
from qt_ros.episodes.message_definitions import MessageDefinition
from qt_ros.episodes.recorder import BagTopic, Recorder
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))
recorder = Recorder(sys.argv[1], [BagTopic("/a", MessageDefinition("std_msgs/msg/String", "string data\\n"))])
recorder.start("e1")
for i in range(200):
    content = b"%08d" % i + b"." * 100_000 + b"\\0"
    recorder.write("/a", b"\\0\\1\\0\\0" + len(content).to_bytes(4, "little") + content, 10**9 + i, 0)
report = recorder.finish("failure", "timeout").result()
print(report.complete, report.messages, report.error)
"""


def test_a_file_size_limit_is_reported_and_the_part_before_it_can_be_read(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] in (resource.RLIM_INFINITY, -1)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    complete, messages, error = done.stdout.split(maxsplit=2)
    assert complete == "False" and "File too large" in error, done.stderr
    recover(tmp_path / "e1")
    assert numbers(tmp_path / "e1") == list(range(len(numbers(tmp_path / "e1"))))
    assert len(numbers(tmp_path / "e1")) >= int(messages) > 10
