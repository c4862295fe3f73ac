"""Times over the course of a run, for plots of single operations and of percentiles by bin, and for heat maps."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from loadtest.analysis import distribution
from loadtest.analysis.columns import DAY_MS, FAILED, OK, THROTTLED, TIMED_OUT, Rows, tally
from loadtest.analysis.distribution import TimeSeries
from loadtest.analysis.reader import Chunk
from loadtest.analysis.run_record import Record
from loadtest.analysis.times import GRAIN_MS, dispatch_lag, longest_execution, response_time, start_lag
from loadtest.arrays import Floats, Ints
from loadtest.contract import EXECUTING_OPERATIONS, THROTTLED_STATUS, Outcome

_RESPONSE_DOTS: Final = 11_000
"""A plot has at most this many evenly chosen dots of each outcome, and about ``_SLOW`` more of the slowest ok times."""
_SLOW: Final = 1_000
_PER_BIN: Final = 25
_LAYERS: Final = {Outcome.OK: OK, "429": THROTTLED, Outcome.FAILED: FAILED, "timed out": TIMED_OUT}
"""The outcome of each layer's dots. The layer "429" has all operations whose last status is 429, except time-outs."""


class Timelines:
    """Collects each traffic entry's times over the course of a run, warm-up included.

    ``executions`` has no retrievals, because their jobs ran earlier. ``heats`` has entries with many response
    times and, in a long run, all entries with response times. A heat map has at most 181 × 96 counts.
    """

    def __init__(self, record: Record) -> None:
        plans = record.info.traffic.items()
        self.responses = {name: Responses(record, name) for name, _ in plans}
        self.lags = {name: Lags(record, name) for name, _ in plans}
        executing = [name for name, plan in plans if plan.operation in EXECUTING_OPERATIONS]
        self.executions = {name: Executions(record, name) for name in executing}
        self.heats = {name: heat for name, _ in plans if (heat := _heat(record, name)) is not None}

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_stage:
            name = chunk.vocabulary.stage_keys[stage_index].traffic
            self.responses[name].take(rows)
            self.lags[name].take(rows.sent)
            if name in self.heats:
                _count(self.heats[name], rows.answered)
            if name in self.executions:
                good = rows.without_mistakes.ok
                good = good.where(~np.isnan(good.execution_given))
                self.executions[name].take(good, judged=bool(chunk.vocabulary.in_figures[stage_index]))


class Responses:
    """Response times of one traffic entry. ``series`` includes ok and timed-out operations."""

    def __init__(self, record: Record, name: str) -> None:
        stages = record.stage_indices_of(name)
        self._keeps_mistakes = name in record.not_found_entries
        self._totals = {layer: record.counts.ended(stages, outcome) for layer, outcome in _LAYERS.items()}
        self.series = TimeSeries(record.covered_s, record.counts.ended(stages, OK, TIMED_OUT), _PER_BIN)
        self._dots: dict[str, list[tuple[Floats, ...]]] = {layer: [] for layer in _LAYERS}
        self._seen = dict.fromkeys(_LAYERS, 0)
        response = record.times["response_time_ms"].get(stages)
        self._slow_from = response.at([max(1, round(response.n * 0.98))])[0] if response.n else np.inf

    def take(self, rows: Rows) -> None:
        rows = rows if self._keeps_mistakes else rows.without_mistakes
        good = rows.answered
        self.series.add(good.floats("intended_start") / 1e9, response_time(good))
        outcome = rows.words("outcome")
        which = {layer: outcome == code for layer, code in _LAYERS.items()}
        which["429"] = (rows.floats("status") == THROTTLED_STATUS) & (outcome != TIMED_OUT)
        for layer, mask in which.items():
            if mask.any():
                self._keep(layer, rows.where(mask))

    def _keep(self, layer: str, rows: Rows) -> None:
        """Keep every n-th operation and, of ok operations, more of the slowest 2 %, so that stalls are visible."""
        rows = rows.where(response_time(rows) > 0)
        response, before, total = response_time(rows), self._seen[layer], self._totals[layer]
        self._seen[layer] += len(rows)
        keep = distribution.every(max(1, -(-total // _RESPONSE_DOTS)), before, len(rows))
        if layer == Outcome.OK:
            slow = distribution.every(max(1, -(-total // (_SLOW * 50))), before, len(rows))
            keep = np.union1d(keep, slow[response[slow] > self._slow_from])
        if len(keep):
            self._dots[layer].append((rows.floats("intended_start")[keep] / 1e9, response[keep]))

    @cached_property
    def dots(self) -> dict[str, Floats]:
        """Intended starts (s since the epoch) and response times (ms) of the selected operations, by layer."""
        return {layer: _joined(parts, 2) for layer, parts in self._dots.items() if parts}


class Lags:
    """The longest start lag and the longest dispatch lag of one traffic entry in each bin of time.

    ``longest`` is in ms, ``[2, bins]``, with NaN in an empty bin. ``cuts`` are the bins' edges, in s since the epoch.
    """

    def __init__(self, record: Record, name: str) -> None:
        sent = record.counts.sent(record.stage_indices_of(name))
        self.cuts = distribution.edges(record.covered_s, sent, 10)
        self.longest = np.full((2, max(0, len(self.cuts) - 1)), np.nan)

    def take(self, rows: Rows) -> None:
        places = distribution.place(rows.floats("intended_start") / 1e9, self.cuts)
        known = places >= 0
        for longest, lag in zip(self.longest, (start_lag, dispatch_lag), strict=True):
            np.fmax.at(longest, places[known], lag(rows)[known])


LONG_S: Final = 600.0
MANY: Final = 50_000
"""An entry with response times has a heat map if it has at least ``MANY``, or the run lasts at least ``LONG_S``."""
_TIMES: Final = 180
_PER_DECADE: Final = 16
_MOST_LEVELS: Final = 96


@dataclass(frozen=True, eq=False)
class Heat:
    """Heat map of one traffic entry's response times.

    Attributes:
        cuts: edges of the bins of time, in s since the epoch.
        levels: edges of the bins of response time, in ms. Successive edges have equal ratios.
        counts: ok and timed-out operations, ``[time, level]``.
    """

    cuts: Floats
    levels: Floats
    counts: Ints


def _heat(record: Record, name: str) -> Heat | None:
    """Return an empty heat map for an entry; None without times, or for few operations in a short run."""
    times = record.times["response_time_ms"].get(record.stage_indices_of(name))
    if not times.n or (times.n < MANY and record.covered_s < LONG_S) or times.most <= 0:
        return None
    low = max(times.least, times.most / 1e9, 1e-6)
    decades = max(np.log10(times.most / low), 0.1)
    count = min(_MOST_LEVELS, max(4, int(np.ceil(decades * _PER_DECADE))))
    cuts = distribution.edges(record.covered_s, _TIMES, 1)
    levels = np.geomspace(low * 0.999, times.most * 1.001, count + 1)
    return Heat(cuts, levels, np.zeros((len(cuts) - 1, count), np.int64))


def _count(heat: Heat, rows: Rows) -> None:
    response = response_time(rows)
    start, step = heat.cuts[0], heat.cuts[1] - heat.cuts[0]
    when = np.floor((rows.floats("intended_start") / 1e9 - start) / step)
    base, scale = np.log(heat.levels[0]), heat.counts.shape[1] / np.log(heat.levels[-1] / heat.levels[0])
    level = (np.log(np.maximum(response, heat.levels[0])) - base) * scale
    inside = (when >= 0) & (when < len(heat.counts)) & ~np.isnan(response)
    if not inside.all():
        when, level = when[inside], level[inside]
    level = np.minimum(level, heat.counts.shape[1] - 1)
    tally(heat.counts.reshape(-1), when.astype(np.int64) * heat.counts.shape[1] + level.astype(np.int64))


_EXECUTION_DOTS: Final = 4_000
"""A plot of an entry's executionTimes has at most this many evenly chosen dots."""
_ANOMALOUS_DOTS: Final = 500
"""A plot of an entry has at most this many dots for impossible executionTimes. Later values are left out."""


class Executions:
    """The executionTimes of one traffic entry's ok operations.

    ``n`` counts executionTimes from zero to a day, warm-up included. ``anomaly_count`` counts impossible values without
    the warm-up.
    """

    def __init__(self, record: Record, name: str) -> None:
        self.n = record.times["execution_time_ms"].get(record.stage_indices_of(name)).n
        self.series = TimeSeries(record.covered_s, self.n, _PER_BIN)
        self.anomaly_count = self._seen = 0
        self._dots: list[tuple[Floats, ...]] = []
        self._anomalous: list[tuple[Floats, ...]] = []

    def take(self, rows: Rows, *, judged: bool) -> None:
        """Add ok operations with an executionTime."""
        execution, seconds = rows.execution_given, rows.floats("intended_start") / 1e9
        self.series.add(seconds, rows.floats("execution_time_ms"))
        seen = longest_execution(rows)
        anomalous = (execution < 0) | (execution > np.fmin(seen + GRAIN_MS, DAY_MS))
        keep = distribution.every(max(1, -(-self.n // _EXECUTION_DOTS)), self._seen, len(rows))
        self._seen += len(rows)
        keep = keep[~anomalous[keep]]
        self._dots.append((seconds[keep], execution[keep], seen[keep]))
        if judged:
            left = max(0, _ANOMALOUS_DOTS - self.anomaly_count)
            self._anomalous.append((execution[anomalous][:left], seen[anomalous][:left]))
            self.anomaly_count += int(anomalous.sum())

    @cached_property
    def dots(self) -> Floats:
        """Intended start (s since the epoch), executionTime and the client's wait (ms) of the selected operations."""
        return _joined(self._dots, 3)

    @cached_property
    def anomalous(self) -> Floats:
        """Impossible executionTimes and the client's waits, in ms."""
        return _joined(self._anomalous, 2)


def _joined(parts: list[tuple[Floats, ...]], width: int) -> Floats:
    return np.concatenate([np.zeros((width, 0)), *map(np.stack, parts)], axis=1)
