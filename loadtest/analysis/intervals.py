"""How sure the figures of each stage are: a range over the server's phases, or an interval from blocks of time.

* Where windows that begin by the server's clock refuse, nothing is left to chance but the second at which a run meets
  them: the 429 rate and goodput have the range over all phases (``limits.phases``).
* Elsewhere the service varies: shares, goodput and percentiles have 95 % intervals from blocks (``block_intervals``).
* Where neither is sound there is none, and it says why.

Intervals from order statistics, which take requests for independent, stand beside these: see ``results.Summary``.
"""

from collections.abc import Iterator
from typing import Final, Literal

from loadtest.analysis.block_intervals import CONSTANT, BlockInterval, batch_s, percentile_interval, share_interval
from loadtest.analysis.blocks import EXECUTION, OVERHEAD, RESPONSE, Blocks, StageBlocks
from loadtest.analysis.columns import StageKey
from loadtest.analysis.distribution import percentile
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.record import Record
from loadtest.analysis.rejections.expected_429 import Expectation
from loadtest.analysis.rejections.phases import PhaseRange, depends_on_phase, phase_ranges, waits
from loadtest.analysis.results import Count, Number, OperationStage, Result, Summary
from loadtest.analysis.written import written_entry
from loadtest.arrays import Ints
from loadtest.contract import EXECUTING_OPERATIONS, LIMIT_OF_OPERATION
from loadtest.stats import QUANTILES

Kind = Literal["phases", "blocks", "phases and blocks"]

THROTTLED_RATE: Final = "throttled_rate"
ERROR_RATE: Final = "error_rate"
GOODPUT: Final = "goodput"
_TIMES: Final = (RESPONSE, EXECUTION, OVERHEAD)
_STATISTICS: Final = ("p50", "p90", "p95")
_SLACK: Final = 0.01
"""Share of the requests by which what was seen may be outside of the range: those that are decided at a boundary."""
_NONE: Final = PhaseRange(why_not="the limiter has no windows that begin by the server's clock")
_SHORT: Final = "the stage is too short for blocks"
_LATE: Final = "it is below the generator’s own dispatch lag p95: the machine decides it"


class MetricInterval(Result, frozen=True, kw_only=True):
    """How sure one figure of a traffic entry in a stage is.

    Attributes:
        metric: named as in thresholds.
        value: in ms, per second, or a share.
        kind: ``phases``: what the same sends would have had at any other second, by a replay of the assumed limiter;
            ``blocks``: 95 % interval from blocks of time, for correlated requests; ``phases and blocks``: the first,
            and the second of the share of accepted operations that end well; null without any.
        low: of the range or interval.
        high: likewise.
        n: values, or operations.
        effective_n: to how many independent ones these amount; null where that is unknown.
        phases: that were replayed; null without a replay.
        why_not: why there is none; empty otherwise.
    """

    traffic: str
    stage: str
    metric: str
    value: float
    kind: Kind | None = None
    low: float | None = None
    high: float | None = None
    n: Count
    effective_n: Number | None = None
    phases: Count | None = None
    why_not: str = ""


def metric_intervals(
    record: Record, expectation: Expectation, metrics: RunFigures, blocks: Blocks
) -> list[MetricInterval]:
    """Those of every traffic entry and stage, in order; figures that have no value are left out."""
    ranges = phase_ranges(record, expectation)
    replayed = expectation.why_not is None
    return [
        one
        for key in record.stages()
        for one in _Stage(record, key, metrics, blocks, ranges.get(record.stage_indices([key])[0], _NONE)).intervals(
            replayed=replayed
        )
    ]


def find_interval(intervals: list[MetricInterval], traffic: str, stage: str, metric: str) -> MetricInterval | None:
    """One of them; None where the figure has no value."""
    return next((one for one in intervals if (one.traffic, one.stage, one.metric) == (traffic, stage, metric)), None)


class _Stage:
    """Makes the intervals of one traffic entry in one stage."""

    def __init__(
        self, record: Record, key: StageKey, metrics: RunFigures, blocks: Blocks, over_phases: PhaseRange
    ) -> None:
        self._record, self._key, self._range = record, key, over_phases
        self._figures: OperationStage = metrics.traffic[key.traffic].stages[key.stage.name]
        (index,) = record.stage_indices([key])
        self._operation = record.vocabulary.operation_of[index]
        self._blocks: StageBlocks | None = blocks.get(index)
        self._pace = None if self._blocks is None else self._blocks.times[RESPONSE]
        self._why_phases = ""
        """Why what is refused here depends on the server's windows, so that blocks say nothing of it."""
        retried = written_entry(record.info, key.traffic).retries
        self._waits = waits(key.stage, self._operation, retried=retried)

    def intervals(self, *, replayed: bool) -> Iterator[MetricInterval]:
        """All of them."""
        if replayed:
            self._why_phases = self._depends()
        counts, figures = self._figures.operations, self._figures
        if figures.throttled_rate is not None:
            yield self._of(THROTTLED_RATE, figures.throttled_rate, counts.sent, **self._throttled())
        if figures.error_rate is not None:
            yield self._of(ERROR_RATE, figures.error_rate, counts.sent, **self._errors())
        if figures.goodput is not None and counts.offered:
            yield self._of(GOODPUT, figures.goodput, counts.offered, **self._goodput())
        for name in _TIMES if self._operation in EXECUTING_OPERATIONS else _TIMES[:1]:
            summary: Summary = getattr(figures, name)
            for statistic in _STATISTICS:
                value = summary.get(statistic).value
                if value is not None:
                    metric = f"{name.removesuffix('_ms')}.{statistic}"
                    yield self._of(metric, value, summary.n, **self._percentile(name, value, QUANTILES[statistic]))

    def _of(self, metric: str, value: float, n: int, **found: object) -> MetricInterval:
        given: dict[str, object] = {"traffic": self._key.traffic, "stage": self._key.stage.name, "metric": metric}
        return MetricInterval(**given, value=value, n=n, **found)  # type: ignore[arg-type] # by name, from one place

    def _depends(self) -> str:
        plan, assumed = self._key.stage, self._record.assumed_limits
        limit = assumed.drawn_on(LIMIT_OF_OPERATION[self._operation])
        calm = not (plan.over or plan.expect_429 or self._figures.operations.throttled)
        if calm or not assumed.windowed or limit not in self._record.limits():
            return ""
        window = assumed.limit_on(limit).window
        if not assumed.aligned and self._blocks is not None and batch_s(self._blocks.grid) >= window:
            return ""
        if self._range.why_not not in ("", _NONE.why_not):
            return self._range.why_not
        kind = depends_on_phase(self._record, self._key.traffic)
        return f"it sends {kind}, which depend on the server’s windows" if kind else "blocks are shorter than a window"

    def _throttled(self) -> dict[str, object]:
        seen = self._figures.operations.throttled
        if (found := self._replayed()) is not None:
            n = self._figures.operations.sent
            low, high = min(found.least, seen) / n, max(found.most, seen) / n
            return {"kind": "phases", "low": low, "high": high, "phases": found.phases}
        return self._share(None if self._blocks is None else self._blocks.throttled)

    def _errors(self) -> dict[str, object]:
        if not self._figures.error_rate:
            return {"why_not": CONSTANT}
        return self._share(None if self._blocks is None else self._blocks.errors)

    def _share(self, events: Ints | None) -> dict[str, object]:
        if self._why_phases or self._blocks is None or events is None:
            return {"why_not": self._why_phases or _SHORT}
        return _from_blocks(share_interval(events, self._blocks.sent, self._pace))

    def _replayed(self) -> PhaseRange | None:
        """The range over phases, if what was seen is in it; else None."""
        found, counts = self._range, self._figures.operations
        if found.why_not or found.sent != counts.sent:
            return None
        slack = max(1.0, _SLACK * counts.sent)
        inside = found.least - slack <= counts.throttled <= found.most + slack
        if not inside:
            self._why_phases = "its 429s are not those of the assumed limiter at any phase"
        return found if inside else None

    def _goodput(self) -> dict[str, object]:
        """Given what was offered, which is the schedule's: of what passes, the share that ends well."""
        counts, seconds = self._figures.operations, self._figures.seconds
        blocks = self._blocks
        if (found := self._replayed()) is not None:
            if self._waits:
                return {"why_not": self._waits}
            most = counts.sent - min(found.least, counts.throttled)
            least = counts.sent - max(found.most, counts.throttled)
            shared = {"phases": found.phases, "low": least / seconds, "high": most / seconds}
            if counts.ok == counts.sent - counts.throttled:
                return {"kind": "phases", **shared}
            well = None if blocks is None else share_interval(blocks.ok, blocks.sent - blocks.throttled, self._pace)
            if well is None or well.low is None or well.high is None:
                why = _SHORT if well is None else well.why_not
                return {"why_not": f"of what passed not all ended well: {why}"}
            low, high = least * well.low / seconds, most * well.high / seconds
            return {**shared, "kind": "phases and blocks", "low": low, "high": high}
        if self._why_phases or blocks is None:
            return {"why_not": self._why_phases or _SHORT}
        return _from_blocks(share_interval(blocks.ok, blocks.offered, self._pace), counts.offered / seconds)

    def _percentile(self, name: str, value: float, quantile: float) -> dict[str, object]:
        if self._waits:
            return {"why_not": self._waits}
        late = percentile(self._record.time("dispatch_lag_ms", [self._key]), QUANTILES["p95"]).value
        if name == RESPONSE and late is not None and value < late:
            return {"why_not": _LATE}
        times = None if self._blocks is None else self._blocks.times.get(name)
        if times is None:
            return {"why_not": _SHORT}
        return _from_blocks(percentile_interval(times, self._record.time(name, [self._key]), quantile))


def _from_blocks(found: BlockInterval, factor: float = 1.0) -> dict[str, object]:
    if found.low is None or found.high is None:
        return {"why_not": found.why_not, "effective_n": found.effective_n}
    return {"kind": "blocks", "low": found.low * factor, "high": found.high * factor, "effective_n": found.effective_n}
