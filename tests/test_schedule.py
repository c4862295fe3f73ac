"""Schedules: when arrivals are intended, and how workers share them."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.record.run_info import StagePlan
from loadtest.schedule import Arrival, TrafficSchedule

Stretch = tuple[float, float, float] | tuple[float, float, float, int]


def schedule(*stretches: Stretch, arrivals: Any = "even", seed: int = 1, name: str = "t") -> TrafficSchedule:
    """A schedule of stretches (duration, rate, rate_to[, burst]), one after another."""
    stages, at = [], 0.0
    for number, (duration, rate, rate_to, *burst) in enumerate(stretches):
        of_rate = {"rate": rate, "rate_to": rate_to, "burst": int(sum(burst))}
        stages.append(StagePlan(name=f"s{number}", start_s=at, duration_s=duration, **of_rate))
        at += duration
    return TrafficSchedule(name, stages, arrivals, seed)


def times(made: TrafficSchedule) -> list[float]:
    """Intended starts in seconds."""
    return [arrival.intended_ns / 1e9 for arrival in made.share()]


# durations and rates as people write them, so that sums come out near integers
durations = st.integers(1, 300).map(lambda tenths: tenths / 10)
rates = st.sampled_from([0.0, 0.1, 1 / 3, 80 / 60, 1.5, 5.0, 8.333333333333334, 33.3]) | st.floats(0, 40)
stretch = st.tuples(durations, rates, rates, st.sampled_from([0, 0, 0, 1, 7, 100])) | st.tuples(durations, rates).map(
    lambda drawn: (drawn[0], drawn[1], drawn[1], 0)
)
schedules = st.builds(
    lambda stretches, arrivals, seed: schedule(*stretches, arrivals=arrivals, seed=seed),
    st.lists(stretch, min_size=1, max_size=6),
    st.sampled_from(["even", "poisson"]),
    st.integers(0, 2**63 - 1),
)


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([(1, 4, 4)], [0, 0.25, 0.5, 0.75]),
        ([(1, 2.5, 2.5)], [0, 0.4, 0.8]),  # ⌈2.5⌉
        ([(10, 0.05, 0.05)], [0]),  # ⌈0.5⌉
        ([(5, 0, 0)], []),
        ([(1, 2, 2), (10, 0, 0), (1, 2, 2)], [0, 0.5, 11, 11.5]),  # nothing while the rate is zero
        ([(3, 0, 0), (1, 1, 1)], [3]),
        ([(1, 1, 1), (3, 0, 0)], [0]),
        ([(1, 1.5, 1.5), (1, 1.5, 1.5)], [0, 1 / 1.5, 1 + 0.5 / 1.5]),  # Λ goes on over the boundary
        ([(10, 0, 2)], [math.sqrt(10 * k) for k in range(10)]),  # Λ = t²/10
        ([(10, 2, 0)], [10 - math.sqrt(100 - 10 * k) for k in range(10)]),  # Λ = 2t − t²/10
        ([(2, 1, 3)], [(-1 + math.sqrt(1 + 2 * k)) for k in range(4)]),  # Λ = t + t²/2
        ([(1, 0, 0, 3), (1, 2, 2)], [0, 0, 0, 1, 1.5]),  # a burst, a wait
        ([(1, 0.5, 0.5), (2, 1, 1, 2)], [0, 1, 1, 1 + 0.5, 1 + 1.5]),  # a burst in the middle of an arrival's way
    ],
)
def test_even_arrivals_are_where_the_integral_of_the_rate_says(stretches: list[Stretch], expected: list[float]) -> None:
    """Arrival k at Λ⁻¹(k), in closed form."""
    assert times(schedule(*stretches)) == pytest.approx(expected, abs=2e-9)


@pytest.mark.parametrize(
    ("rate", "duration", "count"),
    [
        (0.8 * (100 / 60), 60, 80),  # 80.00000000000001 in floating point
        (0.1 * 3, 10, 3),  # 3.0000000000000004
        (1 / 3, 3, 1),
        (500 / 60, 7.2, 60),
        (2.5, 3, 8),
        (20_000, 3, 60_000),
    ],
)
def test_a_stage_has_rate_times_duration_arrivals(rate: float, duration: float, count: int) -> None:
    """⌈r·d⌉, and those of the next stage belong to the next: floating point neither adds one nor moves one."""
    made = schedule((duration, rate, rate), (1, 5, 5))
    assert Counter(arrival.stage for arrival in made.share()) == {"s0": count, "s1": 5}
    assert len(times(schedule((duration, rate, rate)))) == count


def test_many_stages_lose_nothing_to_rounding() -> None:
    """A thousand stages of a tenth of an arrival each are a hundred arrivals, ten stages apart."""
    made = times(schedule(*[(0.1, 1, 1)] * 1000))
    assert made == pytest.approx([float(k) for k in range(100)], abs=1e-6)


@given(schedules)
def test_arrivals_are_in_order_and_inside_their_stages(made: TrafficSchedule) -> None:
    """Numbers count up, times never go back, and each lies within the stage that it names."""
    arrivals = list(made.share())
    stages = {stage.name: stage for stage in made.stages}
    assert [arrival.number for arrival in arrivals] == list(range(len(arrivals)))
    assert all(one.intended_ns <= two.intended_ns for one, two in itertools.pairwise(arrivals))
    for arrival in arrivals:
        stage = stages[arrival.stage]
        assert stage.arrivals > 0
        end = stage.end_s
        assert stage.start_s * 1e9 - 1 <= arrival.intended_ns <= end * 1e9 + 1
    if made.arrivals == "even":
        assert len(arrivals) == math.ceil(sum(stage.arrivals for stage in made.stages) - 1e-9)


@given(schedules, st.integers(1, 9))
def test_shares_partition_the_schedule(made: TrafficSchedule, workers: int) -> None:
    """Worker i of n has exactly the arrivals i, i+n, i+2n …: together they are the schedule, none twice."""
    whole = list(made.share())
    assert sum(len(times) for _, times, _ in made.blocks()) == len(whole)
    for worker in range(workers):
        assert list(made.share(worker, workers)) == whole[worker::workers]


def test_shares_go_on_over_blocks() -> None:
    """The schedule is made in blocks, of which shares know nothing."""
    made = schedule((3, 5000, 5000))
    shares = [list(made.share(worker, 7)) for worker in range(7)]
    assert [{arrival.number % 7 for arrival in share} for share in shares] == [{worker} for worker in range(7)]
    assert sorted(itertools.chain(*shares), key=lambda arrival: arrival.number) == list(made.share())


@given(st.integers(0, 2**63 - 1))
@settings(max_examples=settings.default.max_examples // 10)
def test_a_poisson_schedule_is_a_function_of_seed_and_name(seed: int) -> None:
    """The same again for the same seed; another for another seed, or for another entry of the same scenario."""
    drawn = schedule((30, 10, 10), arrivals="poisson", seed=seed)
    assert times(drawn) == times(schedule((30, 10, 10), arrivals="poisson", seed=seed))
    assert times(drawn) != times(schedule((30, 10, 10), arrivals="poisson", seed=seed + 1))
    assert times(drawn) != times(schedule((30, 10, 10), arrivals="poisson", seed=seed, name="u"))


def test_poisson_arrivals_stay_what_they_are() -> None:
    """Pinned, so that a seed in an old run.json still says what it said."""
    made = schedule((10, 1, 1), arrivals="poisson", seed=7, name="greetings")
    assert [arrival.intended_ns for arrival in itertools.islice(made.share(), 3)] == [
        1759005678,
        2340967246,
        3055807866,
    ]


@pytest.mark.parametrize("stretches", [[(1000, 10, 10)], [(1000, 0, 20)], [(500, 30, 2), (300, 0, 0), (500, 4, 4)]])
def test_rescaled_poisson_gaps_are_exponential(stretches: list[Stretch]) -> None:
    """Λ at the arrivals is a unit-rate Poisson process, whatever the rate does: Kolmogorov-Smirnov at a fixed seed."""
    made = schedule(*stretches, arrivals="poisson", seed=11)
    gaps = np.sort(np.diff([integral(made, arrival) for arrival in made.share()]))
    n = len(gaps)
    cdf = 1 - np.exp(-gaps)
    distance = max(np.max(np.arange(1, n + 1) / n - cdf), np.max(cdf - np.arange(n) / n))
    # 1.95/√n is passed by chance in 1 of 1000 samples; the seed is fixed.
    assert n > 8000
    assert distance < 1.95 / math.sqrt(n)


def integral(made: TrafficSchedule, arrival: Arrival) -> float:
    """Λ at an arrival, by hand."""
    total = 0.0
    for stage in made.stages:
        inside = min(max(arrival.intended_ns / 1e9 - stage.start_s, 0), stage.duration_s)
        slope = (stage.rate_to - stage.rate) / stage.duration_s
        total += stage.rate * inside + slope / 2 * inside**2
    return total


def test_two_poisson_entries_are_independent() -> None:
    """Counts by second of two entries with one seed don't go together: |r| below 4/√n."""
    counts = [
        np.bincount(np.floor(times(schedule((2000, 10, 10), arrivals="poisson", seed=3, name=name))).astype(int))[:1990]
        for name in ("a", "b")
    ]
    assert abs(np.corrcoef(*counts)[0, 1]) < 4 / math.sqrt(1990)
