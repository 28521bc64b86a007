"""Turns policy actions at 3 to 10 Hz into smooth, limited velocities at the command rate, and stops on its own.

An action is a displacement per policy step. The shaper holds its mean velocity for one policy period from receipt;
with no newer action by then the velocity falls to zero at the acceleration limit. Rise and fall are limited alike, so
one lone action still moves the commanded displacement, only later. Fresh stamps downstream must not hide a dead policy:
the shaper has its own maximum action age and stops with a named reason.

A stop brakes: at the acceleration limit, or as much harder as it takes to stand within `BRAKE_TIME`. Only a stop
without braking (the emergency stop) jumps to zero.
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
_WALL_HORIZON = 0.04  # s that pass before the tool really brakes in front of a workspace wall, or 2 slow ticks
_CONTINUES = 0.1  # s: an episode that begins so soon after the last tick begins with the speed there is
BRAKE_TIME = 0.16  # s from full speed to standing, at most

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

    `start` opens an episode, `submit` gives an action, `tick` is called at the command rate, `stop` ends motion and
    stays in force until the next `start`. Between episodes and after a stop every velocity is exactly zero, at the
    latest `BRAKE_TIME` after it, and the gripper holds.
    """

    def __init__(self, contract: RobotContract) -> None:
        space = contract.action_space
        self.limits = contract.limits
        self.space = space
        self.period = contract.policy_period
        self._tick_period = 1.0 / contract.command_rate
        self._horizon = max(_WALL_HORIZON, 2.0 * self._tick_period)
        self._arm = [space.names.index(a) if a in space.names else -1 for a in ARM_AXES]
        self._base = [space.names.index(a) if a in space.names else -1 for a in BASE_AXES]
        self._gripper = space.names.index("gripper") if "gripper" in space.names else -1
        self._terminate = space.names.index("terminate") if "terminate" in space.names else -1
        bound = contract.limits
        self._parts = (
            (slice(0, 3), bound.linear_speed, bound.linear_acceleration),
            (slice(3, 6), bound.angular_speed, bound.angular_acceleration),
            (slice(6, 7), bound.base_linear_speed, bound.base_linear_acceleration),
            (slice(7, 8), bound.base_angular_speed, bound.base_angular_acceleration),
        )
        self._velocity: Array = np.zeros(8)  # arm linear 3, arm angular 3, base forward, base turn: what is commanded
        self.episode_id: str | None = None
        self.reason: str | None = None
        self.stopped_at: float | None = None  # time of the stop in force
        self._last_tick: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._target: Array = np.zeros(8)  # in the order of _velocity: what the action asks
        self._closedness: float | None = None
        self._received: float | None = None
        self._observed = 0.0

    @property
    def running(self) -> bool:
        """True between `start` and the next stop."""
        return self.episode_id is not None and self.reason is None

    @property
    def braking(self) -> bool:
        """True from a stop until every velocity is zero."""
        return not self.running and bool(self._velocity.any())

    def start(self, episode_id: str, now: float) -> None:
        """Open an episode: forget the last one, its stop and its actions. Nothing moves before the first action.

        What is left of a stop that still brakes goes on braking until then.
        """
        if not episode_id:
            raise ValueError("an episode needs a non-empty id")
        limits.finite("now", now)
        self.episode_id, self.reason, self.stopped_at = episode_id, None, None
        if self._last_tick is None or not 0.0 <= now - self._last_tick <= _CONTINUES:
            self._velocity[:] = 0.0
        if self._last_tick is not None and now < self._last_tick:  # a new run of a simulated clock
            self._last_tick = None
        self._clear()

    def stop(self, reason: str, now: float, brake: bool = False) -> None:
        """End motion and hold the gripper until the next `start`. The first reason given stays.

        Velocities are zero at once, or with `brake` as soon as the following ticks have braked them away.
        """
        if not reason:
            raise ValueError("a stop needs a reason")
        if self.reason is None:
            self.reason, self.stopped_at = reason, now
        self._target[:] = 0.0
        self._closedness = None
        if not brake:
            self.halt()

    def halt(self) -> None:
        """Every velocity is zero now; braking is cut short."""
        self._velocity[:] = 0.0

    def brake(self, dt: float, elapsed: float = 0.0) -> Command:
        """The command after `dt` s of braking; also where no clock ticks any more.

        A clock that jumps forward is no time to brake in: more than 2 ticks count only as far as `elapsed` s have
        passed on the wall. A machine that is late with its ticks brakes harder, not longer.
        """
        dt = min(dt, max(elapsed, 2.0 * self._tick_period))
        for part, speed, acceleration in self._parts:
            v, change = self._velocity[part], max(acceleration, speed / BRAKE_TIME) * dt
            # Every axis on its own first, as fast as the walls of the workspace count on, and the rest straight.
            share = acceleration * dt / np.sqrt(len(v))
            slower = np.sign(v) * np.maximum(np.abs(v) - share, 0.0)
            rest = max(change - float(np.linalg.norm(slower - v)), 0.0)
            self._velocity[part] = limits.slew(slower, np.zeros(len(v)), rest)
        return self._command(None)

    def _command(self, age: float | None) -> Command:
        base = (float(self._velocity[6]), float(self._velocity[7]))
        return Command(self._velocity[:6].copy(), self._closedness, base, self.reason, age)

    def submit(self, values: ArrayLike, now: float, observation_time: float, decided: bool = True) -> bool:
        """Take an action (D,) in SI units per policy step, computed from what was seen at `observation_time`.

        Values are clipped to the action space. One that nobody ``decided`` (the neutral stop) moves nothing and holds
        the gripper, whatever it says. Returns False when no episode is running. An action that is too old on
        arrival stops with 'lost_policy', one from the future (another clock) with 'fault'. Raises `NonFiniteError`
        (a ValueError) for NaN or infinity and ValueError for another size; the caller then stops with 'non_finite'.
        """
        action = limits.finite("policy action", values, self.space.size)
        now, observed = (float(t) for t in limits.finite("times", (now, observation_time)))
        if not self.running:
            return False
        if observed - now > self.limits.max_action_age:
            self.stop(FAULT, now, brake=True)
            return False
        if now - observed > self.limits.max_action_age:
            self.stop(LOST_POLICY, now, brake=True)
            return False
        action = np.clip(action, self.space.low, self.space.high)
        self._received, self._observed = now, observed
        if not decided or (self._terminate >= 0 and action[self._terminate] >= 0.5):
            self._target[:] = 0.0
            self._closedness = None
            return True
        picked = np.append(action, 0.0)  # index -1: a dimension this robot does not have
        self._target = picked[[*self._arm, *self._base]] / self.period
        self._closedness = float(action[self._gripper]) if self._gripper >= 0 else None
        return True

    def tick(self, now: float, tool_position: ArrayLike | None = None, elapsed: float = 0.0) -> Command:
        """The command for `now`; `elapsed` s on the wall since the tick before, where it is known (see `brake`).

        `tool_position` m in base_link, (3,), or (k, 3) for several places where the tool may be, keeps all of them in
        the workspace box. Raises `NonFiniteError` when an input is not finite. A clock that runs backwards during an
        episode is a 'fault'.
        """
        limits.finite("now", now)
        tools = None if tool_position is None else limits.finite("tool position", tool_position).reshape(-1, 3)
        dt = self._tick_period if self._last_tick is None else now - self._last_tick
        self._last_tick = now
        if self.running and dt < 0.0:
            self.stop(FAULT, now, brake=True)
        elif self.running and self._received is not None and self._age(now) > self.limits.max_action_age:
            self.stop(LOST_POLICY, now, brake=True)
        if not self.running or self._received is None:  # before its first action an episode may only brake
            return self.brake(dt if dt > 0.0 else self._tick_period, elapsed)
        fresh = self._received is not None and now - self._received < self.period - _HOLD_SLACK
        dt = min(dt, 2.0 * self._tick_period)  # a late tick must not jump
        self._slew(self._target if fresh else np.zeros(8), dt, tools)
        return self._command(None if self._received is None else self._age(now))

    def _age(self, now: float) -> float:
        """Seconds since the older of receipt and observation; the receipt is on our clock whatever the stamps say."""
        assert self._received is not None
        return now - min(self._received, self._observed)

    def _slew(self, target: Array, dt: float, tools: Array | None) -> None:
        for part, speed, acceleration in self._parts:
            goal, before, change = limits.limit_norm(target[part], speed), self._velocity[part], acceleration * dt
            if part.start == 0 and tools is not None:
                down, up = self._approach(tools)
                # This much must go, whatever the action asks for; never faster than the limit, also where an arm that
                # lags behind comes closer than it was sent: the servo's own wall is exact.
                slowed = limits.slew(before, np.clip(before, -down, up), change)
                change = max(change - float(np.linalg.norm(slowed - before)), 0.0)
                goal, before = np.clip(goal, -down, up), slowed
            self._velocity[part] = limits.slew(before, goal, change)

    def _approach(self, tools: Array) -> tuple[Array, Array]:
        """Speeds (3,) down and up along the axes from which the tool, wherever it is, stops at the workspace wall."""
        each_axis = self.limits.linear_acceleration / np.sqrt(3.0)  # all three at once: within the limit
        up = (np.asarray(self.limits.workspace_high) - tools).min(axis=0)
        down = (tools - np.asarray(self.limits.workspace_low)).min(axis=0)
        speeds = (limits.approach_speed(room, self._horizon, each_axis) for room in (down, up))
        return next(speeds), next(speeds)
