"""command_node and servo_node as processes over DDS, around a harness with a clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from control_harness import SIMULATED, Harness, harness  # noqa: E402
from domains import reserved_domain  # noqa: E402

from qt_ros.cli.processes import NodeGroup  # noqa: E402
from qt_ros.contract.robot import RobotContract, load_contract  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.graph)


@pytest.fixture(scope="session")
def contract() -> RobotContract:
    return load_contract("mobile_manipulator")


@pytest.fixture(scope="module")
def module_graph(
    contract: RobotContract, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[NodeGroup, Harness]]:
    """Processes and a harness in a domain that the tests of one file share."""
    with reserved_domain() as domain:
        environment = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        group = NodeGroup(tmp_path_factory.mktemp("logs"), environment)
        with group.running(), harness(contract, domain, group.check) as made:
            yield group, made


@pytest.fixture
def start(contract: RobotContract, ros_domain_id: int, tmp_path: Path) -> Iterator[Callable[..., tuple[Any, Harness]]]:
    """Starts one node in a domain of its own: start("command_node", autostart=True) -> (process, harness)."""
    group = NodeGroup(tmp_path / "logs")
    made: list[Harness] = []

    def go(name: str, **parameters: Any) -> tuple[Any, Harness]:
        common = SIMULATED if name == "command_node" else {"use_sim_time": True}
        process = group.start(name, {**common, **parameters})
        made.append(Harness(contract, ros_domain_id, group.check))
        return process, made[-1]

    with group.running():
        yield go
        for harness_ in made:
            harness_.close()
