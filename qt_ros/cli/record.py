"""`qt-ros record`: walks an operator through demonstrations: instruction, countdown, episode, label or discard."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from qt_ros.cli.operator_console import Operator
from qt_ros.cli.processes import NodeDied, NodeGroup
from qt_ros.cli.record_rows import Row, table_of
from qt_ros.cli.simulated import SceneNotes, set_environment, task_for
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.episode import outcome_name

INPUTS = {"keyboard": "teleop_keyboard", "joystick": "teleop_xbox"}  # and the mapping each begins with
LABELS = {"s": "success", "f": "failure", "u": "unknown", "d": "discard"}
MANAGED = ("command_node", "servo_node")  # lifecycle nodes that --sim starts
LINKS = tuple(  # whoever else listens is no reason to begin
    ("teleop_node", topic, node)
    for topic in ("policy_action", "episode_status")
    for node in ("command_node", "recorder_node")
)
PATIENCE = 60.0  # s
NOT_ALONE = (
    "policy_node or teleop_node runs already and would act too; stop it first (the launch files leave policy_node out"
    " with policy:=false)"
)


class RecordingProblem(RuntimeError):
    """Recording cannot go on; the message says what to do."""


def command(
    instruction: Annotated[
        str | None, typer.Option(help="What is shown; asked for before each episode if absent.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=0, help="Number of episodes; 0: until you stop.")] = 0,
    device: Annotated[
        str, typer.Option("--input", help="keyboard (this terminal) or joystick (topic joy).")
    ] = "keyboard",
    mapping: Annotated[str | None, typer.Option(help="A teleop*.yaml of config/nodes by name, or a path.")] = None,
    sim: Annotated[bool, typer.Option("--sim", help="Start the embedded simulator and its nodes too.")] = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="With --sim: the task of config/tasks.yaml whose scenes are set up; absent: what the instruction asks "
            "for, without one all tasks."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="With --sim: seed of the first scene; the next has the next.")] = 0,
    robot: Annotated[str, typer.Option(help="Name in config/robots or path of a contract.")] = "mobile_manipulator",
    namespace: Annotated[str, typer.Option(help="Namespace that the robot's nodes run in; ours join it.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of bags/, discarded/ and logs/.")] = Path("outputs/recordings"),
    operator: Annotated[str, typer.Option(help="Your name, for the labels.")] = "operator",
    countdown: Annotated[float, typer.Option(min=0.0, help="Seconds before an episode begins.")] = 3.0,
    max_duration: Annotated[float, typer.Option(min=1.0, help="Longest episode in seconds.")] = 60.0,
    use_sim_time: Annotated[bool, typer.Option("--use-sim-time", help="The robot is simulated: use /clock.")] = False,
    real_time_factor: Annotated[float, typer.Option(min=0.05, help="With --sim: its speed.")] = 1.0,
    joy_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds of silence of keyboard or joystick that end an episode.")
    ] = 0.5,
    delete_discarded: Annotated[bool, typer.Option("--delete-discarded", help="Delete what is discarded.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print what was recorded as JSON.")] = False,
) -> None:
    """Record demonstrations, one bag each, by keyboard or joystick.

    On a robot its nodes must be running, without policy_node: `ros2 launch qt_ros robot.launch.py robot:=my_robot
    policy:=false`. With --sim nothing else is needed.

    Example: qt-ros record --sim --instruction "pick up the red cube" --episodes 10
    """
    if device not in INPUTS:
        raise typer.BadParameter(f"--input {device!r} is none of {', '.join(INPUTS)}")
    if sim and instruction and not task:
        task = task_for(instruction)  # scenes of any other task would be shown with these words
    walk = Walk(
        contract=load_contract(robot),
        robot=robot,
        folder=out.absolute(),
        mapping=mapping or INPUTS[device],
        keyboard=device == "keyboard",
        console=Console(stderr=json_output),
    )
    walk.instruction, walk.operator_name, walk.countdown, walk.max_duration = (
        instruction,
        operator,
        countdown,
        max_duration,
    )
    walk.namespace = namespace
    walk.sim, walk.task, walk.seed, walk.factor = sim, task, seed, real_time_factor
    walk.use_sim_time, walk.delete_discarded, walk.joy_timeout = use_sim_time or sim, delete_discarded, joy_timeout
    status = walk.run(episodes)
    if json_output:
        document = {
            "folder": str(walk.folder),
            "interrupted": status == 130,
            "episodes": [asdict(r) for r in walk.rows],
        }
        typer.echo(json.dumps(document, indent=1))
    raise typer.Exit(status)


class Walk:
    """One sitting: the nodes, the operator, and what was recorded so far."""

    sim = use_sim_time = delete_discarded = False
    task: str | None = None
    instruction: str | None = None
    namespace = ""
    seed, factor, countdown, max_duration, joy_timeout, operator_name = 0, 1.0, 3.0, 60.0, 0.5, "operator"

    def __init__(
        self, contract: RobotContract, robot: str, folder: Path, mapping: str, keyboard: bool, console: Console
    ) -> None:
        from qt_ros.control.joystick import load_joystick
        from qt_ros.control.keyboard import load_keyboard

        self.contract, self.robot, self.folder, self.mapping, self.console = contract, robot, folder, mapping, console
        # Refused here rather than in a log.
        self.keys = load_keyboard(mapping, contract) if keyboard else None
        self.notes = self.keys.notes if self.keys is not None else load_joystick(mapping, contract).notes
        self.operator = Operator(console, self.keys)
        if keyboard and not self.operator.attended:
            raise RecordingProblem("the keyboard needs a terminal (ssh -t gives one); or use --input joystick")
        self.rows: list[Row] = []
        self.scenes = SceneNotes(folder / "bags", console)
        self._last = ""
        self._heard: Callable[[], None] = lambda: None  # tells the group of nodes that Ctrl-C was caught

    # --- the nodes ---------------------------------------------------------------------------------------------------

    def run(self, episodes: int) -> int:
        """Record until ``episodes`` are kept (0: until told to stop). Exit status: 1 a failure, 130 Ctrl-C."""
        if self.sim:
            set_environment()
        logs = self.folder / "logs"
        group = NodeGroup(logs, {"ROS_LOG_DIR": str(logs / "ros")})
        status = 0
        try:
            with group.running():
                self._with_nodes(group, episodes)
        except KeyboardInterrupt:
            self.console.print("interrupted: finished episodes are kept")
            status = 130
        except EOFError as error:
            self.console.print(f"{error}: stopped; finished episodes are kept", markup=False)
        except (NodeDied, TimeoutError, RuntimeError) as error:
            self.console.print(
                f"[red]{type(error).__name__}[/red]: {escape(str(error))}", highlight=False, soft_wrap=True
            )
            status = 1
        finally:
            self.scenes.finish()
        self.show()
        return status

    def _with_nodes(self, group: NodeGroup, episodes: int) -> None:
        from qt_ros.nodes.record_client import RecordClient

        def check() -> None:
            group.check()
            self.operator.pump()
            if trouble := client.estop_trouble():
                self.console.print(f"[bold red]{trouble}[/]", highlight=False, soft_wrap=True)

        client, self._heard = RecordClient(check, self.namespace), group.heard
        self.operator.steer, self.operator.estop = client.steer, client.press_estop
        try:
            with self.console.status("starting the nodes"):
                self._start(group, client)
            self.operator.explain(self.notes)
            while not episodes or len([r for r in self.rows if not r.discarded]) < episodes:
                if not self._episode(client):
                    return
        finally:
            client.close()

    def _start(self, group: NodeGroup, client: Any) -> None:
        from qt_ros.nodes.namespaces import remappings

        client.pause(1.0)  # for nodes that run already to be discovered
        if client.serves("execute_instruction/_action/send_goal"):
            raise RecordingProblem(NOT_ALONE)
        timed = {"robot": self.robot, "use_sim_time": self.use_sim_time}
        active = {**timed, "autostart": True}
        limits = {"max_duration": self.max_duration, "joy_timeout": self.joy_timeout}
        remap = remappings(self.namespace)
        group.start("teleop_node", {**active, "mapping": self.mapping, "operator": self.operator_name, **limits}, remap)
        if self.sim:
            for name in MANAGED:
                group.start(name, active, remap)
            group.start("sim_node", {"robot": self.robot, "real_time_factor": self.factor}, remap)
        if not client.serves("set_outcome"):
            bags = {"root": str(self.folder / "bags"), "compression": "zstd"}
            group.start("recorder_node", {**timed, **bags}, remap)
        for name in ("teleop_node", *(MANAGED if self.sim else ())):
            client.activate(name)
        if self.sim:
            client.wait_for_service("reset_scene")
        try:
            client.wait_for_service("set_outcome", PATIENCE)
            client.wait_for_links(LINKS, PATIENCE)
        except TimeoutError as error:
            raise RecordingProblem(f"{error}; is command_node of the robot running and configured?") from None
        self._require_alone(client)

    def _require_alone(self, client: Any) -> None:
        """Others may have come, or been discovered, since the nodes were started: command_node would obey both."""
        if others := client.other_actors():
            raise RecordingProblem(f"{', '.join(others)}: {NOT_ALONE}")

    # --- one episode -------------------------------------------------------------------------------------------------

    def _episode(self, client: Any) -> bool:
        """Walk through one episode; False when the operator wants to stop."""
        scene = client.reset_scene(self.seed + len(self.rows), self.task or "") if self.sim else None
        instruction = self.instruction or self.operator.ask(
            "instruction (q to stop)", self._last or (scene.instruction if scene is not None else "")
        )
        if instruction in ("q", ""):
            return False
        self._last = instruction if self.sim is False else ""  # every scene of the simulator has its own
        number = len(self.rows) + 1
        episode_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{number:03d}"
        if scene is not None:
            self.scenes.begin(episode_id, scene.task, self.seed + number - 1)
        try:
            with self.operator.driving(), self.console.status(f"{number}: {escape(instruction)}") as line:
                client.pause(
                    self.countdown,
                    lambda left: line.update(f"{number}: {escape(instruction)} in {max(0.0, left):.0f} s"),
                )
                self._require_alone(client)
                client.begin(
                    instruction,
                    episode_id,
                    self.max_duration,
                    lambda step, value: line.update(f"{number}: {escape(instruction)}, step {step + 1}"),
                )
                result = self._follow(client)
        except KeyboardInterrupt:
            self._heard()
            self._abandon(client, episode_id, instruction)
            raise
        interrupted = False
        try:
            record = client.record(episode_id, PATIENCE)
        except KeyboardInterrupt:  # the episode is over: only its bag is still being closed
            self._heard()
            interrupted = True
            record = client.record(episode_id, 10.0)
        row = Row(
            episode_id, instruction, outcome_name(record.outcome), result.reason, result.steps, record.uri,
            messages=record.messages, dropped=record.dropped, complete=record.complete, error=record.error,
        )  # fmt: skip
        self.rows.append(row)
        self.scenes.closed(episode_id, row.bag)
        if interrupted:
            raise KeyboardInterrupt
        self._settle(client, row, result)
        return True

    def _follow(self, client: Any) -> Any:
        """Wait for the end of the episode; the operator may give it up."""
        deadline = self.max_duration / (self.factor if self.sim else 1.0) + PATIENCE
        check, told = client.check, False

        def watch() -> None:
            nonlocal told
            check()
            if self.operator.gave_up and not told:
                told = True
                client.cancel()

        client.check = watch
        try:
            return client.result(deadline)
        finally:
            client.check = check

    def _settle(self, client: Any, row: Row, result: Any) -> None:
        """Label or discard what was recorded, as the operator says."""
        discard = client.discarded(row.episode_id) or self.operator.gave_up
        words = f"{row.outcome} ({row.reason}, {row.steps} steps)"
        if result.message and row.reason not in ("terminate", "operator"):
            words += f" {result.message}"
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)
        if row.error:  # then no label can be written either
            self.console.print(f"its bag: {row.error}", markup=False, highlight=False, soft_wrap=True)
        letter = next(k for k, v in LABELS.items() if v == ("discard" if discard else row.outcome))
        answer = self.operator.choose("keep it as", LABELS, letter)
        if answer == "discard":
            self._discard(row)
        elif answer != row.outcome and not row.error:
            client.label(row.episode_id, answer, self.operator_name)
            row.outcome, row.labelled_by = answer, self.operator_name
        if row.reason == "estop":
            self.operator.ask("the emergency stop is latched; press Enter when it is safe to release it")
            done, told = client.reset_estop()
            self.console.print(told, markup=False)
            if not done:
                raise RecordingProblem(told)

    def _abandon(self, client: Any, episode_id: str, instruction: str) -> None:
        """Ctrl-C in mid-episode: stop the robot, close the bag, put it with the discarded ones."""
        with contextlib.suppress(TimeoutError, RuntimeError, EOFError):  # it may not have begun
            client.cancel()
            record = client.record(episode_id, 10.0)
            row = Row(episode_id, instruction, "unknown", "canceled", 0, record.uri, error=record.error)
            self.rows.append(row)
            self.scenes.closed(episode_id, row.bag)
            self._discard(row)

    def _discard(self, row: Row) -> None:
        """Move the bag to discarded/, or delete it where that was asked for."""
        row.discarded, bag = True, Path(row.bag)
        if not row.bag or not bag.is_dir():
            return  # recorded on another machine, or not at all
        if self.delete_discarded:
            shutil.rmtree(bag)
            row.bag = ""
        else:
            target = self.folder / "discarded" / bag.name
            target.parent.mkdir(parents=True, exist_ok=True)
            row.bag = str(shutil.move(bag, target))

    def show(self) -> None:
        """Print what was recorded."""
        kept = [row for row in self.rows if not row.discarded]
        if self.rows:
            self.console.print(table_of(self.rows))
        self.console.print(f"{len(kept)} of {len(self.rows)} episodes kept in {self.folder / 'bags'}", soft_wrap=True)
        if kept:
            store = f"qt-ros episodes build {self.folder / 'bags'} --store STORE"
            self.console.print(f"make a training store of them: {store}", markup=False, highlight=False, soft_wrap=True)
