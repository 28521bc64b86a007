"""What is expected of an experiment is read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_experiment import experiment

from qt_ros.contract.strict import ConfigError
from qt_ros.experiments.goals import Goal


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        ({"kind": "above", "cell": "q_transformer"}, "name others"),
        ({"kind": "share", "cell": "q_transformer", "others": ["rt1_bc/successes"]}, "name others, or none for share"),
        ({"kind": "best", "cell": "q_transformer", "others": ["rt1_bc/successes"]}, "kind 'best'; there are above"),
        ({"kind": "above", "cell": "q_transformer", "others": ["iql"]}, "no cell 'iql'"),
        ({"kind": "above", "cell": "q_transformer", "other": ["iql"]}, "unknown key"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(tmp_path: Path, goal: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        experiment(tmp_path, goals=[goal])


def test_goals_are_read_and_told_in_words(tmp_path: Path) -> None:
    wanted = {"kind": "times", "cell": "q_transformer", "others": ["rt1_bc/successes"], "factor": 1.7}
    given = experiment(tmp_path, goals=[wanted])
    assert given.goals == (Goal("times", "q_transformer", ("rt1_bc/successes",), 1.7),)
    assert (
        given.goals[0].wanted
        == "`q_transformer` succeeds at least 1.7 times as often as the best of `rt1_bc/successes`"
    )
    assert experiment(tmp_path, goals=[]).goals == ()
