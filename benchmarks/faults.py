"""Spoils the real node graph in the embedded simulator at random moments, again and again, and looks what comes of it.

One injection is one episode: a scene of what the checkpoint learned, a goal, a fault at a random moment of it, and then
the judgement: no command out of bounds, no motion for longer after the policy's last action than the contract allows,
the robot stands, the goal has its result, the bag of a finished episode is there and whole, and the graph (with killed
nodes started again) does the next episode. Faults: kill -9 and restart of every node, frozen, silent, garbage camera,
NaN, silent and future joint states, clock forward and back, dropped, delayed and doubled actions, full disk, burst of
goals, malformed messages, e-stop.

Example: python -m benchmarks.faults --count 300 --json docs/results/faults.json

An interrupted run goes on when it is called again with the same --out and --seed. --json FILE writes FILE.md too.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.msg import State
from rich.console import Console
from std_srvs.srv import Trigger

from benchmarks.fault_table import FAULTS, MANAGED, NODES, SPOILED, page, summary, tables
from benchmarks.fault_traces import keep_traces
from benchmarks.fault_watch import Watch
from benchmarks.graph import own_domain
from benchmarks.report import ROOT, add_json_option, context, emit
from qt_ros.action import ExecuteInstruction
from qt_ros.cli.demo_plan import make_plan
from qt_ros.cli.processes import NodeGroup, NodeProcess
from qt_ros.contract.robot import load_contract
from qt_ros.episodes.bag import BagError, is_complete, read_bag
from qt_ros.episodes.episode import REASONS
from qt_ros.sim.asked import choose_tasks

RELAYED = ("head_camera/image_raw", "joint_states")
PATIENCE = 300.0  # s on the wall for anything that a loaded machine does late; longer is a hung graph
EPISODE = 4.0  # simulated s
CERTAIN = 3  # steps of the policy in which commands and measurements are heard for certain
SETTLES = 5.0  # s on the wall after a node's start: links that are seen from here may not be there yet between others
CLOCK_PATIENCE = 2.0  # s on the wall: command_node's own patience with a clock that stands still
WALL_SLACK = 5.0  # s on the wall that a loaded machine may be late with it
console = Console(stderr=True)


def _past(moment: float) -> Callable[[], bool]:
    """Whether the wall's clock has passed ``moment`` s."""
    return lambda: time.monotonic() > moment


class Hung(RuntimeError):
    """The graph did not do what it must do."""


class Bench:
    """The graph, and one injection after the other."""

    def __init__(self, folder: Path, checkpoint: Path, seed: int, count: int) -> None:
        from qt_ros.nodes.demo_client import GraphClient

        self.folder, self.seed = folder, seed
        self.scenes = make_plan(seed, count, choose_tasks(checkpoint), training_scenes=True).episodes
        self.run = f"{time.strftime('%H%M%S')}"
        self.bags = folder / "bags"
        self.group = NodeGroup(folder / "logs", {"ROS_LOG_DIR": str(folder / "logs" / "ros"), "OMP_NUM_THREADS": "1"})
        timed = {"use_sim_time": True, "autostart": True}
        self.parameters: dict[str, dict[str, Any]] = {
            "sim_node": {},
            "recorder_node": {"use_sim_time": True, "root": str(self.bags), "compression": "lz4"},
            "servo_node": timed,
            "command_node": timed,
            "policy_node": {**timed, "checkpoint": str(checkpoint), "threads": 1, "outcome_wait": 2.0},
        }
        self.remap = {
            "sim_node": {**{t: f"raw/{t}" for t in RELAYED}, "/clock": "/raw/clock"},
            "policy_node": {"policy_action": "raw/policy_action"},
        }
        self.contract = load_contract("mobile_manipulator")
        self.group.start("fault_relay", module="benchmarks.fault_relay")
        for name in NODES:
            self.start(name)
        self.watch = Watch(self.contract)
        self.client = GraphClient(lambda: None, "fault_client")
        self.finished: dict[str, str] = {}  # whole bags so far: they must stay so

    def close(self) -> None:
        """Stop everything."""
        self.client.close()
        self.watch.close()

    # --- nodes --------------------------------------------------------------------------------------------------------

    def start(self, name: str) -> NodeProcess:
        self.started = time.monotonic()
        return self.group.start(name, self.parameters[name], self.remap.get(name))

    def node(self, name: str) -> NodeProcess | None:
        return next((n for n in self.group.nodes if n.name == name and n.running), None)

    def end(self, name: str, number: int) -> None:
        """Send a signal, wait for the process to be gone."""
        node = self.node(name)
        if node is None:
            return
        os.killpg(node.process.pid, number)
        node.process.wait(PATIENCE)
        self.group.nodes.remove(node)

    def heal(self) -> None:
        """Whatever was spoiled or killed is whole again and active."""
        self.watch.spoil("{}")
        for name in NODES:
            if self.node(name) is None:
                self.group.nodes = [n for n in self.group.nodes if n.name != name]
                self.start(name)
        # DDS takes who was killed for alive for some 20 s more: until then services and links seem to be there.
        self.client.wait(self._everybody_once, PATIENCE, "every node to be there once")
        self.client.wait_for_service("reset_scene", PATIENCE)
        self.client.wait_for_service("set_outcome", PATIENCE)
        for name in MANAGED:
            deadline = time.monotonic() + PATIENCE
            while self.client.state(name, PATIENCE) != State.PRIMARY_STATE_ACTIVE:
                if self.node(name) is None or time.monotonic() > deadline:
                    raise Hung(f"{name} does not become active")
        if self.watch.command is not None and self.watch.command.estop:
            self.watch.press(False)
            reset = self.client.node.create_client(Trigger, "command_node/reset")
            for _ in range(20):
                if self.client.call(reset, Trigger.Request(), PATIENCE, "the reset of the e-stop").success:
                    break
            self.client.node.destroy_client(reset)
        links = [("fault_relay", t, "policy_node") for t in RELAYED]
        links += [("fault_relay", "joint_states", n) for n in ("command_node", "servo_node")]
        links += [
            ("policy_node", "raw/policy_action", "fault_relay"),
            ("fault_relay", "policy_action", "command_node"),
            ("policy_node", "episode_status", "command_node"),
            ("policy_node", "episode_status", "recorder_node"),
            ("policy_node", "episode_status", "sim_node"),
            ("command_node", "command_status", "policy_node"),
            ("command_node", "servo_node/delta_twist_cmds", "servo_node"),
            ("servo_node", "arm_controller/joint_trajectory", "sim_node"),
        ]
        links += [(source, topic, "fault_watch") for source, topic in self._watched()]
        self.client.wait_for_links(links, PATIENCE)
        self.client.wait(_past(self.started + SETTLES), PATIENCE, "the last links")

    def _watched(self) -> list[tuple[str, str]]:
        """Who says on which topic what the verdict rests on."""
        commands, joints = self.contract.commands, self.contract.observation("joint_state").topic
        return [
            *(("command_node", commands[name].topic) for name in ("arm", "base", "gripper")),
            ("command_node", "command_status"),
            ("servo_node", "arm_controller/joint_trajectory"),
            ("sim_node", f"raw/{joints}"),
            ("sim_node", "odom"),
            ("fault_relay", "policy_action"),
        ]

    def _everybody_once(self) -> bool:
        names = self.client.node.get_node_names()
        return all(names.count(name) == 1 for name in NODES)

    # --- one injection ------------------------------------------------------------------------------------------------

    def inject(self, number: int) -> dict[str, Any]:
        """Injection ``number``: which fault is drawn by the seed, all of them once in every round."""
        rng = np.random.default_rng([self.seed, number])
        order = np.random.default_rng([self.seed, 10_000_000 + number // len(FAULTS)]).permutation(len(FAULTS))
        fault = FAULTS[order[number % len(FAULTS)]]
        row: dict[str, Any] = {"number": number, "fault": fault, "reason": "", "steps": 0, "problems": []}
        problems: list[str] = row["problems"]
        episode = f"fault-{self.run}-{number:04d}"
        began = time.monotonic()
        try:
            self.heal()
            problems += [f"before it began, {p}" for p in self.watch.take()[:10]]
            row["gave_way"] = [f"before it began, {p}" for p in self.watch.gave_way()]
            self.watch.longest()
            self.watch.unheard()
            scene, episode = self._begin(episode, *self.scenes[number])
            result = self.client._goal.get_result_async()
            wanted = int(rng.integers(1, 9))
            moving = self.watch.until(
                lambda: self.watch.steps.get(episode, 0) >= wanted or episode in self.watch.ended, PATIENCE
            )
            if not moving:
                raise Hung("no action of the policy")
            time.sleep(float(rng.uniform(0.0, 0.2)))  # anywhere in a policy period
            row["in_time"] = episode not in self.watch.ended
            self._spoil(fault, episode, rng)
            self._await_end(fault, episode, result, problems)
            self._await_still(problems)
            row["reason"] = REASONS[self.watch.ended[episode]] if episode in self.watch.ended else ""
            row["steps"] = self.watch.steps.get(episode, 0)
            self.watch.spoil("{}")
            self._judge_bag(fault, episode, row["in_time"], problems)
            row["instruction"] = scene.instruction
        except (Hung, TimeoutError, RuntimeError) as error:
            problems.append(f"hung: {type(error).__name__}: {error}")
            keep_traces(self.group, self.folder, f"hung-{number:04d}", MANAGED)
        problems += self.watch.take()[:10]
        row["gave_way"] = row.get("gave_way", []) + self.watch.gave_way()
        row["longest"], unheard = self.watch.longest(), self.watch.unheard()
        if unheard and row["steps"] >= CERTAIN:
            problems.append(f"not judged: nothing was heard of {', '.join(unheard)}")
        row["seconds"] = round(time.monotonic() - began, 1)
        return row

    def _begin(self, episode: str, task: str, seed: int) -> tuple[Any, str]:
        """A scene and a goal that is accepted, and the episode's id.

        Said again while the nodes find each other: a request may have gone to one that was killed, whom DDS takes for
        alive for some seconds more.
        """
        from qt_ros.nodes.demo_client import GoalRejected

        deadline = time.monotonic() + PATIENCE
        for attempt in itertools.count():
            name = episode + f"-{attempt}" * bool(attempt)
            try:
                scene = self.client.reset_scene(seed, task)
                self.client.send(scene.instruction, name, EPISODE)
                return scene, name
            except (GoalRejected, RuntimeError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise Hung(f"no episode can be begun any more: {error}") from error
                self.client.wait(_past(time.monotonic() + 0.5), 5.0, "a moment")
        raise AssertionError

    def _spoil(self, fault: str, episode: str, rng: np.random.Generator) -> None:
        how, _, name = fault.partition(" ")
        if fault in SPOILED:
            text = {**SPOILED[fault], "episode": episode, "seed": int(rng.integers(2**31))}
            self.watch.spoil(json.dumps(text))
        elif how == "kill":
            self.end(name, signal.SIGKILL)
        elif how == "restart":
            self.end(name, signal.SIGINT)
            self.start(name)
        elif how == "clock":
            self.watch.spoil(json.dumps({"clock": float(rng.uniform(0.5, 60.0)) * (1 if name == "forward" else -1)}))
        elif fault == "doubled actions":
            self.watch.spoil(json.dumps({"actions": "double"}))
        elif fault == "burst of goals":
            goals = [ExecuteInstruction.Goal(instruction=f"pick {i}", max_duration=1.0) for i in range(20)]
            answers = [self.client._actions.send_goal_async(goal) for goal in goals]
            # A service keeps 10 requests (rmw's default): of a burst at least so many are answered.
            self.client.wait(lambda: sum(a.done() for a in answers) >= 10, PATIENCE, "answers to a burst of goals")
        elif fault == "full disk" and (recorder := self.node("recorder_node")) is not None:
            size = sum(f.stat().st_size for f in (self.bags / episode).glob("*.mcap"))
            resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE, (max(1, size), resource.RLIM_INFINITY))
        elif fault == "emergency stop":
            self.watch.press(True)

    def _await_end(self, fault: str, episode: str, result: Any, problems: list[str]) -> None:
        if fault == "kill policy_node":
            return  # nobody is left to end it; that the robot stands is seen next
        if not self.watch.until(lambda: episode in self.watch.ended, PATIENCE):
            raise Hung("the episode never ended")
        with contextlib.suppress(TimeoutError):
            self.client.wait(result.done, PATIENCE, "the result")
        if not result.done():
            problems.append("the goal never got its result")
        if fault == "full disk" and (recorder := self.node("recorder_node")) is not None:
            self.watch.until(lambda: episode in self.watch.records, PATIENCE)
            resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    def _await_still(self, problems: list[str]) -> None:
        """The robot comes to stand. How soon after the policy's last action is judged by stamps, in `Watch`.

        A clock that stands still stamps nothing: there the wall counts from its end.
        """
        if self.node("sim_node") is None:
            if not self.watch.until(self.watch.zero, CLOCK_PATIENCE + WALL_SLACK):
                problems.append("the last command still moves the robot although the clock stands still")
        elif not self.watch.until(self.watch.still, PATIENCE):
            problems.append("the robot still moves although no episode runs")
        elif self.node("command_node") is not None and not self.watch.until(self.watch.zero, WALL_SLACK):
            problems.append("the last command still moves the robot although no episode runs")

    def _judge_bag(self, fault: str, episode: str, in_time: bool, problems: list[str]) -> None:
        if fault == "kill recorder_node":
            if not _readable(self.bags / episode):
                problems.append("nothing can be read of the bag of a killed recorder")
            return
        if not self.watch.until(lambda: episode in self.watch.records, PATIENCE):
            problems.append("the recorder never told of the episode's bag")
            return
        record = self.watch.records[episode]
        if fault == "full disk":
            if record.complete and in_time:
                problems.append("the disk was full and nobody noticed")
            elif record.messages and not _readable(Path(record.uri)):
                problems.append("nothing can be read of the bag on a full disk")
            return
        if not is_complete(Path(record.uri)):
            problems.append(f"bag is not whole: {record.error}")
        elif record.complete:
            self.finished[episode] = record.uri

    def lost(self) -> list[str]:
        """Finished episodes whose bag is not whole any more."""
        return [e for e, uri in self.finished.items() if not is_complete(Path(uri))]

    def tidy(self, keep: int) -> None:
        """Only the newest bags stay on the disk; each was looked at after later injections too."""
        for bag in sorted(self.bags.iterdir(), key=lambda p: p.stat().st_mtime)[:-keep]:
            self.finished.pop(bag.name, None)
            shutil.rmtree(bag)


def _readable(bag: Path) -> bool:
    """Whether anything can be read of a bag that was cut off."""
    try:
        return any(True for _ in read_bag(bag, allow_incomplete=True))
    except BagError:
        return False


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All injections up to ``--count``; those already in the folder are not done again."""
    folder = Path(options.out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"injections-{options.seed}.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()][: options.count] if log.exists() else []
    with own_domain():
        return _inject_all(options, folder, log, rows)


def _inject_all(
    options: argparse.Namespace, folder: Path, log: Path, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    while len(rows) < options.count:
        bench = Bench(folder, Path(options.checkpoint).absolute(), options.seed, options.count)
        try:
            with bench.group.running():
                bench.heal()
                bench.watch.take()  # the start of the graph is no injection
                bench.watch.gave_way()
                for number in range(len(rows), options.count):
                    row = bench.inject(number)
                    row["lost_bags"] = bench.lost()
                    rows.append(row)
                    with log.open("a") as sink:
                        sink.write(json.dumps(row) + "\n")
                    console.print(
                        f"{number + 1}/{options.count} {row['fault']}: {row['reason'] or '-'} after {row['steps']} "
                        f"steps, {row['seconds']} s, {'; '.join(row['problems']) or 'ok'}",
                        markup=False,
                        highlight=False,
                    )
                    if any(p.startswith("hung") for p in row["problems"]):
                        break  # counted; the rest of the run gets a new graph
                    if not options.keep:
                        bench.tidy(keep=3)
                bench.close()
        except KeyboardInterrupt:
            console.print(f"interrupted after {len(rows)}; the same command goes on from there")
            break
    return rows


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="injections in all")
    parser.add_argument("--seed", type=int, default=0, help="of faults, scenes and moments")
    parser.add_argument("--checkpoint", default=str(ROOT / "checkpoints" / "default"))
    parser.add_argument("--out", default=str(ROOT / "outputs" / "faults"), help="folder of logs, bags and the progress")
    parser.add_argument("--keep", action="store_true", help="keep all bags")
    add_json_option(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 1 when an injection did harm."""
    options = parse(arguments)
    settings = {k: v for k, v in vars(options).items() if k not in ("json", "out", "checkpoint")}
    result = context("faults", settings)
    result["injections"] = summary(measure(options))
    emit(result, tables(result), options.json)
    if options.json not in (None, "-"):
        Path(options.json).with_suffix(".md").write_text(page(result), encoding="utf-8")
    return 0 if not result["injections"]["problems"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
