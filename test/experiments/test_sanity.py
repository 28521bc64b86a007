"""Small tasks whose answer is known: where cloning mixed data must fail and Q-learning must succeed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qt_ros.experiments.sanity import LUCK, METHODS, SKILL, START, TASKS, chance_of_success, document, expected, trained
from qt_ros.experiments.sanity_page import sanity_page

SKILLED, LUCKY, COVERED = TASKS
ORIGIN = {"commit": "abc", "machine": {"gpu": "", "processor": "one", "torch": "2", "python": "3"}}


@pytest.mark.parametrize("name", [name for name in METHODS if name != "qt_opt"])
def test_q_learning_finds_the_skill_and_cloning_trusts_to_luck(tmp_path: Path, name: str) -> None:
    wanted = 0.35 if name.startswith(("rt1_bc", "decision_transformer")) else 1.0
    assert expected(LUCKY, name) == wanted
    assert chance_of_success(LUCKY, trained(LUCKY, name, tmp_path)) == wanted


@pytest.mark.parametrize(("name", "wanted"), [("rt1_bc/successes", 1.0), ("rt1_bc/everything", 0.0)])
def test_where_luck_never_helps_cloning_works_on_successes_only(tmp_path: Path, name: str, wanted: float) -> None:
    assert chance_of_success(SKILLED, trained(SKILLED, name, tmp_path)) == wanted == expected(SKILLED, name)


def test_qt_opt_finds_the_skill_where_every_action_was_tried(tmp_path: Path) -> None:
    assert chance_of_success(COVERED, trained(COVERED, "qt_opt", tmp_path)) == 1.0 == expected(COVERED, "qt_opt")


def test_most_successes_are_luck_where_it_helps() -> None:
    data = LUCKY.data()
    assert data.privileged is not None
    second = data.privileged.argmax(1)[1::2]
    assert 0.1 < np.mean(second[data.success] == SKILL) < 0.25
    assert 0.3 < data.success.mean() < 0.4
    assert 0.03 < SKILLED.data().success.mean() < 0.1


def test_chances_are_those_of_the_task() -> None:
    best = {START: (1, 3), SKILL: (4, 1), LUCK: (0, 0)}
    near = {START: (2, 2), SKILL: (3, 2), LUCK: (0, 0)}
    assert [task.chance(best.__getitem__) for task in TASKS] == [1.0, 1.0, 1.0]
    assert [task.chance(near.__getitem__) for task in TASKS] == [0.0, 0.35, 1.0]
    assert [task.chance(lambda state: best[START]) for task in TASKS] == [0.0, 0.0, 0.0]


def test_the_page_shows_what_came_out_beside_what_is_expected() -> None:
    told = sanity_page(document({("skill", "qt_opt"): 0.0, ("skill", "cql"): 0.0, ("luck", "cql"): 1.0}, ORIGIN))
    assert "| `cql` | 0% (100%) | 100% (100%) |" in told and "| `qt_opt` | 0% |  |" in told
