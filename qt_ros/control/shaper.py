"""Turns policy actions at 3 to 10 Hz into smooth, limited velocities at the command rate, and stops on its own.

An action is a displacement per policy step. The shaper holds its mean velocity for one policy period from receipt;
with no newer action by then the velocity falls to zero at the acceleration limit. Rise and fall are limited alike, so
one lone action still moves the commanded displacement, only later. Fresh stamps downstream must not hide a dead policy:
the shaper has its own maximum action age and stops with a named reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.robot import DIMENSIONS, RobotContract
from qt_ros.control import limits

LOST_POLICY = "lost_policy"
FAULT = "fault"
ARM_AXES, BASE_AXES = DIMENSIONS["arm"], DIMENSIONS["base"]
_HOLD_SLACK = 1e-6  # s: a tick exactly one period after receipt belongs to the next action
_WALL_HORIZON = 0.04  # s: the tool slows so that it would take this long to reach the workspace wall


Array = NDArray[np.float64]


@dataclass(frozen=True)
class Command:
    """What to send now.

    ``arm_twist`` (6,) linear m/s then angular rad/s in base_link axes; ``gripper`` closedness 0 open .. 1 closed,
    None = hold; ``base`` forward m/s and turn rad/s; ``reason`` names the stop in force, None while there is none;
    ``action_age`` seconds since the image behind the last accepted action, None before the first.
    """

    arm_twist: Array
    gripper: float | None
    base: tuple[float, float]
    reason: str | None
    action_age: float | None = None

    @property
    def moving(self) -> bool:
        """True when any commanded velocity differs from zero."""
        return bool(self.arm_twist.any() or any(self.base))


class CommandShaper:
    """Shapes the actions of one episode at a time; all times are seconds of one clock, passed in.

    `start` opens an episode, `submit` gives an action, `tick` is called at the command rate, `stop` ends motion at once
    and stays in force until the next `start`. Between episodes and after a stop every velocity is exactly zero and the
    gripper holds.
    """

    def __init__(self, contract: RobotContract) -> None:
        space = contract.action_space
        self.limits = contract.limits
        self.space = space
        self.period = contract.policy_period
        self._tick_period = 1.0 / contract.command_rate
        self._arm = [space.names.index(a) if a in space.names else -1 for a in ARM_AXES]
        self._base = [space.names.index(a) if a in space.names else -1 for a in BASE_AXES]
        self._gripper = space.names.index("gripper") if "gripper" in space.names else -1
        self._terminate = space.names.index("terminate") if "terminate" in space.names else -1
        self.episode_id: str | None = None
        self.reason: str | None = None
        self.stopped_at: float | None = None  # time of the stop in force
        self._last_tick: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._target: Array = np.zeros(8)  # arm linear 3, arm angular 3, base forward, base turn: what the action asks
        self._velocity: Array = np.zeros(8)  # the same after limits: what is commanded
        self._closedness: float | None = None
        self._received: float | None = None
        self._observed = 0.0

    @property
    def running(self) -> bool:
        """True between `start` and the next stop."""
        return self.episode_id is not None and self.reason is None

    def start(self, episode_id: str, now: float) -> None:
        """Open an episode: forget the last one, its stop and its actions. Nothing moves before the first action."""
        if not episode_id:
            raise ValueError("an episode needs a non-empty id")
        limits.finite("now", now)
        self.episode_id, self.reason, self.stopped_at = episode_id, None, None
        if self._last_tick is not None and now < self._last_tick:  # a new run of a simulated clock
            self._last_tick = None
        self._clear()

    def stop(self, reason: str, now: float) -> None:
        """Zero velocity at once, hold the gripper, until the next `start`. The first reason given stays."""
        if not reason:
            raise ValueError("a stop needs a reason")
        if self.reason is None:
            self.reason, self.stopped_at = reason, now
        self._target[:] = 0.0
        self._velocity[:] = 0.0
        self._closedness = None

    def submit(self, values: ArrayLike, now: float, observation_time: float) -> bool:
        """Take an action (D,) in SI units per policy step, computed from what was seen at `observation_time`.

        Values are clipped to the action space. Returns False when no episode is running. An action that is too old on
        arrival stops with 'lost_policy', one from the future (another clock) with 'fault'. Raises `NonFiniteError`
        (a ValueError) for NaN or infinity and ValueError for another size; the caller then stops with 'non_finite'.
        """
        action = limits.finite("policy action", values, self.space.size)
        now, observed = (float(t) for t in limits.finite("times", (now, observation_time)))
        if not self.running:
            return False
        if observed - now > self.limits.max_action_age:
            self.stop(FAULT, now)
            return False
        if now - observed > self.limits.max_action_age:
            self.stop(LOST_POLICY, now)
            return False
        action = np.clip(action, self.space.low, self.space.high)
        self._received, self._observed = now, observed
        if self._terminate >= 0 and action[self._terminate] >= 0.5:
            self._target[:] = 0.0
            self._closedness = None
            return True
        picked = np.append(action, 0.0)  # index -1: a dimension this robot does not have
        self._target = picked[[*self._arm, *self._base]] / self.period
        self._closedness = float(action[self._gripper]) if self._gripper >= 0 else None
        return True

    def tick(self, now: float, tool_position: ArrayLike | None = None) -> Command:
        """The command for `now`. `tool_position` (3,) m in base_link, when known, keeps the tool in the workspace box.

        Raises `NonFiniteError` when an input is not finite. A clock that runs backwards during an episode is a 'fault'.
        """
        limits.finite("now", now)
        dt = self._tick_period if self._last_tick is None else now - self._last_tick
        self._last_tick = now
        if not self.running:
            return Command(np.zeros(6), None, (0.0, 0.0), self.reason)
        if dt < 0.0:
            self.stop(FAULT, now)
        elif self._received is not None and self._age(now) > self.limits.max_action_age:
            self.stop(LOST_POLICY, now)
        if not self.running:
            return Command(np.zeros(6), None, (0.0, 0.0), self.reason)
        fresh = self._received is not None and now - self._received < self.period - _HOLD_SLACK
        dt = min(dt, 2.0 * self._tick_period)  # a late tick must not jump
        self._slew(self._target if fresh else np.zeros(8), dt)
        if tool_position is not None:
            self._velocity[:3] = limits.limit_outward(
                limits.finite("tool position", tool_position, 3),
                self._velocity[:3], self.limits.workspace_low, self.limits.workspace_high, _WALL_HORIZON,
            )  # fmt: skip
        age = None if self._received is None else self._age(now)
        base = (float(self._velocity[6]), float(self._velocity[7]))
        return Command(self._velocity[:6].copy(), self._closedness, base, None, age)

    def _age(self, now: float) -> float:
        """Seconds since the older of receipt and observation; the receipt is on our clock whatever the stamps say."""
        assert self._received is not None
        return now - min(self._received, self._observed)

    def _slew(self, target: Array, dt: float) -> None:
        bound = self.limits
        for part, speed, acceleration in (
            (slice(0, 3), bound.linear_speed, bound.linear_acceleration),
            (slice(3, 6), bound.angular_speed, bound.angular_acceleration),
            (slice(6, 7), bound.base_linear_speed, bound.base_linear_acceleration),
            (slice(7, 8), bound.base_angular_speed, bound.base_angular_acceleration),
        ):
            goal = limits.limit_norm(target[part], speed)
            self._velocity[part] = limits.slew(self._velocity[part], goal, acceleration * dt)
