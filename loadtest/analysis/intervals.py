"""Uncertainty of each stage's figures: a range over phases of the server's windows, or an interval from blocks of time.

* If windows on the server's clock decide which requests are rejected, only the phase is random: the moment of a window
  at which the run starts. The 429 rate and goodput then have the range of their values in 95 % of the phases
  (``rejections.phases``).
* Otherwise, and for other figures, the variation comes from the service. The 95 % intervals then come from blocks of
  time, and are valid even if requests are correlated.

The covariance of counts in neighbouring time bins gives the effective number of independent requests of a stage
(``loadtest.stats.correlated_bins``). A share has Wilson's score interval with this effective number as n (Brown, Cai &
DasGupta, Statistical Science 2001). The interval of p95 contains each value for which the share of lower times does
not differ significantly from 95 % (an inverted test: Francisco & Fuller, "Quantile estimation with a complex survey
design", Annals of Statistics 1991). ``bench/README.md`` has the share of intervals that contain the true value.

The intervals in ``results.Summary`` come from order statistics, which treat requests as independent.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from loadtest.analysis.columns import StageKey
from loadtest.analysis.distribution import Distribution, percentile
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.rejections.phases import PhaseRange, depends_on_phase, phase_ranges, waits
from loadtest.analysis.results import Count, NotNegative, OperationCounts, Result, Summary, result_of
from loadtest.analysis.run_record import Record
from loadtest.analysis.time_blocks import EXECUTION, OVERHEAD, RESPONSE, BinnedTimes, StageBlocks, TimeBlocks
from loadtest.arrays import Ints
from loadtest.contract import EXECUTING_OPERATIONS, LIMIT_OF_OPERATION
from loadtest.metrics import INTERVAL_STATISTICS
from loadtest.record.effective_scenario import written_entry
from loadtest.stats.correlated_bins import (
    NORMAL,
    bins_of_batch,
    effective_share_n,
    fill_batches,
    plausible,
)
from loadtest.stats.order_statistics import QUANTILES
from loadtest.stats.shares import wilson

THROTTLED_RATE: Final = "throttled_rate"
GOODPUT: Final = "goodput"
_TIMES: Final = (RESPONSE, EXECUTION, OVERHEAD)
_SLACK: Final = 0.01
"""The number of 429s may be outside the replayed range by this share of the sent requests.

Requests that arrive near a window's edge may count in either window.
"""
_NONE: Final = PhaseRange(why_not="the limiter has no windows that begin by the server's clock")

TOO_FEW: Final = "too few independent samples: parts of the stage have none"
CONSTANT: Final = "it was constant during the stage, so its variation is unknown"
DRIFTS: Final = "too few independent samples: it drifts through the stage"
TIME_OUTS: Final = "its upper bound reaches time-outs"
_SHORT: Final = "the stage is too short for blocks"
_LATE: Final = "it is below the load generator’s dispatch lag p95, so the machine determines it"

_Kind = Literal["phases", "blocks", "phases and blocks"]


class FoundInterval(Result, frozen=True):
    """An interval, or the reason for its absence.

    Attributes:
        effective_n: number of independent values that would give an equally uncertain figure; null if unknown.
        why_not: reason for a missing interval; empty otherwise.
        kind: ``phases`` is the range of 95 % of replays with the assumed limiter. All replays have the same requests,
            but each starts at another moment of the window. ``blocks`` is a 95 % interval from blocks of time, for
            correlated requests. ``phases and blocks`` (of goodput) combines ``phases`` for the number of accepted
            operations with ``blocks`` for the share of these that end ok. Null without an interval.
        phases: number of replayed phases; null if ``kind`` has no ``phases``.
    """

    low: float | None = None
    high: float | None = None
    effective_n: NotNegative | None = None
    why_not: str = ""
    kind: _Kind | None = None
    phases: Count | None = None


class MetricInterval(FoundInterval, frozen=True, kw_only=True):
    """Uncertainty of one figure of a traffic entry in a stage. ``metric`` is named as in thresholds."""

    traffic: str
    stage: str
    metric: str
    value: float
    n: Count


def metric_intervals(record: Record, metrics: RunFigures, blocks: TimeBlocks) -> list[MetricInterval]:
    """Return the intervals of 429 rates, error rates, goodput and ``loadtest.metrics.INTERVALS``, by stage."""
    ranges = phase_ranges(record)
    stages = [
        _Stage(record, key, metrics, blocks.stages.get(key.place), ranges.get(key.place, _NONE))
        for key in record.stages()
    ]
    return [one for stage in stages for one in stage.intervals()]


def find_interval(intervals: Sequence[MetricInterval], traffic: str, stage: str, metric: str) -> MetricInterval | None:
    """Return the interval of a figure; None if the figure has no value, or its metric has no intervals."""
    return next((one for one in intervals if (one.traffic, one.stage, one.metric) == (traffic, stage, metric)), None)


_CONSTANT: Final = FoundInterval(why_not=CONSTANT)


class _Stage:
    def __init__(
        self, record: Record, key: StageKey, metrics: RunFigures, blocks: StageBlocks | None, over_phases: PhaseRange
    ) -> None:
        self._record, self._key, self._blocks = record, key, blocks
        self._figures = metrics.traffic[key.traffic].stages[key.stage.name]
        self._pace = None if blocks is None else blocks.times[RESPONSE]
        self._waits = waits(key.stage, key.operation, retried=written_entry(record.info, key.traffic).retries)
        self._why_phases = self._depends(over_phases) if record.expectation.why_not is None else ""
        """The reason why blocks give no valid interval of a share; empty if they do."""
        self._phases = over_phases.phases
        self._rejected = _usual(over_phases, self._figures.operations)
        """Range of the number of rejections over 95 % of phases; None if unknown, or if no phase explains the 429s."""
        if self._rejected is None and not over_phases.why_not and over_phases.sent == self._figures.operations.sent:
            self._why_phases = "at no phase does the assumed limiter return this number of 429s"

    def intervals(self) -> Iterator[MetricInterval]:
        counts, figures = self._figures.operations, self._figures
        if figures.throttled_rate is not None:
            yield self._of(THROTTLED_RATE, figures.throttled_rate, counts.sent, self._throttled())
        if figures.error_rate is not None:
            errors = self._share(lambda of: (of.errors, of.sent)) if figures.error_rate else _CONSTANT
            yield self._of("error_rate", figures.error_rate, counts.sent, errors)
        if figures.goodput is not None and counts.offered:
            yield self._of(GOODPUT, figures.goodput, counts.offered, self._goodput())
        for name in _TIMES if self._key.operation in EXECUTING_OPERATIONS else _TIMES[:1]:
            summary: Summary = getattr(figures, name)
            for statistic in INTERVAL_STATISTICS:
                value = summary.get(statistic).value
                if value is not None:
                    metric = f"{name.removesuffix('_ms')}.{statistic}"
                    yield self._of(metric, value, summary.n, self._percentile(name, value, QUANTILES[statistic]))

    def _of(self, metric: str, value: float, n: int, found: FoundInterval) -> MetricInterval:
        traffic, stage = self._key.traffic, self._key.stage.name
        return result_of(MetricInterval, found, traffic=traffic, stage=stage, metric=metric, value=value, n=n)

    def _depends(self, over_phases: PhaseRange) -> str:
        plan, assumed = self._key.stage, self._record.assumed_limits
        limit = assumed.drawn_on(LIMIT_OF_OPERATION[self._key.operation])
        calm = not (plan.over or plan.expect_429 or self._figures.operations.throttled)
        if calm or not assumed.windowed or limit not in self._record.limits():
            return ""
        window = assumed.limit_on(limit).window
        # Intervals from blocks ignore a pattern whose period is longer than a batch of bins.
        grid = None if self._blocks is None else self._blocks.grid
        if not assumed.spec.on_clock and grid and grid.seconds / grid.bins * bins_of_batch(grid.bins) >= window:
            return ""
        if over_phases.why_not not in ("", _NONE.why_not):
            return over_phases.why_not
        kind = depends_on_phase(self._record, self._key.traffic)
        return f"it sends {kind}, which depend on the server’s windows" if kind else "blocks are shorter than a window"

    def _throttled(self) -> FoundInterval:
        if self._rejected is None:
            return self._share(lambda of: (of.throttled, of.sent))
        low, high = (each / self._figures.operations.sent for each in self._rejected)
        return FoundInterval(low, high, kind="phases", phases=self._phases)

    def _share(self, counts: Callable[[StageBlocks], tuple[Ints, Ints]], whole: float = 1.0) -> FoundInterval:
        """Return the interval of a share from blocks, multiplied by ``whole``."""
        if self._why_phases or self._blocks is None:
            return FoundInterval(why_not=self._why_phases or _SHORT)
        found = share_interval(*counts(self._blocks), self._pace)
        if found.low is None or found.high is None:
            return found
        return msgspec.structs.replace(found, low=found.low * whole, high=found.high * whole)

    def _goodput(self) -> FoundInterval:
        counts, seconds, blocks = self._figures.operations, self._figures.seconds, self._blocks
        if self._rejected is None:
            return self._share(lambda of: (of.ok, of.offered), counts.offered / seconds)
        if self._waits:
            return FoundInterval(why_not=self._waits)
        least, most = (counts.sent - rejected for rejected in reversed(self._rejected))
        if counts.ok == counts.sent - counts.throttled:
            return FoundInterval(least / seconds, most / seconds, kind="phases", phases=self._phases)
        accepted = None if blocks is None else share_interval(blocks.ok, blocks.sent - blocks.throttled, self._pace)
        well = accepted or FoundInterval(why_not=_SHORT)
        if well.low is None or well.high is None:
            return FoundInterval(
                why_not=f"the share of accepted operations that end ok has no interval: {well.why_not}"
            )
        low, high = least * well.low / seconds, most * well.high / seconds
        return FoundInterval(low, high, kind="phases and blocks", phases=self._phases)

    def _percentile(self, name: str, value: float, quantile: float) -> FoundInterval:
        if self._waits:
            return FoundInterval(why_not=self._waits)
        late = percentile(self._record.time("dispatch_lag_ms", [self._key]), QUANTILES["p95"]).value
        if name == RESPONSE and late is not None and value < late:
            return FoundInterval(why_not=_LATE)
        times = None if self._blocks is None else self._blocks.times.get(name)
        if times is None:
            return FoundInterval(why_not=_SHORT)
        return percentile_interval(times, self._record.time(name, [self._key]), quantile)


def _usual(over_phases: PhaseRange, counts: OperationCounts) -> tuple[int, int] | None:
    """Return the range of rejections over 95 % of phases, extended to an observed number that is barely outside it.

    The result is None if there is no range, if it does not cover all sent operations, or if the observed number is
    clearly outside the range over all phases.
    """
    low, high = over_phases.usual
    seen = counts.throttled
    slack = max(1.0, _SLACK * counts.sent)
    if over_phases.why_not or over_phases.sent != counts.sent:
        return None
    if not over_phases.least - slack <= seen <= over_phases.most + slack:
        return None
    return (min(low, seen), max(high, seen)) if low - slack <= seen <= high + slack else (low, high)


def share_interval(events: Ints, whole: Ints, pace: BinnedTimes | None = None) -> FoundInterval:
    """Return the interval of a share from counts by bin. The interval uses the correlation of the times in ``pace``."""
    if not fill_batches(whole):
        return FoundInterval(why_not=TOO_FEW)
    share = float(events.sum() / whole.sum())
    if share in (0.0, 1.0):
        return _CONSTANT
    known = None if pace is None else pace.pace
    effective = effective_share_n(events, whole, known)
    if known is not None and known.drifts:
        return FoundInterval(effective_n=effective, why_not=DRIFTS)
    return FoundInterval(*wilson(share, effective, NORMAL), effective, kind="blocks")


def percentile_interval(times: BinnedTimes, values: Distribution, quantile: float) -> FoundInterval:
    """Return the interval of a percentile, in ms: the levels that may contain the percentile (``plausible``).

    ``values`` are the same times without bins, with marked time-outs.
    """
    pace, whole = times.pace, times.counts.sum(axis=1)
    if pace is None:
        return FoundInterval(why_not=TOO_FEW)
    below = np.cumsum(times.counts, axis=1)
    inside, effective = plausible(below, whole, pace, quantile)
    if pace.drifts:
        return FoundInterval(effective_n=effective, why_not=DRIFTS)
    first, last = np.flatnonzero(inside)[[0, -1]]
    low, high = float(times.cuts[first]), float(times.cuts[last])
    if values.late is not None:
        # At the low end, a time-out counts with its duration; at the high end, as infinite.
        high = max(high, values.greatest_at(min(int(below[:, last].sum()), values.n)))
    if high == math.inf:
        return FoundInterval(effective_n=effective, why_not=TIME_OUTS)
    return FoundInterval(low, high, effective, kind="blocks")
