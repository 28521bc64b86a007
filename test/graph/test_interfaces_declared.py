"""The declared interfaces are what the real nodes have: policies made from them neither lack anything nor give more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import reserved_domain
from far_side import FarSide
from rclpy.node import NodeNameNonExistentError
from robots import telescope_contract, telescope_urdf

from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.interfaces import COMMON, LIFECYCLE_SERVICES, PARAMETER_SERVICES, NodeInterface, interfaces
from qt_ros.contract.robot import load_contract, package_root
from qt_ros.nodes.demo_client import GraphClient

CONTRACT = load_contract("mobile_manipulator")
DECLARED = interfaces(CONTRACT)
SOMETIMES = {"/clock", "/parameter_events"}  # only with use_sim_time; only while somebody reads them
ASKED = re.compile(r".*/(q_curves|dry_run/\w+)|/joy|/instruction")  # some are there only with a parameter
PARTLY = {"recorder_node"}  # follows a topic when somebody publishes it


@pytest.fixture(scope="module")
def graph(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphClient]:
    """All nodes of the simulated robot, active."""
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        folder = tmp_path_factory.mktemp("graph")
        with NodeGroup(folder / "logs").running() as group:
            group.start("sim_node", {"real_time_factor": 0.3})
            auto = {"autostart": True, "use_sim_time": True}
            group.start("policy_node", {"checkpoint": str(checkpoint), "follow_instruction_topic": True, **auto})
            group.start("command_node", auto)
            group.start("servo_node", auto)
            group.start("recorder_node", {"root": str(folder / "bags"), "use_sim_time": True})
            group.start("marker_node", {"use_sim_time": True})
            client = GraphClient(group.check)
            for service in ("reset_scene", "set_outcome", "command_node/reset"):
                client.wait_for_service(service)
            links = [("command_node", "cmd_vel", "sim_node"), ("policy_node", "policy_action", "command_node"),
                     ("sim_node", "joint_states", "servo_node"), ("sim_node", "odom", "recorder_node"),
                     ("servo_node", "arm_controller/joint_trajectory", "sim_node")]  # fmt: skip
            client.wait_for_links(links)
            yield client
            client.close()


def absolute(names: dict[str, str], node: str) -> set[tuple[str, str]]:
    return {
        (n if n.startswith("/") else f"/{node}/{n[2:]}" if n.startswith("~/") else f"/{n}", t) for n, t in names.items()
    }


def found(entries: list[tuple[str, list[str]]]) -> set[tuple[str, str]]:
    return {(name, kinds[0]) for name, kinds in entries if "/_action/" not in name}


def await_node(client: GraphClient, name: str, node: NodeInterface) -> None:
    """Until everything that it declares has been discovered."""
    out = {p for p in absolute(node.publishes, name) if not ASKED.fullmatch(p[0])}
    wanted = (
        {s for s in absolute(node.subscribes, name) if s[0] not in SOMETIMES and not ASKED.fullmatch(s[0])}
        if name not in PARTLY
        else set()
    )

    def seen() -> bool:
        ros = client.node
        try:
            return (
                out <= found(ros.get_publisher_names_and_types_by_node(name, "/"))
                and wanted <= found(ros.get_subscriber_names_and_types_by_node(name, "/"))
                and absolute(node.serves, name) <= found(ros.get_service_names_and_types_by_node(name, "/"))
                and len(ros.get_service_names_and_types_by_node(name, "/")) >= len(PARAMETER_SERVICES)
            )
        except NodeNameNonExistentError:
            return False

    client.wait(seen, 120.0, f"{name} to be seen")


def compare(client: GraphClient, name: str, node: NodeInterface) -> None:
    ros = client.node
    standard = {f"/{name}/{s}" for s in (*PARAMETER_SERVICES, *(LIFECYCLE_SERVICES if node.lifecycle else ()))}
    transitions = {(f"/{name}/transition_event", "lifecycle_msgs/msg/TransitionEvent")} if node.lifecycle else set()
    published = found(ros.get_publisher_names_and_types_by_node(name, "/"))
    told = absolute(node.publishes | COMMON.publishes, name) | transitions
    assert published <= told, name
    assert {p for p in told - published if not ASKED.fullmatch(p[0])} == set(), name
    subscribed = found(ros.get_subscriber_names_and_types_by_node(name, "/"))
    declared = absolute(node.subscribes, name) | absolute(COMMON.subscribes, name)
    assert subscribed <= declared, name
    if name not in PARTLY:
        assert {s for s in declared - subscribed if s[0] not in SOMETIMES and not ASKED.fullmatch(s[0])} == set(), name
    served = found(ros.get_service_names_and_types_by_node(name, "/"))
    assert {s for s in served if s[0] not in standard} == absolute(node.serves, name), name
    assert standard <= {s[0] for s in served}, name
    called = found(ros.get_client_names_and_types_by_node(name, "/"))
    assert called == absolute(node.calls, name), name


@pytest.mark.parametrize(
    "name", ["policy_node", "command_node", "servo_node", "recorder_node", "marker_node", "sim_node"]
)
def test_a_node_does_what_is_declared_and_nothing_else(graph: GraphClient, name: str) -> None:
    node = DECLARED[name]

    await_node(graph, name, node)
    compare(graph, name, node)
    feedback = [n for n, _ in graph.node.get_topic_names_and_types() if n.endswith("/_action/feedback")]
    assert feedback == ["/execute_instruction/_action/feedback"]


def test_another_robot_s_nodes_are_declared_too(ros_domain_id: int, tmp_path: Path) -> None:
    """A description from a topic, position arrays with the gripper in them, and a plain Twist for the base."""
    contract = telescope_contract()
    path = tmp_path / "telescope.yaml"
    path.write_text(contract.text, encoding="utf-8")
    with NodeGroup(tmp_path / "logs").running() as group:
        with FarSide(ros_domain_id, group.check, contract.kinematics.home, "stretch/joint_states") as far:
            far.describe(telescope_urdf())
            group.start("servo_node", {"robot": str(path), "autostart": True})
            far.await_state("servo_node", "active")
            for other, robot in (("command_node", str(path)), ("teleop_node", "mobile_manipulator")):
                process = group.start(other, {"robot": robot})
                far.await_state(other, "unconfigured")
                assert far.change(other, 1), process.tail()
            client = GraphClient(group.check)
            declared = interfaces(contract) | {"teleop_node": DECLARED["teleop_node"]}
            for name in ("servo_node", "command_node", "teleop_node"):
                node = declared[name]
                live = {k: v for k, v in node.subscribes.items() if k != contract.description_topic}  # heard, then left
                seen = NodeInterface(node.publishes, live, node.serves, {}, lifecycle=True)
                await_node(client, name, seen)
                compare(client, name, seen)
            client.close()


def test_every_node_of_the_package_is_declared() -> None:
    nodes = {path.stem for path in (package_root() / "qt_ros" / "nodes").glob("*_node.py")}
    assert nodes <= set(DECLARED), "declare it in qt_ros/contract/interfaces.py: policies are made from there"
