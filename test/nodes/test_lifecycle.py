from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter

from qt_ros.nodes.lifecycle import LifecycleNode
from qt_ros.nodes.parameters import Parameter, ParameterTable

TABLE = ParameterTable(Parameter("rate", 5.0, "How often.", low=1.0, high=10.0))


class Clumsy(LifecycleNode):
    """Fails in the transition it is told to fail in."""

    def __init__(self, **kwargs: Any) -> None:
        self.fail, self.released = "", 0
        super().__init__("clumsy", TABLE, **kwargs)

    def _maybe(self, what: str) -> None:
        if what == self.fail:
            raise ValueError(f"cannot {what}; do something about it")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._maybe("configure")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._maybe("activate")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._maybe("deactivate")
        return super().on_deactivate(state)

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def node(ros_context: Any) -> Iterator[Clumsy]:
    node = Clumsy(context=ros_context)
    yield node
    node.destroy_node()


def test_it_walks_through_its_life(node: Clumsy) -> None:
    assert node.state == "unconfigured" and node.autostart() and node.state == "active"
    node.trigger_deactivate()
    assert node.state == "inactive" and node.released == 0
    node.trigger_cleanup()
    assert node.state == "unconfigured" and node.released == 1
    node.trigger_shutdown()
    assert node.state == "finalized" and node.released == 2


def test_a_failed_configuration_is_told_cleaned_up_and_can_be_tried_again(
    node: Clumsy, capfd: pytest.CaptureFixture[str]
) -> None:
    node.fail = "configure"
    assert not node.autostart()
    assert node.state == "unconfigured" and node.released == 1
    assert "cannot configure; do something about it" in capfd.readouterr().err
    node.fail = ""
    assert node.autostart()


def test_a_failed_activation_leaves_it_configured(node: Clumsy) -> None:
    node.fail = "activate"
    assert not node.autostart() and node.state == "inactive"


def test_a_failed_deactivation_ends_unconfigured_with_everything_released(node: Clumsy) -> None:
    node.autostart()
    node.fail = "deactivate"
    node.trigger_deactivate()
    assert node.state == "unconfigured" and node.released == 1


def test_parameters_are_read_again_at_every_configuration(node: Clumsy) -> None:
    node.set_parameters([RosParameter("rate", value=7.0)])
    assert node.settings.rate == 5.0
    node.trigger_configure()
    assert node.settings.rate == 7.0


def test_nothing_can_be_set_that_would_not_be_heeded(node: Clumsy) -> None:
    def refusal() -> str:
        (answer,) = node.set_parameters([RosParameter("rate", value=7.0)])
        assert answer.successful == (answer.reason == "")
        return str(answer.reason)

    node.trigger_configure()
    assert "node is inactive" in refusal()
    node.trigger_activate()
    assert "node is active" in refusal() and "deactivate and clean up first" in refusal()
    assert node.get_parameter("rate").value == node.settings.rate == 5.0
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert refusal() == ""
    node.trigger_configure()
    assert node.settings.rate == 7.0


def test_the_clock_can_be_chosen_at_any_time(node: Clumsy) -> None:
    node.autostart()
    (answer,) = node.set_parameters([RosParameter("use_sim_time", value=True)])
    assert answer.successful


def test_an_impossible_transition_is_answered_with_no(node: Clumsy) -> None:
    request = ChangeState.Request()
    request.transition.id = 3  # activate, from unconfigured
    assert not node._service_change_state.callback(request, ChangeState.Response()).success
    assert node.state == "unconfigured"
