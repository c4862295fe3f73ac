"""Differences of a metric between stages or traffic entries of a run, and relative thresholds.

For example, ``response_time.p50 < 1.2x stage alone`` is judged by both values and by the interval of value − 1.2 ×
base. The interval is computed from all values of both sides (``loadtest.stats.differences``). If both sides sent the
same rows of the same inputs, arrivals are compared in pairs.

Other figures come from counts and distributions, because a record may be of any size. A difference needs the values
themselves, by time and arrival. They are kept only for the requested entries, and only for the first ``MOST`` arrivals
of each stage.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from loadtest.analysis.columns import KINDS, OK, OUTCOMES, TIMED_OUT, Rows, StageKey, Vocabulary
from loadtest.analysis.intervals import MetricInterval
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.reader import Chunk
from loadtest.analysis.run_record import Record
from loadtest.analysis.times import FORMULAS
from loadtest.analysis.verdict import Judged, Measured, find_figures, judge_one, judged_by, measure, too_few
from loadtest.arrays import Bools, Floats, Ints
from loadtest.metrics import METRICS, PARTS, SUMMARIES, Cell, field_of
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import RunInfo
from loadtest.stats import differences
from loadtest.stats.differences import Difference
from loadtest.stats.order_statistics import QUANTILES
from loadtest.threshold import Reference, Threshold, judge, scope_of
from loadtest.words import quantity

MOST: Final = 100_000
"""Largest number of arrivals of a stage whose values are kept; later arrivals are dropped."""
_OURS: Final = ("start_lag", "dispatch_lag")
"""Times that measure the load generator, not the service. Every sent operation has them."""
_SCATTER: Final = 0.6180339887498949
"""Golden ratio − 1. Its multiples are spread evenly modulo 1."""
Stages = Sequence[StageKey]
_Table = Literal["operations", "requests"]
_WORDS: Final[dict[_Table, tuple[str, ...]]] = {
    "operations": ("outcome", "mistake"),
    "requests": ("outcome", "mistake", "kind"),
}
_NUMBERS: Final[dict[_Table, tuple[str, ...]]] = {
    "operations": ("arrival", "intended_start"),
    "requests": ("start", "status", "parent_arrival"),
}
_TIMES: Final[dict[_Table, tuple[str, ...]]] = {
    "operations": tuple(name for name in SUMMARIES if name != "service_time"),
    "requests": ("service_time",),
}


@dataclass(frozen=True, eq=False)
class Values:
    """Values of one metric in the order of time.

    Attributes:
        numbers: infinite for a time that never ended.
        arrivals: the arrival of each value; None for values of requests, because an arrival may have several.
    """

    numbers: Floats
    arrivals: Ints | None = None


class ArrivalValues:
    """Collector of values for some traffic entries.

    Attributes:
        cut: whether a stage had more arrivals than were kept.
    """

    def __init__(self, vocabulary: Vocabulary, entries: Collection[str]) -> None:
        keys = enumerate(vocabulary.stage_keys)
        self._wanted = {index for index, key in keys if key.traffic in entries and vocabulary.in_figures[index]}
        self._parts: dict[tuple[_Table, int], list[dict[str, Floats]]] = defaultdict(list)
        self.cut = False

    def add(self, chunk: Chunk) -> None:
        if not self._wanted:
            return
        for index in self._wanted:
            self._take("operations", index, dict(chunk.operations.by_stage).get(index))
            self._take("requests", index, dict(chunk.requests.by_stage).get(index))

    def get(self, metric: str, stages: Stages, *, whole: bool) -> Values | None:
        """Return the values of a metric with its statistic in some stages of one entry.

        With ``whole``, every sent arrival counts, with an infinite time if it never became ok. Otherwise only ok and
        timed-out operations count, as in ``metrics.json``. For a count or a rate, which single arrivals lack, return
        None.
        """
        name, entry = metric.partition(".")[0], METRICS[metric]
        if name == "service_time":
            rows = self._whole("requests", stages)
            late = rows["outcome"] == TIMED_OUT
            answered = (late | (rows["outcome"] == OK)) & (rows["mistake"] < 0)
            return Values(np.where(late, np.inf, rows["service_time"])[answered])
        if entry.whole == "requests.sent":
            return Values(_in_any(entry.parts, self._whole("requests", stages)).astype(float))
        rows = self._whole("operations", stages)
        sent = ~np.isnan(rows["start_lag"])
        if name in SUMMARIES:
            return _times(name, {key: values[sent] for key, values in rows.items()}, whole=whole)
        if entry.whole != "operations.sent":
            return None
        if entry.parts[0].startswith("requests."):
            numbers = self._asked(entry.parts, rows["arrival"], stages)
        else:
            numbers = _in_any(entry.parts, rows).astype(float)
        return Values(numbers[sent], rows["arrival"][sent].astype(np.int64))

    def first_arrival(self, stages: Stages) -> int | None:
        """Return the number of the first arrival of some stages; None without any."""
        arrivals = self._whole("operations", stages)["arrival"]
        return int(arrivals.min()) if arrivals.size else None

    def _take(self, table: _Table, index: int, rows: Rows | None) -> None:
        """Keep the rows of a stage that fit below ``MOST``."""
        parts = self._parts[table, index]
        room = MOST - sum(len(part["outcome"]) for part in parts)
        if rows is None:
            return
        if len(rows) > room:
            self.cut = True
            rows = rows.some(slice(0, room))
        words = {name: rows.words(name).astype(np.float64) for name in _WORDS[table]}
        numbers = {name: rows.floats(name) for name in _NUMBERS[table]}
        parts.append(words | numbers | {name: FORMULAS[field_of(name)](rows) for name in _TIMES[table]})

    def _asked(self, counts: Sequence[str], arrivals: Floats, stages: Stages) -> Floats:
        """Return the number of each arrival's requests that are in any of the counts."""
        rows = self._whole("requests", stages)
        parents = rows["parent_arrival"][~np.isnan(rows["parent_arrival"]) & _in_any(counts, rows)].astype(np.int64)
        if not arrivals.size:
            return np.zeros(0)
        low, high = int(arrivals.min()), int(arrivals.max())
        inside = parents[(parents >= low) & (parents <= high)]
        found = np.bincount(inside - low, minlength=high - low + 1)
        return found[(arrivals - low).astype(np.int64)].astype(np.float64)

    def _whole(self, table: _Table, stages: Stages) -> dict[str, Floats]:
        """Return every column of some stages as one array each, in the order of time."""
        found = [part for key in stages for part in self._parts.get((table, key.place), ())]
        names = (*_WORDS[table], *_NUMBERS[table], *_TIMES[table])
        whole = {name: np.concatenate([np.zeros(0), *(part[name] for part in found)]) for name in names}
        if table == "requests":
            order = np.argsort(whole["start"], kind="stable")
        else:
            # Arrivals at the same moment are ordered by a scatter of their numbers. By number, a burst would look like
            # a trend, because its first arrivals are accepted. The same order for every entry keeps pairs together.
            order = np.lexsort((whole["arrival"] * _SCATTER % 1.0, whole["intended_start"]))
        return {name: values[order] for name, values in whole.items()}


def _in_any(counts: Sequence[str], rows: dict[str, Floats]) -> Bools:
    """Return whether each operation or request is in any of the named counts."""
    columns = [
        rows["outcome"].astype(np.int64),
        *(np.nan_to_num(rows[name]).astype(np.int64) for name in ("kind", "status") if name in rows),
    ]
    if not columns[0].size:
        return np.zeros(0, bool)
    leasts = [int(column.min()) for column in columns]
    sizes = [int(column.max()) - least + 1 for column, least in zip(columns, leasts, strict=True)]
    code = np.ravel_multi_index([column - least for column, least in zip(columns, leasts, strict=True)], sizes)
    counted = np.zeros(math.prod(sizes), bool)
    for place in np.flatnonzero(np.bincount(code)):
        outcome, *of = (int(n) + least for n, least in zip(np.unravel_index(place, sizes), leasts, strict=True))
        known = Cell(OUTCOMES[outcome], kind=KINDS[of[0]], status=of[1] or None) if of else Cell(OUTCOMES[outcome])
        counted[place] = any(PARTS[name](known) for name in counts)
    return counted[code]


def _times(name: str, rows: dict[str, Floats], *, whole: bool) -> Values:
    """Return a time of sent operations, without deliberate mistakes."""
    values, outcome = rows[name], rows["outcome"]
    kept = np.ones(len(outcome), bool)
    if name not in _OURS:
        ok, late = outcome == OK, outcome == TIMED_OUT
        kept = (rows["mistake"] < 0) & (ok | late | whole)
        if name in ("response_time", "time_to_result", "overhead") or (whole and name == "submit"):
            never = late | ~ok if name != "submit" else np.isnan(values)
            values = np.where(never, np.inf, values)
    kept &= ~np.isnan(values)
    return Values(values[kept], rows["arrival"][kept].astype(np.int64))


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
    """Return head − factor × base; None for a metric without values of single arrivals.

    ``metric`` includes its statistic; ``ArrivalValues.get`` explains ``whole``. ``sides`` are base and head, each a set
    of stages of one traffic entry.
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
    """Return the statistic that makes a metric from single values: a percentile, ``max``, ``share`` or ``mean``."""
    last = metric.rpartition(".")[2]
    return last if last in (*QUANTILES, "max") else "share" if METRICS[metric].unit == "share" else "mean"


def _shift_of_pairs(info: RunInfo, values: ArrivalValues, base: Stages, head: Stages) -> int | None:
    """Return the offset in arrivals between sides that send the same rows of inputs in the same order, else None.

    Two entries do so from their first arrival on. Two stages of an entry do so if their offset is a multiple of the
    number of rows.
    """
    first, second = (written_entry(info, side[0].traffic) for side in (base, head))
    if first.inputs_order != "sequential":
        return None
    if base[0].traffic != head[0].traffic:
        return 0 if first.inputs is not None and first.sends == second.sends else None
    rows = info.traffic[base[0].traffic].input_rows
    begin, other = (values.first_arrival(side) for side in (base, head))
    if rows is None or begin is None or other is None or (other - begin) % rows:
        return None
    return other - begin


def referred_entries(thresholds: Sequence[Threshold]) -> set[str]:
    """Return the traffic entries whose values relative thresholds need."""
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
    """Judge any threshold; it is inconclusive, with a reason, if the record has no answer."""
    if threshold.reference is None:
        return judge_one(threshold, metrics, intervals)
    base = _base(threshold, threshold.reference)
    judged = judged_by(threshold)
    sides = [find_figures(each, metrics) for each in (threshold, base)]
    if sides[0] is None or sides[1] is None:
        missing = threshold if sides[0] is None else base
        return judged(judgement="inconclusive", why=f"the run has no figures for {missing.scope}")
    here, there = (measure(threshold.metric, side) for side in sides if side is not None)
    for each, side in zip((threshold, base), sides, strict=True):
        if side is not None and (few := too_few(side)):
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
    if reference.kind == "stage":
        return replace(threshold, stage=reference.name)
    return replace(threshold, traffic=reference.name)


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
    """Return the reason why a threshold is inconclusive."""
    for each, one in zip((threshold, base), measured, strict=True):
        if one.value is None:
            few = f"too few samples: {one.n}" if one.n else "no data"
            return f"{few} of {scope_of(each.traffic, each.operation, each.stage)}"
    here, there = measured
    if here.bounds is not None or there.bounds is not None:
        return "one side is known only within bounds, and the threshold lies between them"
    ratio = (here.value or 0.0) / there.value if there.value else math.inf
    ends = "" if interval is None else ": " + " to ".join(quantity(each, threshold.unit) for each in interval)
    interval_of = f"the 95\u00a0% interval of its distance from {threshold.value:g}x"
    return f"it was {ratio:.3g}x, and {interval_of} includes zero{ends}"
