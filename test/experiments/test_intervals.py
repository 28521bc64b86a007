"""Intervals against known values."""

from __future__ import annotations

import math

import pytest

from qt_ros.experiments.intervals import T_QUANTILES, averaged, pooled, seed_interval


def test_three_equal_seeds_leave_the_binomial_interval() -> None:
    rate = pooled([(150, 300)] * 3)
    assert (rate.successes, rate.episodes, rate.rate) == (450, 900, 0.5)
    assert rate.seeds == (0.5, 0.5)
    assert (rate.low, rate.high) == rate.wilson
    assert rate.wilson == pytest.approx((0.46740, 0.53260), abs=1e-5)  # 0.5 -+ 1.96 sqrt(.25/n') with Wilson's n'


def test_seeds_that_differ_more_than_chance_widen_it() -> None:
    rate = pooled([(120, 300), (150, 300), (180, 300)])
    half = 4.303 * 0.1 / math.sqrt(3)  # Student's t with 2 degrees of freedom, standard deviation 0.1
    assert rate.seeds == pytest.approx((0.5 - half, 0.5 + half))
    assert (rate.low, rate.high) == rate.seeds
    assert rate.low < rate.wilson[0] and rate.high > rate.wilson[1]
    assert (rate.worst, rate.best) == (0.4, 0.6)


def test_it_never_leaves_zero_to_one_and_is_never_narrower_than_the_binomial_one() -> None:
    for counts in ([(0, 10), (1, 10), (9, 10)], [(0, 300)] * 3, [(300, 300)] * 2, [(299, 300), (300, 300), (298, 300)]):
        rate = pooled(counts)
        assert 0 <= rate.low <= rate.wilson[0] <= rate.rate <= rate.wilson[1] <= rate.high <= 1


def test_one_seed_knows_nothing_of_others() -> None:
    rate = pooled([(30, 100)])
    assert rate.seeds is None and (rate.low, rate.high) == rate.wilson
    assert seed_interval([0.3]) is None


def test_seeds_without_episodes_do_not_count_and_nothing_at_all_is_refused() -> None:
    assert pooled([(3, 10), (0, 0)]) == pooled([(3, 10)])
    with pytest.raises(ValueError, match="no episodes"):
        pooled([(0, 0)])


def test_skills_count_alike_in_their_mean_whatever_their_scenes() -> None:
    rate = averaged([{"pick": (10, 100), "open": (9, 10)}])
    assert rate.rate == pytest.approx(0.5) and (rate.successes, rate.episodes) == (19, 110)
    assert rate.low <= 0.5 - 1.96 * math.sqrt(0.9 * 0.1 / 100 + 0.9 * 0.1 / 10) / 2, "as wide as a mean of two"
    several = averaged([{"pick": (10, 100), "open": (90, 100)}, {"pick": (30, 100), "open": (90, 100)}])
    assert several.rate == pytest.approx(0.55) and (several.worst, several.best) == pytest.approx((0.5, 0.6))
    assert several.seeds == pytest.approx((max(0.0, 0.55 - 12.706 * 0.05), 1.0))


def test_skills_that_are_all_alike_have_the_pooled_interval() -> None:
    seeds = [(40, 100), (50, 100), (45, 100)]
    alike = averaged([{"pick": counts, "open": counts} for counts in seeds])
    plain = pooled([(2 * good, 2 * total) for good, total in seeds])
    assert (alike.low, alike.high, alike.rate) == pytest.approx((plain.low, plain.high, plain.rate))
    for all_or_nothing in (0, 100):
        rate = averaged([{"pick": (all_or_nothing, 100), "open": (all_or_nothing, 100)}] * 3)
        assert 0 <= rate.low <= rate.rate <= rate.high <= 1 and rate.high > rate.low


def test_a_skill_that_was_never_evaluated_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no episodes"):
        averaged([{"pick": (1, 2), "open": (0, 0)}])
    with pytest.raises(ValueError, match="no episodes"):
        averaged([])


def test_the_table_of_students_t_holds_its_quantiles() -> None:
    """P(|T| <= quantile) is 0.95, by numeric integration of the density."""
    for freedom, quantile in ((1, T_QUANTILES[0]), (2, T_QUANTILES[1]), (9, T_QUANTILES[8]), (30, T_QUANTILES[29])):
        scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
        count = 20000
        width = quantile / count
        inside = sum((1 + (width * (i + 0.5)) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(count))
        assert 2 * scale * width * inside == pytest.approx(0.95, abs=2e-4)
    assert list(T_QUANTILES) == sorted(T_QUANTILES, reverse=True) and len(T_QUANTILES) == 30
