"""`qt-ros contract` without a robot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from robots import telescope_contract, telescope_urdf, write

from qt_ros.cli.main import main


def test_show_says_what_goes_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", "show", "stretch"]) == 0
    text = capsys.readouterr().out
    assert "joint_pose_cmd" in text and "prepare" in text and "dyaw" in text
    assert main(["contract", "show", "stretch", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kinematics"]["coupled"]["wrist_extension"][0] == "joint_arm_l3"


def test_check_ends_with_1_and_says_what_to_change(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["contract", "check", "mobile_manipulator"]) == 0
    capsys.readouterr()
    path = write(tmp_path, ("tool_frame: tool0", "tool_frame: hand"))
    assert main(["contract", "check", path, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["level"] == "error" and "no frame 'hand'" in report["findings"][0]["message"]


def test_a_urdf_file_stands_in_for_the_robot_s_topic(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    contract, urdf = tmp_path / "stretch.yaml", tmp_path / "stretch.urdf"
    contract.write_text(telescope_contract().text, encoding="utf-8")
    urdf.write_text(telescope_urdf(), encoding="utf-8")
    assert main(["contract", "check", str(contract), "--urdf", str(urdf), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "3 arm joints" in report["findings"][0]["message"]
    assert [f["subject"] for f in report["findings"] if f["level"] != "ok"] == ["limits.gripper_force"]
    assert main(["contract", "check", str(contract), "--urdf", str(tmp_path / "none.urdf")]) == 2
    assert "none.urdf: cannot be read" in capsys.readouterr().err


def test_a_wrong_file_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write(tmp_path, ("schema: 1", "schema: 7"))
    assert main(["contract", "check", path]) == 2
    assert "schema 7 is not supported" in capsys.readouterr().err
