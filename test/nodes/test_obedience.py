"""Whether somebody obeys the policy."""

from __future__ import annotations

from qt_ros.nodes.obedience import Obedience


def test_nothing_may_begin_once_command_node_was_not_heard_for_too_long() -> None:
    obedience = Obedience(2.0)
    assert not obedience.silent(1e9), "nobody may act before the activation"
    obedience.begin(100.0)
    assert obedience.problem(101.9, False) == "" and not obedience.silent(101.9)
    assert "nobody would obey" in obedience.problem(102.1, False)
    assert obedience.problem(102.1, True) == "", "it may only be on its way"
    obedience.heard(103.0)
    assert obedience.problem(104.9, False) == ""
    assert obedience.silent(105.1)
    obedience.missed()
    assert obedience.silent(105.2), "the next goal is rejected too"
    obedience.heard(200.0)
    assert obedience.problem(201.0, False) == ""


def test_in_shadow_mode_nobody_need_obey_but_who_did_is_missed() -> None:
    obedience = Obedience(2.0, shadow=True)
    obedience.begin(100.0)
    assert obedience.problem(1000.0, False) == ""
    obedience.heard(1000.0)
    assert obedience.silent(1002.1)
    obedience.missed()
    assert obedience.problem(1003.0, False) == ""
