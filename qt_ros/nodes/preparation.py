"""What a node needs from the running robot before it may work: its description, and modes that services switch.

Both wait, in a transition callback, for somebody else's answer. The node's own executor stands still meanwhile, so they
use a node and an executor of their own in the same context: namespace and remappings are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import String

from qt_ros.contract.commands import ServiceCall
from qt_ros.contract.interfaces import MOVEIT_SWITCH, servo_switch
from qt_ros.contract.kinematics import Kinematics
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.nodes.lifecycle import LATCHED, serve_until
from qt_ros.nodes.raw_topics import message_class

PATIENCE = 10.0  # s on the wall, for each answer
TWIST = 1  # ServoCommandType.Request.TWIST
_INTEGER = re.compile(r"(u?)int(8|16|32|64)")


class PreparationError(RuntimeError):
    """The robot did not give what the contract counts on; the message says what to start or correct."""


def robot_contract(node: Node, name_or_path: str, patience: float = PATIENCE) -> RobotContract:
    """The contract, with its description where that comes from a topic. ConfigError, PreparationError."""
    contract = load_contract(name_or_path)
    topic = contract.description_topic
    if not topic:
        return contract
    heard: list[str] = []
    with _helper(node, "description") as (helper, wait):

        def receive(message: Any) -> None:
            heard.append(message.data)

        helper.create_subscription(String, topic, receive, LATCHED)
        if not wait(lambda: bool(heard), patience):
            raise PreparationError(
                f"no robot description on {helper.resolve_topic_name(topic)} within {patience:g} s; "
                f"is robot_state_publisher running, in this namespace?"
            )
    described = contract.with_description(heard[-1])
    Kinematics.of(described)  # a wrong joint or frame name is told here, with the names that there are
    return described


def prepare(node: Node, contract: RobotContract, patience: float = PATIENCE) -> None:
    """Call the services of `preparations`, in order; PreparationError for the first that does not say yes."""
    calls = preparations(contract)
    if not calls:
        return
    with _helper(node, "preparation") as (helper, wait):
        for call in calls:
            _call(helper, wait, call, patience)
            node.get_logger().info(f"{call.service}: done")


def preparations(contract: RobotContract) -> tuple[ServiceCall, ...]:
    """The contract's services, then MoveIt Servo's switch to twists where it follows the arm."""
    switch = servo_switch(contract)
    if not switch:
        return contract.prepare
    return (*contract.prepare, ServiceCall(switch, MOVEIT_SWITCH, {"command_type": TWIST}))


def set_fields(message: Any, fields: Mapping[str, Any], where: str) -> None:
    """Fill plain fields and nested messages from a mapping; ConfigError for an unknown field or an unfit value.

    Checked here, because rclpy checks nothing by default and a wrong type ends the process when it is sent.
    """
    types = message.get_fields_and_field_types()
    for name, value in fields.items():
        if name not in types:
            raise ConfigError(f"{where}: no field {name!r}; known: {', '.join(types) or 'none'}")
        if isinstance(value, Mapping) and "/" in types[name]:
            set_fields(getattr(message, name), value, f"{where}.{name}")
        else:
            setattr(message, name, _fitting(value, types[name], f"{where}: {name}"))


def _fitting(value: Any, kind: str, where: str) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "string" and isinstance(value, str):
        return value
    if kind in ("float", "double") and number:
        return float(value)
    if (bits := _INTEGER.fullmatch(kind)) and number and isinstance(value, int):
        low, high = (0, 2 ** int(bits[2]) - 1) if bits[1] else (-(2 ** (int(bits[2]) - 1)), 2 ** (int(bits[2]) - 1) - 1)
        if low <= value <= high:
            return value
    raise ConfigError(f"{where}: {value!r} does not fit {kind}")


def installed_class(type_name: str, used_for: str) -> Any:
    """Class of a message, service or action that a contract names; PreparationError where it is not installed."""
    try:
        return message_class(type_name)
    except (ImportError, AttributeError) as error:
        package = type_name.partition("/")[0]
        raise PreparationError(
            f"{used_for}: {type_name} is not installed here ({error}); install the ROS package {package}"
        ) from error


def _call(helper: Node, wait: Callable[[Callable[[], bool], float], bool], call: ServiceCall, patience: float) -> None:
    kind = installed_class(call.type, call.service)
    request = kind.Request()
    set_fields(request, call.request, f"prepare: {call.service}")
    client = helper.create_client(kind, call.service)
    if not wait(client.service_is_ready, patience):
        name = helper.resolve_service_name(call.service)
        raise PreparationError(f"no service {name} ({call.type}) within {patience:g} s; is its node running?")
    future = client.call_async(request)
    if not wait(future.done, patience):
        raise PreparationError(f"{call.service}: no answer within {patience:g} s")
    response = future.result()
    if getattr(response, "success", True) is not True:
        said = getattr(response, "message", "") or "success is false"
        raise PreparationError(f"{call.service} refused: {said}")


@contextmanager
def _helper(node: Node, purpose: str) -> Iterator[tuple[Node, Callable[[Callable[[], bool], float], bool]]]:
    """A node beside ``node``, and a way to serve it until something is true (False: not in time)."""
    name = f"{node.get_name()}_{purpose}"
    helper = Node(
        name,
        context=node.context,
        namespace=node.get_namespace(),
        cli_args=["--ros-args", "-r", f"__node:={name}"],  # before the global remapping of our own node's name
        start_parameter_services=False,
        enable_rosout=False,
        parameter_overrides=[
            Parameter("use_sim_time", value=False),  # nothing here waits for a simulation
            Parameter("start_type_description_service", value=False),  # no name of its own for a security policy
        ],
    )
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(helper)

    try:
        yield helper, partial(serve_until, executor)
    finally:
        executor.shutdown()
        helper.destroy_node()
