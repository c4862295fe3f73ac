"""Two sets of values of one run: how far apart, and whether they can be told apart."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.stats.correlated_bins import effective_n
from loadtest.stats.differences import difference, estimate
from loadtest.stats.order_statistics import interval_ranks

INF = math.inf
TIMES = st.lists(st.floats(0.1, 1e4), min_size=80, max_size=120)


def series(seed: int, n: int, correlation: float = 0.0) -> np.ndarray:
    """Normal values, each alike the one before."""
    draws = np.random.default_rng(seed).standard_normal(n)
    for place in range(1, n):
        draws[place] = correlation * draws[place - 1] + math.sqrt(1 - correlation**2) * draws[place]
    return draws


def test_a_constant_side_has_the_interval_of_the_other() -> None:
    """MOVER with one exact side is the other side's interval, moved: a little wider than that of order statistics."""
    values = np.array([41 * k % 101 for k in range(101)], dtype=float)
    found, own = difference([10.0] * 101, values, "p50"), estimate(values, "p50")
    low, high = interval_ranks(101, 0.5) or (0, 0)
    assert (found.base, found.head, found.difference) == (10.0, 50.0, 40.0)
    assert own is not None
    assert found.interval == (own.low - 10.0, own.high - 10.0)
    assert 1 <= (own.high - own.low) / (high - low) < 1.5


def test_rows_of_the_same_inputs_are_told_apart_where_others_are_not() -> None:
    """Each job 20 ms slower, jobs from 50 to 1,000 ms: only pairs see it."""
    jobs = np.exp(series(3, 90)) * 200
    assert not difference(jobs, jobs + 20, "p50").told_apart
    paired = difference(jobs, jobs + 20, "p50", paired=True)
    assert paired.told_apart
    assert paired.paired
    assert paired.difference == pytest.approx(20)
    assert paired.interval == pytest.approx((20, 20))


def test_neighbours_that_are_alike_count_for_less() -> None:
    independent = effective_n(series(1, 600))
    alike = effective_n(series(1, 600, correlation=0.8))
    assert alike < 200
    assert 400 < independent <= 600
    wide = difference(series(2, 600, 0.8), series(3, 600, 0.8), "p50").interval or (0, 0)
    slim = difference(series(2, 600), series(3, 600), "p50").interval or (0, 0)
    assert wide[1] - wide[0] > 1.5 * (slim[1] - slim[0])


@pytest.mark.parametrize(("paired", "correlation"), [(False, 0.5), (True, 0.0)])
def test_intervals_hold_what_they_promise(paired: bool, correlation: float) -> None:
    """Of 100 runs with no difference, 95 % intervals hold zero in 88 or more (fewer: 0.1 % by chance)."""
    held = {"p50": 0, "share": 0, "mean": 0}
    for seed in range(100):
        one, own = series(2 * seed, 120, correlation), series(2 * seed + 1, 120, correlation)
        other = 0.8 * one + 0.6 * own if paired else own
        for name, found in (
            ("p50", difference(np.exp(one), np.exp(other), "p50", paired=paired)),
            ("share", difference(one < -0.5, other < -0.5, "share", paired=paired)),
            ("mean", difference(np.exp(one), np.exp(other), "mean", paired=paired)),
        ):
            held[name] += not found.told_apart
    assert min(held.values()) >= 88


def test_time_outs_are_longer_than_anything() -> None:
    """Up to half of the values may time out; the percentile is finite, its upper bound is not."""
    some = [[*np.arange(100.0, 160.0), *[INF] * 40][41 * k % 100] for k in range(100)]
    found = difference([50.0 + 41 * n % 100 / 100 for n in range(100)], some, "p50")
    assert found.difference == pytest.approx(149 - 50.49)
    assert found.told_apart
    most = difference([50.0] * 100, [100.0] * 30 + [INF] * 70, "p50")
    assert (most.head, most.difference) == (INF, INF)
    assert most.interval == (INF, INF)
    assert most.told_apart
    reverse = difference([100.0] * 30 + [INF] * 70, [50.0] * 100, "p50")
    assert reverse.interval == (-INF, -INF)
    both = difference([INF] * 100, [INF] * 100, "p50")
    assert (both.difference, both.interval, both.told_apart) == (None, None, False)


def test_a_time_out_within_the_interval_leaves_it_open() -> None:
    nearly = [100.0] * 48 + [INF] * 52
    found = difference([50.0] * 100, nearly, "p50")
    assert found.interval == (50.0, INF)


def test_a_factor_answers_whether_one_is_within_times_the_other() -> None:
    """p50 < 1.2 × baseline: above zero it is broken, below it is met."""
    alone = [100 + n % 10 for n in range(100)]
    near, far = [110 + n % 10 for n in range(100)], [150 + n % 10 for n in range(100)]
    assert (difference(alone, near, "p50", factor=1.2).interval or (0, 0))[1] < 0
    assert (difference(alone, far, "p50", factor=1.2).interval or (0, 0))[0] > 0


def test_more_comparisons_take_wider_intervals() -> None:
    one, other = series(4, 200), series(5, 200)
    single = difference(one, other, "p50").interval or (0, 0)
    ten = difference(one, other, "p50", confidence=1 - 0.05 / 10).interval or (0, 0)
    assert ten[0] < single[0] < single[1] < ten[1]


@pytest.mark.parametrize("statistic", ["mean", "share"])
def test_nothing_to_compare_says_so(statistic: str) -> None:
    found = difference([], [1.0], statistic)
    assert (found.difference, found.interval, found.told_apart) == (None, None, False)
    assert found.why


def test_what_cannot_be_said_says_why() -> None:
    few = difference([1.0] * 40, [2.0] * 40, "p95")
    assert (few.difference, few.interval) == (1.0, None)
    assert few.why == "too few values for an interval of p95"
    assert difference([1.0, INF], [1.0, 2.0], "mean").why == "a time-out has no mean"
    with pytest.raises(ValueError, match="equally many"):
        difference([1.0], [1.0, 2.0], "p50", paired=True)


def test_shares_without_any_event_have_an_interval() -> None:
    """None of 100 on both sides: within four points of each other, by Wilson."""
    found = difference([0.0] * 100, [0.0] * 100, "share")
    assert found.difference == 0
    low, high = found.interval or (0, 0)
    assert -0.06 < low < 0 < high < 0.06
    assert difference([0.0] * 100, [1.0] * 20 + [0.0] * 80, "share").told_apart


@settings(max_examples=settings.default.max_examples // 4)
@given(TIMES, TIMES, st.floats(0.5, 20.0))
def test_units_and_sides_change_nothing(base: list[float], head: list[float], factor: float) -> None:
    """Other units scale all; changing sides turns the signs."""
    found = difference(base, head, "p50")
    scaled = difference([factor * v for v in base], [factor * v for v in head], "p50")
    turned = difference(head, base, "p50")
    if found.interval is None:
        assert (scaled.interval, turned.interval) == (None, None)
        return
    assert scaled.interval == pytest.approx(tuple(factor * end for end in found.interval))
    assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    assert found.interval[0] <= (found.difference or 0) <= found.interval[1]
