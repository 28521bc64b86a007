"""What all tests share: a quiet environment, ROS domains of their own, and nodes that never outlive their test."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import reserved_domain

ROOT = Path(__file__).resolve().parents[1]

# As env.sh sets them, so that `.venv/bin/python -m pytest` gives the same as `make test`.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
_renderer = ROOT / ".venv" / "mujoco_gl"
os.environ.setdefault("MUJOCO_GL", _renderer.read_text().strip() if _renderer.exists() else "egl")

# A training machine without ROS runs everything else.
HAVE_ROS = importlib.util.find_spec("rclpy") is not None
collect_ignore = [] if HAVE_ROS else ["graph", "nodes"]

GRAPHS = ("test/graph/", "test/nodes/", "test/launch/", "test/benchmarks/")  # where tests start real nodes


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """One graph at a time: all of them run on one worker, file by file, so that no two share the cores or a fixture.

    The marker xdist_group means the same, but has no effect with pytest 9.2, where xdist cannot change a node id.
    """
    from xdist.scheduler import LoadScopeScheduling

    class GraphsTogether(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "graph" if nodeid.startswith(GRAPHS) else nodeid

    return GraphsTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "graph" in item.path.relative_to(ROOT / "test").parts:
            item.add_marker(pytest.mark.graph)
        if item.get_closest_marker("gpu"):
            import torch

            item.add_marker(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))


@pytest.fixture
def repository() -> Path:
    """The root folder of the checkout."""
    return ROOT


@pytest.fixture
def ros_domain_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain that only this test uses, set in ROS_DOMAIN_ID for it and for the processes it starts.

    Discovery is kept on this machine.
    """
    with reserved_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield domain


@pytest.fixture
def ros_context(ros_domain_id: int) -> Iterator[object]:
    """An rclpy context in this test's own domain, shut down afterwards. Pass it to nodes and executors as `context`."""
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=ros_domain_id)
    yield context
    context.try_shutdown()


@pytest.fixture
def node_group(ros_domain_id: int, tmp_path: Path) -> Iterator[object]:
    """Starts nodes as processes in this test's own domain and stops them after it: `node_group.start("servo_node")`.

    It is a qt_ros.cli.processes.NodeGroup; the logs lie in tmp_path / "logs".
    """
    from qt_ros.cli.processes import NodeGroup

    with NodeGroup(tmp_path / "logs").running() as group:
        yield group
