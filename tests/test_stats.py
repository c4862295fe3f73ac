"""Statistics that rooms share: the live histogram (quantiles to about 2 %, sums without loss), the binomial tail."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.stats.order_statistics import GROWTH, LogHistogram
from loadtest.stats.shares import log10_at_most

values = st.lists(st.floats(1e-6, 1e9) | st.integers(0, 100).map(float), min_size=1, max_size=60)
shares = st.floats(0, 1)


def histogram(data: list[float]) -> LogHistogram:
    """A histogram of values."""
    made = LogHistogram()
    made.extend(data)
    return made


@given(values, shares)
def test_quantiles_are_off_by_half_a_bucket_at_most(data: list[float], share: float) -> None:
    """Against the sorted values: the one of the same rank, within the square root of a bucket's growth."""
    exact = sorted(data)[max(1, math.ceil(share * len(data))) - 1]
    found = histogram(data).quantile(share)
    if exact == 0:
        assert found == 0
    else:
        assert 1 / math.sqrt(GROWTH) * (1 - 1e-9) <= found / exact <= math.sqrt(GROWTH) * (1 + 1e-9)


@given(values, values, shares)
def test_two_histograms_add_up_to_that_of_all_values(one: list[float], two: list[float], share: float) -> None:
    """Merging loses nothing, in whichever order."""
    merged, other_way, whole = histogram(one), histogram(two), histogram(one + two)
    merged += histogram(two)
    other_way += histogram(one)
    assert merged.count == other_way.count == whole.count == len(one) + len(two)
    assert merged.buckets == other_way.buckets == whole.buckets
    assert merged.quantile(share) == other_way.quantile(share) == whole.quantile(share)


@given(values, st.lists(shares, min_size=2, max_size=5).map(sorted))
def test_quantiles_never_go_down(data: list[float], growing: list[float]) -> None:
    """A larger share is no smaller value."""
    made = histogram(data)
    found = [made.quantile(share) or 0.0 for share in growing]
    assert all(one <= two for one, two in pairwise(found))


def test_nothing_has_no_quantile() -> None:
    """None, not zero."""
    assert LogHistogram().quantile(0.5) is None


@pytest.mark.parametrize("value", [0.0, -1.0, -1e-300])
def test_what_is_not_above_zero_is_zero(value: float) -> None:
    """A clock that steps back gives no value of its own."""
    assert histogram([value, 5.0]).quantile(0.5) == 0.0


@given(st.integers(1, 300), st.integers(0, 300), st.sampled_from([(1, 2), (1, 20), (19, 20), (1, 1000)]))
def test_the_binomial_tail_is_exact(n: int, k: int, p: tuple[int, int]) -> None:
    """Against sums of fractions, to twelve digits of the logarithm."""
    share = Fraction(*p)
    tail = sum(math.comb(n, j) * share**j * (1 - share) ** (n - j) for j in range(min(k, n) + 1))
    exact = math.log10(tail.numerator) - math.log10(tail.denominator)
    assert log10_at_most(k, n, float(share)) == pytest.approx(exact, rel=1e-9, abs=1e-9)


def test_the_binomial_tail_goes_on_where_floats_end() -> None:
    """Ten thousand losses in a row have a probability of 2^-10000, which no float holds."""
    assert log10_at_most(0, 10_000, 0.5) == pytest.approx(-10_000 * math.log10(2))
