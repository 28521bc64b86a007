"""The shipped robot with patience, for graphs in which lateness is not what is tested: the machine may be busy."""

from __future__ import annotations

from pathlib import Path

from qt_ros.contract.robot import load_contract


def patient_contract(folder: Path) -> Path:
    """A contract file as shipped, but for limits in time, which are ten times as long."""
    text = load_contract("mobile_manipulator").text
    for key, value in (("max_action_age", 0.6), ("max_age", 0.5), ("max_age", 0.2)):
        assert f"{key}: {value}" in text
        text = text.replace(f"{key}: {value}", f"{key}: {value * 10:.1f}")
    path = folder / "patient.yaml"
    path.write_text(text, encoding="utf-8")
    return path
