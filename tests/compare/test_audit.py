"""The audit of a history: how often the rule would have cried wolf, with a bound, and what it could have seen."""

import msgspec
import pytest
from plugins.history_parts import made_line, made_run

from loadtest.compare.audit import LEAST, audit
from loadtest.compare.history import decision_line, fold
from loadtest.compare.measurements import Metric
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
    assert found.plain.count == 0
    seen = {(each.traffic, each.metric): each for each in found.metrics}
    assert len(seen) == 4
    one = seen["greetings", Metric.RESPONSE_TIME_P50]
    assert one.checks == 30
    assert 1.05 < one.detectable < 1.2
    assert one.value == pytest.approx(223, rel=0.05)


def test_accepted_noise_counts_as_what_it_is() -> None:
    """Two slow nights one after the other, accepted without a new segment: a false alarm, confirmed by the second."""
    lines = [made_line(day, sd=0.02, factors={"jobs": 1.5 if day in {11, 12} else 1.0}) for day in range(20)]
    found = audit(fold(lines))
    assert found.reruns.count >= 2
    assert found.false_alarms.count == 1, "the night after the second was an ordinary one"
    assert found.plain.count >= 2
    assert found.false_alarms.a_year == pytest.approx(365 / 20)


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
