"""Whatever comes, in whatever order: commands stay within the limits, and a lost input is a standing robot."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.control.commander import Commander
from qt_ros.control.estop import EStop
from qt_ros.control.servo_loop import ServoLoop
from qt_ros.control.shaper import BRAKE_TIME

CONTRACT = load_contract("mobile_manipulator")
SPACE, SPEC = CONTRACT.action_space, CONTRACT.kinematics
LOW, HIGH = np.array(CONTRACT.limits.workspace_low), np.array(CONTRACT.limits.workspace_high)
TICK = 0.02
STANDS_WITHIN = 0.2  # s from when an input has been lost, which is when it is older than its limit in the contract

number = st.one_of(st.floats(-1.0, 1.0), st.sampled_from([math.nan, math.inf, 1e300, -1e300]))
events = st.lists(
    st.one_of(
        st.tuples(st.just("ticks"), st.integers(1, 40)),
        st.tuples(st.just("late tick"), st.floats(0.021, 0.3)),
        st.tuples(st.just("tend towards"), st.lists(st.floats(-1.0, 1.0), min_size=10, max_size=10)),
        st.tuples(st.just("action"), st.tuples(st.lists(number, min_size=11, max_size=11), st.integers(-1, 1))),
        st.tuples(st.just("repeat action"), st.none()),
        st.tuples(st.just("policy"), st.booleans()),
        st.tuples(st.just("policy lag"), st.floats(0.0, 0.8)),
        st.tuples(st.just("joints"), st.booleans()),
        st.tuples(st.just("joint lag"), st.floats(0.0, 0.25)),
        st.tuples(st.just("odd joints"), st.sampled_from(["missing", "future", "old", "other"])),
        st.tuples(st.just("jump"), st.floats(-200.0, 200.0)),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("episode"), st.none()),
        st.tuples(st.just("end"), st.sampled_from(["", "terminate", "operator"])),
        st.tuples(st.just("idle"), st.none()),
        st.tuples(st.just("estop"), st.booleans()),
        st.tuples(st.just("reset"), st.none()),
        st.tuples(st.just("active"), st.booleans()),
    ),
    max_size=25,
)


class Straight:
    """A robot whose first three joints are the tool's coordinates, so that it can be integrated without an arm."""

    def __init__(self, joints: int) -> None:
        self.lower, self.upper = np.full(joints, -10.0), np.full(joints, 10.0)

    @classmethod
    def of(cls, contract: RobotContract, joints: tuple[str, ...]) -> Straight:
        return cls(len(joints))

    def fk(self, q: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.array(q[:3]), np.eye(3)


class World:
    """Policy, joint states, clock and robot around a commander; checks every command."""

    def __init__(self, contract: RobotContract = CONTRACT) -> None:
        bound = contract.limits
        self.contract, self.space, self.bound, self.spec = contract, contract.action_space, bound, contract.kinematics
        self.low, self.high = np.array(bound.workspace_low), np.array(bound.workspace_high)
        self.tick_time = 1.0 / contract.command_rate
        self.parts = (
            (slice(0, 3), bound.linear_speed, bound.linear_acceleration),
            (slice(3, 6), bound.angular_speed, bound.angular_acceleration),
            (slice(6, 7), bound.base_linear_speed, bound.base_linear_acceleration),
            (slice(7, 8), bound.base_angular_speed, bound.base_angular_acceleration),
        )
        self.now, self.place = 1000.0, (self.low + self.high) / 2
        self.finger = self.finger_goal = self.spec.gripper_open
        self.estop, self.active = EStop(), True
        self.pressed = False  # since the last tick
        self.values = self.space.neutral()
        self.policy = self.joints = True
        self.policy_lag = self.joint_lag = 0.0
        self.episodes, self.running, self.step = 0, "", 0
        self.last_action: tuple[Any, ...] | None = None
        self.hidden = 0.0  # s of motion that nobody could answer: unnoticed steps of the clock, ticks that came late
        self.lost_since: float | None = None  # when something needed went missing
        self.ticked = self.now
        self.moved = self.gripped = 0.0
        self.measurements: list[tuple[float, np.ndarray]] = []
        self.restart()

    def restart(self) -> None:
        """command_node is killed and comes back: the robot's watchdogs have stopped it."""
        with mock.patch("qt_ros.control.commander.Kinematics", Straight):
            self.commander = Commander(self.contract, self.estop)
        self.velocity = np.zeros(8)
        self.newest_action = self.newest_joints = -math.inf
        if self.active:
            self.commander.activate(self.now)
        if self.running:  # the latched status of an episode under way
            self.commander.begin(self.running, self.now, max(1, self.step), self.now)

    def act(self, values: Any) -> None:
        self.step += 1
        self.last_action = (self.running, self.step, self.space.names, values, self.spec.base_frame,
                            self.now - self.policy_lag)  # fmt: skip
        self.offer(self.last_action)

    def offer(self, action: tuple[Any, ...]) -> None:
        if self.commander.act(*action, self.now):
            self.newest_action = action[-1]

    def positions(self, place: np.ndarray) -> dict[str, float]:
        others = len(self.commander.joints) - 3
        return {**dict(zip(self.commander.joints, [*place, *[0.0] * others])), self.spec.gripper_joint: self.finger}

    def measure(self, stamp: float, place: np.ndarray) -> None:
        self.commander.observe_joints(self.positions(place), stamp)
        if not self.newest_joints - 1.0 < stamp < self.newest_joints:  # else overtaken
            self.newest_joints = stamp

    def tick(self, dt: float | None = None) -> None:
        dt = self.tick_time if dt is None else dt
        self.place = self.place + self.velocity[:3] * min(dt, 0.1)  # its own watchdog ends an old command
        reach = abs(self.spec.gripper_closed - self.spec.gripper_open) * dt
        self.finger += min(max(self.finger_goal - self.finger, -reach), reach)
        self.now += dt
        self.measurements.append((self.now, self.place))
        if self.joints:
            ripe = [m for m in self.measurements if m[0] <= self.now - self.joint_lag]
            if ripe:
                self.measure(*ripe[-1])
        self.command(dt, dt)

    def command(self, dt: float, elapsed: float) -> None:
        """What the commander says now, ``dt`` s after its last word by the clock and ``elapsed`` by the wall."""
        command = self.commander.tick(self.now, elapsed)
        velocity = np.append(command.arm_twist, command.base)
        self.check(velocity, dt)
        if command.gripper is not None:
            self.grip(self.commander.close_to(command.gripper, self.now))
        if (held := self.commander.take_grip_stop()) is not None:
            self.grip(held)
        self.velocity, self.ticked = velocity, self.now
        self.moved += float(np.abs(velocity).sum())

    def grip(self, position: float) -> None:
        low, high = sorted((self.spec.gripper_open, self.spec.gripper_closed))
        assert low <= position <= high
        self.gripped += abs(position - self.finger_goal)
        self.finger_goal = position

    def check(self, velocity: np.ndarray, dt: float) -> None:
        assert np.isfinite(velocity).all()
        free = self.commander.shaper.running
        for part, speed, acceleration in self.parts:
            assert np.linalg.norm(velocity[part]) <= speed + 1e-9
            change = np.linalg.norm(velocity[part] - self.velocity[part])
            hardest = acceleration if free else max(acceleration, speed / BRAKE_TIME)
            slower = np.linalg.norm(velocity[part]) <= np.linalg.norm(self.velocity[part])
            hardest = max(acceleration, speed / BRAKE_TIME) if slower and self.commander.step < 0 else hardest
            if not (self.estop.latched or self.pressed):  # an emergency stop is at once, also one that was let go
                assert change <= hardest * max(abs(dt), self.tick_time) + 1e-9
        margin = 1e-9 + self.hidden * self.bound.linear_speed
        assert (self.place >= self.low - margin).all() and (self.place <= self.high + margin).all()
        self.check_lost(velocity)
        if self.estop.latched:
            assert not velocity.any(), "emergency stop"
        self.pressed = False

    def check_lost(self, velocity: np.ndarray) -> None:
        """The time from the loss of an input to standing, by the clock: a late tick is no excuse."""
        action_until = self.newest_action + self.bound.max_action_age
        joints_until = self.newest_joints + self.commander.joint_max_age
        needed = (
            self.active
            and not self.estop.latched
            and bool(self.running)
            and abs(self.now - self.newest_action) <= self.bound.max_action_age
            and abs(self.now - self.newest_joints) <= self.commander.joint_max_age
        )
        if needed:
            self.lost_since = None
        elif self.lost_since is None:
            ran_out = [t for t in (action_until, joints_until) if self.ticked < t <= self.now]
            self.lost_since = min(ran_out, default=self.ticked)
        if self.lost_since is not None and self.now - self.lost_since > STANDS_WITHIN + 1e-6:
            assert not velocity.any(), "something needed is missing for more than 0.2 s"

    def jump(self, by: float) -> None:
        """The clock is set; the world has gone on by one tick only."""
        self.place = self.place + self.velocity[:3] * self.tick_time
        before, self.now = self.now, max(1.0, self.now + by)
        self.measurements.clear()
        self.hidden += self.tick_time if -1e-6 <= by <= self.bound.max_action_age else 0.0
        self.newest_joints = -math.inf if self.now < before else self.newest_joints
        self.lost_since, self.ticked = None, self.now  # from here on the clock can be counted on again
        self.command(2 * self.tick_time, self.tick_time)

    def go(self, ticks: int) -> None:
        for i in range(ticks):
            if self.policy and self.running and i % round(self.contract.policy_period / self.tick_time) == 0:
                self.act(self.values)
            self.tick()

    def happen(self, event: str, value: Any) -> None:
        if event == "ticks":
            self.go(value)
        elif event == "late tick":
            self.hidden += max(0.0, min(value, 0.1) - 2 * self.tick_time)
            self.tick(value)
        elif event == "tend towards":
            space = self.space
            self.values = space.neutral() + np.array(value[: space.size]) * (space.high - space.low)
            self.values[space.index("terminate")] = 0.0
        elif event == "action":
            numbers, odd = value
            self.act(numbers[: self.space.size + odd])
        elif event == "repeat action" and self.last_action is not None:
            self.offer(self.last_action)
        elif event == "policy":
            self.policy = value
        elif event == "policy lag":
            self.policy_lag = value
        elif event == "joints":
            self.joints = value
        elif event == "joint lag":
            self.joint_lag = value
        elif event == "odd joints":
            self.odd_joints(value)
        elif event == "jump":
            self.jump(value)
        elif event == "restart":
            self.restart()
        elif event == "episode":
            self.episodes += 1
            self.running, self.step = f"e{self.episodes}", 0
            self.commander.begin(self.running, self.now, 0, self.now)
        elif event == "end":
            self.commander.end(self.running, value, self.now)
            self.running = ""
        elif event == "idle":
            self.commander.idle(self.now)
            self.running = ""
        elif event == "estop":
            self.commander.press_estop(value, self.now)
            self.pressed |= value
        elif event == "reset":
            self.estop.reset()
        elif event == "active":
            self.active = value
            (self.commander.activate if value else self.commander.deactivate)(self.now)

    def odd_joints(self, kind: str) -> None:
        positions = self.positions(self.place)
        if kind == "missing":
            try:
                self.commander.observe_joints({self.spec.arm_joints[0]: 0.1}, self.now)
            except ValueError as error:
                self.commander.stop("fault", str(error), self.now)
        elif kind == "future":
            self.commander.observe_joints(positions, self.now + 50.0)
            self.newest_joints = self.now + 50.0
        elif kind == "old":
            self.commander.observe_joints(positions, self.now - 0.9)
        else:
            self.commander.observe_joints({self.spec.gripper_joint: self.finger}, self.now)


def live_through(contract: RobotContract, happenings: list[tuple[str, Any]]) -> None:
    world = World(contract)
    world.happen("episode", None)
    world.values = world.space.high.copy()
    world.values[world.space.index("terminate")] = 0.0
    world.go(15)
    assert world.moved > 0.0 and world.gripped > 0.0, "it does move when all is well"
    for event, value in happenings:
        world.happen(event, value)
    world.go(5)
    world.policy = False
    world.go(math.ceil((contract.limits.max_action_age + STANDS_WITHIN) / world.tick_time) + 1)
    assert not world.velocity.any()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events)
def test_any_sequence_of_events_stays_within_the_limits(happenings: list[tuple[str, Any]]) -> None:
    live_through(CONTRACT, happenings)


@pytest.mark.parametrize("robot", ["stretch", "tiago", "husky_ur5e"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events)
def test_so_it_does_with_the_contracts_of_real_robots(robot: str, happenings: list[tuple[str, Any]]) -> None:
    live_through(load_contract(robot), happenings)


@pytest.mark.parametrize("robot", ["mobile_manipulator", "stretch", "tiago", "husky_ur5e"])
@pytest.mark.parametrize("lost", ["policy", "images", "joints"])
def test_how_long_after_the_last_word_of_an_input_the_robot_stands(robot: str, lost: str) -> None:
    """The age limit of the contract and 0.2 s, from the stamp of the last action, image or joint state."""
    world = World(load_contract(robot))
    world.happen("episode", None)
    world.values = world.space.high.copy()
    world.values[world.space.index("terminate")] = 0.0
    world.go(40)
    assert world.velocity.any()
    last = world.newest_joints if lost == "joints" else world.newest_action
    if lost == "joints":
        world.joints = False
    elif lost == "policy":
        world.policy = False
    limit = world.commander.joint_max_age if lost == "joints" else world.bound.max_action_age
    period = round(world.contract.policy_period / world.tick_time)
    moved_at = world.now
    for i in range(200):
        if i % period == 0 and lost == "images":  # a policy that goes on deciding on what is almost the last picture
            world.policy_lag = world.now - last - 1e-6 * i
            world.act(world.values)
        elif i % period == 0 and lost == "joints":
            world.act(world.values)
        world.tick()
        moved_at = world.now if world.velocity.any() else moved_at
    assert world.commander.reason == ("stale_joints" if lost == "joints" else "lost_policy")
    assert moved_at - last <= limit + STANDS_WITHIN
    assert lost == "policy" or moved_at - last > limit, "as long as it may, it moves"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-1.0, 1.0), min_size=10, max_size=10),
            st.sampled_from(["", "", "", "no joints", "no twists", "new episode", "servo restart"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_through_the_servo_joints_and_tool_stay_within_their_ranges(plan: list[tuple[list[float], str]]) -> None:
    """Commander and servo loop as the two nodes run them, around an arm that does what it is told."""
    commander, servo = Commander(CONTRACT), ServoLoop(CONTRACT)
    joints, now = dict(SPEC.home), 50.0
    commander.activate(now)
    commander.begin("e0", now, 0, now)
    model, fastest = servo.servo.kinematics, servo.servo.max_speed
    step = 0
    for number, (values, fault) in enumerate(plan):
        action = SPACE.neutral() + np.array(values) * (SPACE.high - SPACE.low)
        action[SPACE.index("terminate")] = 0.0
        if fault == "new episode":
            commander.begin(f"e{number + 1}", now, 0, now)
        if fault == "servo restart":
            servo = ServoLoop(CONTRACT)
        for tick in range(40):
            if tick % 10 == 0:
                step += 1
                commander.act(commander.episode_id, step, SPACE.names, action, "base_link", now, now)
            now = round(now + TICK, 6)
            if fault != "no joints" or tick < 20:
                commander.observe_joints(joints, now)
                servo.offer_joints(joints, now)
            command = commander.tick(now)
            if fault != "no twists" or tick < 20:
                servo.offer_twist("base_link", command.arm_twist, now, now)
            setpoint = servo.tick(now)
            if setpoint is None:
                continue
            before = np.array([joints[j] for j in servo.joints])
            assert (np.abs(setpoint.positions - before) <= fastest * 2 * TICK + 1e-9).all()
            assert (setpoint.positions >= model.lower[: len(before)]).all()
            assert (setpoint.positions <= model.upper[: len(before)]).all()
            joints.update(zip(servo.joints, setpoint.positions.tolist()))
            tool = commander._kinematics.fk([joints[j] for j in commander.joints])[0]
            assert (tool >= LOW - 2e-3).all() and (tool <= HIGH + 2e-3).all()
        if not commander.shaper.running:
            commander.begin(f"again{number}", now, 0, now)
