"""Which action may move the robot: one running episode, in order, fresh, while active and not in an emergency stop.

The rules of command_node without ROS. Every stop has one of the names of EpisodeStatus REASON_* (lower case), stays in
force until the next episode, and is never undone by anything that arrives late. Stops brake; the emergency stop does
not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract
from qt_ros.control.dead_reckoning import DeadReckoning
from qt_ros.control.estop import EStop
from qt_ros.control.gripper import GripperLimits
from qt_ros.control.gripper_hold import GripperHold
from qt_ros.control.limits import NonFiniteError
from qt_ros.control.shaper import Command, CommandShaper

_ADVICE = {
    "lost_policy": "no action from an image younger than {age:g} s; is policy_node alive and fast enough?",
    "fault": "time stamps do not fit this node's clock; give every node the same use_sim_time",
}
FIRST_ACTION = 10.0  # s an episode may take to its first action
_CLOCKS = 0.5  # s by which the policy's clock may lag behind ours
_CLOCK_SET_BACK = 1.0  # s: a joint state so much older than the last one is from a new run of the clock
OUTSIDE = 0.05  # m of the tool, m or rad of a joint: further beyond a limit than at the episode's begin is a stop


@dataclass(frozen=True)
class Standing:
    """How things stand, in one piece: for CommandStatus, /diagnostics and whoever else tells it.

    ``state`` is 'idle', 'moving' or 'stopped'; ``reason`` and ``message`` say why it stopped, else ''; ``step`` is the
    last accepted action of ``episode_id`` (-1: none), ``action_age`` s its age.
    """

    state: str
    reason: str
    message: str
    episode_id: str
    step: int
    action_age: float
    estop: bool


class Commander:
    """Feeds a `CommandShaper` and decides when it must stop. All times are seconds of one clock, passed in.

    ``state`` is 'idle', 'moving' (an episode is followed) or 'stopped'; ``reason`` and ``message`` say why it stopped.
    ``episode_id`` and ``step`` name the last episode and its last accepted action (-1: none). ``estop`` may be shared
    and outlive the commander.
    """

    def __init__(self, contract: RobotContract, estop: EStop | None = None) -> None:
        spec = contract.kinematics
        self.contract = contract
        self.shaper = CommandShaper(contract)
        self.gripper = GripperLimits(contract)
        self.grip = GripperHold(contract)
        self._grip_stop: float | None = None
        self._gripped = False  # whether the gripper was told anything in this episode
        self.joint_max_age = contract.observation("joint_state").max_age
        self.estop = estop or EStop()
        self.active = False
        self.episode_id, self.step, self.reason, self.message = "", -1, "", ""
        self._active_since: float | None = None  # None: not active, or no clock yet
        self._begun = 0.0
        self._action_age = 0.0
        self._carriers = spec.carriers
        self.joints = (*spec.arm_joints, *self._carriers)
        self._kinematics = Kinematics.of(contract, self.joints)
        self._sent = DeadReckoning()
        self._observed = -math.inf
        self._past: deque[str] = deque(maxlen=1000)  # episodes that are over for us; they never start again
        self._joints: NDArray[np.float64] | None = None
        self._joints_stamp = self._ticked = -math.inf
        self._tolerated: NDArray[np.float64] | None = None  # beyond the limits at the episode's begin: tool 3, joints

    @property
    def state(self) -> str:
        if self.reason:
            return "stopped"
        return "moving" if self.shaper.running else "idle"

    @property
    def standing(self) -> Standing:
        """State, reason and all that belongs to them."""
        return Standing(
            self.state, self.reason, self.message, self.episode_id, self.step, self._action_age, self.estop.latched
        )

    def activate(self, now: float) -> None:
        """Allow motion, of episodes that begin from now on."""
        self.active = True
        self._active_since = now if now > 0.0 else None  # a simulated clock that has not begun

    def hear_clock(self, now: float) -> None:
        """Episodes may begin once the clock runs; call it before anybody is told that it does."""
        if self.active and now > 0.0 and (self._active_since is None or now < self._active_since):
            self._active_since = now  # a clock that begins, or begins again

    def deactivate(self, now: float) -> None:
        """Stop, and refuse every episode until `activate`."""
        self.stop("deactivated", "command_node was deactivated", now)
        self.active, self._active_since = False, None

    def stop(self, reason: str, message: str, now: float, brake: bool = True) -> bool:
        """End motion; False when nothing was running (the first stop of an episode keeps its name)."""
        if not self.shaper.running:
            return False
        self.shaper.stop(reason, now, brake)
        self.reason, self.message = reason, message
        self._stop_gripper(now)
        return True

    def _stop_gripper(self, now: float) -> None:
        if not (self.active and self._gripped):  # what it does is not ours: somebody else may have sent it
            return
        position = self.grip.stop(now)
        if position is not None:
            self._grip_stop = self.gripper.clip(position)

    def take_grip_stop(self) -> float | None:
        """Where the gripper has to be sent because of a stop, once; None: it stays as it is."""
        position, self._grip_stop = self._grip_stop, None
        return position

    def close_to(self, closedness: float, now: float) -> float:
        """The gripper joint's position to send for ``closedness``, within width and force; it counts as sent.

        ValueError as in `GripperLimits.position`.
        """
        position = self.gripper.position(closedness)
        self.grip.sent(position, now)
        self._gripped = True
        return position

    def press_estop(self, pressed: bool, now: float) -> None:
        """The e-stop button; a press stops without braking and refuses every episode until ``estop.reset()``."""
        self.estop.press(pressed)
        self.heed_estop(now)

    def heed_estop(self, now: float) -> None:
        """Stop if the emergency stop is latched, by whatever way it was."""
        if self.estop.latched:
            self.stop("estop", f"emergency stop: {self.estop.cause}; {self.estop.advice}", now, brake=False)
            self.shaper.halt()

    def begin(self, episode_id: str, now: float, step: int = 0, stamp: float | None = None, start: float = 0.0) -> None:
        """Episode ``episode_id`` is running, says the policy; said again and again, only the first time counts.

        ``step``, ``stamp`` and ``start`` are those of the message (``start`` 0: not said; then it must be heard of
        before its first step). An episode that begins while inactive or in an emergency stop
        is refused for good: motion must not start by itself when the obstacle goes away. So is one that was under way
        before this commander was active: nobody knows what the robot did in between.
        """
        if not episode_id or episode_id == self.episode_id or episode_id in self._past:
            return
        self.stop("preempted", f"episode {episode_id} took its place", now)
        if self.episode_id:
            self._past.append(self.episode_id)
        self.episode_id, self.step, self._observed, self._begun = episode_id, -1, -math.inf, now
        self.reason, self.message = "", ""
        self._tolerated, self._action_age, self._gripped = None, 0.0, False
        self.gripper.release()
        self.shaper.start(episode_id, now)
        self.heed_estop(now)
        since = self._active_since
        if not self.active:
            self.stop("deactivated", "command_node is not active; activate it before an episode begins", now)
        elif _under_way(since, step, stamp, start):
            told = "command_node was started in mid-episode and does not join it; begin a new episode"
            self.stop("lost_command", told, now)
        elif since is None:
            self.stop("deactivated", "this node's clock has not begun; is /clock published?", now)

    def end(self, episode_id: str, reason: str, now: float) -> None:
        """Episode ``episode_id`` ended with ``reason``; one that never began here will not begin any more."""
        if episode_id == self.episode_id:
            self.stop(reason or "fault", "the episode ended", now)
        elif episode_id and episode_id not in self._past:
            self._past.append(episode_id)

    def idle(self, now: float) -> None:
        """The policy says that it runs nothing."""
        self.stop("lost_policy", "policy_node reports that no episode is running", now)

    def knows(self, episode_id: str) -> bool:
        """Whether that episode has begun or is over, as far as was heard."""
        return episode_id == self.episode_id or episode_id in self._past

    def observe_joints(self, positions: Mapping[str, float], stamp: float, effort: float | None = None) -> None:
        """Positions (rad or m) of ``joints`` and the gripper, measured at ``stamp``; ``effort`` of the gripper joint.

        ValueError for a missing arm joint. A message without any arm joint comes from another driver (gripper, wheels)
        and says nothing about the arm; one that was overtaken is dropped.
        """
        spec = self.contract.kinematics
        if spec.gripper_joint in positions:
            self.gripper.measure(positions[spec.gripper_joint], effort)
            self.grip.measured(positions[spec.gripper_joint], stamp)
        if not any(j in positions for j in spec.arm_joints):
            return
        missing = [j for j in spec.arm_joints if j not in positions]
        if missing:
            raise ValueError(f"joint state lacks {', '.join(missing)}; check the joint names in the contract")
        if self._joints_stamp - _CLOCK_SET_BACK < stamp < self._joints_stamp:
            return
        self._joints = np.array([positions.get(j, spec.home.get(j, 0.0)) for j in self.joints], dtype=np.float64)
        self._joints_stamp = stamp

    def act(
        self,
        episode_id: str,
        step: int,
        names: Sequence[str],
        values: ArrayLike,
        frame: str,
        observation_time: float,
        now: float,
        decided: bool = True,
    ) -> bool:
        """Offer one policy action; True when it will be followed. ``decided``: not the neutral stop of an episode.

        Dropped: actions of another episode, after a stop, and those that are not newer than the last one (duplicates,
        overtaken ones). Stops: other dimensions or another frame than the contract's ('fault'), NaN ('non_finite'),
        too old ('lost_policy'), joints unknown ('stale_joints').
        """
        if episode_id != self.episode_id or not self.shaper.running:
            return False
        if step <= self.step or observation_time <= self._observed:
            return False
        expected = self.contract.action_space.names
        if tuple(names) != expected:
            told = f"action has the dimensions {', '.join(names)}; the contract has {', '.join(expected)}"
            return not self.stop("fault", told, now)
        if frame != self.contract.kinematics.base_frame:
            told = f"action is in frame {frame!r}; the contract has {self.contract.kinematics.base_frame!r}"
            return not self.stop("fault", told, now)
        try:
            followed = self.shaper.submit(values, now, observation_time, decided)
        except NonFiniteError as error:
            return not self.stop("non_finite", str(error), now)
        except ValueError as error:
            return not self.stop("fault", str(error), now)
        if followed:
            self.step, self._observed = step, observation_time
        self._adopt(now)
        return followed

    def tick(self, now: float, elapsed: float = 0.0) -> Command:
        """The command for ``now``; call it at the command rate. ``elapsed``: s on the wall since the call before."""
        self.hear_clock(now)
        set_back = now < self._ticked
        if set_back:  # what was measured belongs to the time before; that it is missing would be the wrong name
            told = f"the clock was set back by {self._ticked - now:.2f} s during the episode; begin a new one"
            self.stop("fault", told, now)
            self._joints, self._joints_stamp = None, -math.inf
        self._ticked = now
        self._sent.advance(now)
        tools = None
        if self.shaper.running and self.step >= 0:
            tools = self._watch_limits(now)
        elif self.shaper.running and now - self._begun > FIRST_ACTION:
            self.stop("lost_policy", f"no action within {FIRST_ACTION:g} s; is policy_node alive?", now)
        try:
            command = self.shaper.tick(now, tools, elapsed)
        except NonFiniteError as error:
            self.stop("non_finite", str(error), now)
            command = self.shaper.tick(now, elapsed=elapsed)
        self._sent.command(command.arm_twist[:3])
        self._action_age = command.action_age or 0.0
        self._adopt(now)
        if set_back:  # only now: a stop because of it knew where the gripper was
            self.grip.forget()
        return command

    def _watch_limits(self, now: float) -> NDArray[np.float64] | None:
        """Where the tool may be, (2, 3) m: as measured, and with what was commanded since. None after a stop."""
        age, topic = now - self._joints_stamp, self.contract.observation("joint_state").topic
        if self._joints is None or abs(age) > self.joint_max_age:
            ahead = f"{topic}: stamped {-age:.2f} s in the future, give every node the same use_sim_time"
            late = f"{topic}: nothing for {age:.2f} s, limit {self.joint_max_age:g} s; is it published?"
            nothing = f"{topic}: nothing yet; is it published?"
            self.stop("stale_joints", nothing if self._joints is None else ahead if age < 0.0 else late, now)
            return None
        tool = self._kinematics.fk(self._joints)[0]
        beyond = self._beyond(tool, self._joints)
        tolerated = beyond if self._tolerated is None else np.minimum(self._tolerated, beyond)
        self._tolerated = np.maximum(tolerated, 0.0)
        worst = int(np.argmax(beyond - self._tolerated))
        if beyond[worst] > self._tolerated[worst] + OUTSIDE:
            what = f"tool {'xyz'[worst]}" if worst < 3 else self.joints[worst - 3]
            told = f"{what} is {beyond[worst]:.3f} beyond its limit although it was not sent there; check the robot"
            self.stop("limit", told, now)
            return None
        return np.stack([tool, tool + self._sent.since(self._joints_stamp)])

    def _beyond(self, tool: NDArray[np.float64], joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far (3 + n,) the tool is outside the workspace and every joint outside its range; negative: inside."""
        bound, model = self.contract.limits, self._kinematics
        outside = np.maximum(bound.workspace_low - tool, tool - bound.workspace_high)
        return np.concatenate([outside, np.maximum(model.lower - joints, joints - model.upper)])

    def _adopt(self, now: float) -> None:
        """Take over a stop that the shaper made by itself."""
        if self.shaper.reason is not None and not self.reason and self.shaper.episode_id == self.episode_id:
            self.reason = self.shaper.reason
            advice = _ADVICE.get(self.reason, "")
            self.message = advice.format(age=self.contract.limits.max_action_age)
            self._stop_gripper(now)


def _under_way(since: float | None, step: int, stamp: float | None, start: float) -> bool:
    """Whether an episode began before ``since``, the time of activation."""
    if start > 0.0 and since is not None:
        return start < since - _CLOCKS
    return step > 0 or (stamp is not None and since is not None and stamp < since - _CLOCKS)
