"""Which action may move the robot: one running episode, in order, fresh, while active and not in an emergency stop.

The rules of command_node without ROS. Every stop has one of the names of EpisodeStatus REASON_* (lower case), stays in
force until the next episode, and is never undone by anything that arrives late.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract
from qt_ros.control.limits import NonFiniteError
from qt_ros.control.shaper import Command, CommandShaper

_ADVICE = {
    "lost_policy": "no action from an image younger than {age:g} s; is policy_node alive and fast enough?",
    "fault": "time stamps do not fit this node's clock; give every node the same use_sim_time",
}


class EStop:
    """The emergency stop: pressing latches, releasing alone frees nothing, only `reset` does."""

    def __init__(self) -> None:
        self.pressed = self.latched = False

    def press(self, pressed: bool) -> None:
        """The state of the button."""
        self.pressed = pressed
        self.latched = self.latched or pressed

    def reset(self) -> tuple[bool, str]:
        """Free the latch: (done, what to tell)."""
        if self.pressed:
            return False, "the emergency stop is still pressed; release it first"
        was, self.latched = self.latched, False
        return True, "emergency stop reset" if was else "the emergency stop was not pressed"


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
        self.joint_max_age = contract.observation("joint_state").max_age
        self.estop = estop or EStop()
        self.active = False
        self.episode_id, self.step, self.reason, self.message = "", -1, "", ""
        # Other joints that carry the arm (a lift) count where they are reported, else as being at home.
        self._carriers = [j for j in spec.home if j not in spec.arm_joints and j != spec.gripper_joint]
        self.joints = (*spec.arm_joints, *self._carriers)
        self._kinematics = Kinematics.of(contract, self.joints)
        self._observed = -math.inf
        self._past: deque[str] = deque(maxlen=1000)  # episodes that are over for us; they never start again
        self._joints: NDArray[np.float64] | None = None
        self._joints_stamp = -math.inf

    @property
    def state(self) -> str:
        if self.reason:
            return "stopped"
        return "moving" if self.shaper.running else "idle"

    def activate(self, now: float) -> None:
        """Allow motion, of episodes that begin from now on."""
        self.active = True

    def deactivate(self, now: float) -> None:
        """Stop, and refuse every episode until `activate`."""
        self.stop("deactivated", "command_node was deactivated", now)
        self.active = False

    def stop(self, reason: str, message: str, now: float) -> bool:
        """End motion at once; False when nothing was running (the first stop of an episode keeps its name)."""
        if not self.shaper.running:
            return False
        self.shaper.stop(reason, now)
        self.reason, self.message = reason, message
        return True

    def press_estop(self, pressed: bool, now: float) -> None:
        """The e-stop input; a press stops at once and refuses every episode until ``estop.reset()``."""
        self.estop.press(pressed)
        if pressed:
            self.stop("estop", "emergency stop pressed; release it and call the reset service", now)

    def begin(self, episode_id: str, now: float) -> None:
        """Episode ``episode_id`` is running, says the policy; said again and again, only the first time counts.

        An episode that begins while inactive or in an emergency stop is refused for good: motion must not start by
        itself when the obstacle goes away.
        """
        if not episode_id or episode_id == self.episode_id or episode_id in self._past:
            return
        self.stop("preempted", f"episode {episode_id} took its place", now)
        if self.episode_id:
            self._past.append(self.episode_id)
        self.episode_id, self.step, self._observed = episode_id, -1, -math.inf
        self.reason, self.message = "", ""
        self.shaper.start(episode_id, now)
        if self.estop.latched:
            self.stop("estop", "the emergency stop is latched; release it and call the reset service", now)
        elif not self.active:
            self.stop("deactivated", "command_node is not active; activate it before an episode begins", now)

    def end(self, episode_id: str, reason: str, now: float) -> None:
        """Episode ``episode_id`` ended with ``reason``; one that never began here will not begin any more."""
        if episode_id == self.episode_id:
            self.stop(reason, "the episode ended", now)
        elif episode_id and episode_id not in self._past:
            self._past.append(episode_id)

    def idle(self, now: float) -> None:
        """The policy says that it runs nothing."""
        self.stop("lost_policy", "policy_node reports that no episode is running", now)

    def observe_joints(self, positions: Mapping[str, float], stamp: float) -> None:
        """Positions (rad or m) of ``joints``, measured at ``stamp``; ValueError for a missing arm joint.

        A message without any arm joint comes from another driver (gripper, wheels) and says nothing about the arm.
        """
        spec = self.contract.kinematics
        if not any(j in positions for j in spec.arm_joints):
            return
        missing = [j for j in spec.arm_joints if j not in positions]
        if missing:
            raise ValueError(f"joint state lacks {', '.join(missing)}; check the joint names in the contract")
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
    ) -> bool:
        """Offer one policy action; True when it will be followed.

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
            followed = self.shaper.submit(values, now, observation_time)
        except NonFiniteError as error:
            return not self.stop("non_finite", str(error), now)
        except ValueError as error:
            return not self.stop("fault", str(error), now)
        if followed:
            self.step, self._observed = step, observation_time
        self._adopt()
        return followed

    def tick(self, now: float) -> Command:
        """The command for ``now``; call it at the command rate."""
        tool = None
        if self.shaper.running and self.step >= 0:
            age = now - self._joints_stamp
            if self._joints is None or age > self.joint_max_age:
                topic = self.contract.observation("joint_state").topic
                told = f"{topic}: nothing for {age:.2f} s" if self._joints is not None else f"{topic}: nothing yet"
                self.stop("stale_joints", f"{told}, limit {self.joint_max_age:g} s; is it published?", now)
            else:
                tool = self._kinematics.fk(self._joints)[0]
        try:
            command = self.shaper.tick(now, tool)
        except NonFiniteError as error:
            self.stop("non_finite", str(error), now)
            command = self.shaper.tick(now)
        self._adopt()
        return command

    def _adopt(self) -> None:
        """Take over a stop that the shaper made by itself."""
        if self.shaper.reason is not None and not self.reason and self.shaper.episode_id == self.episode_id:
            self.reason = self.shaper.reason
            advice = _ADVICE.get(self.reason, "")
            self.message = advice.format(age=self.contract.limits.max_action_age)
