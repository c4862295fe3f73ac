"""Distributions: exact while few, within half a percent as histograms, the same in whatever pieces they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.analysis.distribution import Distribution, Distributions, buckets, distribution

values = st.lists(st.floats(-1e6, 1e9).filter(lambda v: v == 0 or abs(v) > 1e-5), min_size=1, max_size=300)


def filled(numbers: list[float], pieces: int, exact: int) -> Distribution:
    """All of them in cell 1 of 3, in so many pieces."""
    found = Distributions(3, exact)
    for part in np.array_split(np.array(numbers), pieces):
        found.add(np.ones(len(part), int), part)
    return found.get([1])


@given(values, st.integers(1, 7))
def test_few_values_are_kept_as_they_are(numbers: list[float], pieces: int) -> None:
    """Below the threshold every rank is a value that was given, whatever the pieces."""
    found = filled(numbers, pieces, exact=300)
    assert found.at(range(1, len(numbers) + 1)).tolist() == sorted(numbers)
    assert (found.n, found.least, found.most) == (len(numbers), min(numbers), max(numbers))


@given(numbers=values, pieces=st.integers(2, 7))
def test_a_histogram_is_off_by_less_than_half_a_percent(numbers: list[float], pieces: int) -> None:
    """At every rank, for values of any size and sign; the ends, the count and the sum are exact."""
    found = filled(numbers, pieces, exact=0)
    assert found.counts is not None
    ordered = np.sort(numbers)
    assert np.abs(found.at(range(1, len(numbers) + 1)) - ordered).max(initial=0.0, where=ordered == 0) == 0
    known = ordered != 0
    errors = np.abs(found.at(np.arange(1, len(numbers) + 1)) - ordered)[known] / np.abs(ordered[known])
    assert errors.max(initial=0.0) <= 0.004
    assert (found.n, found.least, found.most) == (len(numbers), ordered[0], ordered[-1])
    assert found.total == pytest.approx(sum(numbers))


@given(values, values)
def test_cells_add_up(one: list[float], other: list[float]) -> None:
    """Two cells together are what one cell with the values of both would be, one of them a histogram or not."""
    found = Distributions(2, exact=100)
    found.add(np.zeros(len(one), int), np.array(one))
    found.add(np.ones(len(other), int), np.array(other))
    both = found.get([0, 1])
    whole = np.sort(np.array(one + other))
    assert both.n == len(whole)
    assert (both.least, both.most) == (whole[0], whole[-1])
    middle = (len(whole) + 1) // 2
    assert both.at([middle])[0] == pytest.approx(whole[middle - 1], rel=0.004)


def test_buckets_ascend_with_values() -> None:
    """A greater value never lies in a lower bucket, and what differs by a percent lies in another."""
    rising = np.concatenate((-np.geomspace(1e11, 1e-5, 5000), [0.0], np.geomspace(1e-5, 1e11, 5000)))
    assert (np.diff(buckets(rising)) >= 0).all()
    assert (buckets(np.geomspace(1e-4, 1e6, 100) * 1.01) > buckets(np.geomspace(1e-4, 1e6, 100))).all()


def test_what_is_known_from_below_only_stays_so() -> None:
    """The least time-out of all pieces is where knowledge ends; NaN is no value."""
    found = Distributions(1)
    found.add(np.zeros(3, int), np.array([5.0, np.nan, 9.0]), np.array([False, True, True]))
    found.add(np.zeros(2, int), np.array([7.0, 1.0]), np.array([True, False]))
    whole = found.get([0])
    assert (whole.n, whole.late.least, whole.mean) == (4, 7.0, 5.5)
    assert distribution(np.array([np.nan])).n == 0
    assert Distribution().mean is None
