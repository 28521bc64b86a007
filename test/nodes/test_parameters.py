from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from qt_ros.nodes import command_node, policy_node, servo_node, teleop_node
from qt_ros.nodes.lifecycle import LifecycleNode
from qt_ros.nodes.parameters import Parameter, ParameterTable

TABLE = ParameterTable(
    Parameter("rate", 5.0, "How often.", unit="Hz", low=1.0, high=10.0),
    Parameter("count", 3, "How many.", low=0, high=9),
    Parameter("device", "cpu", "Where.", choices=("cpu", "cuda")),
    Parameter("quick", True, "Hurry."),
    Parameter("topics", [], "More topics."),
)


@pytest.fixture
def make(ros_context: Any) -> Iterator[Any]:
    nodes: list[Node] = []

    def go(**given: Any) -> Node:
        overrides = [RosParameter(name, value=value) for name, value in given.items()]
        nodes.append(rclpy.create_node("n", context=ros_context, parameter_overrides=overrides))
        return nodes[-1]

    yield go
    for node in nodes:
        node.destroy_node()


def test_defaults_and_given_values_are_read(make: Any) -> None:
    values = TABLE.declare(make(rate=2.5, topics=["a", "b"]))
    assert (values.rate, values.count, values.device, values.quick, values.topics) == (2.5, 3, "cpu", True, ["a", "b"])


def test_descriptions_units_and_ranges_are_told_to_ros(make: Any) -> None:
    node = make()
    TABLE.declare(node)
    rate, count = node.describe_parameter("rate"), node.describe_parameter("count")
    assert rate.description == "How often. [Hz]" and rate.read_only
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (1.0, 10.0)
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (0, 9)
    assert "cuda" in node.describe_parameter("device").additional_constraints


@pytest.mark.parametrize("given", [{"rate": 11.0}, {"rate": "fast"}, {"count": -1}, {"device": "tpu"}, {"topics": [1]}])
def test_a_value_out_of_range_or_of_another_type_raises(make: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ParameterException):
        TABLE.declare(make(**given))


def test_a_parameter_that_does_not_exist_raises(make: Any) -> None:
    with pytest.raises(ValueError, match=r"unknown parameter\(s\) raet; known: count, device"):
        TABLE.declare(make(raet=2.0))


def test_a_choice_is_checked_when_it_is_set_later(make: Any) -> None:
    node = make()
    TABLE.declare(node, refuse=str)
    refused, accepted = node.set_parameters([RosParameter("device", value="tpu"), RosParameter("device", value="cuda")])
    assert not refused.successful and "cpu, cuda" in refused.reason and accepted.successful
    assert TABLE.read(node).device == "cuda"


@pytest.mark.parametrize(("side", "safer", "looser"), [("above", 1.0, 3.0), ("below", 3.0, 1.0)])
def test_a_value_less_safe_than_the_default_is_warned_about(
    make: Any, capfd: pytest.CaptureFixture[str], side: str, safer: float, looser: float
) -> None:
    table = ParameterTable(Parameter("patience", 2.0, "How long.", unit="s", low=0.5, high=9.0, safety=side))
    for given in ({}, {"patience": safer}):
        table.declare(make(**given))
    assert "looser" not in capfd.readouterr().err
    table.declare(make(patience=looser))
    assert f"patience is {looser:g} s, looser than the default of 2 s" in capfd.readouterr().err


def test_a_switch_that_is_off_is_warned_about(make: Any, capfd: pytest.CaptureFixture[str]) -> None:
    table = ParameterTable(Parameter("watch", True, "Whether.", safety="below"))
    table.declare(make())
    assert "looser" not in capfd.readouterr().err
    table.declare(make(watch=False))
    assert "watch is false, looser than the default of true" in capfd.readouterr().err


def test_a_lifecycle_node_warns_when_it_is_configured(ros_context: Any, capfd: pytest.CaptureFixture[str]) -> None:
    table = ParameterTable(Parameter("patience", 2.0, "How long.", unit="s", low=0.5, high=9.0, safety="above"))
    given = [RosParameter("patience", value=9.0)]
    node = LifecycleNode("n", table, context=ros_context, parameter_overrides=given)
    try:
        assert "looser" not in capfd.readouterr().err
        node.trigger_configure()
        assert "patience is 9 s, looser than the default of 2 s" in capfd.readouterr().err
    finally:
        node.destroy_node()


@pytest.mark.parametrize(
    ("table", "name"),
    [(command_node, "clock_patience"), (servo_node, "twist_timeout"), (policy_node, "command_timeout"),
     (teleop_node, "joy_timeout"), (teleop_node, "command_timeout")],
)  # fmt: skip
def test_parameters_that_can_loosen_safety_are_marked(table: Any, name: str) -> None:
    (parameter,) = (p for p in table.PARAMETERS if p.name == name)
    assert parameter.looser(parameter.high) and not parameter.looser(parameter.default)
    assert not parameter.looser(parameter.low)


def test_what_is_read_at_start_only_cannot_be_set_later(make: Any) -> None:
    node = make()
    TABLE.declare(node)
    (answer,) = node.set_parameters([RosParameter("rate", value=7.0)])
    assert not answer.successful and "read-only" in answer.reason and TABLE.read(node).rate == 5.0


def test_what_is_read_at_start_only_cannot_be_set_where_the_others_can(make: Any) -> None:
    table, node = ParameterTable(*TABLE, Parameter("begin", False, "At once.", at_start=True)), make()
    table.declare(node, refuse=str)
    refused, accepted = node.set_parameters([RosParameter("begin", value=True), RosParameter("rate", value=7.0)])
    assert not refused.successful and "read-only" in refused.reason and accepted.successful


def test_a_refusal_counts_for_the_own_parameters_only(make: Any) -> None:
    node = make()
    node.declare_parameter("somebody_elses", 1)
    TABLE.declare(node, refuse=lambda: "not now")
    refused, other = node.set_parameters([RosParameter("rate", value=7.0), RosParameter("somebody_elses", value=2)])
    assert not refused.successful and refused.reason == "rate: not now" and TABLE.read(node).rate == 5.0
    assert other.successful
    both = node.set_parameters_atomically([RosParameter("somebody_elses", value=3), RosParameter("rate", value=7.0)])
    assert not both.successful and node.get_parameter("somebody_elses").value == 2


@pytest.mark.parametrize(
    "wrong",
    [{"default": 20.0, "low": 0.0, "high": 1.0}, {"default": 1.0, "low": 0.0}, {"default": "c", "choices": ("a", "b")},
     {"default": "text", "low": 0.0, "high": 1.0}, {"default": 1, "description": ""},
     {"default": 1.0, "safety": "over"}, {"default": "text", "safety": "above"}],
)  # fmt: skip
def test_a_table_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Parameter(**{"name": "x", "description": "d", **wrong})


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="unique"):
        ParameterTable(Parameter("a", 1, "x"), Parameter("a", 2, "y"))


@pytest.mark.parametrize("module", [command_node, servo_node])
def test_every_parameter_of_a_node_is_described(module: Any) -> None:
    assert all(p.description.endswith(".") and p.type for p in module.PARAMETERS)
