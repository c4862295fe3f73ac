"""Shares are compared as counts."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.regression_parts import key, measurement, run
from scipy.special import bdtrc, ndtr

from loadtest.compare.changes import ShareChange, least_rise
from loadtest.compare.measurements import Measurement, Metric, RunMeasurements
from loadtest.compare.results import MetricComparison
from loadtest.compare.rule import judge_history

ERRORS, THROTTLED = key(Metric.ERROR_RATE), key(Metric.THROTTLED_RATE)
NEVER = 1e-9


def changed(base: list[Measurement], head: Measurement, varies: float = NEVER) -> ShareChange:
    noise = {"prior": varies, "seen": varies, "seen_df": 8, "variance": varies, "df": 8}
    return ShareChange(bases=base, heads=[head], earlier=base, parts=(1.0, 1.0), **noise)


def change(base: tuple[int, int], head: tuple[int, int], varies: float = NEVER) -> ShareChange:
    """(events, n) of both sides."""
    one, other = (measurement(ERRORS, events / n, n=n) for events, n in (base, head))
    return changed([one], other, varies)


def judged(base: list[tuple[int, int]], head: tuple[int, int]) -> MetricComparison:
    def one(events: int, n: int) -> RunMeasurements:
        return run([measurement(ERRORS, events / n, n=n)])

    return judge_history([one(*each) for each in base], one(*head)).metrics[0]


@pytest.mark.parametrize(
    ("base", "head"), [((0, 2000), (3, 400)), ((10, 1000), (12, 500)), ((200, 1000), (130, 500)), ((0, 200), (2, 40))]
)
def test_p_is_near_that_of_the_exact_test(base: tuple[int, int], head: tuple[int, int]) -> None:
    """Given all events, those of the head are binomial if rates are small; of large ones, normal (roughly)."""
    p = change(base, head).p()
    events, n = base[0] + head[0], base[1] + head[1]
    if base[0] / base[1] < 0.05:
        exact = float(bdtrc(head[0] - 1, events, head[1] / n))
    else:
        pooled = events / n
        z = (head[0] / head[1] - base[0] / base[1]) / math.sqrt(pooled * (1 - pooled) * (1 / head[1] + 1 / base[1]))
        exact = 1 - float(ndtr(z))
    assert exact / 1.3 < p < 1.3 * exact


def test_errors_after_none_are_plain() -> None:
    """12 of 600 after none of 3,000."""
    found = judged([(0, 600)] * 5, (12, 600))
    assert found.suspect
    assert found.p < 1e-5


@pytest.mark.parametrize(("before", "rise"), [(0.0, 0.001), (0.003, 0.006), (0.01, 0.01), (0.2, 0.01)])
def test_the_rise_that_counts(before: float, rise: float) -> None:
    """0 → 0.1 %, 0.3 → 0.9 %, 1 → 2 %, 20 → 21 %."""
    assert least_rise(before) == pytest.approx(rise)


def test_a_rise_below_what_counts_is_never_called_unchanged() -> None:
    """With the setting that makes it count."""
    history = [run([measurement(ERRORS, 0.02, n=20_000)], number) for number in range(20)]
    new = run([measurement(ERRORS, 0.028, n=20_000)], 30)
    found = judge_history(history, new)
    assert (found.word, found.metrics[0].verdict) == ("pass", "changed")
    assert any('rise = "0.8' in reason and "[regression]" in reason for reason in found.reasons)
    assert judge_history(history, new, rise=0.008).metrics[0].suspect
    # 54 of 6,000 after none of 30,000.
    assert judged([(0, 6000)] * 5, (54, 6000)).suspect


def test_rates_that_vary_from_run_to_run_are_no_news() -> None:
    """2, 30, 8, 1 and 19 errors of 400: a run with 28 is one more of them; after five times 12 it is not."""
    assert not judged([(k, 400) for k in (2, 30, 8, 1, 19)], (28, 400)).suspect
    assert judged([(12, 400)] * 5, (28, 400)).suspect


def test_the_interval_of_no_events_is_wilsons() -> None:
    """None of 400 against none of 2,000, at 95 %: z² ÷ (n + z²) above, for the head and the base."""
    low, high = change((0, 2000), (0, 400)).difference_interval()
    z2 = 1.96**2
    assert high == pytest.approx(z2 / (400 + z2), rel=0.01)
    assert low == pytest.approx(-z2 / (2000 + z2), rel=0.01)


def test_what_is_detectable_is_found() -> None:
    """A share somewhat above the detectable one is suspected, one far below is not."""
    calm = judged([(4, 400)] * 5, (4, 400))
    assert calm.detectable is not None
    odds = calm.detectable * 4 / 396
    needed = 400 * odds / (1 + odds)
    assert calm.detectable_value == pytest.approx(needed / 400, rel=0.1)
    assert judged([(4, 400)] * 5, (4, math.ceil(needed))[::-1] if needed > 400 else (math.ceil(needed), 400)).suspect
    assert not judged([(4, 400)] * 5, (round(needed / 3), 400)).suspect


def test_expected_429s_are_an_offset() -> None:
    """As many as expected is nothing new, whatever was expected."""
    base = [measurement(THROTTLED, 0.0, expected=share) for share in (0.3, 0.5, 0.7)]
    same = changed(base, measurement(THROTTLED, 0.0, expected=0.2))
    assert same.delta == pytest.approx(0, abs=0.02)
    assert same.p() == pytest.approx(0.5, abs=0.05)
    more = changed(base, measurement(THROTTLED, 0.2, expected=0.2))
    assert more.p() < 1e-6
    low, high = more.difference_interval()
    assert 0.1 < low < 0.2 < high < 0.3


@given(st.integers(0, 300), st.integers(300, 3000), st.integers(0, 300), st.integers(300, 3000), st.floats(1e-6, 1.0))
def test_figures_are_consistent(k: int, m: int, j: int, n: int, varies: float) -> None:
    """One-sided p of both directions, signs, and intervals that hold their estimate; more noise is never more sure."""
    one = change((k, m), (j, n), varies)
    assert 0 <= one.p() <= 1
    assert max(one.p(), one.p(better=True)) >= 0.5  # exact tests are conservative: both may be
    low, high = one.difference_interval()
    assert low <= one.head - one.base <= high
    assert low >= -1
    assert high <= 1
    noisier = replace(one, variance=2 * varies)
    assert noisier.p() >= min(one.p(), 0.5) - 1e-6
    detectable = one.detectable(0.01, 0.9)
    assert detectable is None or detectable > 1


@pytest.mark.parametrize("before", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("now", [0.0, 0.02, 0.2, 0.9])
@pytest.mark.parametrize("expected", [0.0, 0.1])
def test_the_interval_of_a_difference_holds_it(before: float, now: float, expected: float) -> None:
    """Of 429s with an expected share of none, too, whose log odds are an offset."""
    throttled = key(Metric.THROTTLED_RATE)
    history = [run([measurement(throttled, before, expected=expected)], number) for number in range(6)]
    one = judge_history(history, run([measurement(throttled, now, expected=expected)], 9)).metrics[0]
    assert one.difference == pytest.approx(now - before)
    assert one.difference_interval is not None
    low, high = one.difference_interval
    assert low <= now - before <= high
    assert high - low < 0.3
