"""Goals are judged by the rows alone: met, missed, or open while cells are missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_results import write_result
from tiny_experiment import experiment

from qt_ros.experiments.cells import all_cells
from qt_ros.experiments.findings import find, goals_section
from qt_ros.experiments.goals import Goal
from qt_ros.experiments.pages import page
from qt_ros.experiments.report import collect_results

ABOVE = {"kind": "above", "cell": "q_transformer", "others": ["rt1_bc/successes"]}
SHARE = {"kind": "share", "cell": "rt1_bc/successes"}
Counts = Mapping[str, int | Mapping[int, int]]


def document(folder: Path, counts: Counts, *goals: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Of the tiny experiment: successes of 100 for each method, the same in both seeds (at each mark)."""
    given = experiment(folder / "spec", goals=list(goals), **changes)
    for cell in all_cells(given):
        if cell.spec.method in counts:
            write_result(folder, cell, counts[cell.spec.method])
    return collect_results(given, [folder])


def met(found: dict[str, Any]) -> list[bool | None]:
    return [find(Goal(**{**goal, "others": tuple(goal["others"])}), found).met for goal in found["goals"]]


@pytest.mark.parametrize(
    ("own", "other", "wanted"), [(95, 50, True), (50, 50, False), (55, 50, False), (50, 95, False)]
)
def test_above_means_that_the_intervals_are_apart(tmp_path: Path, own: int, other: int, wanted: bool) -> None:
    assert met(document(tmp_path, {"q_transformer": own, "rt1_bc": other}, ABOVE)) == [wanted]


def test_a_goal_is_open_while_any_of_its_cells_is_missing(tmp_path: Path) -> None:
    found = document(tmp_path, {"q_transformer": 95}, ABOVE, SHARE)
    assert met(found) == [None, None]
    assert "open: `rt1_bc/successes` not finished" in page(found)


@pytest.mark.parametrize(("good", "wanted"), [(8, True), (45, False), (0, False)])
def test_share_means_that_the_interval_holds_the_share_of_good_data(tmp_path: Path, good: int, wanted: bool) -> None:
    assert met(document(tmp_path, {"rt1_bc": good}, SHARE)) == [wanted]  # 80 of 1000 episodes succeed


@pytest.mark.parametrize(("own", "other", "wanted"), [(85, 50, True), (84, 50, False), (1, 0, True), (0, 0, False)])
def test_times_compares_rates(tmp_path: Path, own: int, other: int, wanted: bool) -> None:
    goal = {"kind": "times", "cell": "q_transformer", "others": ["rt1_bc/successes"], "factor": 1.7}
    assert met(document(tmp_path, {"q_transformer": own, "rt1_bc": other}, goal)) == [wanted]


@pytest.mark.parametrize(
    ("slow", "quick", "wanted"),
    [
        ({1: 10, 2: 20, 4: 60}, {1: 60, 4: 50}, True),  # there after 1 step instead of 4, whatever comes later
        ({1: 10, 2: 20, 4: 60}, {1: 59, 4: 60}, False),
        ({1: 10, 2: 60, 4: 60}, {1: 60, 4: 60}, False),  # the other was there after 2
        ({1: 10, 2: 20, 4: 60}, {1: 50, 4: 59}, False),  # never there
        ({1: 0, 2: 0, 4: 0}, {1: 0, 4: 60}, True),  # the other never got anywhere
        ({1: 0, 2: 0, 4: 0}, {1: 0, 4: 0}, False),
    ],
)
def test_quicker_compares_the_steps_to_the_best_level_of_the_other(
    tmp_path: Path, slow: dict[int, int], quick: dict[int, int], wanted: bool
) -> None:
    cells = [
        {"method": "q_transformer", "variant": "quick", "config": "picking/q_transformer", "evaluate_at": [1]},
        {"method": "rt1_bc", "variant": "slow", "config": "picking/rt1_bc", "evaluate_at": [1, 2]},
    ]
    goal = {"kind": "quicker", "cell": "q_transformer/quick", "others": ["rt1_bc/slow"], "factor": 4}
    assert met(document(tmp_path, {"q_transformer": quick, "rt1_bc": slow}, goal, cells=cells)) == [wanted]


def test_the_page_says_what_was_wanted_what_was_measured_and_why(tmp_path: Path) -> None:
    counts = {"q_transformer": 50, "rt1_bc": 95}
    found = document(tmp_path, counts, ABOVE, SHARE, remarks="Because it is easy.\n")
    told = page(found)
    assert "| the interval of `q_transformer` lies above those of `rt1_bc/successes` | 50.0% (43.1% to 56.9%); " in told
    assert told.count("| **no** |") == 2 and "\nBecause it is easy.\n" in told
    assert goals_section(document(tmp_path / "none", counts)) == []
