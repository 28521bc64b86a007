"""Looks at a running robot and says what is there: topics, types, quality of service, rates, ages, frames, joints.

It only listens and asks for parameters; nothing is published and no service that does anything is called.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from qt_ros.contract.codecs import decode_image, decode_joint_state, stamp_to_ns
from qt_ros.contract.graph_facts import Endpoint, GraphFacts, Heard, Topic
from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.bag_metadata import Qos
from qt_ros.nodes.lifecycle import LATCHED, serve_until
from qt_ros.nodes.raw_topics import message_class

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
JOINTS = "sensor_msgs/msg/JointState"
CONTROLLED = ("trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray")
NAME = "qt_ros_probe"
QUIET = 1.5  # s without a change in the graph: everybody has been found
DISCOVERY = 15.0  # s at most
ANSWER = 3.0  # s for parameters of a controller


class GraphProbe:
    """One node that looks; use it as a context manager."""

    def __init__(self, namespace: str = "", use_sim_time: bool = False) -> None:
        self.context = Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._namespace, self.use_sim_time, self._clock = namespace, use_sim_time, "/clock"
        self.node = self._make_node()

    def _make_node(self) -> Node:
        made = Node(
            NAME,
            context=self.context,
            namespace=self._namespace or None,
            enable_rosout=False,  # nothing is published, and two may be there for a moment
            parameter_overrides=[Parameter("use_sim_time", value=self.use_sim_time)],
            cli_args=["--ros-args", "-r", f"/clock:={self._clock}"] if self._clock != "/clock" else None,
        )
        self._executor.add_node(made)
        return made

    def __enter__(self) -> GraphProbe:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def look(
        self,
        seconds: float,
        contract: RobotContract | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> GraphFacts:
        """Everything there is, after listening ``seconds`` to the contract's sensors, or without one to all of them."""
        tell("looking for nodes")
        self._discover([] if contract is None else self._expected(contract))
        self._find_clock()
        facts = self._graph()
        wanted = self._sensors(facts, contract)
        description = self.node.resolve_topic_name(
            (contract.description_topic if contract else "") or "robot_description"
        )
        tell(f"listening to {', '.join(wanted) or 'nothing'} for {seconds:g} s")
        ears = {name: _Ear(self.node, facts.topics[name], type_name) for name, type_name in wanted.items()}
        texts: list[str] = []

        def receive(message: Any) -> None:
            texts.append(message.data)

        listener = self.node.create_subscription(String, description, receive, LATCHED)
        began = time.monotonic()
        serve_until(self._executor, lambda: time.monotonic() - began >= seconds, seconds + 1.0)
        for name, ear in ears.items():
            facts.topics[name].heard = ear.heard()
            self.node.destroy_subscription(ear.subscription)
        self.node.destroy_subscription(listener)
        facts.seconds, facts.urdf = seconds, texts[-1] if texts else ""
        tell("asking controllers for their joints")
        facts.controllers = self._controllers(facts)
        return facts

    # --- the graph ---------------------------------------------------------------------------------------------------

    def _expected(self, contract: RobotContract) -> list[str]:
        """Topics that somebody should publish; seen late on a busy machine, they are worth waiting for."""
        return [self.node.resolve_topic_name(o.topic) for o in contract.observations.values() if o.kind != "text"]

    def _discover(self, expected: list[str]) -> None:
        """Wait until nothing new has turned up for a while, longer while what is expected is missing.

        Without expectations joint states must be somewhere: there is no robot without.
        """
        seen: Any = None
        since = began = time.monotonic()
        while (now := time.monotonic()) - began < DISCOVERY:
            there = (sorted(self.node.get_topic_names_and_types()), sorted(self.node.get_service_names_and_types()))
            if there != seen:
                seen, since = there, now
            joints = [name for name, types in there[0] if JOINTS in types]
            if expected:
                complete = all(self.node.count_publishers(name) for name in expected)
            else:
                complete = any(self.node.count_publishers(name) for name in joints)
            if now - since > QUIET * (1 if complete else 4):
                return
            self._executor.spin_once(timeout_sec=0.1)

    def _find_clock(self) -> None:
        """Follow the clock in the namespace, where the launch files put it; the global one when nobody is there."""
        own = self.node.resolve_topic_name("clock")
        clock = own if self.node.count_publishers(own) else "/clock"
        if clock == self._clock:
            return
        self._clock = clock
        if self.use_sim_time:  # a node's clock listens where it began to
            before, self.node = self.node, self._make_node()
            self._executor.remove_node(before)
            before.destroy_node()  # after the other began: with its last node a context forgets whom it has found

    def _graph(self) -> GraphFacts:
        facts = GraphFacts(namespace=self.node.get_namespace(), use_sim_time=self.use_sim_time)
        for name, _ in self.node.get_topic_names_and_types():
            publishers = self._endpoints(self.node.get_publishers_info_by_topic(name))
            subscriptions = self._endpoints(self.node.get_subscriptions_info_by_topic(name))
            if publishers or subscriptions:
                facts.topics[name] = Topic(name, publishers, subscriptions)
        for name, types in self.node.get_service_names_and_types():
            if types and self.node.count_services(name):
                facts.services[name] = types[0]
        end = "/_action/send_goal"
        for name, type_name in facts.services.items():
            if name.endswith(end):
                facts.actions[name.removesuffix(end)] = type_name.removesuffix("_SendGoal")
        clock = facts.topics.get(self._clock)
        facts.clock = clock.publishers[0].node if clock is not None and clock.publishers else ""
        return facts

    def _endpoints(self, infos: Iterable[Any]) -> list[Endpoint]:
        found = []
        for info in infos:
            if info.node_name == NAME:
                continue
            qos = Qos.of(info.qos_profile)
            full = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            node = full.removeprefix(self.node.get_namespace().rstrip("/") + "/")
            demand = "" if qos.deadline_ns is None else f"a deadline of {qos.deadline_ns * 1e-9:g} s"
            demand = demand or ("manual liveliness" if qos.liveliness.startswith("manual") else "")
            found.append(Endpoint(node, info.topic_type, qos.reliability, qos.durability, demand))
        return sorted(found, key=lambda e: e.node)

    def _sensors(self, facts: GraphFacts, contract: RobotContract | None) -> dict[str, str]:
        """{topic: type} to listen to: those that somebody publishes in the type it is to have."""
        if contract is not None:
            specs = [o for o in contract.observations.values() if o.kind != "text"]
            named = {self.node.resolve_topic_name(o.topic): o.type for o in specs}
        else:
            kinds = (*IMAGES, JOINTS)
            named = {t.name: e.type for t in facts.topics.values() for e in t.publishers if e.type in kinds}
        return {
            name: type_name
            for name, type_name in named.items()
            if name in facts.topics and any(e.type == type_name for e in facts.topics[name].publishers)
        }

    # --- controllers -------------------------------------------------------------------------------------------------

    def _controllers(self, facts: GraphFacts) -> dict[str, list[str]]:
        """Joints that the takers of joint commands say they own (parameter ``joints``, as ros2_control has it)."""
        nodes = {e.node for t in facts.topics.values() for e in t.subscriptions if e.type in CONTROLLED}
        found = {}
        for node in sorted(nodes):
            service = facts.resolve(f"{node}/get_parameters")
            if service in facts.services and (joints := self._joints_of(service)):
                found[node] = joints
        return found

    def _joints_of(self, service: str) -> list[str]:
        client = self.node.create_client(GetParameters, service)
        try:
            if not serve_until(self._executor, client.service_is_ready, ANSWER):
                return []
            future = client.call_async(GetParameters.Request(names=["joints"]))
            if not serve_until(self._executor, future.done, ANSWER):
                return []
            values = future.result().values
            return list(values[0].string_array_value) if values else []
        finally:
            self.node.destroy_client(client)


class _Ear:
    """Listens to one sensor, in the quality that its publishers offer."""

    def __init__(self, node: Node, topic: Topic, type_name: str) -> None:
        reliable = all(e.reliability == "reliable" for e in topic.publishers)
        latched = all(e.durability == "transient_local" for e in topic.publishers)
        profile = QoSProfile(
            depth=50,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        self._clock, self._image = node.get_clock(), type_name in IMAGES
        self._stamps: list[int] = []
        self._receipts: list[float] = []
        self._ages: list[float] = []
        self._frames: dict[str, None] = {}
        self._details: dict[str, dict[Any, None]] = {}
        self._problems: dict[str, None] = {}
        self._positions: dict[str, float] = {}
        self.subscription = node.create_subscription(message_class(type_name), topic.name, self._receive, profile)

    def _receive(self, message: Any) -> None:
        now = self._clock.now().nanoseconds
        self._receipts.append(time.monotonic())
        self._frames[message.header.frame_id] = None
        try:
            stamp = stamp_to_ns(message.header.stamp)
            if stamp == 0:
                self._problems["its time stamps are zero; nothing can be aligned"] = None
            else:
                self._stamps.append(stamp)
                self._ages.append((now - stamp) * 1e-9)
            if self._image:
                self._see(message)
            else:
                readings = decode_joint_state(message)
                known = {name: r.position for name, r in readings.items() if r.position is not None}
                self._note("joints", *known)
                self._positions.update(known)
        except ValueError as error:
            self._problems[str(error)] = None

    def _see(self, message: Any) -> None:
        if hasattr(message, "encoding"):
            self._note("encodings", message.encoding)
            self._note("sizes", (message.width, message.height))
            if len(self._receipts) > 1:
                return
        picture = decode_image(message)  # raw images are told by their fields; one is decoded to be sure
        self._note("sizes", (picture.shape[1], picture.shape[0]))

    def _note(self, key: str, *values: Any) -> None:
        self._details.setdefault(key, {}).update(dict.fromkeys(values))

    def heard(self) -> Heard:
        """What came so far."""
        times = [s * 1e-9 for s in self._stamps] if len(self._stamps) > 2 else self._receipts
        steps = [b - a for a, b in zip(times, times[1:])]
        span = times[-1] - times[0] if times else 0.0
        return Heard(
            count=len(self._receipts),
            rate=len(steps) / span if len(steps) >= 2 and span > 0 else None,
            gap=max(steps) if len(steps) >= 2 else None,
            age=statistics.median(self._ages) if self._ages else None,
            frames=tuple(self._frames),
            details={key: list(values) for key, values in self._details.items()} | {"positions": self._positions},
            problems=tuple(self._problems),
        )
