"""Differences of a metric between stages or traffic entries of a run, and relative thresholds.

For example, ``response_time.p50 < 1.2x stage alone`` is judged by both values and by the interval of value − 1.2 ×
base, where base is the value of stage ``alone``. The interval is computed from the values of both sides
(``loadtest.stats.differences``). If both sides sent the same rows of the same inputs, arrivals are compared in pairs.

A difference needs the time and arrival number of each value. To limit memory, values are kept only for the entries
that are compared, and only for the first ``MOST`` operations and requests of each stage.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from operator import methodcaller
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from loadtest.analysis.columns import KINDS, OK, OUTCOMES, TIMED_OUT, Rows, Stages, Vocabulary
from loadtest.analysis.intervals import MetricInterval
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.reader import Chunk
from loadtest.analysis.run_record import Record
from loadtest.analysis.times import FORMULAS
from loadtest.analysis.verdict import Judged, Measured, find_figures, judge_one, judged_by, measure, too_few
from loadtest.arrays import Bools, Floats, Ints, NamedColumns
from loadtest.metrics import METRICS, PARTS, SUMMARIES, Cell, field_of
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import RunInfo
from loadtest.stats import differences
from loadtest.stats.differences import Difference
from loadtest.stats.order_statistics import QUANTILES
from loadtest.threshold import Reference, Threshold, judge
from loadtest.words import quantity

MOST: Final = 100_000
"""Number of operations, and of requests, whose values are kept for each stage. Later values are left out."""
_OURS: Final = ("start_lag", "dispatch_lag")
"""Times that measure the load generator instead of the service. Every sent operation has them."""
_SCATTER: Final = 0.6180339887498949
"""Golden ratio − 1, whose multiples are spread evenly modulo 1."""
_Table = Literal["operations", "requests"]
_COLUMNS: Final[dict[_Table, dict[str, Callable[[Rows], Floats | Ints]]]] = {
    "operations": {
        **{name: methodcaller("words", name) for name in ("outcome", "mistake")},
        **{name: methodcaller("floats", name) for name in ("arrival", "intended_start")},
        **{name: FORMULAS[field_of(name)] for name in SUMMARIES if name != "service_time"},
    },
    "requests": {
        **{name: methodcaller("words", name) for name in ("outcome", "mistake", "kind")},
        **{name: methodcaller("floats", name) for name in ("start", "status", "parent_arrival")},
        "service_time": FORMULAS["service_time_ms"],
    },
}
_ROW: Final = {table: np.dtype([(name, np.float64) for name in columns]) for table, columns in _COLUMNS.items()}


class Values(NamedTuple):
    """Values of one metric in the order of time, with the arrival number of each value.

    A response time, time to result, overhead or service time is infinite if its operation or request did not become
    ok. Values of requests have no arrival numbers, because an arrival may have several requests.
    """

    numbers: Floats
    arrivals: Ints | None = None


class ArrivalValues:
    """Collects the values of some traffic entries. ``cut``: whether ``MOST`` excluded any values."""

    def __init__(self, vocabulary: Vocabulary, entries: Collection[str]) -> None:
        keys = enumerate(vocabulary.stage_keys)
        self._wanted = {index for index, key in keys if key.traffic in entries and vocabulary.in_figures[index]}
        self._parts: defaultdict[tuple[_Table, int], list[NamedColumns]] = defaultdict(list)
        self._kept: Counter[tuple[_Table, int]] = Counter()
        self.cut = False

    def add(self, chunk: Chunk) -> None:
        for table in _COLUMNS if self._wanted else ():
            found: Rows = getattr(chunk, table)
            for index, rows in found.by_stage:
                if index in self._wanted:
                    self._keep(table, index, rows)

    def get(self, metric: str, stages: Stages, *, whole: bool) -> Values | None:
        """Return the values of a metric, named with its statistic, in some stages of one entry.

        With ``whole``, response times include every sent arrival without a deliberate mistake, and are infinite for
        arrivals that never became ok. Otherwise they include only ok and timed-out operations, as in ``metrics.json``.
        The result is None for a count or a rate per second, because single arrivals have no such value.
        """
        name, entry = metric.partition(".")[0], METRICS[metric]
        if name == "service_time":
            rows = self.rows("requests", stages)
            late = rows["outcome"] == TIMED_OUT
            answered = (late | (rows["outcome"] == OK)) & (rows["mistake"] < 0)
            return Values(np.where(late, np.inf, rows["service_time"])[answered])
        if entry.whole == "requests.sent":
            return Values(_in_any(entry.parts, self.rows("requests", stages)).astype(float))
        rows = self.rows("operations", stages)
        rows = rows[~np.isnan(rows["start_lag"])]
        if name in SUMMARIES:
            return _times(name, rows, whole=whole)
        if entry.whole != "operations.sent":
            return None
        arrivals = rows["arrival"].astype(np.int64)
        if entry.parts[0].startswith("requests."):
            sent = self.rows("requests", stages)
            asked = Counter(sent["parent_arrival"][_in_any(entry.parts, sent)].tolist())
            return Values(np.array([asked[arrival] for arrival in arrivals.tolist()], np.float64), arrivals)
        return Values(_in_any(entry.parts, rows).astype(float), arrivals)

    def _keep(self, table: _Table, index: int, rows: Rows) -> None:
        room = MOST - self._kept[table, index]
        if len(rows) > room:
            self.cut, rows = True, rows.some(slice(0, room))
        if len(rows):
            self._kept[table, index] += len(rows)
            part = np.empty(len(rows), _ROW[table])
            for name, column in _COLUMNS[table].items():
                part[name] = column(rows)
            self._parts[table, index].append(part)

    def rows(self, table: _Table, stages: Stages) -> NamedColumns:
        """Return the rows of some stages in the order of time."""
        parts = [part for key in stages for part in self._parts[table, key.place]]
        found = np.concatenate([np.empty(0, _ROW[table]), *parts])
        if table == "requests":
            return found[np.argsort(found["start"], kind="stable")]
        # Arrivals at the same moment are shuffled. In order of their numbers, a burst would look like a trend, because
        # its first arrivals are accepted.
        return found[np.lexsort((found["arrival"] * _SCATTER % 1.0, found["intended_start"]))]


def _in_any(counts: Sequence[str], rows: NamedColumns) -> Bools:
    """Return True for each operation or request that one of the named counts includes."""
    names = [name for name in ("outcome", "kind", "status") if name in (rows.dtype.names or ())]
    cells, places = np.unique(np.stack([np.fmax(rows[name], 0) for name in names]), axis=1, return_inverse=True)
    known = [
        Cell(OUTCOMES[outcome], kind=KINDS[of[0]], status=of[1] or None) if of else Cell(OUTCOMES[outcome])
        for outcome, *of in cells.T.astype(int).tolist()
    ]
    return np.array([any(PARTS[name](cell) for name in counts) for cell in known], bool).take(places)


def _times(name: str, rows: NamedColumns, *, whole: bool) -> Values:
    """Return the values of a time. Only lags include operations with deliberate mistakes."""
    values, ok, late = rows[name], rows["outcome"] == OK, rows["outcome"] == TIMED_OUT
    if name not in _OURS:
        if name in ("response_time", "time_to_result", "overhead") or (whole and name == "submit"):
            values = np.where(~ok if name != "submit" else np.isnan(values), np.inf, values)
        chosen = (rows["mistake"] < 0) & (ok | late | whole)
        rows, values = rows[chosen], values[chosen]
    known = ~np.isnan(values)
    return Values(values[known], rows["arrival"][known].astype(np.int64))


def difference(
    metric: str,
    info: RunInfo,
    values: ArrivalValues,
    sides: Sequence[Stages],
    *,
    whole: bool,
    factor: float = 1.0,
    confidence: float = 0.95,
) -> Difference | None:
    """Return head − factor × base; None for a maximum, or if single arrivals have no value of the metric.

    ``metric`` includes its statistic. ``ArrivalValues.get`` explains ``whole``. ``sides`` are the stages of base and
    head, each of one traffic entry.
    """
    base, head = (values.get(metric, side, whole=whole) for side in sides)
    if base is None or head is None or metric.endswith(".max"):
        return None
    one, other, paired = base.numbers, head.numbers, False
    shift = _shift_of_pairs(info, values, *sides)
    if shift is not None and base.arrivals is not None and head.arrivals is not None:
        _, left, right = np.intersect1d(base.arrivals, head.arrivals - shift, return_indices=True)
        order = np.argsort(left)
        one, other, paired = one[left[order]], other[right[order]], True
    return differences.difference(one, other, statistic_of(metric), paired=paired, factor=factor, confidence=confidence)


def statistic_of(metric: str) -> str:
    """Return the statistic that turns single values into the metric: a percentile, ``max``, ``share`` or ``mean``."""
    last = metric.rpartition(".")[2]
    return last if last in (*QUANTILES, "max") else "share" if METRICS[metric].unit == "share" else "mean"


def _shift_of_pairs(info: RunInfo, values: ArrivalValues, base: Stages, head: Stages) -> int | None:
    """Return the head's arrival number − the base's in each pair; None if the sides' inputs cannot be paired.

    Two entries with the same inputs send the same input at the same arrival number. Two stages of an entry send the
    same inputs in the same order if their first arrivals' numbers differ by a multiple of the number of input rows.
    """
    first, second = (written_entry(info, side[0].traffic) for side in (base, head))
    if first.inputs_order != "sequential":
        return None
    if base[0].traffic != head[0].traffic:
        return 0 if first.inputs is not None and first.sends == second.sends else None
    rows = info.traffic[base[0].traffic].input_rows
    begin, other = (values.rows("operations", side)["arrival"] for side in (base, head))
    if rows is None or not len(begin) or not len(other):
        return None
    shift = int(other.min() - begin.min())
    return None if shift % rows else shift


def referred_entries(thresholds: Sequence[Threshold]) -> set[str]:
    """Return the traffic entries that relative thresholds compare."""
    found = set()
    for each in thresholds:
        if each.reference is not None and each.traffic is not None:
            found |= {each.traffic, _base(each, each.reference).traffic or each.traffic}
    return found


def judge_any(
    threshold: Threshold,
    record: Record,
    metrics: RunFigures,
    values: ArrivalValues,
    intervals: Sequence[MetricInterval],
) -> Judged:
    """Judge any threshold. If the record is not enough to decide, the result is inconclusive."""
    if threshold.reference is None:
        return judge_one(threshold, metrics, intervals)
    base = _base(threshold, threshold.reference)
    judged = judged_by(threshold)
    sides = []
    for each in (threshold, base):
        if (figures := find_figures(each, metrics)) is None:
            return judged(judgement="inconclusive", why=f"the run has no figures for {each.scope}")
        sides.append(figures)
    here, there = (measure(threshold.metric, side) for side in sides)
    for each, side in zip((threshold, base), sides, strict=True):
        if few := too_few(side):
            why = f"{each.scope}: {few}"
            return judged(judgement="inconclusive", value=here.value, base=there.value, n=here.n, why=why)
    against_zero = replace(threshold, value=0.0)
    judgement = judge(against_zero, _bounds(here, there, threshold.value))
    stages = [record.stages(traffic=each.traffic, stage=each.stage) for each in (base, threshold)]
    found = difference(threshold.metric, record.info, values, stages, whole=False, factor=threshold.value)
    interval = None if found is None else found.interval
    finite = interval if interval is not None and all(map(math.isfinite, interval)) else None
    marginal = judgement != "inconclusive" and interval is not None and judge(against_zero, interval) != judgement
    if marginal and threshold.confident:
        judgement = "inconclusive"
    apart = None if here.value is None or there.value is None else here.value - threshold.value * there.value
    return judged(
        judgement=judgement,
        value=here.value,
        base=there.value,
        interval=finite,
        margin=apart if apart is None or threshold.operator in (">", ">=") else -apart,
        marginal=marginal,
        n=here.n,
        why=_why(threshold, base, (here, there), finite) if judgement == "inconclusive" else "",
    )


def _base(threshold: Threshold, reference: Reference) -> Threshold:
    given: dict[str, Any] = {reference.kind: reference.name}
    return replace(threshold, **given)


def _bounds(here: Measured, there: Measured, factor: float) -> tuple[float, float] | None:
    """Return the bounds of value − factor × base; None if a value is unknown."""
    if here.value is None or there.value is None:
        return None
    low, high = here.bounds or (here.value, here.value)
    least, most = there.bounds or (there.value, there.value)
    return low - factor * most, high - factor * least


def _why(
    threshold: Threshold, base: Threshold, measured: tuple[Measured, Measured], interval: tuple[float, float] | None
) -> str:
    for each, one in zip((threshold, base), measured, strict=True):
        if one.value is None:
            return f"{f'too few samples: {one.n}' if one.n else 'no data'} of {each.scope}"
    here, there = measured
    if here.bounds is not None or there.bounds is not None:
        return "at least one side is known only within bounds, and the threshold lies between them"
    ratio = (here.value or 0.0) / there.value if there.value else math.inf
    ends = "" if interval is None else ": " + " to ".join(quantity(each, threshold.unit) for each in interval)
    interval_of = f"the 95\u00a0% interval of value − {threshold.value:g} × base"
    return f"it was {ratio:.3g}x, and {interval_of} includes zero{ends}"
