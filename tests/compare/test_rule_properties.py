"""Properties of the rule that compares a run with its history, over runs of random noise."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.regression_parts import key, measurement, run

from loadtest.compare.measurements import Metric, RunMeasurements
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.rule import judge_history
from loadtest.compare.verdict import suspects

P50, P95 = key(Metric.RESPONSE_TIME_P50), key(Metric.RESPONSE_TIME_P95)
OTHER = key(Metric.RESPONSE_TIME_P50, "reports")
CALM = {P50: 120.0, P95: 180.0, OTHER: 60.0}
SLOWER = {P50: 150.0, P95: 181.0, OTHER: 60.5}


def of(comparison: RunComparison, metric: Metric, traffic: str = "greetings") -> MetricComparison:
    return next(one for one in comparison.metrics if (one.traffic, one.metric) == (traffic, metric))


def noisy(seed: int, runs: int, factor: float = 1.0) -> list[RunMeasurements]:
    """Runs with times from 30 ms, and shares, drawn by a seed."""
    draw = random.Random(seed)
    keys = [key(metric, traffic) for metric in Metric for traffic in ("a", "b")]
    bases = {each: draw.uniform(30, 3000) for each in keys}
    made = []
    for number in range(runs):
        values = {}
        for each in keys:
            share = each.metric in (Metric.ERROR_RATE, Metric.THROTTLED_RATE)
            slower = draw.choice([1.0, 1.0, 1.3]) * draw.gauss(1, 0.03)
            values[each] = draw.uniform(0, 0.1) if share else bases[each] * slower * factor
        made.append(run(values, number))
    return made


@settings(max_examples=settings.default.max_examples // 4)
@given(st.integers(0, 10_000), st.integers(0, 30), st.randoms())
def test_the_order_of_metrics_is_irrelevant(seed: int, runs: int, shuffle: random.Random) -> None:
    *history, last = noisy(seed, runs + 1)
    mixed = [msgspec.structs.replace(one, measurements=_shuffled(one, shuffle)) for one in (*history, last)]
    plain, other = judge_history(history, last), judge_history(mixed[:-1], mixed[-1])
    assert (plain.word, plain.sentence, plain.metrics) == (other.word, other.sentence, other.metrics)


def _shuffled(one: RunMeasurements, shuffle: random.Random) -> tuple:
    values = list(one.measurements)
    shuffle.shuffle(values)
    return tuple(values)


@settings(max_examples=settings.default.max_examples // 4)
@given(st.integers(0, 10_000), st.integers(5, 25), st.floats(1.0, 50.0))
def test_another_unit_of_time_changes_no_verdict(seed: int, runs: int, factor: float) -> None:
    """All times and rates times a constant: the same ratios and verdicts, differences times the constant."""
    *history, last = noisy(seed, runs + 1)
    *scaled, scaled_last = noisy(seed, runs + 1, factor)
    plain, other = judge_history(history, last), judge_history(scaled, scaled_last)
    assert plain.word == other.word
    for one, two in zip(plain.metrics, other.metrics, strict=True):
        assert one.verdict == two.verdict
        assert one.ratio == pytest.approx(two.ratio)
        assert one.p == pytest.approx(two.p, abs=1e-9)


@settings(max_examples=settings.default.max_examples // 4)
@given(st.integers(0, 10_000), st.integers(5, 12), st.floats(1.0, 3.0))
def test_a_worse_value_is_never_less_suspect(seed: int, runs: int, factor: float) -> None:
    *history, last = noisy(seed, runs + 1)
    place = next(n for n, one in enumerate(last.measurements) if one.metric == Metric.RESPONSE_TIME_P50)
    one = last.measurements[place]
    slower = measurement(one.key, one.value * factor)
    changed = msgspec.structs.replace(
        last, measurements=(*last.measurements[:place], slower, *last.measurements[place + 1 :])
    )
    before, after = judge_history(history, last), judge_history(history, changed)
    assert of(after, one.metric, one.traffic).p <= of(before, one.metric, one.traffic).p  # type: ignore[operator]
    assert one.key not in suspects(before) or one.key in suspects(after)


@given(st.integers(0, 10_000), st.integers(0, 20))
def test_a_comparison_survives_its_file(seed: int, runs: int) -> None:
    *history, last = noisy(seed, runs + 1)
    judged = judge_history(history, last)
    assert msgspec.json.decode(msgspec.json.encode(judged), type=RunComparison) == judged
