"""The audit of a history: how often the rule would have cried wolf, with a bound, and what it could have seen."""

import re

import msgspec
import pytest
from plugins.history_parts import made_line, made_run

from loadtest.compare.audit import LEAST, audit
from loadtest.compare.history import decision_line, fold, growth
from loadtest.compare.measurements import Metric
from loadtest.compare.shifts import find_changes
from loadtest.stats.shares import clopper_pearson


@pytest.mark.parametrize(
    ("count", "of", "bound"),
    [
        (0, 1, 0.95),
        (0, 30, 1 - 0.05 ** (1 / 30)),
        (0, 300, 0.0099),
        (1, 10, 0.3942),  # Clopper and Pearson's own table
        (10, 10, 1.0),
        (0, 0, 1.0),
    ],
)
def test_upper_bound(count: int, of: int, bound: float) -> None:
    """Of 0 in n it is about 3 ÷ n."""
    assert clopper_pearson(count, of) == pytest.approx(bound, abs=5e-5)


def test_a_quiet_history_may_be_left_switched_on() -> None:
    """30 nights with 2 % of noise: no false alarm, at most 9.5 % of checks; a change of 20 % would have been seen."""
    found = audit(fold(made_line(day, sd=0.02) for day in range(30)))
    assert (found.accepted, found.replayed, found.segments) == (30, 30, 1)
    assert (found.false_alarms.count, found.false_alarms.of) == (0, 30)
    assert found.false_alarms.upper == pytest.approx(0.095, abs=0.001)
    assert found.false_alarms.a_year_upper == pytest.approx(365 * found.false_alarms.upper)
    seen = {(each.traffic, each.metric): each for each in found.metrics}
    assert len(seen) == 4
    one = seen["greetings", Metric.RESPONSE_TIME_P50]
    assert one.checks == 30
    assert 1.05 < one.detectable < 1.2
    assert one.value == pytest.approx(223, rel=0.05)


BOTH = ("greetings", "jobs")


@pytest.mark.parametrize(
    ("factors", "kind", "places", "change"),
    [
        ([1.004**day for day in range(30)], "trend", (0,), 1.12),
        ([1.1 if day >= 15 else 1.0 for day in range(30)], "step", (15,), 1.1),
        ([0.8 if 10 <= day < 20 else 1.0 for day in range(30)], "step", (10, 20), 0.8),
        ([1.2 if day >= 5 else 1.0 for day in range(8)], "step", (5,), 1.2),
        ([1.2 if day in {3, 4, 7} else 1.0 for day in range(10)], "odd run", (3, 4, 7), 1.2),
    ],
    ids=["slow drift", "jump", "lost gain", "poisoned at the end", "poisoned"],
)
def test_changes_are_named_and_never_replayed(factors, kind, places, change) -> None:
    """Each with date, size and interval; a false-alarm rate only between them."""
    lines = [made_line(day, sd=0.02, factors=dict.fromkeys(BOTH, factor)) for day, factor in enumerate(factors)]
    found = audit(fold(lines))
    assert {each.kind for each in found.changes} == {kind}
    assert tuple(each.started for each in found.changes) == tuple(made_run(place).started for place in places)
    low, high = found.changes[0].interval
    assert low < change < high
    assert found.changes[0].also > 0 or kind == "odd run"
    assert found.false_alarms.count == 0
    calm = {"trend": 0, "step": len(factors) if len(factors) > 8 else 0, "odd run": 7}[kind]
    assert (found.calm, found.accepted) == (calm, len(factors))


def test_slow_runs_of_three_entries_among_five_are_named() -> None:
    """Three of eight runs are slow by 20 % in three entries, which does not inflate the noise of any."""
    runs = []
    for day in range(8):
        factors = dict.fromkeys(BOTH, 1.2 if day in {1, 4, 6} else 1.0)
        run, *others = (made_run(day + 100 * at, {} if at == 1 else factors, sd=0.03) for at in range(3))
        more = [
            msgspec.structs.replace(one, traffic=f"{one.traffic}-{at}")
            for at, other in enumerate(others)
            for one in other.measurements[: 6 - 3 * at]
        ]
        runs.append(msgspec.structs.replace(run, measurements=(*run.measurements, *more)))
    changes, calm = find_changes(runs)
    assert [(each.kind, each.run, each.also) for each in changes] == [
        ("odd run", made_run(day).run, 2) for day in (1, 4, 6)
    ]
    assert len(calm[0]) == 5


def test_a_quiet_history_has_no_changes() -> None:
    """Of 40 histories of 30 nights at most one has a change that is none."""
    histories = (fold(made_line(1000 * number + day, sd=0.03) for day in range(30)) for number in range(40))
    assert sum(bool(find_changes([each.measurements for each in known.runs])[0]) for known in histories) <= 1


def test_two_bands_of_runs_are_no_odd_runs() -> None:
    """Single runs are odd, not four in ten."""
    banded = [made_run(day, dict.fromkeys(BOTH, 1.2 if day % 5 in {1, 3} else 1.0), sd=0.01) for day in range(60)]
    assert not find_changes(banded)[0]


def test_growth_across_periods_is_seen() -> None:
    """Four accepted steps of 5 % each are together more than 20 %."""
    factors = [1.05 ** (day // 10) for day in range(50)]
    lines = [made_line(day, sd=0.01, factors=dict.fromkeys(BOTH, factor)) for day, factor in enumerate(factors)]
    accepted = [
        decision_line(made_run(day).run, "accepted", "new model", new_segment=True) for day in range(10, 50, 10)
    ]
    said = growth(fold([*lines, *accepted]))
    assert "5 baseline periods" in said
    assert re.search(r"greetings \+2\d", said)


def test_segments_are_replayed_each_for_itself() -> None:
    """An accepted change is no alarm, and too short a segment is left out."""
    lines = [made_line(day, sd=0.02, factors={"jobs": 1.5 if day >= 12 else 1.0}) for day in range(12 + LEAST)]
    change = decision_line(made_run(12).run, "accepted", "on purpose", new_segment=True)
    found = audit(fold([*lines, change]))
    assert (found.segments, found.replayed, found.false_alarms.count) == (2, 12 + LEAST, 0)
    jobs = next(each for each in found.metrics if each.traffic == "jobs")
    assert jobs.value == pytest.approx(1.5 * 512, rel=0.05), "what can be seen is said of the latest segment"
    found = audit(fold([*lines[:-1], change]))
    assert (found.segments, found.replayed) == (2, 12)


def test_nothing_to_audit() -> None:
    """Too few runs: nothing is claimed, and the bound is everything."""
    found = audit(fold(made_line(day) for day in range(LEAST - 1)))
    assert (found.replayed, found.false_alarms.upper, found.metrics) == (0, 1.0, ())
    assert msgspec.json.encode(found)
