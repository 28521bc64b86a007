"""Episodes on a robot that a person sets up and judges: what `qt-ros evaluate --manual` asks of the running graph."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from qt_ros.msg import EpisodeRecord, EpisodeStatus
from qt_ros.nodes.demo_client import EpisodeResult, GoalUnanswered
from qt_ros.nodes.graph_evaluation import CLOSING, FIND, GraphEvaluation, GraphNotReady, Interrupted
from qt_ros.nodes.policy_messages import new_episode_id
from qt_ros.nodes.record_client import OperatorClient

SILENT = 30.0  # s on the wall without a word from policy_node in mid-episode
RESULT = 630.0  # s on the wall from the end to the result: the longest outcome_wait, and SILENT
GOING = 10.0  # s from the cancellation of an episode to its result
LABELLING = 15.0  # s: the recorder may hear of an episode's end after us


class Cut(Exception):
    """An episode was stopped because the sitting ends, or because of ``problem``; ``result``: how it ended."""

    def __init__(self, result: EpisodeResult, problem: str = "") -> None:
        super().__init__(problem or "the episode was cut short")
        self.result, self.problem = result, problem


class ManualEvaluation(GraphEvaluation):
    """Runs episodes on the graph in ``namespace``; use as a context manager.

    ``pump`` is called while waiting: it reads the operator's keys, and may raise EOFError when the line was hung up.
    """

    launch = "start robot.launch.py with this contract and checkpoint (and its namespace)"
    client: OperatorClient

    def __init__(
        self,
        checkpoint: Path,
        namespace: str = "",
        pump: Callable[[], None] = lambda: None,
        stopped: Callable[[], bool] = lambda: False,
        find: float = FIND,
    ) -> None:
        self._pump, self._watch = pump, lambda: None
        self._heard, self._episode = 0.0, ""  # monotonic s; the id of the goal sent last
        super().__init__(checkpoint, namespace, stopped, find)

    def _connect(self, namespace: str) -> OperatorClient:
        return OperatorClient(self._check, "evaluation_client", namespace)

    def _check(self) -> None:
        if self._patient:  # the robot is stopped, or a judgement is written, first; the emergency stop works always
            with contextlib.suppress(EOFError, OSError):  # the line was hung up: told once this is done
                self._pump()
            return
        super()._check()
        self._pump()
        self._watch()

    @contextlib.contextmanager
    def _patiently(self) -> Iterator[None]:
        """What is begun inside is finished, whatever the operator asks for."""
        before, self._patient = self._patient, True
        try:
            yield
        finally:
            self._patient = before

    def _on_status(self, message: EpisodeStatus) -> None:
        super()._on_status(message)
        self._heard = time.monotonic()

    def _require_verdicts(self) -> None:
        service = self._name("set_outcome")
        self._need(
            lambda: self.client.node.count_services(service) > 0,
            f"nobody serves {service}, so no bag would carry your judgement; start recorder_node (record:=true)",
        )

    def wait(self, ready: Callable[[], bool]) -> None:
        """Serve the graph until ``ready()``; Interrupted when the sitting is to end."""
        self.client.wait(ready, math.inf, "")

    def attempt(
        self,
        instruction: str,
        max_duration: float = 0.0,
        gave_up: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, float], None] = lambda step, value: None,
    ) -> EpisodeResult:
        """Run ``instruction`` to its end, at most ``max_duration`` s (0: as policy_node has it).

        It is cancelled once ``gave_up()``. Raises GoalRejected, GraphNotReady when another checkpoint decides now or
        nobody takes the goal, and Cut when the sitting ends in mid-episode or policy_node fell silent: it was told to
        stop then. Where it answers neither goal nor cancellation, the emergency stop was pressed: the message says so.
        """
        assert self._status is not None
        if self._status.checkpoint != self.wanted:
            raise GraphNotReady(f"policy_node acts by another checkpoint now ({self._status.checkpoint[:12]})")
        self._episode = new_episode_id()
        try:
            with self._patiently():  # a goal on its way cannot be taken back before it is accepted
                self.client.send(instruction, self._episode, max_duration, on_step)
        except GoalUnanswered as error:
            raise GraphNotReady(f"{error}, and it may be acted on: {self._emergency()}") from error
        except TimeoutError as error:
            raise GraphNotReady(f"{error}; is policy_node active?") from error
        self._heard, told = time.monotonic(), False

        def watch() -> None:
            nonlocal told
            if gave_up() and not told:
                told = True
                self.client.cancel()
            status = self._said()
            # policy_node says nothing between the end and the result, for which it may wait for an outcome.
            waits = status is not None and status.state == EpisodeStatus.STATE_ENDED and self.client.takes_goals()
            limit = RESULT if waits else SILENT
            if time.monotonic() - self._heard > limit:
                raise TimeoutError(f"nothing from {self._name('policy_node')} for {limit:g} s in mid-episode")

        self._watch = watch
        try:
            return self.client.result(math.inf)
        except (Interrupted, EOFError, KeyboardInterrupt) as error:
            raise Cut(*self._stop()) from error
        except TimeoutError as error:
            result, trouble = self._stop()
            raise Cut(result, "; ".join(filter(None, (str(error), trouble)))) from error
        finally:
            self._watch = lambda: None

    def _stop(self) -> tuple[EpisodeResult, str]:
        """Cancel what runs and wait for its end.

        Where policy_node does not answer: what is known of it, after an emergency stop, and what to tell of that.
        """
        try:
            with self._patiently():
                self.client.cancel()
                return self.client.result(GOING), ""
        except TimeoutError as error:
            trouble = f"{error}: {self._emergency()}"
        last = self._said() or EpisodeStatus()
        return EpisodeResult(self._episode, "unknown", "lost_policy", last.step, "", math.nan, math.nan), trouble

    def _said(self) -> EpisodeStatus | None:
        """The last status, if it is about this episode and not about the one before."""
        return self._status if self._status is not None and self._status.episode_id == self._episode else None

    def _emergency(self) -> str:
        """Press the emergency stop for the operator; what to tell of it."""
        with self._patiently():
            return f"the emergency stop was pressed; {self.client.stop_now() or 'command_node confirmed it'}"

    def judge(self, episode_id: str, outcome: str, operator: str, comment: str = "") -> EpisodeRecord:
        """Write the judgement into the episode's bag and wait until that is closed.

        RuntimeError with the recorder's words when it cannot be written, TimeoutError when the bag does not close.
        """
        deadline = time.monotonic() + LABELLING
        with self._patiently():
            while True:
                try:
                    self.client.label(episode_id, outcome, operator, comment)
                    return self.client.record(episode_id, CLOSING)
                except RuntimeError:
                    if time.monotonic() > deadline:
                        raise
                    self.client.pause(0.5)
