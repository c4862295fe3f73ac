"""Times over time, for plots: dots of single operations under percentiles of bins, and counts where dots are too many.

Response times are kept of every traffic entry; executionTimes, also against what the client saw, of those that execute.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtest.analysis import distribution
from loadtest.analysis.anomalies import impossible, seen_ms
from loadtest.analysis.columns import OK, OUTCOMES, TIMED_OUT, Rows, tally
from loadtest.analysis.distribution import Distribution, Distributions
from loadtest.analysis.reader import Chunk
from loadtest.analysis.run_record import Record
from loadtest.analysis.times import response_time
from loadtest.arrays import Floats, Ints
from loadtest.contract import EXECUTING_OPERATIONS, THROTTLED_STATUS, Outcome

LAYERS: Final = (Outcome.OK, "429", Outcome.FAILED, "timed out")
_RESPONSE_DOTS: Final = 11_000
"""Dots of a layer that are drawn evenly; and beside them, as many of the slowest 2 % as ``_SLOW``."""
_SLOW: Final = 1_000
_PER_BIN: Final = 25
_FAILED: Final = OUTCOMES.index(Outcome.FAILED)
_THROTTLED: Final = OUTCOMES.index(Outcome.THROTTLED)


@dataclass(frozen=True, eq=False)
class Responses:
    """Response times of one traffic entry.

    Attributes:
        dots: by layer, (intended start in s since the epoch, response time in ms) of operations.
        cuts: edges of the bins, in s since the epoch.
        binned: of each bin, the response times of its operations that were ok or timed out.
        n: how many those are.
    """

    dots: dict[str, tuple[Floats, Floats]]
    cuts: Floats
    binned: list[Distribution]
    n: int


class Points:
    """Gathers the responses of each traffic entry, warm-up included; without those to mistakes, as in figures."""

    def __init__(self, record: Record) -> None:
        self._record = record
        entries = range(len(record.vocabulary.entries))
        self._n = [self._outcomes(entry, (OK, TIMED_OUT)) for entry in entries]
        self._cuts = [
            distribution.edges(0, record.covered_s, distribution.width(record.covered_s, n, _PER_BIN)) for n in self._n
        ]
        self._binned = [Distributions(max(1, len(cuts) - 1), exact=1_000) for cuts in self._cuts]
        self._dots: list[dict[str, list[tuple[Floats, Floats]]]] = [{layer: [] for layer in LAYERS} for _ in entries]
        self._seen = np.zeros((len(entries), len(LAYERS)), np.int64)
        self._slow_from = [self._slow(name) for name in record.vocabulary.entries]

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_stage:
            self._take(chunk.vocabulary.entry_of[stage_index], rows)

    def result(self) -> dict[str, Responses]:
        return {
            name: Responses(
                {
                    layer: (np.concatenate([s for s, _ in parts]), np.concatenate([r for _, r in parts]))
                    for layer, parts in self._dots[entry].items()
                    if parts
                },
                self._cuts[entry],
                [self._binned[entry].get([k]) for k in range(len(self._cuts[entry]) - 1)],
                self._n[entry],
            )
            for entry, name in enumerate(self._record.vocabulary.entries)
        }

    def _take(self, entry: int, rows: Rows) -> None:
        if self._record.vocabulary.entries[entry] not in self._record.not_found_entries:
            rows = rows.without_mistakes
        good = rows.answered
        distribution.spread(
            self._binned[entry], self._cuts[entry], good.floats("intended_start") / 1e9, response_time(good)
        )
        outcome = rows.words("outcome")
        which = {
            Outcome.OK: outcome == OK,
            "429": (rows.floats("status") == THROTTLED_STATUS) & (outcome != TIMED_OUT),
            Outcome.FAILED: outcome == _FAILED,
            "timed out": outcome == TIMED_OUT,
        }
        for layer, mask in which.items():
            if mask.any():
                self._keep(entry, layer, rows.where(mask))

    def _keep(self, entry: int, layer: str, rows: Rows) -> None:
        """Keep every n-th, and of the slowest 2 % more, so that no stall is thinned away."""
        response = response_time(rows)
        if not (response > 0).all():
            rows = rows.where(response > 0)
            response = response_time(rows)
        place = LAYERS.index(layer)
        before, total = int(self._seen[entry, place]), self._total(entry, layer)
        self._seen[entry, place] += len(rows)
        keep = distribution.every(max(1, -(-total // _RESPONSE_DOTS)), before, len(rows))
        if layer == Outcome.OK:
            slow = distribution.every(max(1, -(-total // (_SLOW * 50))), before, len(rows))
            keep = np.union1d(keep, slow[response[slow] > self._slow_from[entry]])
        if len(keep):
            self._dots[entry][layer].append((rows.floats("intended_start")[keep] / 1e9, response[keep]))

    def _total(self, entry: int, layer: str) -> int:
        outcomes = {Outcome.OK: (OK,), "timed out": (TIMED_OUT,), Outcome.FAILED: (_FAILED,)}
        return self._outcomes(entry, outcomes.get(layer, (_THROTTLED,)))

    def _outcomes(self, entry: int, outcomes: tuple[int, ...]) -> int:
        stage_indices = self._record.stage_indices_of(self._record.vocabulary.entries[entry])
        return self._record.counts.ended(stage_indices, *outcomes)

    def _slow(self, name: str) -> float:
        response = self._record.times["response_time_ms"].get(self._record.stage_indices_of(name))
        return float(response.at([max(1, round(response.n * 0.98))])[0]) if response.n else np.inf


LONG_S: Final = 600.0
MANY: Final = 50_000
"""A run above the one, or an entry above the other, has a heat map."""
_TIMES: Final = 180
_PER_DECADE: Final = 16
_MOST_LEVELS: Final = 96


@dataclass(frozen=True, eq=False)
class Heat:
    """Heat map of one traffic entry's response times.

    Attributes:
        cuts: edges of the bins of time, in s since the epoch.
        levels: edges of the bins of response time, in ms, as far apart on a log scale.
        counts: ``[time, level]`` operations that were ok or timed out.
    """

    cuts: Floats
    levels: Floats
    counts: Ints


class Heats:
    """Counts the response times of each entry that has many, or of all in a long run; the warm-up included.

    At most 241 x 96 counts an entry, whatever the length of the run.
    """

    def __init__(self, record: Record) -> None:
        self._of: dict[int, tuple[str, Heat]] = {}
        for entry, name in enumerate(record.vocabulary.entries):
            stage_indices = record.stage_indices_of(name)
            times = record.times["response_time_ms"].get(stage_indices)
            if not times.n or (times.n < MANY and record.covered_s < LONG_S) or times.most <= 0:
                continue
            low = max(times.least, times.most / 1e9, 1e-6)
            decades = max(np.log10(times.most / low), 0.1)
            count = min(_MOST_LEVELS, max(4, int(np.ceil(decades * _PER_DECADE))))
            levels = np.geomspace(low * 0.999, times.most * 1.001, count + 1)
            width = distribution.width(record.covered_s, _TIMES, 1)
            cuts = distribution.edges(0, record.covered_s, width)
            self._of[entry] = name, Heat(cuts, levels, np.zeros((len(cuts) - 1, count), np.int64))

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_stage:
            found = self._of.get(chunk.vocabulary.entry_of[stage_index])
            if found is not None:
                _count(found[1], rows.answered)

    def result(self) -> dict[str, Heat]:
        """Return each entry's heat map."""
        return dict(self._of.values())


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
    flat = when.astype(np.int64) * heat.counts.shape[1] + level.astype(np.int64)
    tally(heat.counts.reshape(-1), flat)


_EXECUTION_DOTS: Final = 4_000
"""Dots of an entry, picked evenly."""
_ANOMALOUS_DOTS: Final = 500
"""Dots of an entry that cannot be: the first ones."""


@dataclass(frozen=True, eq=False)
class Executions:
    """Executions of one traffic entry's ok operations with an executionTime.

    Attributes:
        n: how many those are, warm-up included.
        seconds: intended starts of some of them, in s since the epoch.
        execution: their executionTime, in ms.
        seen: the longest that it can have been: what the client waited, in ms.
        anomalous: (executionTime, seen) of some of those that cannot be, without the warm-up's.
        anomaly_count: how many those are.
        cuts: edges of the bins, in s since the epoch.
        binned: of each bin, the executionTimes.
    """

    n: int
    seconds: Floats
    execution: Floats
    seen: Floats
    anomalous: tuple[Floats, Floats]
    anomaly_count: int
    cuts: Floats
    binned: list[Distribution]


class ExecutionTimeline:
    """Gathers them for each traffic entry that executes anything: a retrieval's job was executed before it."""

    def __init__(self, record: Record) -> None:
        self._record = record
        plans = record.info.traffic
        self._entries = {
            place: name
            for place, name in enumerate(record.vocabulary.entries)
            if plans[name].operation in EXECUTING_OPERATIONS
        }
        known = record.times["execution_time_ms"]
        self._n = {place: known.get(record.stage_indices_of(name)).n for place, name in self._entries.items()}
        self._cuts = {
            place: distribution.edges(0, record.covered_s, distribution.width(record.covered_s, n, _PER_BIN))
            for place, n in self._n.items()
        }
        self._binned = {p: Distributions(max(1, len(cuts) - 1), exact=1_000) for p, cuts in self._cuts.items()}
        self._seen = dict.fromkeys(self._entries, 0)
        self._anomaly_count = dict.fromkeys(self._entries, 0)
        self._dots: dict[int, list[tuple[Floats, ...]]] = {place: [] for place in self._entries}
        self._anomalous: dict[int, list[tuple[Floats, ...]]] = {place: [] for place in self._entries}

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_stage:
            if chunk.vocabulary.entry_of[stage_index] in self._entries:
                good = rows.without_mistakes.ok
                self._take(stage_index, good.where(~np.isnan(good.execution_given)))

    def result(self) -> dict[str, Executions]:
        """Return the executions of each traffic entry that has any."""
        found = {}
        for place, name in self._entries.items():
            if not self._n[place] + self._anomaly_count[place]:
                continue
            cuts = self._cuts[place]
            seconds, execution, seen = _joined(self._dots[place], 3)
            anomalous, anomalous_seen = _joined(self._anomalous[place], 2)
            binned = [self._binned[place].get([k]) for k in range(len(cuts) - 1)]
            found[name] = Executions(
                self._n[place],
                seconds,
                execution,
                seen,
                (anomalous, anomalous_seen),
                self._anomaly_count[place],
                cuts,
                binned,
            )
        return found

    def _take(self, stage_index: int, rows: Rows) -> None:
        vocabulary = self._record.vocabulary
        place = vocabulary.entry_of[stage_index]
        execution, seconds = rows.execution_given, rows.floats("intended_start") / 1e9
        distribution.spread(self._binned[place], self._cuts[place], seconds, rows.floats("execution_time_ms"))
        seen = seen_ms(rows, vocabulary.operation_of[stage_index])
        anomalous = impossible(execution, seen)
        keep = distribution.every(max(1, -(-self._n[place] // _EXECUTION_DOTS)), self._seen[place], len(rows))
        self._seen[place] += len(rows)
        keep = keep[~anomalous[keep]]
        if len(keep):
            self._dots[place].append((seconds[keep], execution[keep], seen[keep]))
        if vocabulary.in_figures[stage_index] and anomalous.any():
            left = max(0, _ANOMALOUS_DOTS - self._anomaly_count[place])
            self._anomalous[place].append((execution[anomalous][:left], seen[anomalous][:left]))
            self._anomaly_count[place] += int(anomalous.sum())


def _joined(parts: list[tuple[Floats, ...]], width: int) -> tuple[Floats, ...]:
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True)) if parts else (np.zeros(0),) * width
