"""`qt-ros evaluate --backend ros --manual`: a person sets every scene up and judges every episode, on any robot."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qt_ros.cli.manual_results import MISHAP, Assignment, Judgement, ManualResults, resume, rounded
from qt_ros.cli.operator_console import Operator
from qt_ros.contract.strict import ConfigError

if TYPE_CHECKING:
    from qt_ros.nodes.demo_client import EpisodeResult
    from qt_ros.nodes.manual_evaluation import ManualEvaluation

START = {"enter": "start", "q": "quit"}
VERDICTS = {"s": "success", "f": "failure", "u": "unknown", "r": "redo"}
MISHAPS = {
    "r": "robot or its drivers",
    "s": "scene set up wrongly",
    "p": "somebody or something interfered",
    "o": "other",
}
RELEASE = {"r": "release it", "q": "quit"}
REFUSED = {"enter": "try again", "r": "release the emergency stop", "q": "quit"}
INTERRUPTED = "interrupted"


class ManualProblem(RuntimeError):
    """An evaluation by hand cannot begin; the message says what to do."""


class Quit(Exception):
    """The operator has had enough; everything judged is on disk."""


class Sitting:
    """One operator at the terminal: goes on with ``results`` until they are complete or it is told to stop."""

    def __init__(
        self,
        assignments: list[Assignment],
        results: ManualResults,
        path: Path,
        name: str,
        max_duration: float,
        console: Console,
    ) -> None:
        self.assignments, self.results, self.path, self.name = assignments, results, path, name
        self.max_duration, self.console = max_duration, console
        self.operator = Operator(console, None)
        self._trouble: Callable[[], str] = lambda: ""  # what to tell of an emergency stop that nobody confirmed
        if not self.operator.attended:
            raise ManualProblem("a person must judge, and standard input is no terminal; over SSH use ssh -t")

    def run(self, checkpoint: Path, namespace: str, stopped: Callable[[], bool]) -> None:
        """Raises GraphNotReady when the robot's nodes are not as they must be; what was judged is on disk always."""
        from qt_ros.nodes.graph_evaluation import Interrupted
        from qt_ros.nodes.manual_evaluation import Cut, ManualEvaluation

        graph = ManualEvaluation(checkpoint, namespace, self._pump, stopped)
        self.operator.estop, self._trouble = graph.client.press_estop, graph.client.estop_trouble
        with graph:
            try:
                with self.console.status("looking for the robot's nodes"):
                    graph.require()
                self.results.write(self.path)  # better refused now than after the first episode
                self._say("while an episode runs: space = emergency stop, x = end it; between episodes space works too")
                while not self.results.complete:
                    self._episode(graph)
            except (Quit, Cut, Interrupted, KeyboardInterrupt):
                pass
            except EOFError as error:
                self._say(f"{error}: stopped")

    def _pump(self) -> None:
        self.operator.pump()
        if trouble := self._trouble():
            self._say(trouble)

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _episode(self, graph: ManualEvaluation) -> None:
        from qt_ros.nodes.demo_client import GoalRejected
        from qt_ros.nodes.graph_evaluation import GraphNotReady
        from qt_ros.nodes.manual_evaluation import Cut

        task = self.assignments[self.results.next_instruction()]
        number = len(self.results.counted) + 1
        self._say(f"\nepisode {number} of {self.results.episodes}: {task.instruction}")
        self._say(f"set up: {task.setup or 'the scene for this instruction, as in your protocol'}")
        if self.operator.press("ready?", START, graph.wait) == "quit":
            raise Quit
        values: list[float] = []
        try:
            with self.operator.driving():
                try:
                    ended = self._attempt(graph, task, values)
                except Cut as cut:  # the robot may move still: space works on
                    spoilt_by = "lost policy_node" if cut.problem else INTERRUPTED
                    self._add(graph, task, cut.result, values, MISHAP, spoilt_by)
                    if cut.problem:
                        raise GraphNotReady(f"{cut.problem}; what was judged is in {self.path}") from cut
                    raise
        except GoalRejected as error:
            self._say(str(error))
            self._clear(graph, self.operator.press("the goal was refused", REFUSED, graph.wait))
            return
        self._say(f"it ended: {ended.reason} after {ended.steps} steps. {ended.message}".rstrip())
        self._judge(graph, task, ended, values)
        if ended.reason == "estop":
            self._clear(graph, self.operator.press("the emergency stop is latched", RELEASE, graph.wait))

    def _attempt(self, graph: ManualEvaluation, task: Assignment, values: list[float]) -> EpisodeResult:
        with self.console.status(escape(task.instruction)) as line:

            def follow(step: int, value: float) -> None:
                values.append(value)
                line.update(f"{escape(task.instruction)}, step {step + 1}")

            return graph.attempt(task.instruction, self.max_duration, lambda: self.operator.gave_up, follow)

    def _judge(self, graph: ManualEvaluation, task: Assignment, ended: EpisodeResult, values: list[float]) -> None:
        """Ask how it went; an answer that never comes leaves a mishap behind, so that no episode is hidden."""
        outcome, mishap = MISHAP, INTERRUPTED
        try:
            outcome = self.operator.press("how did it go?", VERDICTS, graph.wait)
            if outcome == "redo":
                outcome = MISHAP
                mishap = self.operator.press("what, other than the policy, spoilt it?", MISHAPS, graph.wait)
        finally:
            with self.operator.listening():
                self._add(graph, task, ended, values, outcome, mishap if outcome == MISHAP else "")

    def _add(
        self,
        graph: ManualEvaluation,
        task: Assignment,
        ended: EpisodeResult,
        values: list[float],
        outcome: str,
        mishap: str,
    ) -> None:
        """Into the bag and into the file."""
        bag, told = "", ""
        try:
            label, comment = ("unknown", f"mishap: {mishap}") if outcome == MISHAP else (outcome, "")
            record = graph.judge(ended.episode_id, label, self.name, comment)
            bag, told = record.uri, f"; its bag: {record.error}" if record.error else ""
        except (RuntimeError, TimeoutError) as error:
            told = f"; it counts, but its bag does not carry it: {error}"
        except KeyboardInterrupt:  # asked a second time: not for the bag, but the judgement was given
            self._note(task, ended, values, outcome, mishap, "")
            raise
        self._note(task, ended, values, outcome, mishap, bag)
        self._say(f"{outcome}{f' ({mishap})' if mishap else ''} written to {self.path}{told}")

    def _note(
        self, task: Assignment, ended: EpisodeResult, values: list[float], outcome: str, mishap: str, bag: str
    ) -> None:
        """Into the file."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        first = rounded(values[0] if values else math.nan)
        self.results.done.append(
            Judgement(
                task.instruction,
                ended.episode_id,
                outcome,
                ended.reason,
                ended.steps,
                self.name,
                at,
                first,
                mishap,
                bag,
            )
        )
        self.results.write(self.path)

    def _clear(self, graph: ManualEvaluation, answer: str) -> None:
        """Do what the operator says about a robot that does not take goals."""
        if answer == "quit":
            raise Quit
        if "release" in answer:
            try:
                self._say(graph.client.reset_estop()[1])
            except TimeoutError as error:
                self._say(str(error))


def evaluate_by_hand(
    checkpoint: Path,
    episodes: int,
    assignments: list[Assignment],
    *,
    results: Path | None,
    operator: str,
    max_duration: float,
    namespace: str,
    stopped: Callable[[], bool],
    console: Console,
) -> tuple[ManualResults, Path]:
    """Run or go on with an evaluation; the results so far and the file that holds them."""
    from qt_ros.model.checkpoint import read_info

    texts = [a.instruction for a in assignments]
    if not texts or len(set(texts)) != len(texts):
        raise ConfigError("--manual needs --instruction or --instructions, each sentence once")
    path = results or Path("outputs") / "evaluations" / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    so_far = resume(path, read_info(checkpoint).id, texts, episodes)
    if so_far.done:
        console.print(f"going on after {len(so_far.counted)} of {episodes} episodes in {path}", markup=False)
    sitting = Sitting(assignments, so_far, path, operator, max_duration, console)
    old = signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))  # the line was lost
    try:
        sitting.run(checkpoint, namespace, stopped)
    finally:
        signal.signal(signal.SIGHUP, old)
    return so_far, path


def print_results(results: ManualResults, path: Path, console: Console) -> None:
    """Rates per instruction and overall, and what does not count."""
    table = Table("instruction", "success", "episodes", "rate", "95% interval")
    for text, rate in {**results.by_instruction(), "all": results.overall}.items():
        low, high = rate.interval
        share = f"{rate.rate:.1%}" if rate.episodes else "-"
        table.add_row(escape(text), str(rate.success), str(rate.episodes), share, f"{low:.1%} to {high:.1%}")
    console.print(table)
    if unknown := sum(j.outcome == "unknown" for j in results.counted):
        console.print(f"{unknown} of them unknown, which is no success here")
    if mishaps := results.mishaps():
        told = ", ".join(f"{count} {what}" for what, count in mishaps.items())
        console.print(f"left out and run again, by what spoilt them: {told}", markup=False, soft_wrap=True)
    if not results.complete:
        left = results.episodes - len(results.counted)
        console.print(f"{left} to go: run it again with --results {path}", markup=False, soft_wrap=True)


def to_document(results: ManualResults, path: Path, checkpoint: Path, operator: str) -> dict[str, Any]:
    """For JSON."""
    settings = {"checkpoint": str(checkpoint), "backend": "ros", "manual": True, "operator": operator}
    return {**settings, "file": str(path), **results.to_dict()}
