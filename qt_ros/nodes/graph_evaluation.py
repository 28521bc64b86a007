"""Success rates over ROS: drives whatever robot or simulator answers on the topics and services of this package.

Scenes, words and scoring are asked for by name (reset_scene, execute_instruction, episode_outcome); nothing here knows
which simulator is behind them.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from lifecycle_msgs.msg import State

from qt_ros.episodes.bag_metadata import BagError, note_scene
from qt_ros.episodes.episode import outcome_name
from qt_ros.model.checkpoint import read_info
from qt_ros.msg import EpisodeOutcome, EpisodeRecord, EpisodeStatus
from qt_ros.nodes.demo_client import LATCHED, EpisodeResult, GoalRejected, GraphClient
from qt_ros.sim.collect import draw_task
from qt_ros.sim.episode_maker import EpisodeResult as Result
from qt_ros.sim.episode_maker import Summary, instruction_for
from qt_ros.sim.evaluation import Evaluation
from qt_ros.sim.tasks import sample_scene

log = logging.getLogger(__name__)

FIND = 15.0  # s to discover what already runs
VERDICT = 10.0  # s on the wall from the end of an episode to its outcome
STANDSTILL = 300.0  # s on the wall without a step or a word of policy_node, in the slowest simulation
CLOSING = 30.0  # s on the wall from there, or from its label, until its bag is closed
NODES = ("policy_node", "command_node")
"""Lifecycle nodes that must be active."""
LABELLERS = ("recorder_node",)
"""Nodes that publish episode_outcome only on a person's behalf: they score nothing."""


class GraphNotReady(RuntimeError):
    """Something that evaluation over ROS needs is missing; the message names it and says what to start."""


class Interrupted(RuntimeError):
    """The caller's ``stopped`` turned true in the middle of an episode."""


class GraphEvaluation:
    """Runs episodes on the running graph in ``namespace``. Use as a context manager.

    ``checkpoint``: folder of the checkpoint that is to be measured; the running policy_node must have loaded the same.
    """

    launch = "start sim.launch.py or gazebo.launch.py (with its namespace)"

    def __init__(
        self, checkpoint: Path, namespace: str = "", stopped: Callable[[], bool] = lambda: False, find: float = FIND
    ) -> None:
        self.wanted = read_info(checkpoint).id
        self.stopped, self.find = stopped, find
        self._patient = False
        self.client = self._connect(namespace)
        self._status: EpisodeStatus | None = None
        self._told = 0  # statuses: one comes with every step
        self._outcomes: dict[str, EpisodeOutcome] = {}
        self._scene: tuple[str, int] | None = None  # task and seed of what is set up
        self._unnoted: dict[str, tuple[str, int]] = {}  # the same by episode, whose bag does not say so yet
        node = self.client.node
        node.create_subscription(EpisodeStatus, "episode_status", self._on_status, LATCHED)
        node.create_subscription(EpisodeOutcome, "episode_outcome", self._on_outcome, LATCHED)
        node.create_subscription(EpisodeRecord, "episode_record", self._on_record, LATCHED)

    def _connect(self, namespace: str) -> GraphClient:
        return GraphClient(self._check, name="evaluation_client", namespace=namespace)

    def __enter__(self) -> GraphEvaluation:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._await_records()
        finally:
            self.client.close()

    def _check(self) -> None:
        if self.stopped() and not self._patient:
            raise Interrupted("evaluation was interrupted")

    def _on_status(self, message: EpisodeStatus) -> None:
        self._status = message
        self._told += 1
        if self._scene is not None and message.state == EpisodeStatus.STATE_RUNNING:
            self._unnoted.setdefault(message.episode_id, self._scene)

    def _on_outcome(self, message: EpisodeOutcome) -> None:
        self._outcomes.setdefault(message.episode_id, message)

    def _on_record(self, message: EpisodeRecord) -> None:
        """Its bag says of which scene it is, so that one of a test scene does not get into training as a robot's."""
        scene = self._unnoted.pop(message.episode_id, None)
        if scene is None or not message.uri:
            return
        try:
            note_scene(Path(message.uri), *scene)
        except (BagError, OSError) as error:
            self._tell_unnoted(message.uri, scene, str(error))

    def _await_records(self) -> None:
        """Until every bag of ours is closed, where somebody records."""
        node, self._patient = self.client.node, True
        if self._unnoted and node.count_publishers(self._name("episode_record")):
            with contextlib.suppress(TimeoutError):
                self.client.wait(lambda: not self._unnoted, CLOSING, "")
            for episode_id, scene in self._unnoted.items():
                self._tell_unnoted(f"bag of {episode_id}", scene, f"it was not closed within {CLOSING:g} s")

    def _tell_unnoted(self, bag: str, scene: tuple[str, int], why: str) -> None:
        log.warning("%s does not say that it is of scene %d, keep it out of training: %s", bag, scene[1], why)

    def _name(self, name: str) -> str:
        return str(self.client.node.resolve_topic_name(name))

    def _scorers(self) -> list[str]:
        infos = self.client.node.get_publishers_info_by_topic(self._name("episode_outcome"))
        return sorted({info.node_name for info in infos} - set(LABELLERS))

    # --- before the first episode ------------------------------------------------------------------------------------

    def require(self) -> None:
        """Raise GraphNotReady unless all is there: scene service, scoring, active nodes, motion, this checkpoint."""
        self._require_verdicts()
        self._require_policy()

    def _require_verdicts(self) -> None:
        """Somebody sets scenes and judges episodes."""
        launch, client = self.launch, self.client
        self._need(
            lambda: client.node.count_services(self._name("reset_scene")) > 0,
            f"no scoring service: nobody serves {self._name('reset_scene')}. {launch}; on a robot a person sets scenes "
            "and judges episodes: give --manual",
        )
        self._need(
            lambda: bool(self._scorers()),
            f"no scoring: nobody but {', '.join(LABELLERS)} publishes {self._name('episode_outcome')}. {launch}, for "
            "Gazebo with scoring:=true",
        )

    def _require_policy(self) -> None:
        """The nodes are active, the robot may move, no episode runs, and this checkpoint decides."""
        launch, client = self.launch, self.client
        for name in NODES:
            try:
                state = client.state(name, self.find)
            except TimeoutError:
                raise GraphNotReady(f"{self._name(name)} does not answer; {launch}") from None
            if state != State.PRIMARY_STATE_ACTIVE:
                raise GraphNotReady(f"{self._name(name)} is not active (lifecycle state {state}); activate it first")
        try:
            commands = client.wait_for_commands(self.find)
        except TimeoutError:
            raise GraphNotReady(f"the clock of {self._name('command_node')} has not begun; is /clock there?") from None
        if commands.dry_run:
            raise GraphNotReady(
                f"{self._name('command_node')} is in a dry run: the robot cannot move, so every episode would count as "
                "a failure; start it with enable_motion:=true"
            )
        self._need(
            lambda: self._status is not None, f"nothing on {self._name('episode_status')}; is policy_node there?"
        )
        assert self._status is not None
        if self._status.state == EpisodeStatus.STATE_RUNNING:
            raise GraphNotReady(f"episode {self._status.episode_id} is running; wait for its end")
        if self._status.checkpoint != self.wanted:
            raise GraphNotReady(
                f"policy_node acts by checkpoint {self._status.checkpoint[:12] or 'unknown'}, not by "
                f"{self.wanted[:12]}; start the launch file with checkpoint:=FOLDER of the one to measure"
            )

    def _need(self, ready: Callable[[], bool], problem: str) -> None:
        try:
            self.client.wait(ready, self.find, "")
        except TimeoutError:
            raise GraphNotReady(problem) from None

    # --- episodes ----------------------------------------------------------------------------------------------------

    def run(
        self,
        seed: int,
        tasks: Sequence[str] = (),
        *,
        wrong_instruction: bool = False,
        held_out: bool = False,
        max_duration: float = 12.0,
    ) -> Result:
        """One episode: the scene, words and task that ``seed`` gives in the embedded evaluation too.

        Raises GraphNotReady when it did not come to its end or nobody judged it, Interrupted; it was cancelled then.
        """
        task = draw_task(tasks, seed)
        words = instruction_for(task, sample_scene(task, seed), seed, wrong_instruction, held_out)
        try:
            self.client.reset_scene(seed, task.name)
            self._scene = (task.name, seed)
        except Interrupted:
            raise
        except RuntimeError as error:  # in the simulator's own words
            raise GraphNotReady(f"scene {seed}: {error}") from error
        values: list[float] = []
        ended = self._execute(words, max_duration, lambda step, value: values.append(value))
        verdict = self._verdict(ended)
        unstable = "unstable" in verdict.comment  # sim_node's word for physics that failed
        return Result(
            seed=seed,
            task=task.name,
            target=task.target,
            instruction=words,
            outcome="unstable" if unstable else outcome_name(verdict.outcome),
            reason=ended.reason,
            steps=ended.steps,
            detail=verdict.comment,
            value=values[0] if values else math.nan,
        )

    def _execute(self, words: str, max_duration: float, on_step: Callable[[int, float], None]) -> EpisodeResult:
        """Run ``words`` to their end. Whatever keeps us from following them, the robot is stopped first."""
        try:
            self.client.send(words, "", max_duration, on_step)
            while True:  # a slow simulation takes its time: what counts is that it goes on
                told = self._told
                try:
                    return self.client.result(STANDSTILL)
                except TimeoutError:
                    if self._told == told:
                        raise
        except GoalRejected as error:
            raise GraphNotReady(str(error)) from error
        except BaseException as error:
            self._cancel()
            if isinstance(error, TimeoutError):
                raise GraphNotReady(f"{error}; is {self._name('policy_node')} alive?") from error
            raise

    def _cancel(self) -> None:
        before, self._patient = self._patient, True
        try:
            self.client.cancel()
        except (TimeoutError, RuntimeError) as error:
            log.warning("the episode could not be cancelled and may go on: %s", error)
        finally:
            self._patient = before

    def _verdict(self, ended: EpisodeResult) -> EpisodeOutcome:
        name, topic = ended.episode_id, self._name("episode_outcome")
        try:
            self.client.wait(lambda: name in self._outcomes, VERDICT, "")
        except TimeoutError:
            raise GraphNotReady(f"no scoring: nothing on {topic} about episode {name} for {VERDICT:g} s") from None
        verdict = self._outcomes[name]
        if verdict.outcome == EpisodeStatus.OUTCOME_UNKNOWN:
            raise GraphNotReady(f"no scoring: episode {name} was not judged: {verdict.comment}")
        return verdict


def evaluate_graph(
    checkpoint: Path,
    episodes: int,
    *,
    seed: int,
    tasks: Sequence[str] = (),
    namespace: str = "",
    wrong_instruction: bool = False,
    held_out: bool = False,
    on_result: Callable[[Result, Summary], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Episodes ``seed`` .. ``seed + episodes - 1`` on the running graph; what is finished when ``stopped()`` counts."""
    summary = Summary()
    with GraphEvaluation(checkpoint, namespace, stopped) as graph:
        try:
            graph.require()
            for scene in range(seed, seed + episodes):
                summary.results.append(graph.run(scene, tasks, wrong_instruction=wrong_instruction, held_out=held_out))
                if on_result is not None:
                    on_result(summary.results[-1], summary)
        except Interrupted:
            summary.stopped = True
    return Evaluation.of(summary.results)
