"""GripperAction's order of things at a stop, with a client that only writes down what it is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rclpy.duration import Duration
from robots import write

from qt_ros.contract.robot import load_contract
from qt_ros.nodes import outputs

PATIENCE = Duration(seconds=0.5)
GRIPPER = "gripper_controller/joint_trajectory, type: trajectory_msgs/msg/JointTrajectory, joints: [left_finger_joint]"
ACTION = "gripper/gripper_cmd, type: control_msgs/action/GripperCommand, max_effort: 40.0"


class Client:
    """An action client whose server takes every goal at once."""

    def __init__(self, *_: Any) -> None:
        self.asked: list[float] = []
        self.canceled = 0
        self.cancel_fails = False

    def server_is_ready(self) -> bool:
        return True

    def send_goal_async(self, goal: Any) -> Any:
        self.asked.append(goal.command.position)
        handle = SimpleNamespace(accepted=True, cancel_goal_async=self._cancel)
        answer = SimpleNamespace(exception=lambda: None, result=lambda: handle)
        return SimpleNamespace(add_done_callback=lambda done: done(answer))

    def _cancel(self) -> None:
        self.canceled += 1
        if self.cancel_fails:
            raise RuntimeError("no cancelling")


class Time:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, duration: float) -> None:
        self.now += duration
        self.slept += duration


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(outputs, "time", made)
    return made


@pytest.fixture
def gripper(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, time: Time) -> outputs.GripperAction:
    def goal() -> Any:
        return SimpleNamespace(command=SimpleNamespace(position=None, max_effort=None))

    monkeypatch.setattr(outputs, "installed_class", lambda *_: SimpleNamespace(Goal=goal))
    monkeypatch.setattr(outputs, "ActionClient", Client)
    node: Any = SimpleNamespace(get_logger=lambda: None)
    return outputs.GripperAction(node, load_contract(write(tmp_path, (GRIPPER, ACTION))))


def test_a_hold_gets_a_moment_to_leave_before_the_process_does(gripper: outputs.GripperAction, time: Time) -> None:
    gripper.publish(0.0)
    gripper.hold(0.03)
    time.now += 0.02
    gripper.wait_for_all_acked(PATIENCE)
    assert time.slept == pytest.approx(outputs.LEAVES - 0.02) and time.slept <= 0.1
    gripper.wait_for_all_acked(PATIENCE)
    assert time.slept <= 0.1, "once"


def test_nobody_waits_without_a_hold_or_long_after_it(gripper: outputs.GripperAction, time: Time) -> None:
    gripper.publish(0.0)
    gripper.wait_for_all_acked(PATIENCE)
    gripper.hold(0.03)
    time.now += 0.2
    gripper.wait_for_all_acked(PATIENCE)
    assert time.slept == 0.0


def test_a_cancel_that_fails_does_not_keep_the_position_from_going_out(gripper: outputs.GripperAction) -> None:
    client: Any = gripper.client
    client.cancel_fails = True
    gripper.publish(0.0)
    with pytest.raises(RuntimeError, match="no cancelling"):
        gripper.hold(0.03)
    assert client.asked == [0.0, 0.03] and client.canceled == 1
