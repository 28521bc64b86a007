"""`qt-ros security`: policies on disk, and an honest word on what is protected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qt_ros.cli.main import main


def test_a_policy_is_written_and_its_rules_can_be_read_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "p.xml"
    assert main(["security", "policy", "tiago", "--node", "command_node", "--output", str(target), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "cmd_vel" in told["rules"]["command_node"]["topic publish"] and list(told["rules"]) == ["command_node"]
    assert target.read_text().count("<enclave ") == 1
    assert main(["security", "policy", "tiago", "--node", "nobody"]) == 2
    assert "no node nobody" in capsys.readouterr().err


def test_status_tells_what_is_built_in_and_who_can_reach_the_nodes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rclpy")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.delenv("ROS_SECURITY_ENABLE", raising=False)
    assert main(["security", "status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["security_enabled"] is False and told["discovery_range"] == "LOCALHOST"
    assert told["security_built_in"] in (True, False)
    assert main(["security", "status"]) == 0
    assert "this machine only" in capsys.readouterr().out


def test_a_node_that_shall_be_protected_and_cannot_be_does_not_start(ros_domain_id: int, tmp_path: Path) -> None:
    """Whatever the middleware was built with: without keys, nothing runs in the clear."""
    (tmp_path / "enclaves" / "qt_ros" / "servo_node").mkdir(parents=True)
    environment = {
        **os.environ,
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_SECURITY_KEYSTORE": str(tmp_path),
    }
    command = [sys.executable, "-m", "qt_ros.nodes.servo_node", "--ros-args", "--enclave", "/qt_ros/servo_node"]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert child.returncode == 1
    assert "security" in (child.stdout + child.stderr).lower()
