"""One episode at a time: when steps are due, what they see, and the name of every way an episode can end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.control.runner import Episode, EpisodeRunner, Step

CONTRACT = load_contract("mobile_manipulator")
SPEC = CONTRACT.kinematics
HOME = {j: SPEC.home[j] for j in (*SPEC.arm_joints, SPEC.gripper_joint)}


def image(encoding: str = "rgb8", width: int = 640, height: int = 480, frame: str = "head_camera_optical_frame") -> Any:
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=frame, stamp=SimpleNamespace(sec=0, nanosec=0)),
        height=height, width=width, encoding=encoding, is_bigendian=0, step=width * 3, data=bytes(width * height * 3),
    )  # fmt: skip


def joint_state(**positions: float) -> Any:
    return SimpleNamespace(name=list(positions), position=list(positions.values()), velocity=[], effort=[])


@dataclass
class ScriptedActor:
    """Decides what the test says; ``gate`` holds a step back until the test lets it go."""

    terminate_at: int = -1
    value: float = 0.0
    gate: threading.Event | None = None
    instructions: list[str] = field(default_factory=list)
    seen: list[Mapping[str, float]] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)

    def reset(self, instruction: str) -> None:
        self.instructions.append(instruction)

    def step(self, image: np.ndarray, joint_positions: Mapping[str, float]) -> Any:
        assert image.shape == (480, 640, 3)
        self.seen.append(joint_positions)
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        values = np.full(CONTRACT.action_space.size, self.value)
        last = len(self.seen) - 1 == self.terminate_at
        return SimpleNamespace(values=values, q=np.zeros(10), terminate=last, timings_ms={"encode": 0.0, "decode": 0.0})


class Harness:
    """A runner with a clock that is moved by hand, and what it reported."""

    def __init__(self, actor: ScriptedActor, contract: RobotContract = CONTRACT, real: bool = False) -> None:
        self.now = 100.0
        self.steps: list[Step] = []
        self.ends: list[Episode] = []
        self.runner = EpisodeRunner(contract, actor, lambda: self.now, self.steps.append, self.ends.append, real)

    def joints(self, **changed: float) -> None:
        self.runner.offer_joints(joint_state(**{**HOME, **changed}), self.now)

    def frame(self, message: Any = None) -> None:
        self.joints()
        self.runner.offer_image(message or image(), self.now, time.monotonic())

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        waiting = threading.Event()
        while not true():
            assert time.monotonic() < deadline, (self.steps, self.ends)
            waiting.wait(0.002)


@pytest.fixture
def started() -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def start(actor: ScriptedActor | None = None, max_duration: float = 60.0, real: bool = False) -> Harness:
        harness = Harness(actor or ScriptedActor(), real=real)
        made.append(harness)
        harness.runner.start("e1", "pick the red cube", max_duration)
        return harness

    yield start
    for harness in made:
        harness.runner.close()


def test_a_step_is_taken_every_policy_period_from_a_faster_camera(started: Callable[..., Harness]) -> None:
    h = started()
    for i in range(16):  # 15 Hz
        h.now = 100.0 + i / 15
        h.frame()
        h.until(lambda want=i // 3 + 1: len(h.steps) == want)
    assert [round(s.frame.stamp - 100.0, 3) for s in h.steps] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert [s.index for s in h.steps] == list(range(6))


def test_a_hastened_step_is_taken_with_the_next_image_and_the_period_begins_anew(
    started: Callable[..., Harness],
) -> None:
    h = started()
    for i in range(10):
        h.now = 100.0 + i / 15
        if i == 4:
            h.runner.hasten()
        h.frame()
        h.until(lambda want=(1, 1, 1, 2, 3, 3, 3, 4, 4, 4)[i]: len(h.steps) == want)
    assert [round((s.frame.stamp - 100.0) * 15) for s in h.steps] == [0, 3, 4, 7]


def test_the_policy_terminates_the_episode(started: Callable[..., Harness]) -> None:
    actor = ScriptedActor(terminate_at=1)
    h = started(actor)
    h.frame()
    h.until(lambda: len(h.steps) == 1)
    h.now += 0.2
    h.frame()
    h.until(lambda: bool(h.ends))
    assert (h.ends[0].reason, h.ends[0].steps, h.runner.busy) == ("terminate", 2, False)
    assert actor.instructions == ["pick the red cube"]


def test_while_the_network_works_only_the_newest_frame_is_kept(started: Callable[..., Harness]) -> None:
    actor = ScriptedActor(gate=threading.Event())
    h = started(actor)
    h.frame()
    assert actor.entered.wait(20)
    for _ in range(9):
        h.now += 1 / 15
        h.frame()
    assert actor.gate is not None
    actor.gate.set()
    h.until(lambda: len(h.steps) == 2)
    assert h.steps[1].frame.stamp == pytest.approx(100.6)


def test_images_from_before_the_episode_are_not_used(started: Callable[..., Harness]) -> None:
    h = started()
    h.joints()
    h.runner.offer_image(image(), 99.9, time.monotonic())
    h.frame()
    h.until(lambda: len(h.steps) == 1)
    assert h.steps[0].frame.stamp == 100.0


def test_joint_states_from_before_the_episode_are_not_used(started: Callable[..., Harness]) -> None:
    actor = ScriptedActor()
    h = started(actor)
    h.runner.end("operator")
    h.joints(arm_joint_1=1.0)  # then the robot is set up anew
    h.runner.start("e2", "pick the red cube", 60.0)
    h.now += 0.01
    h.runner.offer_image(image(), h.now, time.monotonic())  # no joint state of this episode before it: waits
    h.now += 0.01
    h.joints(arm_joint_1=0.5)
    h.now += 0.05
    h.runner.offer_image(image(), h.now, time.monotonic())
    h.until(lambda: bool(h.steps))
    assert [positions["arm_joint_1"] for positions in actor.seen] == [0.5]
    assert not [e for e in h.ends if e.episode_id == "e2"]


def test_joints_are_taken_as_of_the_image(started: Callable[..., Harness]) -> None:
    actor = ScriptedActor()
    h = started(actor)
    h.joints(arm_joint_1=0.1)
    h.runner.offer_joints(joint_state(**{**HOME, "arm_joint_1": 0.9}), 100.02)
    h.runner.offer_image(image(), 100.01, time.monotonic())
    h.until(lambda: len(h.steps) == 1)
    assert actor.seen[0]["arm_joint_1"] == 0.1


def test_a_lift_counts_where_it_is_reported_and_is_not_missed_where_it_is_not(started: Callable[..., Harness]) -> None:
    actor = ScriptedActor()
    h = started(actor)
    h.frame()
    h.until(lambda: len(h.steps) == 1)
    h.now += 0.2
    h.joints(lift_joint=0.31)
    h.runner.offer_image(image(), h.now, time.monotonic())
    h.until(lambda: len(h.steps) == 2)
    assert ["lift_joint" in seen for seen in actor.seen] == [False, True]
    assert actor.seen[1]["lift_joint"] == 0.31


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (image(encoding="yuv422"), "yuv422"),
        (image(width=320), "320x480"),
        (image(frame="wrist_camera"), "wrist_camera"),
    ],
)
def test_a_wrong_image_ends_with_bad_image(started: Callable[..., Harness], message: Any, words: str) -> None:
    h = started()
    h.frame(message)
    h.until(lambda: bool(h.ends))
    assert h.ends[0].reason == "bad_image"
    assert words in h.ends[0].message
    assert h.steps == []


def test_a_joint_position_that_is_not_finite_ends_with_non_finite(started: Callable[..., Harness]) -> None:
    h = started()
    h.joints(arm_joint_3=float("nan"))
    assert h.ends[0].reason == "non_finite"
    assert "arm_joint_3" in h.ends[0].message


def test_a_decision_that_is_not_finite_is_never_reported(started: Callable[..., Harness]) -> None:
    h = started(ScriptedActor(value=float("inf")))
    h.frame()
    h.until(lambda: bool(h.ends))
    assert (h.ends[0].reason, h.steps) == ("non_finite", [])


def test_a_silent_camera_ends_with_stale_camera(started: Callable[..., Harness]) -> None:
    h = started()
    h.frame()
    h.now += 0.4
    h.joints()
    h.runner.check()
    assert h.ends == []
    h.now += 0.2
    h.joints()
    h.runner.check()
    assert h.ends[0].reason == "stale_camera"


@pytest.mark.parametrize("real", [True, False])
def test_a_real_camera_frozen_under_fresh_stamps_ends_with_stale_camera(
    started: Callable[..., Harness], real: bool
) -> None:
    h = started(real=real)
    for i in range(8):
        h.runner.offer_joints(joint_state(**{**HOME, "arm_joint_4": HOME["arm_joint_4"] - 0.05 * i}), h.now)
        h.runner.offer_image(image(), h.now, time.monotonic())
        h.until(lambda i=i: len(h.steps) > i or bool(h.ends))
        if h.ends:
            break
        h.now += 0.2
    if real:
        assert h.ends[0].reason == "stale_camera" and "same picture for 0.60 s" in h.ends[0].message
    assert len(h.steps) == (3 if real else 8), "a simulator's pictures have no noise"


@pytest.mark.parametrize("obeyed", [True, False])
def test_the_base_counts_as_moving_only_where_commands_are_executed(
    started: Callable[..., Harness], obeyed: bool
) -> None:
    h = started(ScriptedActor(value=0.02), real=True)
    h.runner.obeyed = obeyed
    for i in range(8):
        h.frame()
        h.until(lambda i=i: len(h.steps) > i or bool(h.ends))
        if h.ends:
            break
        h.now += 0.2
    assert [e.reason for e in h.ends] == (["stale_camera"] if obeyed else [])


def test_silent_joints_end_with_stale_joints(started: Callable[..., Harness]) -> None:
    h = started()
    h.frame()
    h.now += 0.3
    h.runner.offer_image(image(), h.now, time.monotonic())
    h.until(lambda: bool(h.ends))
    assert h.ends[0].reason == "stale_joints"


def test_a_joint_that_is_never_published_is_named(started: Callable[..., Harness]) -> None:
    h = started()
    h.now += 1.5 * h.runner.joint_spec.max_age  # past the first moments, in which joint states are waited for
    h.runner.offer_joints(joint_state(arm_joint_1=0.0), h.now)
    h.runner.offer_image(image(), h.now, time.monotonic())
    h.until(lambda: bool(h.ends))
    assert h.ends[0].reason == "stale_joints"
    assert "left_finger_joint" in h.ends[0].message


def test_time_runs_out(started: Callable[..., Harness]) -> None:
    h = started(max_duration=1.0)
    h.now += 1.1
    h.frame()
    h.runner.check()
    assert h.ends[0].reason == "timeout"


def test_a_clock_that_is_set_back_ends_with_fault(started: Callable[..., Harness]) -> None:
    h = started(max_duration=1.0)
    h.frame()
    h.now = 1.0
    h.runner.check()
    assert (h.ends[0].reason, "set back" in h.ends[0].message) == ("fault", True)


def test_a_clock_that_is_set_back_to_a_time_within_the_episode_ends_with_fault(
    started: Callable[..., Harness],
) -> None:
    h = started()
    h.now += 2.0
    h.frame()
    h.runner.check()
    assert not h.ends
    h.now -= 1.0
    h.frame()
    h.runner.check()
    assert [e.reason for e in h.ends] == ["fault"] and "set back by 1.00 s" in h.ends[0].message


def test_an_end_in_mid_step_drops_the_decision(started: Callable[..., Harness]) -> None:
    actor = ScriptedActor(gate=threading.Event())
    h = started(actor)
    h.frame()
    assert actor.entered.wait(20)
    assert h.runner.end("canceled", "the client canceled")
    assert actor.gate is not None
    actor.gate.set()
    h.runner.start("e2", "pick the blue ball", 60.0)
    h.now += 0.05
    h.frame()
    h.until(lambda: len(h.steps) == 1)
    assert h.steps[0].episode.episode_id == "e2"
    assert [e.reason for e in h.ends] == ["canceled"]
    assert actor.instructions == ["pick the red cube", "pick the blue ball"]


def test_the_first_reason_stays(started: Callable[..., Harness]) -> None:
    h = started()
    assert h.runner.end("estop")
    assert not h.runner.end("timeout")
    assert [e.reason for e in h.ends] == ["estop"]


def test_a_second_episode_must_wait(started: Callable[..., Harness]) -> None:
    h = started()
    with pytest.raises(RuntimeError, match="e1 is still running"):
        h.runner.start("e2", "pick the blue ball", 60.0)


def test_an_error_inside_ends_with_fault_and_says_where(started: Callable[..., Harness]) -> None:
    class Broken(ScriptedActor):
        def step(self, image: np.ndarray, joint_positions: Mapping[str, float]) -> Any:
            raise ZeroDivisionError("in the network")

    h = started(Broken())
    h.frame()
    h.until(lambda: bool(h.ends))
    assert h.ends[0].reason == "fault"
    assert "in the network" in h.ends[0].message
