"""Parameters as a table: name, type, default, unit, range and description in one place.

A node declares its table once and reads its values from a plain namespace; templates and reference pages are made from
the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node


@dataclass(frozen=True)
class Parameter:
    """One parameter. The type is that of ``default`` (bool, int, float, str, or a list of one of them).

    ``low`` and ``high`` (both or none) bound a number, inclusively; ``choices`` are the only texts allowed; ``unit`` is
    SI or empty. ``safety``: "above" or "below", where a value on that side of the default makes the robot less safe;
    such a value is allowed and warned about. ``at_start``: read once, when the process starts, and never again.
    """

    name: str
    default: Any
    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    safety: str = ""
    at_start: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or not self.description:
            raise ValueError(f"parameter {self.name!r} needs an identifier for a name and a description")
        number = isinstance(self.default, (int, float)) and not isinstance(self.default, bool)
        if (self.low is None) != (self.high is None) or (self.low is not None and not number):
            raise ValueError(f"parameter {self.name}: give low and high together, for numbers only")
        if self.low is not None and self.high is not None and not self.low <= self.default <= self.high:
            raise ValueError(f"parameter {self.name}: default {self.default} is outside {self.low}..{self.high}")
        if self.safety not in ("", "above", "below") or (self.safety and not isinstance(self.default, (int, float))):
            raise ValueError(f"parameter {self.name}: safety is 'above' or 'below', for numbers and booleans only")
        if self.choices and self.default not in self.choices:
            raise ValueError(f"parameter {self.name}: default {self.default!r} is none of {', '.join(self.choices)}")

    @property
    def type(self) -> str:
        """Name of the type, as ROS calls it: bool, integer, double, string, or one of these with _array."""
        names = {bool: "bool", int: "integer", float: "double", str: "string"}
        if isinstance(self.default, list):
            return f"{names[type(self.default[0])]}_array" if self.default else "string_array"
        return names[type(self.default)]

    def looser(self, value: Any) -> str:
        """What to warn of when ``value`` is less safe than the default, else ''."""
        if not self.safety or not (value > self.default if self.safety == "above" else value < self.default):
            return ""
        given, usual = (
            str(v).lower() if isinstance(v, bool) else f"{v:g} {self.unit}".strip() for v in (value, self.default)
        )
        return f"{self.name} is {given}, looser than the default of {usual} that the safety case counts on"

    def descriptor(self, read_only: bool) -> ParameterDescriptor:
        """What `ros2 param describe` shows."""
        text = self.description + (f" [{self.unit}]" if self.unit else "")
        result = ParameterDescriptor(name=self.name, description=text, read_only=read_only)
        if self.default == []:
            result.dynamic_typing = True  # rclpy takes [] for bytes; `ParameterTable` checks the type instead
            result.additional_constraints = "a list of texts"
        if self.choices:
            result.additional_constraints = f"one of: {', '.join(self.choices)}"
        if self.low is not None and self.high is not None:
            if isinstance(self.default, int):
                result.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high), step=0)]
            else:
                bounds = FloatingPointRange(from_value=float(self.low), to_value=float(self.high), step=0.0)
                result.floating_point_range = [bounds]
        return result


ROBOT = Parameter("robot", "mobile_manipulator", "Robot contract: a name in config/robots or the path of a YAML file.")
AUTOSTART = Parameter(
    "autostart", False, "Configure and activate at start; else a lifecycle manager does it.", at_start=True
)

COMMAND_TIMEOUT = Parameter(
    "command_timeout",
    2.0,
    "Silence of command_status for so long ends an episode; without command_node none begins.",
    unit="s",
    low=0.3,
    high=60.0,
    safety="above",
)
FROZEN_CAMERA = Parameter(
    "frozen_camera",
    True,
    "Stop where a real camera (without use_sim_time) repeats its picture byte for byte while the robot moves.",
    safety="below",
)


class ParameterTable:
    """The parameters of one node, in the order of its reference page."""

    def __init__(self, *parameters: Parameter) -> None:
        names = [p.name for p in parameters]
        if len(set(names)) != len(names):
            raise ValueError(f"parameter names must be unique, found {names}")
        self.parameters = parameters

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def declare(self, node: Node, refuse: Callable[[], str] | None = None) -> SimpleNamespace:
        """Declare all parameters on ``node`` and return their values.

        ``refuse`` says why they cannot be set at the moment, or nothing where they can; without it they never can.
        Values outside a range or of another type, and parameters that are given but unknown, raise: a typing error
        must not pass for a default.
        """
        self._refuse_unknown(node)
        node.add_on_set_parameters_callback(self._check)
        for parameter in self.parameters:
            read_only = refuse is None or parameter.at_start
            node.declare_parameter(parameter.name, parameter.default, parameter.descriptor(read_only))
        values = self.read(node)
        if refuse is None:  # the others tell it when they are configured
            self.tell_looser(node, values)
        else:
            node.add_on_set_parameters_callback(partial(self._refuse_now, refuse))
        return values

    def tell_looser(self, node: Node, values: SimpleNamespace) -> None:
        """Warn of every value that is less safe than its default."""
        for parameter in self.parameters:
            if told := parameter.looser(getattr(values, parameter.name)):
                node.get_logger().warning(told)

    def read(self, node: Node) -> SimpleNamespace:
        """Present values as attributes; an array becomes a list."""
        values = {p.name: node.get_parameter(p.name).value for p in self.parameters}
        plain = (bool, int, float, str)
        return SimpleNamespace(**{k: v if isinstance(v, plain) else list(v) for k, v in values.items()})

    def _refuse_unknown(self, node: Node) -> None:
        given = set(node._parameter_overrides)  # rclpy offers no public view of what was given on the command line
        known = {p.name for p in self.parameters} | {"use_sim_time"}
        of_rclpy = ("qos_overrides.", "start_type_description_service")
        unknown = sorted(n for n in given - known if not n.startswith(of_rclpy))
        if unknown:
            raise ValueError(f"unknown parameter(s) {', '.join(unknown)}; known: {', '.join(sorted(known))}")

    def _refuse_now(self, refuse: Callable[[], str], parameters: list[Any]) -> SetParametersResult:
        own = ", ".join(p.name for p in parameters if any(p.name == known.name for known in self.parameters))
        reason = refuse() if own else ""  # use_sim_time and rclpy's own are rclpy's business
        return SetParametersResult(successful=not reason, reason=reason and f"{own}: {reason}")

    def _check(self, parameters: list[Any]) -> SetParametersResult:
        known = {p.name: p for p in self.parameters}
        for parameter in parameters:
            own, value = known.get(parameter.name), parameter.value
            reason = ""
            if own is not None and own.choices and value not in own.choices:
                reason = f"{parameter.name} must be one of {', '.join(own.choices)}, not {value!r}"
            elif own is not None and own.default == []:
                if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
                    reason = f"{parameter.name} must be a list of texts, not {value!r}"
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)
