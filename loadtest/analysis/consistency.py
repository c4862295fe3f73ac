"""Consistency of a record: rows that contradict themselves, each other, or the plan; lost arrivals; uneven send times.

An inconsistent row makes a run invalid, unless the run is imported. Figures exclude rows with meaningless words or
numbers (``Chunk.meaningless``) or an unknown stage, but include other inconsistent rows. Evenness is measured because
uneven arrivals change the 429 rate.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.columns import (
    KINDS,
    OK,
    OPERATION,
    REQUEST,
    THROTTLED,
    TIMED_OUT,
    Rows,
    Vocabulary,
    groups,
    grown,
    tally,
)
from loadtest.analysis.distribution import distribution, summarize
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Count, Result, Summary
from loadtest.analysis.times import start_lag
from loadtest.arrays import Bools, Floats, Ints
from loadtest.contract import MISTAKE_STATUS, OPERATIONS, THROTTLED_STATUS, Operation, Reason
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import RECORDED, RunInfo
from loadtest.record.samples import SETUP
from loadtest.schedule import TrafficSchedule

NAMED: Final = 5
"""At most this many rows of each inconsistency are named."""
_STATUSES: Final = (100, 999)
_MOST_OK: Final = 599
"""HTTP defines no status above this, so no traffic entry can expect a higher status."""
_IN_ORDER: Final = (
    ("user_free", "start"), ("start", "first_byte"), ("first_byte", "end"), ("start", "accepted_start"),
    ("accepted_start", "accepted_end"), ("accepted_end", "end"), ("pending_seen", "end"),
)  # fmt: skip
"""Pairs of moments. In a correct row, the first moment of a pair is not later than the second."""
_EDGE_NS: Final = 1e6
"""Tolerance in ns at the edges of a stage, because stages are recorded in s and moments in ns."""
_NOTHING: Final = np.zeros(0, np.int64)
_DENSE: Final = 8
"""If the range of arrival numbers is below this many times their count, an array over it replaces a sort."""
_MISSING: Final = 2.0
"""Number of evenly scheduled arrivals that may be missing at the end of a stage."""
_MISSING_AT_RANDOM: Final = 30.0
"""The same number for random arrivals. If 30 arrivals are expected, the probability that none occurs is e⁻³⁰."""


class Inconsistency(Result, frozen=True, kw_only=True):
    """Rows of a record that are inconsistent for the same reason.

    Attributes:
        what: the reason, in words that continue "a row that".
        rows: numbers of the first such rows in the record, counted from 1.
    """

    what: str
    count: Count
    rows: tuple[int, ...]

    @property
    def words(self) -> str:
        """Count, reason and places: ``1 row that ended before it began (row 3)``."""
        rows = ", ".join(str(row) for row in self.rows)
        if self.count == 1:
            return f"1 row that {self.what} (row {rows})"
        which = "rows" if self.count <= len(self.rows) else "the first are rows"
        return f"{self.count} rows, each of which {self.what} ({which} {rows})"


class Consistency:
    """Checks every row of a record. ``meaningful`` is False after a row with meaningless words or numbers."""

    def __init__(self, vocabulary: Vocabulary, info: RunInfo) -> None:
        self._vocabulary = vocabulary
        self._info = info
        self._keys = max(1, info.keys)
        self._last_worker = max([info.workers, *(worker.worker for worker in info.worker_processes)])
        self._last_due = np.full(len(vocabulary.stage_keys), -np.inf)
        stages = [(key.stage.start_s, key.stage.duration_s) for key in vocabulary.stage_keys]
        # The last place, at -1, stands for rows without a stage. Its times are NaN, so no row is outside it.
        self._begin, lasting = np.array([*stages, (np.nan, np.nan)]).T * 1e9
        self._end = self._begin + lasting
        self._ended: list[Bools] = [np.zeros(0, bool) for _ in vocabulary.entries]
        """By traffic entry, whether each arrival has an operation row; one byte per arrival."""
        self._open = [_OpenArrivals() for _ in vocabulary.entries]
        # A custom user class may send requests beyond attempts and polls, and end operations after the last request.
        self._own_class = [written_entry(info, name).user is not None for name in vocabulary.entries]
        self._found: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._before = 0
        self.meaningful = True

    def add(self, chunk: Chunk) -> None:
        rows = chunk.everything
        self.meaningful &= not chunk.meaningless
        checks = (chunk.meaningless.items(), self._times(rows), self._words(rows), self._outcomes(chunk))
        for what, wrong in chain.from_iterable(checks):
            if wrong.any():
                places = np.sort(rows.places[wrong])
                count, named = self._found.get(what, (0, ()))
                named += tuple((places[: NAMED - len(named)] + self._before + 1).tolist())
                self._found[what] = count + len(places), named
        for stage, operations in chunk.operations.by_stage:
            self._last_due[stage] = np.fmax(self._last_due[stage], np.fmax.reduce(operations.floats("intended_start")))
        self._before += chunk.columns.count

    def missing(self) -> dict[int, int]:
        """Return the number of arrivals without an operation row, by the index of their scheduled stage.

        Each arrival number below ``offered`` must have a row. In a killed run, ``offered`` is unknown, and an arrival
        is missing if it has requests but no outcome.
        """
        lost: dict[str, tuple[Ints, range]] = {}
        for ended, open_, (name, plan) in zip(self._ended, self._open, self._info.traffic.items(), strict=True):
            named = open_.arrivals
            absent = named[~ended[named]] if plan.offered is None else np.flatnonzero(~ended[: plan.offered])
            lost[name] = absent, range(len(ended), plan.offered or 0)
        if not any(len(absent) or len(beyond) for absent, beyond in lost.values()):
            return {}
        from loadtest.plan import schedules  # noqa: PLC0415 - imports pydantic, which few records need

        found = [_by_stage(each, *lost[each.traffic]) for each in schedules(self._info.traffic, self._info.seed)]
        return dict(enumerate(chain.from_iterable(found)))

    def result(self) -> list[Inconsistency]:
        """Return the inconsistencies, sorted by the first row of each."""
        found = [Inconsistency(what=what, count=count, rows=rows) for what, (count, rows) in self._found.items()]
        return sorted(found, key=lambda one: one.rows)

    def of_run(self) -> Iterator[str]:
        """Yield errors in ``run.json``: epoch 0, no keys or workers, or no arrival near the end of a stage."""
        if self._info.epoch_unix_ns == 0:
            yield "run.json says that the epoch was in 1970"
        for what, count in (("keys", self._info.keys), ("workers", self._info.workers)):
            if not count:
                yield f"run.json says that there were 0 {what}"
        if self._info.end != "finished":
            return
        for traffic, stage, _, place in self._vocabulary.stage_keys:
            if self._info.traffic[traffic].offered is None or self._info.traffic[traffic].arrivals == RECORDED:
                continue
            last_s = max(stage.start_s, float(self._last_due[place]) / 1e9)
            left = stage.end_s - last_s
            rate = stage.rate_to + (stage.rate - stage.rate_to) * left / stage.duration_s
            few = _MISSING if self._info.traffic[traffic].arrivals == "even" else _MISSING_AT_RANDOM
            if left * (rate + stage.rate_to) / 2 > few:
                yield (
                    f"run.json says that stage {stage.name} of {traffic} lasted until {stage.end_s:.1f} s, "
                    f"but its last arrival was due at {last_s:.1f} s"
                )

    def _times(self, rows: Rows) -> Iterator[tuple[str, Bools]]:
        """Yield the rows with missing, unordered or impossible times or numbers, by reason."""
        operation, outcome = rows.words("row") == OPERATION, rows.words("outcome")
        ended_first = rows.floats("end") < rows.floats("start")
        begun, ended = ~np.isnan(rows.floats("start")), ~np.isnan(rows.floats("end"))
        yield "ended before it began", ended_first
        yield "is ok but has no start or no end", (outcome == OK) & ~(begun & ended)
        yield "timed out but has no end", (outcome == TIMED_OUT) & ~ended
        disordered = np.any([rows.floats(first) > rows.floats(second) for first, second in _IN_ORDER], axis=0)
        yield "has moments in an impossible order", disordered & ~ended_first
        due, stage = rows.floats("intended_start"), rows.stage_index
        outside = (due < self._begin[stage] - _EDGE_NS) | (due > self._end[stage] + _EDGE_NS)
        yield "was due outside its stage", operation & outside
        yield "has a negative time to connect", rows.floats("connect_ms") < 0
        for column in ("arrival", "intended_start"):
            yield f"is an operation without {column.replace('_', ' ')}", operation & np.isnan(rows.floats(column))
        status, key = rows.floats("status"), rows.floats("key_index")
        yield "has a status that is not an HTTP status", (status < _STATUSES[0]) | (status > _STATUSES[1])
        throttled = outcome == THROTTLED
        yield f"is throttled but has no {THROTTLED_STATUS}", throttled & (status != THROTTLED_STATUS)
        keys = "the one key" if self._keys == 1 else f"one of the {self._keys} keys"
        yield f"used a key other than {keys} of the run", (key < 0) | (key >= self._keys)
        yield f"is ok but has a status above {_MOST_OK}", (outcome == OK) & (status > _MOST_OK)
        worker = rows.floats("worker")
        yield "is from a worker that is not in the run", (worker < 0) | (worker > self._last_worker)

    def _words(self, rows: Rows) -> Iterator[tuple[str, Bools]]:
        """Yield the rows with words that are undefined or contradict the plan, by reason."""
        vocabulary, planned, request = self._vocabulary, rows.stage_index >= 0, rows.words("row") == REQUEST
        (setup,) = vocabulary.codes("stage", [SETUP])
        prepares = request & (rows.words("stage") == setup) & np.isnan(rows.floats("parent_arrival"))
        yield "has a traffic entry or a stage that is not in the run", ~planned & ~prepares
        yield "is a request without an operation", request & planned & np.isnan(rows.floats("parent_arrival"))
        for column, all_of in (("reason", frozenset(Reason)), ("mistake", frozenset(MISTAKE_STATUS))):
            known = np.array([word in all_of for word in vocabulary.words[column]] + [True], bool)
            yield f"has an unknown {column}", ~known[rows.words(column)]
        code_of = dict(zip(Operation, vocabulary.codes("operation", list(Operation)).tolist(), strict=True))
        plan = np.array([code_of[each.operation] for each in self._info.traffic.values()] + [-1])
        asked = rows.words("operation")
        other = planned & (asked != plan[np.where(planned, rows.words("traffic"), -1)])
        yield "has an operation other than its traffic entry's", other
        makes = np.zeros((len(vocabulary.words["operation"]) + 1, len(KINDS) + 1), bool)
        for name, code in code_of.items():
            makes[code, [KINDS.index(kind) for kind in OPERATIONS[name]]] = True
        kind = np.where(rows.words("kind") < len(KINDS), rows.words("kind"), -1)
        foreign = request & planned & ~other & (kind >= 0) & ~makes[asked, kind]
        yield "is a kind of request that its operation never sends", foreign

    def _outcomes(self, chunk: Chunk) -> Iterator[tuple[str, Bools]]:
        """Yield the rows that contradict other rows of their arrival, by reason."""
        again, more, late = np.zeros((3, chunk.columns.count), bool)
        operations = _of_entries(chunk.operations.as_recorded(), "arrival")
        planned = chunk.requests.where(chunk.requests.stage_index >= 0)
        requests = _of_entries(planned.as_recorded(), "parent_arrival")
        for entry in operations.keys() | requests.keys():
            (own, number), (sent, parents) = (each.get(entry, (None, _NOTHING)) for each in (operations, requests))
            largest = max(number.max(initial=-1), parents.max(initial=-1))
            seen = self._ended[entry] = grown(self._ended[entry], int(largest) + 1)
            if sent is not None:
                more[sent.places[seen[parents]]] = True
            ends = np.zeros(0) if sent is None else sent.floats("end")
            made, last_end = self._open[entry].close(parents, ends, number)
            if own is None:
                continue
            again[own.places] = seen[number] | _repeats(number)
            seen[number] = True
            if self._own_class[entry]:
                continue
            more[own.places] |= made > np.nan_to_num(own.floats("attempt")) + np.nan_to_num(own.floats("poll"))
            late[own.places] = ~own.late & (own.floats("end") > last_end)
        again, more, late = (wrong[chunk.columns.order] for wrong in (again, more, late))
        yield "gives an arrival a second outcome", again
        yield "belongs to an arrival with more requests than attempts and polls", more & ~again
        yield "ended after its last request although it did not time out", late & ~again


class _OpenArrivals:
    """Counts the requests of each arrival until its operation ends, so that few arrivals are in memory at a time."""

    def __init__(self) -> None:
        self.arrivals, self._requests = np.zeros((2, 0), np.int64)
        self._last_end = np.zeros(0)

    def close(self, parents: Ints, ends: Floats, arrivals: Ints) -> tuple[Ints, Floats]:
        """Add requests with these ``parents`` (arrivals) and ``ends`` (in ns). Then remove the ended ``arrivals``.

        Returns:
            For each of ``arrivals``, the number of its requests and the end of its last request (NaN without requests).
        """
        numbers, known = np.concatenate((self.arrivals, parents)), len(self.arrivals)
        if not len(numbers):
            return np.zeros(len(arrivals), np.int64), np.full(len(arrivals), np.nan)
        distinct, places = _places(numbers)
        requests = np.bincount(places[known:], minlength=len(distinct))
        requests[places[:known]] += self._requests
        last_end = np.full(len(distinct), np.nan)
        last_end[places[:known]] = self._last_end
        np.fmax.at(last_end, places[known:], ends)
        at = np.searchsorted(distinct, arrivals).clip(max=len(distinct) - 1)
        there = distinct[at] == arrivals
        found = np.where(there, requests[at], 0), np.where(there, last_end[at], np.nan)
        requests[at[there]] = 0
        still = requests.nonzero()[0]
        self.arrivals, self._requests, self._last_end = distinct[still], requests[still], last_end[still]
        return found


def _places(numbers: Ints) -> tuple[Ints, Ints]:
    """Return an ascending array that contains ``numbers``, and the place of each number in it."""
    least, most = int(numbers.min()), int(numbers.max())
    if most - least < _DENSE * len(numbers):
        return np.arange(least, most + 1), numbers - least
    distinct, places = np.unique(numbers, return_inverse=True)
    return distinct, places


def _of_entries(rows: Rows, column: str) -> dict[int, tuple[Rows, Ints]]:
    """Return each traffic entry's rows that have an arrival number in ``column``, and these numbers."""
    rows = rows.where(~np.isnan(rows.floats(column)))
    found = {entry: rows if places is None else rows.some(places) for entry, places in groups(rows.words("traffic"))}
    return {entry: (own, own.floats(column).astype(np.int64)) for entry, own in found.items()}


def _repeats(numbers: Ints) -> Bools:
    """Return True for numbers that occurred earlier in the array."""
    order, (distinct, places) = np.arange(len(numbers)), _places(numbers)
    first = np.empty(len(distinct), np.int64)
    first[places[::-1]] = order[::-1]  # reversed, so that a number's first place is assigned last
    return np.asarray(first[places] != order)


def _by_stage(schedule: TrafficSchedule, absent: Ints, beyond: range) -> list[int]:
    """Count lost arrivals by scheduled stage. Arrivals after the end of the schedule belong to the last stage."""
    counts = np.zeros(len(schedule.stages), np.int64)
    if not len(counts):
        return []
    for first, _, where in schedule.blocks():
        low, high = np.searchsorted(absent, (first, first + len(where)))
        tally(counts, where[absent[low:high] - first])
        tally(counts, where[max(0, beyond.start - first) : max(0, beyond.stop - first)])
    counts[-1] += len(absent) + len(beyond) - counts.sum()
    return [int(count) for count in counts]


GAPS: Final = 5_000_000
"""Gaps are measured only for arrivals with a lower number than this, to limit memory."""
_MOMENTS: Final = ("start", "intended_start")


class Arrivals:
    """Collects the first and last start and intended start of each entry's sent operations, without the warm-up.

    Attributes:
        last: the latest start or end in the whole record, in ns since the epoch.
        first_of: each entry's earliest moment in ns, by column of ``_MOMENTS``. ``last_of`` has the latest.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.last = -np.inf
        self.first_of = {name: np.full(len(vocabulary.entries), np.inf) for name in _MOMENTS}
        self.last_of = {name: np.full(len(vocabulary.entries), -np.inf) for name in _MOMENTS}

    def add(self, chunk: Chunk) -> None:
        for name in ("start", "end"):
            self.last = float(np.fmax(self.last, np.fmax.reduce(chunk.everything.floats(name))))
        for stage_index, rows in chunk.operations.by_judged_stage:
            entry = chunk.vocabulary.entry_of[stage_index]
            for name in _MOMENTS:
                times = rows.sent.floats(name)
                self.first_of[name][entry] = times.min(initial=self.first_of[name][entry])
                self.last_of[name][entry] = times.max(initial=self.last_of[name][entry])


_BIN_S: Final = 0.1
_ENOUGH: Final = 5
"""Least mean number of arrivals per bin. With fewer, counts vary widely even if arrivals are evenly spaced."""


class Evenness(Result, frozen=True, kw_only=True):
    """Evenness of a traffic entry's arrivals.

    Attributes:
        gap_error_ms: absolute difference between the gap of two successive starts and the gap of their intended starts.
        bins_sent: sd ÷ mean of the number of starts per 100 ms; None with too few arrivals.
        bins_intended: the same for intended starts. In a perfect run, it equals ``bins_sent``.
    """

    gap_error_ms: Summary
    bins_sent: float | None
    bins_intended: float | None


class Evennesses:
    """Collects each traffic entry's start lags, and counts its starts and intended starts in bins of 100 ms."""

    def __init__(self, vocabulary: Vocabulary, arrivals: Arrivals) -> None:
        self._entries, self._arrivals = [] if vocabulary.imported else vocabulary.entries, arrivals
        self._lag: list[NDArray[np.float32]] = [np.zeros(0, np.float32) for _ in self._entries]
        self._bins: dict[tuple[int, str], Ints] = {}
        for entry in range(len(self._entries)):
            for column in _MOMENTS:
                first, last = arrivals.first_of[column][entry], arrivals.last_of[column][entry]
                if np.isfinite(first) and (count := int((last - first) / 1e9 / _BIN_S)) >= 2:
                    self._bins[entry, column] = np.zeros(count, np.int64)

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_judged_stage if self._entries else ():
            entry, sent = chunk.vocabulary.entry_of[stage_index], rows.sent
            early = sent.where(sent.floats("arrival") < GAPS)
            numbers = early.floats("arrival").astype(np.int64)
            self._lag[entry] = grown(self._lag[entry], int(numbers.max(initial=-1)) + 1, np.nan)[:GAPS]
            self._lag[entry][numbers] = start_lag(early)
            for column in _MOMENTS if len(sent) else ():
                if (counts := self._bins.get((entry, column))) is None:
                    continue
                since = sent.floats(column) - self._arrivals.first_of[column][entry]
                # As in np.histogram, the last bin includes its upper edge.
                places = np.minimum(since / (_BIN_S * 1e9), np.nextafter(len(counts), 0)).astype(np.int64)
                if since.max() > len(counts) * _BIN_S * 1e9:
                    places = places[since <= len(counts) * _BIN_S * 1e9]
                tally(counts, places)

    def result(self) -> dict[str, Evenness]:
        return {
            name: Evenness(
                gap_error_ms=summarize(distribution(np.abs(np.diff(lag[~np.isnan(lag)].astype(np.float64))))),
                bins_sent=_spread(self._bins.get((entry, "start"))),
                bins_intended=_spread(self._bins.get((entry, "intended_start"))),
            )
            for entry, (name, lag) in enumerate(zip(self._entries, self._lag, strict=True))
        }


def _spread(counts: Ints | None) -> float | None:
    if counts is None or counts.mean() < _ENOUGH:
        return None
    return float(counts.std() / counts.mean())
