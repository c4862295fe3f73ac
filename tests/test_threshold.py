"""Thresholds: read strictly, judged only where the truth is known."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import InputError
from loadtest.metrics import UNITS as METRICS
from loadtest.scenario.model import ThresholdEntry
from loadtest.threshold import Reference, Threshold, judge, parse_threshold, why_not_early


@pytest.mark.parametrize(
    ("text", "metric", "operator", "value", "upper"),
    [
        ("response_time.p50 < 800ms", "response_time.p50", "<", 800, None),
        ("response_time.p50<1.5s", "response_time.p50", "<", 1500, None),
        ("  overhead.mean  >=  -5ms ", "overhead.mean", ">=", -5, None),
        ("goodput >= 90/min", "goodput", ">=", 1.5, None),
        ("goodput > 5/s", "goodput", ">", 5, None),
        ("error_rate <= 1%", "error_rate", "<=", 0.01, None),
        ("error_rate <= 0.35", "error_rate", "<=", 0.35, None),
        ("error_rate == 35%", "error_rate", "==", 0.35, None),  # 35 * 0.01 is another number
        ("requests.throttled == 0", "requests.throttled", "==", 0, None),
        ("polls.max <= 3", "polls.max", "<=", 3, None),
        ("throttled_rate between 10% and 0.2", "throttled_rate", "between", 0.1, 0.2),
        ("response_time.p99 between 500ms and 1s", "response_time.p99", "between", 500, 1000),
        ("requests.throttled_rate within 5% of expected", "requests.throttled_rate", "within", 0.05, None),
    ],
)
def test_requirements_are_read(text: str, metric: str, operator: str, value: float, upper: float | None) -> None:
    """Every operator, in the metric's own unit: ms, 1/s, shares from 0 to 1, plain numbers."""
    read = parse_threshold(text)
    assert (read.metric, read.operator, read.value, read.upper) == (metric, operator, value, upper)
    assert read.unit == METRICS[metric]


@pytest.mark.parametrize(
    ("text", "operator", "factor", "reference"),
    [
        ("response_time.p50 < 1.2x stage alone", "<", 1.2, Reference("stage", "alone")),
        ("error_rate<=2x traffic second", "<=", 2.0, Reference("traffic", "second")),
    ],
)
def test_relative_requirements_are_read(text: str, operator: str, factor: float, reference: Reference) -> None:
    """A factor, and the stage or traffic whose same metric it is of; what is known at the end only cannot abort."""
    read = parse_threshold(text)
    assert (read.operator, read.value, read.reference) == (operator, factor, reference)
    assert "known only at the end" in str(why_not_early(read))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a threshold"),
        ("response_time.p50", "is not a threshold"),
        ("response_time.p50 <", "is not a threshold"),
        ("response_time.p50 < 1s < 2s", "is not a threshold"),
        ("response_time.p50 != 1s", "is not a threshold"),
        ("response_time.p50 == 1x stage alone", "is not a relative threshold"),
        ("response_time.p50 < 1.2x", "Write response_time.p50 < 1.2x stage NAME"),
        ("response_time.p50 < 5ms stage alone", "is not a relative threshold"),
        ("response_time.p50 < 1.2x stge alone", "is not a threshold"),
        ("response_time.p50 between 1s", "is not a threshold"),
        ("response_tme.p50 < 1s", "Did you mean response_time.p50?"),
        ("response_time < 1s", "Name a statistic of it: response_time.mean, response_time.p50"),
        ("response_time_ms.p50 < 1s", "Write it without _ms: response_time.p50."),
        ("xyzzy < 1", "`loadtest metrics` lists them all."),
        ("p95 < 500ms", "Did you mean response_time.p95?"),
        ("p(95) < 500", "Did you mean response_time.p95?"),
        ("median < 500ms", "Did you mean response_time.p50?"),
        ("latency.p95 < 1s", "Did you mean response_time.p95?"),
        ("http_req_duration.avg < 1s", "Did you mean response_time.mean?"),
        ("latency < 1s", "Name a statistic of it: response_time.mean, response_time.p50"),
        ("429_rate < 5%", "Did you mean requests.throttled_rate?"),
        ("errors < 1%", "Did you mean error_rate or operations.failed?"),
        ("error-rate < 1%", "Did you mean error_rate?"),
        ("response_time.p98 < 1s", "Name a statistic of it: response_time.mean"),
        ("response_time.p50 < 800", "a time with its unit, such as 800ms or 1.5s"),
        ("response_time.p50 < 5%", "a time with its unit"),
        ("goodput > 5", "a rate with its unit, such as 5/s or 90/min"),
        ("error_rate < 5ms", "a share from 0 to 1, or a percentage"),
        ("error_rate < 101%", "is not a share"),
        ("error_rate < 5", "is not a share"),
        ("error_rate < -1%", "is not a share"),
        ("operations.ok > 5%", "a plain number"),
        ("response_time.p50 < 1e3ms", "has the wrong unit"),
        ("response_time.p50 < nan", "has the wrong unit"),
        ("throttled_rate between 20% and 10%", "can never hold: 20% is above 10%"),
        ("error_rate within 5% of expected", "Only requests.throttled_rate and throttled_rate have one."),
    ],
)
def test_what_is_no_requirement_is_refused(text: str, words: str) -> None:
    """With what to write instead: the nearest metric, or the unit's form."""
    with pytest.raises(InputError) as caught:
        parse_threshold(text)
    assert words in str(caught.value)


P50 = "response_time.p50"


@pytest.mark.parametrize(
    ("text", "value", "expected", "judgement"),
    [
        (f"{P50} < 800ms", 799.9, None, "pass"),
        (f"{P50} < 800ms", 800.0, None, "fail"),
        (f"{P50} <= 800ms", 800.0, None, "pass"),
        (f"{P50} > 800ms", 800.0, None, "fail"),
        (f"{P50} >= 800ms", 800.0, None, "pass"),
        (f"{P50} == 800ms", 800.0, None, "pass"),
        (f"{P50} == 800ms", 801.0, None, "fail"),
        # a sample that can't carry it
        (f"{P50} < 800ms", None, None, "inconclusive"),
        ("throttled_rate within 5% of expected", None, 0.5, "inconclusive"),
        # known within bounds only: judged outside of them, never inside
        (f"{P50} < 800ms", (700.0, 799.0), None, "pass"),
        (f"{P50} < 800ms", (800.0, 900.0), None, "fail"),
        (f"{P50} < 800ms", (700.0, 900.0), None, "inconclusive"),
        (f"{P50} > 800ms", (700.0, 900.0), None, "inconclusive"),
        (f"{P50} < 800ms", (800.0, float("inf")), None, "fail"),  # "at least", as time-outs leave it
        (f"{P50} < 800ms", (700.0, float("inf")), None, "inconclusive"),
        (f"{P50} == 800ms", (700.0, 900.0), None, "inconclusive"),
        (f"{P50} == 800ms", (801.0, 900.0), None, "fail"),
        (f"{P50} == 800ms", (800.0, 800.0), None, "pass"),
        # an interval, both ends within it
        (f"{P50} between 1s and 2s", 1000.0, None, "pass"),
        (f"{P50} between 1s and 2s", 2000.0, None, "pass"),
        (f"{P50} between 1s and 2s", 2000.1, None, "fail"),
        (f"{P50} between 1s and 2s", (1100.0, 1900.0), None, "pass"),
        (f"{P50} between 1s and 2s", (900.0, 1100.0), None, "inconclusive"),
        (f"{P50} between 1s and 2s", (900.0, 2100.0), None, "inconclusive"),  # both miss, the truth may not
        (f"{P50} between 1s and 2s", (100.0, 900.0), None, "fail"),
        (f"{P50} between 1s and 2s", (2100.0, 9000.0), None, "fail"),
        (f"{P50} between 1s and 1s", (900.0, 1100.0), None, "inconclusive"),
        # around what the replay of the limiter expects
        ("throttled_rate within 5% of expected", 0.54, 0.5, "pass"),
        ("throttled_rate within 5% of expected", 0.46, 0.5, "pass"),
        ("throttled_rate within 5% of expected", 0.56, 0.5, "fail"),
        ("throttled_rate within 5% of expected", 0.5, None, "inconclusive"),
        ("throttled_rate within 5% of expected", (0.4, 0.6), 0.5, "inconclusive"),
    ],
)
def test_judgement(text: str, value: Any, expected: float | None, judgement: str) -> None:
    """Pass and fail only where every value that is possible says so."""
    assert judge(parse_threshold(text), value, expected) == judgement


@given(
    st.sampled_from(["<", "<=", ">", ">=", "==", "between", "within"]),
    st.integers(0, 10),
    st.integers(0, 5),
    st.tuples(st.integers(0, 15), st.integers(0, 15)).map(sorted),
    st.integers(0, 10),
)
def test_bounds_are_judged_as_all_values_between_them(operator, value, width, bounds, expected):
    """Against brute force: pass if every point within the bounds holds, fail if none does, else inconclusive."""
    upper = float(value + width) if operator == "between" else None
    threshold = Threshold("t", P50, "ms", operator, float(value), upper)
    low, high = bounds
    # A grid, and the ends of what is required, which it may miss.
    ends = [value, value + width, expected - value, expected + value, expected]
    points = [low + (high - low) * step / 120 for step in range(121)] + [end for end in ends if low <= end <= high]
    held = [threshold.holds(point, expected) for point in points]
    truth = "pass" if all(held) else "inconclusive" if any(held) else "fail"
    assert judge(threshold, (float(low), float(high)), float(expected)) == truth


def test_a_threshold_says_where_it_holds() -> None:
    """The scope in words."""
    assert parse_threshold("error_rate < 1%").scope == "overall"
    assert parse_threshold("error_rate < 1%", traffic="greetings", stage="within").scope == "greetings / within"
    assert parse_threshold("error_rate < 1%", operation="sync_run").scope == "sync_run"


def test_only_percentiles_can_be_judged_with_confidence() -> None:
    """A count or a mean has no interval that could be judged."""
    assert parse_threshold("response_time.p95 < 1s", confident=True).confident
    for text in ("error_rate < 1%", "response_time.mean < 1s", "operations.ok > 3"):
        with pytest.raises(InputError, match="cannot be confident"):
            parse_threshold(text, confident=True)


def test_a_scenario_cannot_be_confident_of_a_metric_without_an_interval() -> None:
    """Such a threshold would be inconclusive in every run."""
    assert ThresholdEntry(require="overhead.p95 < 1s", traffic="t", confident=True).confident
    for metric in ("response_time.p99", "time_to_result.p95"):
        with pytest.raises(ValueError, match="cannot be confident: only"):
            ThresholdEntry(require=f"{metric} < 1s", traffic="t", confident=True)
