"""A hung graph leaves what its nodes were doing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from benchmarks.fault_traces import keep_traces
from benchmarks.faults import own_domain
from qt_ros.cli.processes import NodeGroup
from qt_ros.nodes.demo_client import GraphClient


@pytest.mark.graph
def test_logs_tell_what_every_thread_does_and_what_a_newcomer_hears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.fault_traces.NEWCOMER", 10.0)
    with own_domain():
        group = NodeGroup(tmp_path / "logs")
        with group.running():
            group.start("servo_node", {"autostart": True})
            client = GraphClient(lambda: None, "impatient")
            try:
                client.state("servo_node", 60.0)
            finally:
                client.close()
            keep_traces(group, tmp_path, "hung-0007", ("servo_node", "nobody"))
    kept = tmp_path / "hung-0007"
    states = json.loads((kept / "newcomer.json").read_text())
    assert states["servo_node"] == "3" and states["nobody"].startswith("TimeoutError: waited")
    assert "most recent call first" in (kept / "servo_node.log").read_text()
