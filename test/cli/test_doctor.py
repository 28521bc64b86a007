"""`qt-ros doctor` reports what works here, and fails with advice when something needed is missing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from qt_ros.cli import doctor
from qt_ros.cli.main import main

needs_ros = pytest.mark.skipif(importlib.util.find_spec("rclpy") is None, reason="needs ROS")


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status of `qt-ros doctor --json` and its findings by name."""
    status = main(["doctor", "--json", *arguments])
    return status, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}


@needs_ros
def test_a_machine_that_was_set_up_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    status, findings = report(capsys)
    assert {name: finding["summary"] for name, finding in findings.items() if finding["status"] != "ok"} == {}
    assert status == 0
    assert findings["middleware"]["data"]["rmw"].startswith("rmw_")
    assert findings["torch"]["data"]["device"] in {"cpu", "cuda"}
    assert findings["OpenGL"]["data"]["renderer"]
    assert len(findings["contract"]["data"]["actions"]) == 10
    assert len(findings["contract"]["data"]["sha256"]) == 64


def test_the_table_says_the_same_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    doctor._show([doctor.Finding("OpenGL", "missing", "no backend renders a frame", "install libegl1")])
    shown = capsys.readouterr().out
    assert "missing" in shown and "no backend renders a frame" in shown and "-> install libegl1" in shown


def test_a_backend_that_does_not_render_is_an_error_with_the_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonesuch")
    finding = doctor.check_renderer()
    assert finding.status == "missing"
    assert finding.advice.startswith("export MUJOCO_GL=")
    assert finding.data["backend"] in {"egl", "osmesa", "glfw"}


def test_an_unknown_robot_makes_it_fail_and_name_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, findings = report(capsys, "--robot", str(tmp_path / "absent.yaml"))
    assert status == 1
    assert findings["contract"]["status"] == "missing"
    assert "absent.yaml" in findings["contract"]["summary"]


def test_without_the_interfaces_it_advises_to_build_them(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {"rclpy": "somewhere", "rmw": "rmw_x", "interfaces": "ModuleNotFoundError: No module named 'qt_ros.msg'"}
    code = f"import json; print(json.dumps({without!r}))"
    monkeypatch.setattr(doctor, "_ROS_TRIAL", code)
    findings = {finding.name: finding for finding in doctor.check_ros()}
    assert findings["interfaces"].status == "missing"
    assert "make setup" in findings["interfaces"].advice
    assert findings["ROS 2"].status == "ok"


def test_ros_may_be_missing_on_a_training_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ROS_TRIAL", "raise ModuleNotFoundError(\"No module named 'rclpy'\")")
    assert [finding.status for finding in doctor.check_ros(required=False)] == ["warning"]
    (finding,) = doctor.check_ros(required=True)
    assert finding.status == "missing" and "rclpy" in finding.summary
