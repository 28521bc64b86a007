"""A contract held against a running robot: what is missing, wrong, slow or old, and what to change.

Pure comparison of a `RobotContract` with `GraphFacts`; the facts are collected by qt_ros.nodes.graph_probe.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from qt_ros.contract.check import Finding, check_description
from qt_ros.contract.codecs import ENCODINGS
from qt_ros.contract.commands import CommandSpec
from qt_ros.contract.graph_facts import GraphFacts, Heard
from qt_ros.contract.interfaces import MOVEIT_SWITCH, servo_switch
from qt_ros.contract.observations import observed_joints
from qt_ros.contract.robot import ObservationSpec, RobotContract

RATE_TOLERANCE = 0.2  # of the contract's rate
OUR_NODES = ("command_node", "servo_node", "policy_node", "recorder_node")


def compare(contract: RobotContract, facts: GraphFacts) -> list[Finding]:
    """All findings, in the order of the contract's file."""
    return [
        *_clock(facts),
        *_description(contract, facts),
        *(f for spec in contract.observations.values() for f in _observation(contract, spec, facts)),
        *(f for spec in contract.commands.values() for f in _command(contract, spec, facts)),
        *_services(contract, facts),
    ]


def _clock(facts: GraphFacts) -> Iterator[Finding]:
    if facts.clock and not facts.use_sim_time:
        yield Finding(
            "warning",
            "time",
            f"{facts.clock} publishes the clock of a simulation, but wall time was used here",
            "use --sim-time, and use_sim_time:=true for every node",
        )
    if facts.use_sim_time and not facts.clock:
        topics = " or ".join(dict.fromkeys((facts.resolve("clock"), "/clock")))
        yield Finding("error", "time", f"nobody publishes {topics}", "start the simulator, or leave --sim-time out")


def _description(contract: RobotContract, facts: GraphFacts) -> Iterator[Finding]:
    topic = contract.description_topic
    if not topic:
        return
    if not facts.urdf:
        others = facts.elsewhere("std_msgs/msg/String", publishing=True)
        yield Finding(
            "error",
            "description",
            f"nothing on {facts.resolve(topic)}",
            f"start robot_state_publisher in this namespace{_instead(others)}",
        )
        return
    if contract.urdf_text == facts.urdf:
        return  # looked at already
    if contract.urdf_text:
        told = f"{facts.resolve(topic)} carries another URDF than the one given"
        yield Finding("warning", "description", told, "what follows is about the robot's own; take that one")
    yield from check_description(contract.with_description(facts.urdf))


def _observation(contract: RobotContract, spec: ObservationSpec, facts: GraphFacts) -> Iterator[Finding]:
    where, name = f"observations.{spec.name}", facts.resolve(spec.topic)
    topic = facts.topic(spec.topic)
    if spec.kind == "text" and (topic is None or not topic.publishers):
        yield Finding("note", where, f"nobody publishes {name} yet", "needed only with follow_instruction_topic")
        return
    if topic is None or not topic.publishers:
        others = facts.elsewhere(spec.type, publishing=True)
        yield Finding("error", where, f"nobody publishes {name}", f"start its driver{_instead(others)}")
        return
    wrong = sorted({p.type for p in topic.publishers} - {spec.type})
    if wrong:
        nodes = ", ".join(p.node for p in topic.publishers)
        yield Finding(
            "error",
            where,
            f"{name} is {', '.join(wrong)} (from {nodes}), the contract says {spec.type}",
            f"set type to {wrong[0]} or remap",
        )
        return
    if len(topic.publishers) > 1 and spec.kind == "image":
        nodes = ", ".join(p.node for p in topic.publishers)
        yield Finding("warning", where, f"several nodes publish {name}: {nodes}", "stop all but one")
    if spec.kind == "text":
        return
    if topic.heard is None or not topic.heard.count:
        seconds = f"{facts.seconds:g} s"
        yield Finding(
            "error",
            where,
            f"{name} has a publisher but no message came in {seconds}",
            "is the sensor running? for large images see config/fastdds.xml",
        )
        return
    before = yield from _counted(_heard(where, spec, topic.heard))
    yield from _kind(contract, spec, topic.heard, where)
    if not before:
        rate = "" if topic.heard.rate is None else f" at {topic.heard.rate:.1f} Hz"
        age = "" if topic.heard.age is None else f", {1e3 * topic.heard.age:.0f} ms old"
        yield Finding("ok", where, f"{name}{rate}{age}")


def _counted(findings: Iterator[Finding]) -> Generator[Finding, None, int]:
    """Pass findings on; the number of them is the generator's value."""
    number = 0
    for finding in findings:
        number += 1
        yield finding
    return number


def _heard(where: str, spec: ObservationSpec, heard: Heard) -> Iterator[Finding]:
    for problem in heard.problems:
        yield Finding("error", where, problem, "correct the driver, or the contract")
    if heard.rate is not None and spec.rate:
        if heard.rate < (1.0 - RATE_TOLERANCE) * spec.rate:
            yield Finding(
                "warning",
                where,
                f"{heard.rate:.1f} Hz, the contract says {spec.rate:g} Hz",
                "speed the driver up, or set rate to what it does",
            )
        elif heard.rate > (1.0 + RATE_TOLERANCE) * spec.rate:
            yield Finding("note", where, f"{heard.rate:.1f} Hz, the contract says {spec.rate:g} Hz", "set rate to it")
    if heard.gap is not None and heard.gap > spec.max_age > 0:
        yield Finding(
            "error",
            where,
            f"{heard.gap:.2f} s passed between two messages, max_age is {spec.max_age:g} s",
            "episodes would stop there: find the delay, or raise max_age",
        )
    if heard.age is not None and spec.max_age:
        if heard.age > spec.max_age:
            yield Finding(
                "error",
                where,
                f"messages are {heard.age:.2f} s old when they arrive, max_age is {spec.max_age:g} s",
                "synchronise the clocks of both machines, or use --sim-time",
            )
        elif heard.age < -0.05:
            yield Finding(
                "error",
                where,
                f"messages are stamped {-heard.age:.2f} s in the future",
                "synchronise the clocks (chrony), or give every node the same use_sim_time",
            )


def _kind(contract: RobotContract, spec: ObservationSpec, heard: Heard, where: str) -> Iterator[Finding]:
    if spec.kind == "image":
        if spec.frame and set(heard.frames) - {spec.frame}:
            yield Finding(
                "error",
                where,
                f"frame_id is {_list(heard.frames)}, the contract says {spec.frame!r}",
                f"set frame to {heard.frames[0]!r} if that is the optical frame",
            )
        for width, height in heard.details.get("sizes", ()):
            if (width, height) != (spec.width, spec.height):
                yield Finding(
                    "error",
                    where,
                    f"images are {width}x{height}, the contract says {spec.width}x{spec.height}",
                    f"set width to {width} and height to {height}",
                )
        unknown = sorted(set(heard.details.get("encodings", ())) - {*ENCODINGS, "jpeg", "png"})
        if unknown:
            yield Finding(
                "error",
                where,
                f"encoding {_list(unknown)} cannot be decoded",
                f"set the driver to one of {', '.join(ENCODINGS)}",
            )
    if spec.kind == "joint_state" and "joints" in heard.details:
        reported = set(heard.details["joints"])
        needed, optional = observed_joints(contract)
        if missing := [j for j in needed if j not in reported]:
            yield Finding(
                "error",
                where,
                f"no position of {_list(missing)}; reported: {_list(sorted(reported))}",
                "correct the joint names in kinematics, or start the controller that reports them",
            )
        if unheard := [j for j in optional if j not in reported]:
            yield Finding("note", where, f"{_list(unheard)} is not reported and is taken to be at home", "")


def _command(contract: RobotContract, spec: CommandSpec, facts: GraphFacts) -> Iterator[Finding]:
    where, name = f"commands.{spec.name}", facts.resolve(spec.topic)
    if "/action/" in spec.type:
        yield from _action(spec, where, name, facts)
        return
    topic = facts.topic(spec.topic)
    takers = [] if topic is None else topic.subscriptions
    ours = spec.name == "arm" and spec.follower == "servo_node" or spec.topic.startswith("servo_node/")
    if not takers and ours:
        yield Finding("note", where, f"servo_node, which listens on {name}, is not running", "start it with the others")
        return
    if not takers:
        others = [t for t in facts.elsewhere(spec.type, publishing=False)]
        yield Finding(
            "error", where, f"nobody listens on {name}", f"start and activate its controller{_instead(others)}"
        )
        return
    assert topic is not None
    wrong = sorted({t.type for t in takers if not _a_recorder(t.node)} - {spec.type})
    if wrong:
        nodes = ", ".join(t.node for t in takers if t.type in wrong)
        yield Finding(
            "error",
            where,
            f"{nodes} expects {', '.join(wrong)} on {name}, the contract says {spec.type}",
            f"set type to {wrong[0]} if that is among the types of {spec.name}",
        )
        return
    deaf = [t.node for t in takers if t.durability == "transient_local"]
    if deaf:
        yield Finding(
            "error",
            where,
            f"{_list(deaf)} wants {name} transient local; commands are volatile",
            "make its subscription volatile",
        )
    strict = [t for t in takers if t.demand]
    for taker in strict:
        yield Finding(
            "error",
            where,
            f"{taker.node} demands {taker.demand} on {name}; commands offer none",
            "take that out of its subscription's quality of service",
        )
    rivals = [p.node for p in topic.publishers if p.node not in OUR_NODES]
    if rivals:
        yield Finding(
            "warning",
            where,
            f"{_list(rivals)} publishes commands on {name} too",
            "stop it, or put a mux with priorities (twist_mux) between",
        )
    owner = facts.owner(topic)  # others, such as a recorder, listen too
    joints = facts.controllers.get(owner)
    if joints is not None and spec.joints and spec.type.endswith("Float64MultiArray") and tuple(joints) != spec.joints:
        yield Finding(
            "error",
            where,
            f"{owner} takes {_list(joints)} in this order, the contract says {_list(spec.joints)}",
            "put them in the controller's order",
        )
    elif joints is not None and spec.type.endswith("JointTrajectory"):
        sent = spec.joints or (contract.kinematics.arm_joints if spec.name == "arm_joints" else ())
        if sent and set(sent) != set(joints):
            yield Finding(
                "error",
                where,
                f"{owner} owns {_list(joints)}, the contract sends {_list(sent)}",
                "name all its joints, and no other",
            )
    if not (deaf or strict):
        yield Finding("ok", where, f"{name} is taken by {_list([t.node for t in takers])}")


def _action(spec: CommandSpec, where: str, name: str, facts: GraphFacts) -> Iterator[Finding]:
    offered = facts.actions.get(name)
    if offered is None:
        others = sorted(n for n, t in facts.actions.items() if t == spec.type)
        yield Finding("error", where, f"nobody serves the action {name}", f"start its controller{_instead(others)}")
    elif offered != spec.type:
        yield Finding("error", where, f"{name} is {offered}, the contract says {spec.type}", f"set type to {offered}")
    else:
        yield Finding("ok", where, f"{name} is served")


def _services(contract: RobotContract, facts: GraphFacts) -> Iterator[Finding]:
    calls = [(c.service, c.type) for c in contract.prepare]
    if switch := servo_switch(contract):
        calls.append((switch, MOVEIT_SWITCH))
    for service, type_name in calls:
        name = facts.resolve(service)
        offered = facts.services.get(name)
        if offered is None:
            others = sorted(n for n, t in facts.services.items() if t == type_name)
            yield Finding("error", "prepare", f"nobody serves {name}", f"start its node{_instead(others)}")
        elif offered != type_name:
            yield Finding(
                "error", "prepare", f"{name} is {offered}, the contract says {type_name}", f"set type to {offered}"
            )
        else:
            yield Finding("ok", "prepare", f"{name} is served")


def _a_recorder(node: str) -> bool:
    return node in ("recorder_node",) or "rosbag2" in node


def _instead(others: list[str]) -> str:
    return f", or use one of those there are: {', '.join(others[:8])}" if others else ""


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
