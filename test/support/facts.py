"""Facts of an imagined running robot that fits a contract; tests then break one thing at a time."""

from __future__ import annotations

from qt_ros.contract.graph_facts import Endpoint, GraphFacts, Heard, Topic
from qt_ros.contract.robot import RobotContract

VOLATILE = {"reliability": "reliable", "durability": "volatile"}


def fitting(contract: RobotContract, namespace: str = "/") -> GraphFacts:
    """A graph in which everything is as the contract says."""
    facts = GraphFacts(namespace=namespace, seconds=5.0)
    for spec in contract.observations.values():
        if spec.kind == "text":
            continue
        heard = Heard(50, spec.rate, 1.0 / spec.rate, 0.01, (spec.frame,))
        if spec.kind == "image":
            heard.details = {"sizes": [(spec.width, spec.height)], "encodings": ["rgb8"]}
        else:
            home = contract.kinematics.home
            heard.details = {"joints": list(home), "positions": dict(home)}
        add(facts, spec.topic, spec.type, "driver", heard)
    for command in contract.commands.values():
        if "/action/" in command.type:
            facts.actions[facts.resolve(command.topic)] = command.type
        else:
            name = facts.resolve(command.topic)
            node = "servo_node" if "servo_node" in command.topic else command.topic.partition("/")[0]
            facts.topics[name] = Topic(name, [], [Endpoint(node, command.type, **VOLATILE)])
    for call in contract.prepare:
        facts.services[facts.resolve(call.service)] = call.type
    return facts


def add(facts: GraphFacts, topic: str, type_name: str, node: str, heard: Heard | None = None) -> Topic:
    """Somebody publishes one more topic."""
    name = facts.resolve(topic)
    made = facts.topics.setdefault(name, Topic(name))
    made.publishers.append(Endpoint(node, type_name, **VOLATILE))
    made.heard = heard
    return made
