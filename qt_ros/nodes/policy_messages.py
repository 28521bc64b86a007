"""What policy_node and teleop_node say: actions, status and results, as messages."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Container

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from std_msgs.msg import Float32MultiArray, MultiArrayDimension

from qt_ros.action import ExecuteInstruction
from qt_ros.contract.actions import ActionSpace
from qt_ros.control.runner import Episode, Step
from qt_ros.episodes.episode import is_episode_id
from qt_ros.msg import EpisodeStatus, PolicyAction


def new_episode_id() -> str:
    """An id that sorts by (local) time and that no other machine makes too."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"


def reason_code(reason: str) -> int:
    """Lower-case reason name -> EpisodeStatus.REASON_* ('' -> REASON_NONE). AttributeError for an unknown one."""
    return int(getattr(EpisodeStatus, f"REASON_{(reason or 'none').upper()}"))


def action_message(step: Step, space: ActionSpace, frame: str, checkpoint: str, now: Time) -> PolicyAction:
    """One decision. ``frame`` is the frame of the arm part, ``now`` the stamp of publication."""
    episode = step.episode
    message = PolicyAction(episode_id=episode.episode_id, instruction=episode.instruction, step=step.index)
    message.header.stamp, message.header.frame_id = now, frame
    message.observation_stamp = step.frame.message.header.stamp
    message.names = list(space.names)
    message.values = step.decision.values.tolist()
    message.bins = step.decision.bins.tolist()
    message.q = step.decision.q.tolist()
    message.value, message.latency_ms, message.checkpoint = step.decision.value, step.latency_ms, checkpoint
    return message


def stop_message(episode: Episode, space: ActionSpace, frame: str, checkpoint: str, now: Time) -> PolicyAction:
    """The neutral stop that follows every end.

    No motion, and terminate at its high end where there is one. Nobody decided it, and it says so: ``q`` and ``bins``
    are empty. To such a message the gripper holds whatever it says (see CommandShaper), and readers of bags skip it.
    """
    values = space.neutral()
    if "terminate" in space.names:
        values[space.index("terminate")] = space.high[space.index("terminate")]
    message = PolicyAction(episode_id=episode.episode_id, instruction=episode.instruction, step=episode.steps)
    message.header.stamp, message.header.frame_id = now, frame
    message.observation_stamp = now
    message.names, message.values = list(space.names), values.tolist()
    message.checkpoint = checkpoint
    return message


def status_message(episode: Episode | None, checkpoint: str, now: Time, message: str = "") -> EpisodeStatus:
    """State of ``episode``; None: idle."""
    status = EpisodeStatus(state=EpisodeStatus.STATE_IDLE, checkpoint=checkpoint, message=message)
    status.header.stamp = now
    if episode is not None:
        status.state = EpisodeStatus.STATE_RUNNING if episode.running else EpisodeStatus.STATE_ENDED
        status.reason = reason_code(episode.reason)
        status.episode_id, status.instruction, status.step = episode.episode_id, episode.instruction, episode.steps
        status.message = message or episode.message
        status.start = Time(sec=int(episode.start), nanosec=int(episode.start % 1.0 * 1e9))
        status.latency_ms_p50, status.latency_ms_p95 = known(episode.latency.p50), known(episode.latency.p95)
    return status


def goal_problem(
    goal: ExecuteInstruction.Goal, active: bool, busy_with: str, used: Container[str] = frozenset()
) -> str:
    """Why a goal cannot be accepted and what to do about it; '' when it can.

    ``busy_with``: the episode in its way; ``used``: ids of earlier episodes, which the other nodes hold to be over.
    """
    if not active:
        return "policy_node is not active; configure and activate it first"
    if not goal.instruction.strip():
        return "the instruction is empty; say what to do, for example 'pick up the red cube'"
    if not 0.0 <= goal.max_duration < math.inf:
        return f"max_duration {goal.max_duration} is not a time in seconds"
    if busy_with:
        return f"busy with episode {busy_with}; cancel it or wait for its result"
    if goal.episode_id and not is_episode_id(goal.episode_id):
        return f"episode_id {goal.episode_id!r} cannot name a bag; use letters, digits and . _ : - only"
    if goal.episode_id in used:
        return f"there was an episode {goal.episode_id} already; give another episode_id, or none"
    return ""


def result_message(episode: Episode, outcome: int) -> ExecuteInstruction.Result:
    """How ``episode`` ended; ``outcome`` is one of EpisodeStatus.OUTCOME_*."""
    return ExecuteInstruction.Result(
        outcome=outcome,
        reason=reason_code(episode.reason),
        steps=episode.steps,
        episode_id=episode.episode_id,
        message=episode.message,
        latency_ms_p50=known(episode.latency.p50),
        latency_ms_p95=known(episode.latency.p95),
    )


def known(value: float) -> float:
    """NaN (no sample yet) -> 0: numbers in messages are finite."""
    return 0.0 if math.isnan(value) else value


def q_curves_message(q_all: NDArray[np.float32], space: ActionSpace) -> Float32MultiArray:
    """Q of every bin along the chosen prefix, (D, bins): what a decision was taken from, to look at.

    Row-major; the label of the first dimension of the layout names the action dimensions in their order.
    """
    rows, columns = q_all.shape
    message = Float32MultiArray(data=np.ascontiguousarray(q_all, dtype=np.float32).ravel().tolist())
    message.layout.dim = [
        MultiArrayDimension(label=",".join(space.names), size=rows, stride=rows * columns),
        MultiArrayDimension(label="bin", size=columns, stride=columns),
    ]
    return message
