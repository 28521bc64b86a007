"""The fault benchmark counts what it finds, and a short run of it finds nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from benchmarks.fault_table import FAULTS, page, summary
from benchmarks.faults import main  # noqa: E402


def row(fault: str, *problems: str, lost: bool = False) -> dict[str, object]:
    return {
        "number": 0,
        "fault": fault,
        "reason": "fault",
        "steps": 3,
        "problems": list(problems),
        "lost_bags": ["e"] if lost else [],
        "in_time": True,
    }


def test_every_kind_of_harm_is_counted_in_its_column() -> None:
    fault = FAULTS[0]
    found = summary(
        [
            row(fault),
            row(fault, "arm: speed 0.500 beyond 0.45"),
            row(fault, "the robot still moves although no episode runs"),
            row(fault, "hung: TimeoutError: waited"),
            row(fault, "bag is not whole: x"),
            row(fault, lost=True),
            row(fault, "not judged: nothing was heard of arm command"),
        ]
    )
    kinds = ("out_of_bounds", "moving_without_policy", "hung", "lost_episodes", "not_judged")
    assert [found[k] for k in kinds] == [1, 1, 1, 2, 1]
    assert (found["injections"], found["in_a_running_episode"], len(found["problems"])) == (7, 7, 6)


def test_the_page_names_what_was_found() -> None:
    found = summary([row(FAULTS[0]), row(FAULTS[1], "the robot still moves although no episode runs")])
    machine = {"processor": "a processor", "cores": 2, "load_average": 1.0}
    text = page({"injections": found, "machine": machine, "command": "c", "commit": "x", "settings": {"seed": 3}})
    assert "| **all** | 2 | 2 | 0 | 1 | 0 | 0 | 0 | 0 | |" in text
    assert f"{FAULTS[1]}: the robot still moves" in text


def test_a_robot_that_gave_way_to_a_load_is_told_but_no_harm() -> None:
    found = summary([row(FAULTS[0]), {**row(FAULTS[1]), "gave_way": ["the arm: 6 times; the newest: 0.05 rad/s"]}])
    assert (found["gave_way"], found["problems"]) == (1, [])
    machine = {"processor": "a processor", "cores": 2, "load_average": 1.0}
    text = page({"injections": found, "machine": machine, "command": "c", "commit": "x", "settings": {"seed": 3}})
    assert "| **all** | 2 | 2 | 0 | 0 | 0 | 0 | 0 | 1 | |" in text
    assert f"- injection 0, {FAULTS[1]}: the arm: 6 times" in text


def test_the_page_tells_what_never_moved_and_so_was_never_put_to_the_test() -> None:
    longest = [{"arm command": 0.25, "base command": 0.0}, {"arm command": 0.4, "base command": 0.0}]
    found = summary([{**row(FAULTS[0]), "longest": times} for times in longest])
    assert found["longest"] == {"arm command": 0.4, "base command": 0.0}
    machine = {"processor": "a processor", "cores": 2, "load_average": 1.0}
    text = page({"injections": found, "machine": machine, "command": "c", "commit": "x", "settings": {"seed": 3}})
    assert "arm command 0.40 s, base command never moved." in text


@pytest.mark.slow
@pytest.mark.graph
def test_ten_faults_do_no_harm(tmp_path: Path, ros_domain_id: int) -> None:
    assert main(["--count", "10", "--seed", "1", "--out", str(tmp_path), "--json", str(tmp_path / "faults.json")]) == 0
    found = json.loads((tmp_path / "faults.json").read_text())["injections"]
    assert found["injections"] == 10 and found["in_a_running_episode"] > 5
