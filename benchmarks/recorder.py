#!/usr/bin/env python3
"""Does the recorder lose messages? Two raw cameras at 30 Hz and two 100 Hz topics into one bag, each message numbered.

    . ./env.sh
    python benchmarks/recorder.py                     60 s, 640x480, about 3.4 GB on disk for the while
    python benchmarks/recorder.py --seconds 5 --json out.json

Every sensor is a process of its own and numbers its messages; recorder_node records them over DDS. What the bag holds
is then compared with what the publishers say they sent, number by number. CPU is in cores (1.0 = one core busy).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
from rich.table import Table

from benchmarks.graph import SensorProcess, sensors, set_environment
from benchmarks.report import ROOT, add_json_option, context, emit
from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.robot import load_contract

EPISODE = "recorder_benchmark"
SECOND_CAMERA, SECOND_FAST = "left_camera/image_raw", "imu"
FAST_RATE = 100.0
HEARTBEAT = 0.5  # s; the recorder gives an episode up when it hears nothing of the policy


def number_of(data: bytes) -> int:
    """The number in header.frame_id of a serialised message that begins with a header (little-endian CDR)."""
    length = int.from_bytes(data[12:16], "little")
    return int(data[16 : 16 + length - 1])


def numbers_in(bag: Path, topics: Sequence[str]) -> dict[str, Counter[int]]:
    """How often each number occurs per topic in a bag's MCAP files."""
    from mcap.reader import make_reader

    found: dict[str, Counter[int]] = {topic: Counter() for topic in topics}
    for path in sorted(bag.glob("*.mcap")):
        with path.open("rb") as stream:
            for _, channel, message in make_reader(stream).iter_messages(topics=list(topics), log_time_order=False):
                found[channel.topic][number_of(message.data)] += 1
    return found


def compare(published: int, found: Counter[int]) -> dict[str, Any]:
    """Published numbers 0..published-1 against those found: lost, doubled, unknown, and the first of the lost ones."""
    lost = [n for n in range(published) if n not in found]
    return {
        "published": published,
        "in_bag": sum(found.values()),
        "lost": len(lost),
        "first_lost": lost[:10],
        "doubled": sum(count - 1 for count in found.values()),
        "unknown": sum(1 for n in found if n >= published),
    }


class Director:
    """Plays policy_node and judge to the recorder: announces the episode, keeps it alive, ends and judges it."""

    def __init__(self, client: Any) -> None:
        from qt_ros.msg import EpisodeOutcome, EpisodeStatus
        from qt_ros.nodes.lifecycle import LATCHED

        self.client, self.status = client, EpisodeStatus(episode_id=EPISODE, instruction="measure the recorder")
        self.outcome = EpisodeOutcome(episode_id=EPISODE, labelled_by=EPISODE)
        self._status_out = client.node.create_publisher(EpisodeStatus, "episode_status", LATCHED)
        self._outcome_out = client.node.create_publisher(EpisodeOutcome, "episode_outcome", LATCHED)
        self._timer: Any = None

    def ready(self) -> bool:
        """The recorder follows both topics."""
        return all(p.get_subscription_count() for p in (self._status_out, self._outcome_out))

    def begin(self) -> None:
        self.status.state = type(self.status).STATE_RUNNING
        self._say()
        self._timer = self.client.node.create_timer(HEARTBEAT, self._say)

    def _say(self) -> None:
        self.status.header.stamp = self.client.node.get_clock().now().to_msg()
        self._status_out.publish(self.status)

    def end(self) -> None:
        self._timer.cancel()
        kind = type(self.status)
        self.status.state, self.status.reason = kind.STATE_ENDED, kind.REASON_DONE
        self._say()

    def judge(self) -> None:
        self.outcome.outcome = type(self.status).OUTCOME_SUCCESS
        self._outcome_out.publish(self.outcome)


class Usage:
    """CPU of some processes and of the whole machine between `begin` and `end`."""

    def __init__(self, processes: dict[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}

    def begin(self) -> None:
        self._start, self._machine = time.monotonic(), psutil.cpu_times()
        self._own = {name: self._seconds(process) for name, process in self._processes.items()}

    @staticmethod
    def _seconds(process: psutil.Process) -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    def end(self) -> dict[str, float]:
        """Cores kept busy per process; ``machine_idle`` in cores too; ``recorder_memory_mb`` resident at the end."""
        seconds = time.monotonic() - self._start
        used = {n: (self._seconds(p) - self._own[n]) / seconds for n, p in self._processes.items()}
        used["machine_idle"] = (psutil.cpu_times().idle - self._machine.idle) / seconds
        used["recorder_memory_mb"] = self._processes["recorder"].memory_info().rss / 1e6
        return {name: round(value, 3) for name, value in used.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Record for ``options.seconds`` and compare the bag with the publishers' counts."""
    set_environment(options.dds_default)
    try:
        from qt_ros.nodes.demo_client import GraphClient
    except ImportError as error:
        raise SystemExit(f"this needs the workspace: run `make setup`, then `. ./env.sh` ({error})") from None

    contract = load_contract(options.robot)
    camera, fast = contract.observation("image").topic, contract.observation("joint_state").topic
    streams = {
        camera: ("image", options.camera_rate, options.camera_qos),
        SECOND_CAMERA: ("image", options.camera_rate, options.camera_qos),
        fast: ("joint_state", FAST_RATE, options.fast_qos),
        SECOND_FAST: ("imu", FAST_RATE, options.fast_qos),
    }
    root = Path(options.out).absolute()
    size = 2 * options.camera_rate * options.seconds * options.width * options.height * 3
    root.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(root).free < 1.2 * size:
        raise SystemExit(f"{root}: the bag needs {1.2 * size / 1e9:.1f} GB; free some space or give --out or --seconds")
    bag = root / EPISODE
    shutil.rmtree(bag, ignore_errors=True)
    group = NodeGroup(root / "logs", {"ROS_LOG_DIR": str(root / "logs" / "ros")})
    with group.running():
        extra = [f"{SECOND_CAMERA}:sensor_msgs/msg/Image", f"{SECOND_FAST}:sensor_msgs/msg/Imu"]
        parameters = {"robot": options.robot, "root": str(root), "compression": options.compression}
        recorder = group.start("recorder_node", {**parameters, "extra_topics": extra})
        client = GraphClient(group.check, "recorder_benchmark")
        director = Director(client)
        processes = [
            SensorProcess(
                topic, kind, rate, count=round(rate * options.seconds), numbered=True, qos=qos,
                width=options.width, height=options.height,
            )
            for topic, (kind, rate, qos) in streams.items()
        ]  # fmt: skip
        with sensors(*processes):
            client.wait(director.ready, 60.0, "the recorder to follow the episode")
            client.wait(lambda: all(p.ready for p in processes), 60.0, "the recorder to follow every sensor")
            director.begin()
            client.wait(lambda: any(bag.glob("*.mcap")), 30.0, "the bag to be opened")
            cpu = Usage({"recorder": recorder.process.pid, **{p.topic: p.process.pid for p in processes}})
            cpu.begin()
            for process in processes:
                process.go()
            client.wait(lambda: all(p.report for p in processes), 2 * options.seconds + 60.0, "the last message")
            used = cpu.end()
            director.end()
            drained = time.monotonic() + options.drain
            client.wait(lambda: time.monotonic() > drained, options.drain + 10.0, "the last messages to be taken")
            director.judge()
            record = client.record(EPISODE, 60.0)
            reports = {p.topic: p.report or {} for p in processes}
        client.close()
    return evaluate(bag, {t: (streams[t], reports[t]) for t in streams}, record, used)


def evaluate(bag: Path, streams: dict[str, Any], record: Any, used: dict[str, float]) -> dict[str, Any]:
    """Count what the bag holds of each stream ({topic: ((kind, rate, qos), publisher's report)})."""
    found = numbers_in(bag, [f"/{topic}" for topic in streams])
    topics = {}
    for topic, ((_, rate, qos), report) in streams.items():
        counts = compare(report["published"], found[f"/{topic}"])
        measured = round(report["published"] / report["seconds"], 2)
        topics[topic] = {"rate": rate, "rate_measured": measured, "qos": qos, **counts, "late_ms": report["late_ms"]}
    seconds = max(report["seconds"] for _, report in streams.values())
    size = sum(path.stat().st_size for path in bag.glob("*.mcap"))
    return {
        "seconds": seconds,
        "lost": sum(t["lost"] for t in topics.values()),
        "published": sum(t["published"] for t in topics.values()),
        "dropped_by_recorder": record.dropped,
        "complete": record.complete,
        "error": record.error,
        "bytes": size,
        "mb_per_s": round(size / 1e6 / seconds, 1),
        "cpu_cores": used,
        "topics": topics,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """One row per topic."""
    r, cpu = result["recording"], result["recording"]["cpu_cores"]
    caption = (
        f"{r['lost']} of {r['published']} messages lost, {r['dropped_by_recorder']} of them dropped by the recorder; "
        f"{r['mb_per_s']} MB/s; CPU in cores: recorder {cpu['recorder']}, idle {cpu['machine_idle']}; "
        f"recorder's memory {cpu['recorder_memory_mb']:.0f} MB"
    )
    table = Table(title=f"recorder_node, {r['seconds']} s", caption=caption)
    columns = ("topic", "QoS", "rate Hz", "published", "in bag", "lost", "doubled", "late ms p95", "publisher's CPU")
    for column in columns:
        table.add_column(column, justify="left" if column in ("topic", "QoS") else "right")
    for topic, t in r["topics"].items():
        numbers = (t["rate_measured"], t["published"], t["in_bag"], t["lost"], t["doubled"], t["late_ms"]["p95"])
        table.add_row(topic, t["qos"], *map(str, numbers), str(cpu[topic]))
    return [table]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--camera-rate", type=float, default=30.0)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument(
        "--camera-qos", choices=("best_effort", "reliable"), default="best_effort", help="of the cameras"
    )
    parser.add_argument("--fast-qos", choices=("best_effort", "reliable"), default="best_effort", help="of the others")
    parser.add_argument("--compression", choices=("none", "lz4", "zstd"), default="none", help="of the bag")
    parser.add_argument("--drain", type=float, default=1.0, help="s between the last message and the judgement")
    parser.add_argument("--dds-default", action="store_true", help="Fast DDS as it comes, without config/fastdds.xml")
    parser.add_argument("--robot", default="mobile_manipulator")
    parser.add_argument("--out", default=str(ROOT / "outputs" / "recorder_benchmark"), help="folder of bag and logs")
    parser.add_argument("--keep", action="store_true", help="keep the bag")
    add_json_option(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 1 when a message was lost."""
    options = parse(arguments)
    settings = {k: v for k, v in vars(options).items() if k not in ("json", "out")}
    result = context("recorder", settings)
    try:
        result["recording"] = measure(options)
    finally:
        if not options.keep:
            shutil.rmtree(Path(options.out).absolute() / EPISODE, ignore_errors=True)
    emit(result, tables(result), options.json)
    return 0 if result["recording"]["lost"] == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
