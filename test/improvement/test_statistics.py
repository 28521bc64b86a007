from __future__ import annotations

import math

import numpy as np
import pytest

from qt_ros.improvement.statistics import Paired, mean_difference, over_runs, pooled_rate
from qt_ros.sim.evaluation import Rate


def test_scenes_are_paired_by_their_seed_and_lonely_ones_left_out() -> None:
    old = {1: True, 2: True, 3: False, 4: False, 5: True}
    new = {1: True, 2: False, 3: True, 4: False, 6: True}
    paired = Paired.of(old, new)
    assert (paired.both, paired.only_old, paired.only_new, paired.neither) == (1, 1, 1, 1)
    assert (paired.old.success, paired.new.success, paired.scenes) == (2, 2, 4)


def test_the_p_value_is_that_of_a_fair_coin_over_the_scenes_that_differ() -> None:
    assert Paired(50, 0, 5, 50).p_value == pytest.approx(2 / 2**5)
    assert Paired(0, 1, 9, 0).p_value == pytest.approx(2 * (1 + 10) / 2**10)
    assert Paired(10, 4, 4, 10).p_value == 1.0
    assert Paired(7, 0, 0, 3).p_value == 1.0


def test_the_interval_is_agresti_and_mins() -> None:
    # Half a scene in every cell: n = 102, b = 10.5, c = 20.5.
    paired = Paired(40, 10, 20, 30)
    middle = 10 / 102
    half = 1.96 * math.sqrt(31 - 100 / 102) / 102
    assert paired.interval == pytest.approx((middle - half, middle + half))
    assert paired.difference == pytest.approx(0.1)
    low, high = Paired(0, 0, 0, 0).interval
    assert (low, high) == (-1.0, 1.0) and math.isnan(Paired(0, 0, 0, 0).difference)


def test_of_many_equal_policies_the_interval_holds_zero_about_19_times_in_20() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        old, new = rng.random((2, 60)) < 0.6
        low, high = Paired.of(dict(enumerate(old)), dict(enumerate(new))).interval
        held += low <= 0.0 <= high
    assert 0.93 < held / 2000 < 0.98


def test_the_dictionary_has_plain_numbers_only() -> None:
    document = Paired(1, 0, 1, 0).to_dict()
    assert document["difference"] == 0.5 and document["new"]["success"] == 2
    assert Paired(0, 0, 0, 0).to_dict()["difference"] is None


def test_one_run_has_wilsons_interval_and_several_one_that_knows_how_they_differ() -> None:
    one = pooled_rate([(30, 100)])
    assert {key: one[key] for key in Rate(30, 100).to_dict()} == Rate(30, 100).to_dict() and one["runs"] == 1
    alike, unlike = pooled_rate([(30, 100)] * 3), pooled_rate([(10, 100), (30, 100), (50, 100)])
    assert (alike["low"], alike["high"]) == (one["low"], one["high"]), "the scenes are the same ones"
    assert alike["rate"] == unlike["rate"] == 0.3
    half = 4.303 * 0.2 / math.sqrt(3)  # Student's t, two degrees of freedom
    assert (unlike["low"], unlike["high"]) == (0.0, pytest.approx(0.3 + half, abs=1e-4))


def apart(lost: int, won: int, scenes: int = 1000) -> Paired:
    return Paired(0, lost, won, scenes - lost - won)


def test_the_mean_of_differences_has_no_interval_before_there_are_two_runs() -> None:
    assert mean_difference([apart(0, 100)]) == {"runs": 1, "difference": 0.1, "low": None, "high": None}
    assert mean_difference([])["difference"] is None
    two = mean_difference([apart(0, 100), apart(0, 300), Paired(0, 0, 0, 0)])
    assert (two["runs"], two["difference"], two["low"], two["high"]) == (2, 0.2, -1.0, 1.0), "12.706 standard errors"


def test_runs_that_agree_do_not_make_the_scenes_they_share_certain() -> None:
    one = apart(2, 10, 60)
    agreed = mean_difference([one] * 5)
    assert (agreed["low"], agreed["high"]) == pytest.approx(one.interval, abs=1e-4)


def test_the_interval_of_a_mean_difference_holds_the_truth_in_scenes_that_only_one_policy_can_do() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        possible = rng.random(40) < 0.5
        runs = [possible & (rng.random(40) < 0.98) for _ in range(5)]
        found = mean_difference([apart(0, int(new.sum()), 40) for new in runs])
        held += found["low"] <= 0.49 <= found["high"]
    assert held / 500 > 0.93


def test_the_interval_over_runs_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 4, 30):
        found = [over_runs(rng.normal(0.5, 0.1, count).tolist()) for _ in range(2000)]
        inside = sum(low <= 0.5 <= high for low, high in filter(None, found))
        assert inside / 2000 > 0.935
