"""Whatever comes, in whatever order: commands stay within the limits, and a lost input is a standing robot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qt_ros.contract.robot import load_contract
from qt_ros.control.commander import Commander
from qt_ros.control.estop import EStop
from qt_ros.control.servo_loop import ServoLoop
from qt_ros.control.shaper import BRAKE_TIME

CONTRACT = load_contract("mobile_manipulator")
SPACE, BOUND, SPEC = CONTRACT.action_space, CONTRACT.limits, CONTRACT.kinematics
LOW, HIGH = np.array(BOUND.workspace_low), np.array(BOUND.workspace_high)
TICK = 0.02
STANDS_WITHIN = 10  # ticks: 0.2 s
PARTS = (
    (slice(0, 3), BOUND.linear_speed, BOUND.linear_acceleration),
    (slice(3, 6), BOUND.angular_speed, BOUND.angular_acceleration),
    (slice(6, 7), BOUND.base_linear_speed, BOUND.base_linear_acceleration),
    (slice(7, 8), BOUND.base_angular_speed, BOUND.base_angular_acceleration),
)

number = st.one_of(st.floats(-1.0, 1.0), st.sampled_from([math.nan, math.inf, 1e300, -1e300]))
events = st.lists(
    st.one_of(
        st.tuples(st.just("ticks"), st.integers(1, 40)),
        st.tuples(st.just("late tick"), st.floats(0.021, 0.3)),
        st.tuples(st.just("tend towards"), st.lists(st.floats(-1.0, 1.0), min_size=10, max_size=10)),
        st.tuples(st.just("action"), st.lists(number, min_size=9, max_size=11)),
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

    lower, upper = np.full(8, -10.0), np.full(8, 10.0)

    def fk(self, q: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.array(q[:3]), np.eye(3)


class World:
    """Policy, joint states, clock and robot around a commander; checks every command."""

    def __init__(self) -> None:
        self.now, self.place = 1000.0, (LOW + HIGH) / 2
        self.estop, self.active = EStop(), True
        self.pressed = False  # since the last tick
        self.values = SPACE.neutral()
        self.policy = self.joints = True
        self.policy_lag = self.joint_lag = 0.0
        self.episodes, self.running, self.step = 0, "", 0
        self.last_action: tuple[Any, ...] | None = None
        self.pictures: list[float] = []
        self.hidden = 0.0  # s of motion that nobody could answer: unnoticed steps of the clock, ticks that came late
        self.lost = 0  # ticks for which something needed has been missing
        self.moved = 0.0
        self.measurements: list[tuple[float, np.ndarray]] = []
        self.restart()

    def restart(self) -> None:
        """command_node is killed and comes back: the robot's watchdogs have stopped it."""
        self.commander = Commander(CONTRACT, self.estop)
        self.commander._kinematics = Straight()  # type: ignore[assignment]
        self.velocity = np.zeros(8)
        self.episode_known = False
        self.newest_action = self.newest_joints = -math.inf
        if self.active:
            self.commander.activate(self.now)
        if self.running:  # the latched status of an episode under way
            self.commander.begin(self.running, self.now, max(1, self.step), self.now)

    def act(self, values: Any) -> None:
        self.step += 1
        self.last_action = (self.running, self.step, SPACE.names, values, "base_link", self.now - self.policy_lag)
        self.offer(self.last_action)

    def offer(self, action: tuple[Any, ...]) -> None:
        if self.commander.act(*action, self.now):
            self.newest_action = action[-1]

    def measure(self, stamp: float, place: np.ndarray) -> None:
        positions = dict(zip(self.commander.joints, [*place, 0.0, 0.0, 0.0, 0.0, 0.0]))
        self.commander.observe_joints(positions, stamp)
        if not self.newest_joints - 1.0 < stamp < self.newest_joints:  # else overtaken
            self.newest_joints = stamp

    def tick(self, dt: float = TICK) -> None:
        self.place = self.place + self.velocity[:3] * min(dt, 0.1)  # its own watchdog ends an old command
        self.now += dt
        self.measurements.append((self.now, self.place))
        if self.joints:
            ripe = [m for m in self.measurements if m[0] <= self.now - self.joint_lag]
            if ripe:
                self.measure(*ripe[-1])
        command = self.commander.tick(self.now)
        velocity = np.append(command.arm_twist, command.base)
        self.check(velocity, dt)
        self.velocity = velocity
        self.moved += float(np.abs(velocity).sum())

    def check(self, velocity: np.ndarray, dt: float) -> None:
        assert np.isfinite(velocity).all()
        free = self.commander.shaper.running
        for part, speed, acceleration in PARTS:
            assert np.linalg.norm(velocity[part]) <= speed + 1e-9
            change = np.linalg.norm(velocity[part] - self.velocity[part])
            hardest = acceleration if free else max(acceleration, speed / BRAKE_TIME)
            slower = np.linalg.norm(velocity[part]) <= np.linalg.norm(self.velocity[part])
            hardest = max(acceleration, speed / BRAKE_TIME) if slower and self.commander.step < 0 else hardest
            if not (self.estop.latched or self.pressed):  # an emergency stop is at once, also one that was let go
                assert change <= hardest * max(abs(dt), TICK) + 1e-9
        margin = 1e-9 + self.hidden * BOUND.linear_speed
        assert (self.place >= LOW - margin).all() and (self.place <= HIGH + margin).all()
        needed = (
            self.active
            and not self.estop.latched
            and bool(self.running)
            and abs(self.now - self.newest_action) <= BOUND.max_action_age
            and abs(self.now - self.newest_joints) <= self.commander.joint_max_age
        )
        self.lost = 0 if needed else self.lost + 1
        if self.lost > STANDS_WITHIN:  # of the ticks there were: between them nothing can be told
            assert not velocity.any(), "something needed is missing for more than 0.2 s"
        if self.estop.latched:
            assert not velocity.any(), "emergency stop"
        self.pressed = False

    def jump(self, by: float) -> None:
        """The clock is set; the world has gone on by one tick only."""
        self.place = self.place + self.velocity[:3] * TICK
        self.now = max(1.0, self.now + by)
        self.measurements.clear()
        self.hidden += TICK if -1e-6 <= by <= BOUND.max_action_age else 0.0
        self.newest_joints = -math.inf if by < 0.0 else self.newest_joints
        command = self.commander.tick(self.now)
        velocity = np.append(command.arm_twist, command.base)
        self.check(velocity, 2 * TICK)
        self.velocity = velocity

    def go(self, ticks: int) -> None:
        for i in range(ticks):
            if self.policy and self.running and i % 10 == 0:
                self.act(self.values)
            self.tick()

    def happen(self, event: str, value: Any) -> None:
        if event == "ticks":
            self.go(value)
        elif event == "late tick":
            self.hidden += max(0.0, min(value, 0.1) - 2 * TICK)
            self.tick(value)
        elif event == "tend towards":
            self.values = SPACE.neutral() + np.array(value) * (SPACE.high - SPACE.low)
            self.values[SPACE.index("terminate")] = 0.0
        elif event == "action":
            self.act(value)
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
        positions = dict(zip(self.commander.joints, [*self.place, 0.0, 0.0, 0.0, 0.0, 0.0]))
        if kind == "missing":
            try:
                self.commander.observe_joints({SPEC.arm_joints[0]: 0.1}, self.now)
            except ValueError as error:
                self.commander.stop("fault", str(error), self.now)
        elif kind == "future":
            self.commander.observe_joints(positions, self.now + 50.0)
            self.newest_joints = self.now + 50.0
        elif kind == "old":
            self.commander.observe_joints(positions, self.now - 0.9)
        else:
            self.commander.observe_joints({"left_finger_joint": 0.01}, self.now)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events)
def test_any_sequence_of_events_stays_within_the_limits(happenings: list[tuple[str, Any]]) -> None:
    world = World()
    world.happen("episode", None)
    world.values = SPACE.high.copy()
    world.values[SPACE.index("terminate")] = 0.0
    world.go(15)
    assert world.moved > 0.0, "it does move when all is well"
    for event, value in happenings:
        world.happen(event, value)
    world.go(5)
    world.policy = False
    world.go(45)  # the policy is lost, after at most 0.6 s
    assert not world.velocity.any()


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
