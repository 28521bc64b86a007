"""`qt-ros demo`: the closed loop in simulation, on real ROS 2.

Starts simulator, policy, command, servo and recorder as processes that talk over DDS, asks for one object after
another at fresh random seeds, and shows what came of it: a table, a JSON file and an HTML page, all of them about the
recorded bags.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from qt_ros.cli.demo_plan import Plan, make_plan
from qt_ros.cli.demo_rows import Row, tables_of
from qt_ros.cli.processes import NodeDied, NodeGroup
from qt_ros.cli.simulated import SceneNotes, set_environment
from qt_ros.contract.robot import load_contract, package_root
from qt_ros.sim.asked import choose_tasks

NODES = ("policy_node", "command_node", "servo_node", "sim_node", "recorder_node")  # in the order they are stopped
LINKS = (
    ("sim_node", "head_camera/image_raw", "policy_node"),
    ("sim_node", "joint_states", "policy_node"),
    ("sim_node", "joint_states", "servo_node"),
    ("sim_node", "episode_outcome", "policy_node"),
    ("sim_node", "episode_outcome", "recorder_node"),
    ("sim_node", "head_camera/image_raw", "recorder_node"),
    ("policy_node", "policy_action", "command_node"),
    ("policy_node", "policy_action", "recorder_node"),
    ("policy_node", "episode_status", "command_node"),
    ("policy_node", "episode_status", "sim_node"),
    ("policy_node", "episode_status", "recorder_node"),
    ("command_node", "command_status", "policy_node"),
    ("command_node", "servo_node/delta_twist_cmds", "servo_node"),
    ("command_node", "gripper_controller/joint_trajectory", "sim_node"),
    ("command_node", "cmd_vel", "sim_node"),
    ("servo_node", "arm_controller/joint_trajectory", "sim_node"),
)
console = Console()


def command(
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 10,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of scenes and order; drawn and printed if absent.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the shipped one if absent.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for bags, logs and the page.")] = Path("outputs/demo"),
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results there as JSON.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these tasks of config/tasks.yaml (may repeat); absent: all that the checkpoint learned."
        ),
    ] = None,
    skill: Annotated[
        list[str] | None, typer.Option(help="Only the tasks of these skills (may repeat); all: every skill.")
    ] = None,
    wrong_instruction: Annotated[
        bool, typer.Option("--wrong-instruction", help="Ask for something else in the scene than what is scored.")
    ] = False,
    max_duration: Annotated[float, typer.Option(min=0.1, help="Longest episode, in simulated seconds.")] = 12.0,
    real_time_factor: Annotated[
        float, typer.Option(min=0.0, help="Speed of the simulation; 0: as fast as it goes.")
    ] = 1.0,
    training_scenes: Annotated[
        bool, typer.Option("--training-scenes", help="Scenes of the training range, for bags that are trained on.")
    ] = False,
) -> None:
    """Run the closed loop in simulation: instructions in, actions out, one bag per episode.

    Example: qt-ros demo --episodes 50 --seed 7 --json out.json
    """
    if wrong_instruction and training_scenes:
        raise typer.BadParameter(
            "--wrong-instruction with --training-scenes would record bags to train on whose words are not what was "
            "scored; leave one of them out"
        )
    checkpoint = (checkpoint or package_root() / "checkpoints" / "default").absolute()
    if not (checkpoint / "checkpoint.json").is_file():
        raise SystemExit(
            f"no checkpoint in {checkpoint}; give one with --checkpoint, or train one (qt-ros train --help)"
        )
    seed = secrets.randbelow(2**31) if seed is None else seed
    tasks = choose_tasks(checkpoint, task or (), skill or ())
    run_folder = out.absolute() / time.strftime("%Y%m%d-%H%M%S")
    demo = Demo(
        make_plan(seed, episodes, tasks, training_scenes),
        checkpoint,
        run_folder,
        wrong_instruction,
        max_duration,
        real_time_factor,
    )
    status = demo.run()
    demo.show()
    demo.write(json_path)
    raise typer.Exit(status)


class Demo:
    """One run: the nodes, the episodes, and the results as far as they came."""

    def __init__(
        self,
        plan: Plan,
        checkpoint: Path,
        folder: Path,
        wrong_instruction: bool = False,
        max_duration: float = 12.0,
        real_time_factor: float = 1.0,
    ) -> None:
        self.plan, self.checkpoint, self.folder = plan, checkpoint, folder
        self.wrong_instruction, self.max_duration = wrong_instruction, max_duration
        self.real_time_factor = real_time_factor
        self.contract = load_contract("mobile_manipulator")
        self.rows: list[Row] = []
        self.notes = SceneNotes(folder / "bags", console)
        self._heard: Callable[[], None] = lambda: None  # tells the group of nodes that Ctrl-C was caught

    def run(self) -> int:
        """Start the nodes, run the plan, stop the nodes.

        Returns the exit status: 1 when something failed, 130 on Ctrl-C.
        """
        console.print(f"seed {self.plan.seed}, checkpoint {self.checkpoint}, results in {self.folder}", soft_wrap=True)
        set_environment()
        group = NodeGroup(self.folder / "logs", {"ROS_LOG_DIR": str(self.folder / "logs" / "ros")})
        try:
            with group.running():
                self._start(group)
                self._episodes(group)
        except KeyboardInterrupt:
            console.print("interrupted: the nodes are stopped, finished episodes are kept")
            return 130
        except (NodeDied, TimeoutError, RuntimeError) as error:
            console.print(f"[red]{type(error).__name__}[/red]: {escape(str(error))}", highlight=False, soft_wrap=True)
            return 1
        finally:
            self.notes.finish()
        return 0

    def _start(self, group: NodeGroup) -> None:
        common = {"robot": self.contract.robot}
        timed = {**common, "use_sim_time": True}
        group.start("policy_node", {**timed, "checkpoint": str(self.checkpoint), "threads": 1, "outcome_wait": 5.0})
        group.start("command_node", timed)
        group.start("servo_node", timed)
        group.start("sim_node", {**common, "real_time_factor": self.real_time_factor})
        group.start("recorder_node", {**timed, "root": str(self.folder / "bags"), "compression": "zstd"})

    def _episodes(self, group: NodeGroup) -> None:
        from qt_ros.nodes.demo_client import GraphClient

        client, self._heard = GraphClient(group.check), group.heard
        try:
            with console.status("waiting for the nodes"):
                client.wait_for_service("reset_scene")
                for name in ("servo_node", "command_node", "policy_node"):
                    client.activate(name)
                client.wait_for_links(LINKS)
            for index, (task, seed) in enumerate(self.plan.episodes):
                self._episode(client, index, task, seed)
        finally:
            client.close()

    def _episode(self, client: Any, index: int, task: str, seed: int) -> None:
        scene = client.reset_scene(seed, task)
        if self.wrong_instruction:
            scene = client.reset_scene(seed, task, self._other_task(scene, seed))
        episode_id = f"{self.folder.name}-{index + 1:03d}"
        label = f"{index + 1}/{len(self.plan.episodes)} {scene.instruction}"
        self.notes.begin(episode_id, task, seed)
        try:
            with console.status(label) as line:
                result = client.execute(
                    scene.instruction,
                    episode_id,
                    self.max_duration,
                    on_step=lambda step, value: line.update(f"{label}: step {step + 1}, value {value:.2f}"),
                )
        except KeyboardInterrupt:
            self._heard()
            with contextlib.suppress(TimeoutError, RuntimeError):  # it may not have begun, or a node is gone
                client.cancel()
                self.notes.closed(episode_id, client.record(episode_id, 5.0).uri)
            raise
        interrupted = False
        try:
            record = client.record(episode_id)
        except KeyboardInterrupt:  # too late for this episode: it is over, and its bag is about to be closed
            self._heard()
            interrupted = True
            record = client.record(episode_id, 10.0)
        row = Row(
            instruction=scene.instruction,
            seed=seed,
            outcome=result.outcome,
            reason=result.reason,
            steps=result.steps,
            latency_ms_p50=round(result.latency_ms_p50, 3),
            latency_ms_p95=round(result.latency_ms_p95, 3),
            bag=record.uri,
            task=task,
            messages=record.messages,
            dropped=record.dropped,
            complete=record.complete,
            error=record.error,
        )
        self.notes.closed(episode_id, row.bag)
        self.rows.append(row)
        console.print(
            f"{label}: {row.outcome} ({row.reason}, {row.steps} steps, {row.latency_ms_p50:.0f} ms) {row.error}",
            highlight=False,
        )
        if interrupted:
            raise KeyboardInterrupt

    def _other_task(self, scene: Any, seed: int) -> str:
        """Another task for the same scene, drawn by the scene's seed."""
        from qt_ros.sim.tasks import find_task, other_tasks

        others = [t.name for t in other_tasks(find_task(scene.task), list(scene.objects))]
        if not others:
            raise RuntimeError(f"scene {seed} of {scene.task} has nothing else to ask for; leave out this task or seed")
        return random.Random(seed).choice(others)

    # --- results -----------------------------------------------------------------------------------------------------

    @property
    def success_rate(self) -> float:
        return sum(row.success for row in self.rows) / len(self.rows) if self.rows else 0.0

    def summary(self) -> dict[str, Any]:
        """The JSON document: ``success_rate`` and ``episodes``, and what is needed to run the same again."""
        return {
            "success_rate": self.success_rate,
            "episodes": [asdict(row) for row in self.rows],
            "seed": self.plan.seed,
            "scenes": self.plan.scenes,
            "checkpoint": json.loads((self.checkpoint / "checkpoint.json").read_text())["id"],
            "wrong_instruction": self.wrong_instruction,
        }

    def show(self) -> None:
        """Print what happened, what was recorded, and the summary."""
        console.print(*tables_of(self.rows, self._problems))
        done, planned = len(self.rows), len(self.plan.episodes)
        successes = sum(row.success for row in self.rows)
        console.print(f"{successes} of {done} succeeded ({100 * self.success_rate:.0f}%), {planned} planned; ", end="")
        option = " --training-scenes" if self.plan.scenes == "training" else ""
        console.print(f"the same again: --seed {self.plan.seed}{option}", highlight=False)

    def _problems(self, row: Row) -> list[str]:
        """What the audit finds wrong with the bag, or worth a look."""
        from qt_ros.episodes.audit import audit
        from qt_ros.episodes.bag import BagError

        if not row.bag:
            return [row.error]
        try:
            result = audit(row.bag, self.contract)
            return [*result.problems, *result.warnings]
        except BagError as error:
            return [str(error)]

    def write(self, json_path: Path | None) -> None:
        """Write the HTML page, and the JSON file where asked for."""
        from qt_ros.cli.report import view_bag, write_page

        summary = self.summary()
        if json_path is not None:
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        topic = self.contract.observation("image").topic
        page = self.folder / "index.html"
        facts = {
            "succeeded": f"{100 * self.success_rate:.0f}% of {len(self.rows)} episodes",
            "seed": self.plan.seed,
            "scenes": f"{self.plan.scenes} range",
            "checkpoint": summary["checkpoint"],
            "wrong instruction on purpose": "yes" if self.wrong_instruction else "no",
        }
        write_page(page, "qt_ros demo", facts, [view_bag(Path(row.bag), row.facts(), topic) for row in self.rows])
        console.print(f"page: {page}", soft_wrap=True)
