"""Judgements of a person: summed up with what does not count, written one by one, gone on with, and never mixed up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qt_ros.cli.manual_results import Assignment, Judgement, ManualResults, load_assignments, resume
from qt_ros.contract.strict import ConfigError
from qt_ros.sim.evaluation import wilson

RED, BLUE = "pick up the red cube", "pick up the blue cube"


def judgement(instruction: str, outcome: str, mishap: str = "") -> Judgement:
    return Judgement(
        instruction, "e1", outcome, "terminate", 7, "anna", "2026-01-01T00:00:00Z", 0.5, mishap, "/bags/e1"
    )


def some() -> ManualResults:
    done = [
        judgement(RED, "success"),
        judgement(BLUE, "mishap", "scene set up wrongly"),
        judgement(BLUE, "failure"),
        judgement(RED, "unknown"),
    ]
    return ManualResults("c" * 64, (RED, BLUE), 4, done)


def test_unknown_is_no_success_and_a_mishap_counts_in_no_rate_but_is_told() -> None:
    document = some().to_dict()
    low, high = wilson(1, 3)
    assert (document["success"], document["episodes"], document["unknown"]) == (1, 3, 1)
    assert (document["low"], document["high"]) == (round(low, 4), round(high, 4))
    assert {k: (v["success"], v["episodes"]) for k, v in document["by_instruction"].items()} == {
        RED: (1, 2),
        BLUE: (0, 1),
    }
    assert document["mishaps"] == {"scene set up wrongly": 1} and len(document["results"]) == 4
    assert document["complete"] is False


def test_instructions_take_turns_and_a_mishap_is_run_again() -> None:
    results = ManualResults("c", (RED, BLUE), 4)
    asked = []
    for outcome in ("success", "mishap", "failure", "success", "success"):
        asked.append(results.instructions[results.next_instruction()])
        results.done.append(judgement(asked[-1], outcome, "other" if outcome == "mishap" else ""))
    assert asked == [RED, BLUE, BLUE, RED, BLUE] and results.complete


def test_what_was_written_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    assert resume(path, "c" * 64, (RED, BLUE), 4).done == [], "nothing there: a beginning"
    before = some()
    before.write(path)
    assert resume(path, "c" * 64, (RED, BLUE), 4) == before
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_a_file_about_something_else_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    some().write(path)
    whole = path.read_text()
    with pytest.raises(ConfigError, match="is about checkpoint cccccccccccc"):
        resume(path, "d" * 64, (RED, BLUE), 4)
    with pytest.raises(ConfigError, match="has the instructions"):
        resume(path, "c" * 64, (RED,), 4)
    assert path.read_text() == whole
    document = json.loads(whole)
    for spoilt, told in (
        (whole[:-20], "no JSON"),
        ("[" * 100_000, "no JSON"),
        (json.dumps({**document, "schema": 2}), "schema 2"),
        (json.dumps({**document, "done": [{**document["done"][0], "outcome": "great"}]}), "outcome must be one of"),
        (json.dumps({**document, "done": [{**document["done"][0], "instruction": "dance"}]}), "unknown instruction"),
    ):
        path.write_text(spoilt)
        with pytest.raises(ConfigError, match=told):
            resume(path, "c" * 64, (RED, BLUE), 4)


def test_a_file_of_instructions_says_what_to_set_up(tmp_path: Path) -> None:
    path = tmp_path / "protocol.yaml"
    path.write_text(
        f"instructions:\n  - {{instruction: {RED}, setup: red left of blue}}\n  - {{instruction: {BLUE}}}\n"
    )
    assert load_assignments(path) == [Assignment(RED, "red left of blue"), Assignment(BLUE)]
    for text, told in (
        ("instruction: x\n", "needs the key instructions"),
        ("instructions: [{instruction: ' '}]\n", "an instruction is empty"),
        ("instructions: [{instruction: x, set_up: y}]\n", "unknown key"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=told):
            load_assignments(path)
