"""policy_node (lifecycle): follows instructions with a trained Q-Transformer.

Serves the action execute_instruction and, where ``follow_instruction_topic`` is set, obeys the contract's instruction
topic. configure loads the checkpoint strictly and warms it up; activate lets it act. The thinking runs in a thread of
its own (qt_ros.control.runner): callbacks here only hand over messages. Every end of an episode, whatever its cause,
publishes the neutral stop and then EpisodeStatus ENDED with the reason.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

from rclpy.action import CancelResponse, GoalResponse
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float32MultiArray, String

from qt_ros.action import ExecuteInstruction
from qt_ros.contract.codecs import ns_to_seconds, stamp_to_ns
from qt_ros.control.health import Health, Stream, policy_health
from qt_ros.control.runner import Actor, Episode, EpisodeRunner, Step
from qt_ros.episodes.episode import TERMINAL_REASONS, outcome_name, reason_name
from qt_ros.msg import CommandStatus, EpisodeOutcome, EpisodeStatus, PolicyAction
from qt_ros.nodes.diagnostics import Diagnostics
from qt_ros.nodes.goal_server import GoalServer
from qt_ros.nodes.inputs import subscribe
from qt_ros.nodes.lifecycle import EVENT, LATCHED, SENSOR, LifecycleNode, run
from qt_ros.nodes.obedience import Obedience
from qt_ros.nodes.parameters import ParameterTable
from qt_ros.nodes.policy_messages import (
    action_message,
    goal_problem,
    new_episode_id,
    q_curves_message,
    result_message,
    status_message,
    stop_message,
)
from qt_ros.nodes.policy_parameters import PARAMETERS
from qt_ros.nodes.preparation import robot_contract
from qt_ros.nodes.real_time import freeze_memory, take_short_turns, thaw_memory

WATCH_PERIOD = 0.05  # s on the wall: how often limits in time are checked
PATIENCE = Duration(seconds=0.5)
ASK_PATIENCE = 3.5  # s for a client to ask for the result of a goal that has ended; DDS repeats itself every 3 s
GRAVE_PERIOD = 0.2  # s on the wall between two looks whether a retired action server is still owed to somebody
CLOCK_PATIENCE = 5.0  # s on the wall without any progress of the node's clock while an episode runs


class PolicyNode(LifecycleNode):
    """Parameters, topics and the action; see the module."""

    def __init__(self, name: str = "policy_node", parameters: ParameterTable = PARAMETERS) -> None:
        super().__init__(name, parameters)
        self.runner: EpisodeRunner | None = None
        self._made = ExitStack()
        self._active = False
        self._checkpoint = ""
        self._goal: Any = None  # handle of the accepted goal until its result is known; None: idle or started by topic
        self._finished: Future | None = None  # set to the outcome when the goal's episode is over and judged
        self._give_up_outcome = 0.0  # monotonic s
        self._used: set[str] = set()  # ids of all episodes so far
        self._server: GoalServer | None = None
        self._retired: list[GoalServer] = []  # still owe a client its result
        self._owed = 0  # goals whose result is not made
        self._grave: Any = None  # the timer that buries retired servers
        self._last_goal = (b"", 0.0)  # id, and monotonic s of its end
        self._obedience = Obedience(math.inf)
        self._clock_seen = (0, 0.0)
        self._curves_out: Any = None  # with q_curves only

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.contract = robot_contract(self, self.settings.robot)
        actor = self.load_actor()
        # A person has no such parameter: a demonstration that nobody executes is none.
        self._obedience = Obedience(self.settings.command_timeout, getattr(self.settings, "shadow", False))
        self._make_topics()
        # Pictures of a simulator have no noise.
        real = self.settings.frozen_camera and not self.get_parameter("use_sim_time").value
        self.runner = EpisodeRunner(self.contract, actor, self._now, self._on_step, self._on_end, real)
        freeze_memory()
        return super().on_configure(state)

    def load_actor(self) -> Actor:
        """Who decides: here the trained network. Sets the checkpoint that messages name."""
        from qt_ros.control.policy import Policy  # torch: seconds, which a node without a network need not wait for

        s = self.settings
        if not s.checkpoint:
            raise ValueError("parameter checkpoint is empty; give the folder of a trained checkpoint")
        policy = Policy.load(s.checkpoint, self.contract, s.device, threads=s.threads or None)
        self._checkpoint = policy.info.id
        if s.q_curves:
            self._curves_out = self.create_publisher(Float32MultiArray, "~/q_curves", EVENT)
            self._made.callback(self.destroy_publisher, self._curves_out)
        self.get_logger().info(f"checkpoint {self._checkpoint[:12]} ({policy.info.preset}) on {s.device}")
        return policy

    def _make_topics(self) -> None:
        camera, joints = self.contract.observation("image"), self.contract.observation("joint_state")
        kind = CompressedImage if camera.type.endswith("CompressedImage") else Image
        self._action_out = self.create_publisher(PolicyAction, "policy_action", EVENT)
        self._status_out = self.create_publisher(EpisodeStatus, "episode_status", LATCHED)
        self._made.callback(self.destroy_publisher, self._action_out)
        self._made.callback(self.destroy_publisher, self._status_out)
        self._images, self._joints = Stream(camera.topic, camera.rate), Stream(joints.topic, joints.rate)
        self._made.callback(Diagnostics(self, self.health, self.contract.robot).close)
        inputs: list[tuple[Any, str, Any, Any, Stream | None]] = [
            (kind, camera.topic, self._on_image, SENSOR, self._images),
            (JointState, joints.topic, self._on_joints, SENSOR, self._joints),
            (CommandStatus, "command_status", self._on_command_status, EVENT, None),
            (EpisodeOutcome, "episode_outcome", self._on_outcome, LATCHED, None),
        ]
        if self.settings.follow_instruction_topic:
            text = self.contract.observation("text").topic  # not latched: what was said before must not start motion
            inputs.append((String, text, self._on_instruction, EVENT, None))
        for what, topic, work, qos, stream in inputs:
            subscription = subscribe(self, what, topic, work, qos, self._on_odd_message, stream=stream)
            self._made.callback(self.destroy_subscription, subscription)
        self._bury()  # two servers of one name would both accept a goal
        self._server = GoalServer(
            self,
            ExecuteInstruction,
            "execute_instruction",
            self._on_accepted,  # not used: goals are executed where they are accepted
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
        )
        wall = Clock(clock_type=ClockType.STEADY_TIME)  # must go on when the node's clock stops
        self._made.callback(self.destroy_timer, self.create_timer(WATCH_PERIOD, self._watch, clock=wall))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = True
        self._obedience.begin(time.monotonic())
        self._say(None, "ready")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt("policy_node was deactivated")
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt("policy_node was shut down")
        return super().on_shutdown(state)

    def _halt(self, message: str) -> None:
        """Stop, and stay until everybody has heard of it: after a shutdown nobody could ask again."""
        self._active = False
        if self._stop("deactivated", message):
            self._status_out.wait_for_all_acked(PATIENCE)

    def release(self) -> None:
        if self.runner is not None:
            self._stop("fault", "policy_node was cleaned up")
            self.runner.close()
            self.runner = None
            thaw_memory()
        self._finish(EpisodeStatus.OUTCOME_UNKNOWN)  # nobody will hear of an outcome any more
        if self._server is not None:
            self._retired.append(self._server)
            self._server = None
        self._made.close()
        self._curves_out = None
        self._bury_in_time()

    def owes(self) -> bool:
        """A goal whose result is not made yet, or not sent yet: the request for it may be on its way."""
        goal, ended = self._last_goal
        told = not goal or any(s is not None and s.has_told(goal) for s in (self._server, *self._retired))
        return bool(self._owed) or not (told or time.monotonic() - ended > ASK_PATIENCE)

    def _bury(self) -> None:
        """Action servers without anybody waiting for them."""
        while self._retired:
            self._retired.pop().destroy()

    def _bury_in_time(self) -> None:
        """As soon as nobody is owed anything; until then they stay, and accept no goal."""
        if self._server is None and not self.owes():
            self._bury()
        if (self._grave is not None) != bool(self._retired):
            if self._grave is not None:
                self.destroy_timer(self._grave)
            wall = Clock(clock_type=ClockType.STEADY_TIME)
            self._grave = self.create_timer(GRAVE_PERIOD, self._bury_in_time, clock=wall) if self._retired else None

    def _on_odd_message(self, problem: str) -> None:
        self._stop("fault", problem)

    def _now(self) -> float:
        return ns_to_seconds(self.get_clock().now().nanoseconds)

    def _on_image(self, message: Any) -> None:
        received = time.monotonic()
        self._images.seen(self._now())
        if self.runner is not None:
            self.runner.offer_image(message, ns_to_seconds(stamp_to_ns(message.header.stamp)), received)

    def _on_joints(self, message: JointState) -> None:
        self._joints.seen(self._now())
        if self.runner is not None:
            self.runner.offer_joints(message, ns_to_seconds(stamp_to_ns(message.header.stamp)))

    def _on_command_status(self, message: CommandStatus) -> None:
        episode = self.runner.episode if self.runner is not None else None
        self._obedience.heard(time.monotonic())
        if self.runner is not None:
            self.runner.obeyed = message.state == CommandStatus.STATE_MOVING and not message.dry_run
        if message.state != CommandStatus.STATE_STOPPED or episode is None or message.episode_id != episode.episode_id:
            return
        self._stop(reason_name(message.reason), f"command_node stopped: {message.message}")

    def _watch(self) -> None:
        runner = self.runner
        if runner is None:
            return
        wall, now = time.monotonic(), self.get_clock().now().nanoseconds
        if now != self._clock_seen[0] or not runner.busy:
            self._clock_seen = (now, wall)
        elif wall - self._clock_seen[1] > CLOCK_PATIENCE:
            self._stop("fault", f"the clock has not moved for {CLOCK_PATIENCE:g} s; is /clock published?")
        if self._obedience.silent(wall):
            told = f"command_node has been silent for {self.settings.command_timeout:g} s; is it alive?"
            if self._stop("lost_command", told) or not runner.busy:
                self._obedience.missed()
        runner.check()
        if self._goal is not None and not runner.busy and wall > self._give_up_outcome:
            self._finish(EpisodeStatus.OUTCOME_UNKNOWN)

    def _unobeyed(self) -> str:
        there = self.count_publishers(self.resolve_topic_name("command_status")) > 0
        return self._obedience.problem(time.monotonic(), there)

    def _begin(self, instruction: str, episode_id: str, max_duration: float) -> Episode:
        assert self.runner is not None
        episode_id = episode_id or new_episode_id()
        self._clock_seen, self._give_up_outcome = (0, time.monotonic()), float("inf")  # until it has ended
        self._used.add(episode_id)
        if self._obedience.silent(now := time.monotonic()):
            self._obedience.begin(now)
        episode = self.runner.start(episode_id, instruction, max_duration or self.settings.max_duration)
        self._say(episode)
        self.get_logger().info(f"episode {episode_id}: {instruction!r}")
        return episode

    def _stop(self, reason: str, message: str) -> bool:
        return self.runner is not None and self.runner.end(reason, message)

    def _on_step(self, step: Step) -> None:
        """Called by the runner's thread, never after the end of the episode."""
        space, frame = self.contract.action_space, self.contract.kinematics.base_frame
        self._action_out.publish(action_message(step, space, frame, self._checkpoint, self._stamp()))
        self._say(step.episode)
        if self._curves_out is not None and step.decision.q_all is not None:
            self._curves_out.publish(q_curves_message(step.decision.q_all, space))
        if (goal := self._goal) is not None:
            feedback = ExecuteInstruction.Feedback(step=step.index, value=step.decision.value)
            feedback.q = step.decision.q.tolist()
            goal.publish_feedback(feedback)

    def _on_end(self, episode: Episode) -> None:
        """Called once per episode, from whichever thread ended it."""
        space, frame = self.contract.action_space, self.contract.kinematics.base_frame
        self._action_out.publish(stop_message(episode, space, frame, self._checkpoint, self._stamp()))
        self._say(episode)
        self._give_up_outcome = time.monotonic() + self.settings.outcome_wait
        told = f"episode {episode.episode_id}: {episode.reason} after {episode.steps} steps. {episode.message}"
        if episode.reason in TERMINAL_REASONS:  # two calls: rclpy ties a line of code to one severity
            self.get_logger().info(told)
        else:
            self.get_logger().warning(told)

    def _on_outcome(self, message: EpisodeOutcome) -> None:
        """A judgement ends an episode that still runs: the task is done, or cannot be any more."""
        episode = self.runner.episode if self.runner is not None else None
        if episode is None or message.episode_id != episode.episode_id:
            return
        outcome = outcome_name(message.outcome)
        if episode.running and outcome != "unknown":
            self._stop("done", f"{message.labelled_by or 'somebody'} judged it a {outcome}")
        if not episode.running:
            self._finish(message.outcome)

    def _finish(self, outcome: int) -> None:
        """Let the goal of the ended episode have its result."""
        if self._finished is not None:
            self._finished.set_result(outcome)
            self._last_goal = (self._last_goal[0], time.monotonic())
        self._goal = self._finished = None

    def _on_instruction(self, message: String) -> None:
        """A new sentence replaces the old one; an empty one is the operator's stop."""
        if not self._active or self.runner is None:
            return
        instruction = message.data.strip()
        if not instruction:
            self._stop("operator", "empty instruction on the instruction topic")
            return
        if problem := self._unobeyed():
            self._refuse(f"instruction {instruction!r} ignored: {problem}")
            return
        self._preempt(f"new instruction {instruction!r}")
        self._begin(instruction, "", 0.0)

    def _preempt(self, message: str) -> None:
        """Make way: end the running episode, and let its goal have its result."""
        self._stop("preempted", message)
        self._finish(EpisodeStatus.OUTCOME_UNKNOWN)

    def _on_goal(self, goal: Any) -> GoalResponse:
        runner = self.runner
        busy = runner is not None and (runner.busy or self._goal is not None)
        episode = runner.episode.episode_id if runner is not None and runner.episode is not None else ""
        problem = goal_problem(goal, self._active, "" if self.settings.preempt or not busy else episode, self._used)
        if problem := problem or self._unobeyed():
            self._refuse(f"goal rejected: {problem}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _refuse(self, told: str) -> None:
        self.get_logger().warning(told)
        if self.runner is not None and not self.runner.busy and self._goal is None:
            self._say(None, told)

    def _on_accepted(self, handle: Any) -> None:
        self._preempt("a newer goal took its place")
        self._goal, self._finished = handle, Future(executor=self.executor)
        self._last_goal = (bytes(handle.goal_id.uuid), math.inf)
        request = handle.request
        episode = self._begin(request.instruction.strip(), request.episode_id, request.max_duration)
        self._owed += 1
        handle.execute(partial(self._execute, episode, self._finished))

    def _on_cancel(self, handle: Any) -> CancelResponse:
        if handle is self._goal:
            self._stop("canceled", "the client canceled the goal")
        return CancelResponse.ACCEPT

    async def _execute(self, episode: Episode, finished: Future, handle: Any) -> Any:
        outcome = await finished
        if self.executor is not None:
            self.executor.create_task(self._answered)  # in its next turn, when this result is out
        if handle.is_cancel_requested:
            handle.canceled()
        elif episode.reason in TERMINAL_REASONS:
            handle.succeed()
        else:
            handle.abort()
        return result_message(episode, outcome)

    def _answered(self) -> None:
        self._owed -= 1
        self._bury_in_time()

    def _stamp(self) -> Any:
        return self.get_clock().now().to_msg()

    def _say(self, episode: Episode | None, message: str = "") -> None:
        if self.runner is not None:
            self._status_out.publish(status_message(episode, self._checkpoint, self._stamp(), message))

    def health(self, now: float) -> list[Health]:
        """What /diagnostics says: the inputs, the episode, its latency, GPU memory."""
        episode = self.runner.episode if self.runner is not None else None
        limits = (self.contract.observation("image").max_age, self.contract.observation("joint_state").max_age)
        streams = [s.health(now, limit) for s, limit in zip((self._images, self._joints), limits, strict=True)]
        return [*policy_health(episode, self._active, self.contract.policy_period, self.memory()), *streams]

    def memory(self) -> dict[str, float]:
        """GPU memory in MiB, where the network runs on one."""
        if not str(getattr(self.settings, "device", "cpu")).startswith("cuda"):
            return {}
        from qt_ros.control.policy import gpu_memory

        return gpu_memory(self.settings.device)


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    take_short_turns()
    return run(PolicyNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
