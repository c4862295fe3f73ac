"""How values, differences and changes of compared metrics read."""

import msgspec
import pytest
from plugins import made_comparisons as made
from plugins.regression_parts import plain

from loadtest.compare import amounts
from loadtest.compare.measurements import Metric
from loadtest.compare.results import MetricComparison

SLOWER = made.CASES["slower"]()
TIME = SLOWER.findings[0].cause
SHARE = next(one for one in SLOWER.metrics if one.metric is Metric.ERROR_RATE)


@pytest.mark.parametrize(
    ("metric", "value", "difference", "words"),
    [
        (Metric.RESPONSE_TIME_P50, 96.04, 66.2, ("96 ms", "+66.2 ms")),
        (Metric.EXECUTION_TIME_P95, 12_345.0, -1_200.0, ("12.35 s", "−1.20 s")),
        (Metric.OVERHEAD_P50, 0.5, 0.0, ("0.5 ms", "±0 ms")),
        (Metric.ERROR_RATE, 0.012, 0.0034, ("1.2 %", "+0.34 points")),
        (Metric.THROTTLED_RATE, -0.021, 0.15, ("−2.1 points", "+15 points")),
        (Metric.GOODPUT, 1.333, -0.25, ("1.33 /s", "−0.25 /s")),
        (Metric.GOODPUT, 1_250.0, 12.4, ("1,250 /s", "+12.4 /s")),
    ],
)
def test_a_value_and_a_difference_carry_their_units(metric, value, difference, words):
    """Times in ms or s, shares in percentage points where they are differences, rates by the second."""
    assert (plain(amounts.value(metric, value)), plain(amounts.difference(metric, difference))) == words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.69, "+69 %"),
        (0.7, "−30 %"),
        (1.004, "+0.4 %"),
        (1.0, "±0 %"),
        (2.99, "+199 %"),
        (4.2, "× 4.2"),
        (250.0, "× 250"),
    ],
)
def test_a_ratio_reads_as_a_change(ratio: float, words: str) -> None:
    """In per cent; from three times on as a factor."""
    assert plain(amounts.percent(ratio)) == words


def test_an_interval_has_the_unit_of_what_it_follows() -> None:
    """Both bounds signed; ms for a difference, per cent for a change, points for a share."""
    time = msgspec.structs.replace(TIME, difference_interval=(58.2, 75.0), ratio_interval=(1.58, 1.75))
    assert plain(amounts.difference_interval(time)) == "95 %: +58.2 ms to +75 ms"
    assert plain(amounts.change_interval(time)) == "95 %: +58 % to +75 %"
    share = msgspec.structs.replace(SHARE, difference_interval=(-0.002, 0.021))
    assert plain(amounts.difference_interval(share)) == "95 %: −0.2 points to +2.1 points"
    assert amounts.change(share) == amounts.difference(share.metric, share.difference)
    assert amounts.change_interval(share) == amounts.difference_interval(share)


def test_what_is_unknown_is_a_dash() -> None:
    """No None and no nan reaches a reader."""
    nothing = dict.fromkeys(
        (
            "base",
            "head",
            "difference",
            "difference_interval",
            "ratio",
            "ratio_interval",
            "p",
            "p_adjusted",
            "detectable",
        )
    )
    bare: MetricComparison = msgspec.structs.replace(TIME, **nothing)
    shown = [
        amounts.value(bare.metric, bare.base), amounts.difference(bare.metric, bare.difference), amounts.change(bare),
        amounts.detectable(bare), amounts.probability(bare.p),
    ]  # fmt: skip
    assert shown == ["–"] * 5
    assert amounts.difference_interval(bare) == amounts.change_interval(bare) == ""


def test_what_would_have_been_found_of_a_short_time_is_in_ms() -> None:
    """× 104 of 10 µs says that a check is deaf; it is one millisecond."""
    one = msgspec.structs.replace(TIME, base=0.01, detectable=104.0)
    assert plain(amounts.detectable(one)) == "+1.03 ms"
    assert plain(amounts.detectable(msgspec.structs.replace(TIME, base=100.0, detectable=1.066))) == "+6.6 %"


def test_a_fall_of_goodput_is_for_the_worse() -> None:
    """Sorting by what became worse knows that less of it is worse, and more time is."""
    less = msgspec.structs.replace(TIME, metric=Metric.GOODPUT, ratio=0.5)
    assert amounts.worsening(less) == pytest.approx(amounts.worsening(msgspec.structs.replace(TIME, ratio=2.0)))
