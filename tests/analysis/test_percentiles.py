import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.analysis.distribution import Distributions, distribution, percentile, summarize
from loadtest.stats.order_statistics import interval_ranks, needed, rank


def _cdf(k: int, n: int, p: float) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize(
    ("quantile", "least"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)], ids=["p50", "p90", "p95", "p99"]
)
def test_a_percentile_needs_enough_values(quantile: float, least: int) -> None:
    """A percentile is None just below the n from which an upper 95 % bound exists, and there from it on."""
    assert percentile(distribution(np.arange(least - 1, dtype=float)), quantile).value is None
    assert percentile(distribution(np.arange(least, dtype=float)), quantile).high == least - 1
    assert needed(quantile) == least


@pytest.mark.parametrize(("n", "quantile", "expected"), [(100, 0.95, 95), (20, 0.95, 19), (101, 0.5, 51), (1, 0.5, 1)])
def test_nearest_rank(n: int, quantile: float, expected: int) -> None:
    """The rank is ⌈q·n⌉, without the errors of floating point that would make it one more."""
    assert rank(n, quantile) == expected


@given(st.integers(1, 400), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_interval_is_the_exact_binomial_one(n: int, quantile: float) -> None:
    """Ranks l and u leave at most 2.5 % on each side, and the next closer ones would leave more."""
    found = interval_ranks(n, quantile)
    if found is None:
        assert quantile**n > 0.025
        return
    low, high = found
    assert _cdf(low - 1, n, quantile) <= 0.025 + 1e-9
    assert _cdf(low, n, quantile) > 0.025 - 1e-9
    assert 1 - _cdf(high - 1, n, quantile) <= 0.025 + 1e-9
    assert 1 - _cdf(high - 2, n, quantile) > 0.025 - 1e-9


def test_interval_of_many_values() -> None:
    """A million values take no time, and their interval is that of the normal approximation."""
    low, high = interval_ranks(1_000_000, 0.95)
    spread = 1.96 * math.sqrt(1_000_000 * 0.95 * 0.05)
    assert low == pytest.approx(950_000 - spread, abs=3)
    assert high == pytest.approx(950_000 + spread, abs=3)


def test_summary_of_nothing() -> None:
    """No values: n is 0 and everything else is None, so that no zero is mistaken for a time."""
    block = summarize(distribution(np.array([math.nan])))
    assert block.n == 0
    assert {block.mean, block.p50, block.p99, block.max} == {None}


@pytest.mark.parametrize("exact", [20_000, 3])
@given(times=st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=6, max_size=120))
def test_time_outs_bound_a_percentile_from_both_sides(exact: int, times: list[tuple[int, bool]]) -> None:
    """However long the time-outs would have taken, the percentile lies between its bounds, which are as near as can be.

    Once each ends at once, once never: the first gives ``value``, the second ``most``.
    """
    values = np.array([time for time, _ in times], float)
    late = np.array([out for _, out in times])
    binned = Distributions(1, exact)
    binned.add_to(0, values, late)
    found = percentile(binned.get([0]), 0.5)
    place = (len(values) + 1) // 2 - 1
    assert found.value == pytest.approx(np.sort(values)[place], rel=0.004)
    assert found.most == pytest.approx(np.sort(np.where(late, np.inf, values))[place], rel=0.004)
    assert found.at_least == (np.count_nonzero(~late) <= place)
    if found.interval is not None:
        assert found.interval[0] <= found.value <= found.most <= found.interval[1]


def test_what_ended_after_a_time_out_is_known() -> None:
    """48 of 100 were cut off after 1 ms: the median of what ended later is bounded, and no lower bound only."""
    values = np.r_[np.full(48, 1.0), np.arange(101.0, 153.0)]
    block = summarize(distribution(values, values == 1.0))
    assert (block.p50, block.get("p50").most) == (102.0, 150.0)
    assert block.at_least == ("mean", "p90", "p95", "max")
    assert block.p50_interval is None


def test_statistics_that_reach_a_time_out_are_named() -> None:
    """Of 100 values with the 6 greatest timed out, p50 and p90 are known, p95, max and mean are lower bounds."""
    values = np.arange(1, 101, dtype=float)
    block = summarize(distribution(values, values > 94))
    assert block.at_least == ("mean", "p95", "max")
    assert (block.p50, block.p90, block.p95) == (50, 90, 95)
