"""SROS 2 policies with the least that each node needs, from `qt_ros.contract.interfaces`.

Policy format 0.2.0, as `ros2 security create_permission` reads it. One enclave per node: what a compromised node may do
is what it did before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

from qt_ros.contract.interfaces import COMMON, LIFECYCLE_SERVICES, PARAMETER_SERVICES, NodeInterface, interfaces
from qt_ros.contract.robot import RobotContract
from qt_ros.contract.strict import ConfigError

VERSION = "0.2.0"


def policy_xml(
    contract: RobotContract, nodes: Iterable[str] | None = None, namespace: str = "/", prefix: str = "/qt_ros"
) -> str:
    """The policy of ``nodes`` (default: all) in ``namespace``, an enclave ``<prefix>/<node>`` each.

    ConfigError for an unknown node or a malformed namespace or prefix.
    """
    known = interfaces(contract)
    chosen = list(known if nodes is None else nodes)
    if unknown := sorted(set(chosen) - set(known)):
        raise ConfigError(f"no node {', '.join(unknown)}; known: {', '.join(known)}")
    for what, path in (("namespace", namespace), ("enclave prefix", prefix)):
        if not re.fullmatch(r"/|(/[A-Za-z_][A-Za-z0-9_]*)+", path):
            raise ConfigError(f"{what} {path!r} must be like /robot_1")
    root = ElementTree.Element("policy", version=VERSION)
    enclaves = ElementTree.SubElement(root, "enclaves")
    for name in chosen:
        enclave = ElementTree.SubElement(enclaves, "enclave", path=f"{prefix.rstrip('/')}/{name}")
        profiles = ElementTree.SubElement(enclave, "profiles")
        for node in known[name].names or (name,):
            _rules(ElementTree.SubElement(profiles, "profile", ns=namespace, node=node), known[name])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def allowed(node: NodeInterface) -> dict[tuple[str, str], list[str]]:
    """{(kind, permission): names} that a node is allowed, what every node does included."""
    own = [f"~/{name}" for name in PARAMETER_SERVICES]
    if node.lifecycle:
        own += [f"~/{name}" for name in LIFECYCLE_SERVICES]
    transitions = ["~/transition_event"] if node.lifecycle else []
    rules = {
        ("topic", "publish"): [*node.publishes, *COMMON.publishes, *transitions],
        ("topic", "subscribe"): [*node.subscribes, *COMMON.subscribes],
        ("service", "reply"): [*node.serves, *own],
        ("service", "request"): [*node.calls],
        ("action", "execute"): [*node.executes],
        ("action", "call"): [*node.commands],
    }
    return {rule: sorted(set(names)) for rule, names in rules.items() if names}


def _rules(profile: ElementTree.Element, node: NodeInterface) -> None:
    for (kind, permission), names in allowed(node).items():
        group = ElementTree.SubElement(profile, f"{kind}s", {permission: "ALLOW"})
        for name in names:
            ElementTree.SubElement(group, kind).text = name
