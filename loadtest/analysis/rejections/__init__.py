"""Analysis of a record's 429s: a table of the sent requests, a log for each limiter, and the assumed limiter's replay.

The server's clock is uncertain. A limiter that follows this clock is therefore replayed at several clock shifts within
the uncertainty, and the replay that predicts the most observed decisions is kept. For a concurrency limit, the time
between a request's end at the server and at the client is fitted in this way.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.columns import KINDS, Vocabulary, groups
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import ExpectedLimiter, result_of
from loadtest.arrays import Bools, Floats, Ints, NamedColumns
from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_KIND, THROTTLED_STATUS, ErrorCode
from loadtest.limits import LimiterSpec
from loadtest.limits.loads import RequestLog
from loadtest.limits.replays import VECTORISED, replay
from loadtest.record.run_info import RunInfo
from loadtest.units import Limit

HEADERS_KEPT: Final = 50_000
"""The rate-limit headers of at most this many responses are kept."""
MOST: Final = 1_000_000
"""At most this many requests are kept per limit name. No decision is predicted for later requests."""
_LIMIT: Final = np.array([LIMIT_NAMES.index(LIMIT_OF_KIND[kind]) for kind in KINDS], np.int8)
_COLUMNS: Final = {
    **dict.fromkeys(("start", "end", "status", "key_index", "parent_arrival", "execution_time_ms"), np.float64),
    **dict.fromkeys(("traffic", "mistake"), np.int16),
    "outcome": np.int8,
    **dict.fromkeys(("error_code", "retry_after"), np.int32),  # places of texts: 16 bits are too few
    "stage_index": np.int64,
    "kind": np.int8,
    "limit": np.int8,
}


class SentRequests:
    """Sent requests. Set-up and warm-up also use quota, so they are included.

    ``rate_headers`` has, by row of ``table``, the rate-limit headers of the response, as lines of ``name: value``.
    """

    def __init__(self) -> None:
        self.complete = True
        self._room = np.full(len(LIMIT_NAMES), MOST)
        # np.empty allocates pages lazily, so unused rows take no memory.
        self._table: NamedColumns = np.empty(MOST * len(LIMIT_NAMES), list(_COLUMNS.items()))
        self._kept = 0
        self.rate_headers: dict[int, str] = {}

    def add(self, chunk: Chunk) -> None:
        if not self._room.any():
            self.complete &= not len(chunk.requests)
            return
        rows = chunk.requests.as_recorded()
        limit = _LIMIT[rows.words("kind")]
        if len(rows) > self._room.min():
            keep = self._first(limit)
            rows, limit = rows.where(keep), limit[keep]
        if not len(rows):
            return
        self._room -= np.bincount(limit, minlength=len(LIMIT_NAMES))
        kept = slice(self._kept, self._kept + len(rows))
        for name, kind in _COLUMNS.items():
            own = {"stage_index": rows.stage_index, "limit": limit}.get(name)
            if own is None:
                own = rows.floats(name) if kind is np.float64 else rows.words(name)
            self._table[name][kept] = own
        room, headers = HEADERS_KEPT - len(self.rate_headers), rows.columns.arrow("rate_limit")
        if room and headers.null_count < len(headers):
            places = np.flatnonzero(rows.known("rate_limit"))[:room]
            texts = headers.take(rows.places[places]).to_pylist()
            self.rate_headers |= zip((places + self._kept).tolist(), texts, strict=True)
        self._kept += len(rows)

    @property
    def table(self) -> NamedColumns:
        """One row for each kept request, in the order of the record.

        Columns: ``start``, ``end`` (ns), ``status``, ``key_index``, ``parent_arrival``, ``execution_time_ms`` (NaN for
        null); ``traffic``, ``mistake``, ``error_code``, ``retry_after``, ``outcome`` and ``kind`` (places in the
        vocabulary, -1 for null); ``limit`` (a place in ``LIMIT_NAMES``); ``stage_index`` (-1 for the set-up).
        """
        return self._table[: self._kept]

    def _first(self, limit: NDArray[np.int8]) -> Bools:
        keep = np.zeros(len(limit), bool)
        for place, room in enumerate(self._room.tolist()):
            if room:
                keep[np.flatnonzero(limit == place)[:room]] = True
        self.complete &= bool(keep.all())
        return keep


BURST_GAP_S: Final = 0.002
BURST_SPAN_S: Final = 0.02
_BURST_SIZE: Final = 5
"""In a burst of at least this many requests to one limiter, the order of arrival is unknown.

A burst ends before a gap of more than ``BURST_GAP_S``, or after ``BURST_SPAN_S``.
"""
_LEAST_S: Final = 0.001
_MOST_S: Final = 0.25
"""Bounds in s of the assumed time from sending a request to the server's decision."""
_SILENCE: Final = 50
"""Number of idle windows between two limiters in a joined log, so that a replay starts each limiter afresh."""
_INVALID: Final = (400, 404, 405, 413, 431, 503)
"""Requests with these statuses use no quota if the limiter counts only valid requests."""


def limiter_requests(
    sent: NamedColumns, vocabulary: Vocabulary, info: RunInfo, assumed_limits: AssumedLimits
) -> dict[str, list[RequestLog]]:
    """Return the requests of each assumed limiter, by the name of the limit. Times are unix s of the client's clock."""
    # Assume that a request with a bad key is refused before any limit is checked, and uses no quota.
    (bad_key,) = vocabulary.codes("mistake", ["bad_key"])
    counted = sent["mistake"] != bad_key
    if info.imported:
        counted &= sent["status"] != ErrorCode.INVALID_API_KEY.status
    if assumed_limits.draws == "valid":
        counted &= (sent["mistake"] < 0) & ~np.isin(sent["status"], _INVALID)
    epoch, found = (info.epoch_unix_ns or 0) / 1e9, defaultdict(list)
    for name, key, place in _by_limiter(sent, np.flatnonzero(counted), assumed_limits):
        before = [
            each.unix_s
            for each in info.preflight
            if each.limit in assumed_limits.together(name) and (each.key_index == key or not assumed_limits.per_key)
        ]
        start, status = sent["start"][place], sent["status"][place]
        took = _took(sent[place]) if assumed_limits.spec.algorithm == CONCURRENCY else sent["end"][place] - start
        times = start / 1e9 + epoch
        # Requests sent within a few ms on different connections arrive in any order. A replay can predict only how many
        # of them are accepted, so a large burst's rejected requests are moved to its end.
        bursts, crowded = in_bursts(times)
        order = np.lexsort((np.arange(len(times)), crowded & (status == THROTTLED_STATUS), bursts))
        ends = np.fmax(times, (start + took)[order] / 1e9 + epoch)
        log = log_of(
            assumed_limits.limit_on(name),
            np.concatenate((np.sort(before), times)),
            np.concatenate((np.sort(before), ends)),
            np.concatenate((np.zeros(len(before)), status[order])),
            np.concatenate((np.full(len(before), -1), place[order])),
        )
        found[name].append(log)
    return found


def _by_limiter(sent: NamedColumns, counted: Ints, assumed_limits: AssumedLimits) -> Iterator[tuple[str, float, Ints]]:
    """Yield each assumed limiter's limit name, key (0 if all share it), and request indices in order of sending."""
    ordered = counted[np.argsort(sent["start"][counted], kind="stable")]
    limits = [each for each in LIMIT_NAMES if each in assumed_limits.limits]
    names = list(dict.fromkeys(map(assumed_limits.drawn_on, limits)))
    drawn = np.array([names.index(assumed_limits.drawn_on(each)) if each in limits else -1 for each in LIMIT_NAMES])
    keys, of_key = np.unique(np.fmax(sent["key_index"][ordered], 0.0) * assumed_limits.per_key, return_inverse=True)
    for code, at in groups(drawn[sent["limit"][ordered]] * len(keys) + of_key):
        if code >= 0:
            yield names[code // len(keys)], float(keys[code % len(keys)]), ordered if at is None else ordered[at]


def log_of(limit: Limit, times: Floats, ends: Floats, status: Floats, place: Ints) -> RequestLog:
    """Return the log of one limiter. Times may be in any order. ``status`` is NaN without a response.

    ``place`` is the index of each request in ``SentRequests.table``. A preflight's request has -1, because it used
    quota but is not in the record.
    """
    order = np.argsort(times, kind="stable")
    times, ends, status, place = times[order], ends[order], status[order], place[order]
    rejected, answered = status == THROTTLED_STATUS, ~np.isnan(status)
    return RequestLog(limit, times, ends, rejected, answered, place >= 0, 0.0, place, np.zeros(1, np.int64))


def _took(rows: NamedColumns) -> Floats:
    """Return each request's duration in ns, for replays of a concurrency limit.

    A replay may accept a request that was rejected or has no end. This request gets the duration of the previous (or
    else the first) accepted request of its traffic entry and kind.
    """
    took: Floats = rows["end"] - rows["start"]
    for _, at in groups(rows["traffic"].astype(np.int64) * len(KINDS) + rows["kind"]):
        own = np.arange(len(rows)) if at is None else at
        passed = own[(rows["status"][own] != THROTTLED_STATUS) & ~np.isnan(took[own])]
        if len(passed):
            took[own] = took[passed[np.maximum(np.searchsorted(passed, own, side="right") - 1, 0)]]
    return took


def in_bursts(times: Floats) -> tuple[Ints, Bools]:
    """Return the index of each request's burst, and whether the burst is so large that the order of arrival is unknown.

    Send times are in s and ascend.
    """
    apart = np.diff(times, prepend=-np.inf) > BURST_GAP_S
    first = times[np.maximum.accumulate(np.where(apart, np.arange(len(times)), 0))] if len(times) else times
    # Longer bursts are cut into pieces of the maximum span.
    piece = ((times - first) // BURST_SPAN_S).astype(int)
    bursts = np.cumsum(apart | (np.diff(piece, prepend=0) != 0))
    return bursts, np.bincount(bursts)[bursts] >= _BURST_SIZE if len(times) else np.zeros(0, bool)


def decision_delay(logs: list[RequestLog]) -> float:
    """Return the assumed longest time from a request's start to its decision, in s.

    It is the 90 % quantile of the 429s' durations, within ``_LEAST_S`` and ``_MOST_S``; without 429s, ``_LEAST_S``.
    """
    took = np.concatenate([(log.ends - log.times)[log.rejected] for log in logs])
    return float(np.clip(np.quantile(took, 0.9), _LEAST_S, _MOST_S)) if len(took) else _LEAST_S


def join(logs: list[RequestLog], tolerance_s: float) -> RequestLog:
    """Join the logs of one limit's limiters into one log, one limiter after another. At least one log is needed."""
    window = logs[0].limit.window
    base = np.floor(min(log.times[0] for log in logs) / window) * window
    stride = (np.ceil((max(log.times[-1] for log in logs) - base) / window) + _SILENCE) * window
    moved = [
        replace(log, times=log.times + offset, ends=log.ends + offset)
        for log, offset in zip(logs, np.arange(len(logs)) * stride - base, strict=True)
    ]
    begins = np.cumsum([0, *(len(log.times) for log in moved[:-1])])
    return replace(logs[0], **concatenated(moved), tolerance_s=tolerance_s, begins=begins)


def concatenated(logs: list[RequestLog], order: Ints | slice = slice(None)) -> dict[str, Any]:
    """Join the columns of several logs, one log after another, and arrange the rows by ``order``."""
    names = ("times", "ends", "rejected", "answered", "judged", "place")
    return {name: np.concatenate([getattr(log, name) for log in logs])[order] for name in names}


_STEPS: Final = 41
_TOO_MANY: Final = 200_000
"""For a limiter without a vectorised replay, fewer shifts are tried if requests × shifts would exceed this."""
_FITTED: Final = 50_000
"""The clock shift is fitted with at most this many requests per limiter."""
_LEADS_S: Final = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005)
"""Seconds by which a request may end earlier at the server than at the client, tried for a concurrency limit."""


class Expectation(ExpectedLimiter, frozen=True, kw_only=True, eq=False):
    """The assumed limiter, and its decision on each sent request, warm-up included.

    ``rejected`` is 1.0 for a 429, 0.0 for an accepted request, and NaN if no decision is predicted.
    """

    rejected: Floats


def expect(info: RunInfo, sent: NamedColumns, logs: list[RequestLog], clock: tuple[float, float]) -> Expectation:
    """Replay each assumed limiter with all sent requests that use its quota. ``clock`` is ``Record.clock``."""
    rejected = np.full(len(sent), np.nan)
    unknown = {"clock_shift_s": None, "agreement": None, "agreement_as_sent": None, "reordered": 0}
    expected = partial(result_of, Expectation, info.target, rejected=rejected, **unknown)
    if not len(sent):
        return expected(why_not="no request was sent")
    if info.imported:
        return expected(why_not="a log does not state which limiter to expect")
    if info.epoch_unix_ns is None:
        return expected(why_not="the run never reached its epoch, so the server's windows are unknown")
    try:
        assumed_limits = AssumedLimits.recorded(info.target)
    except ValueError as error:
        return expected(why_not=str(error))
    if not logs:
        return expected(why_not="no limit is assumed for these requests")
    agreed, shift, decisions = _fit(assumed_limits, logs, clock)
    judged = sum(int(log.known.sum()) for log in logs)
    agreed_as_sent = 0
    reordered = 0
    start = sent["start"]
    for log, allowed in zip(logs, decisions, strict=True):
        own = log.judged
        place, refused, was_429, answered = log.place[own], ~allowed[own], log.rejected[own], log.answered[own]
        rejected[place] = refused
        # A burst's requests were reordered, but not its times. One replay therefore applies to both orders.
        order = np.lexsort((place, start[place]))
        reordered += int((order != np.arange(len(order))).sum())
        agreed_as_sent += int(((refused == was_429[order]) & answered[order]).sum())
    held = assumed_limits.spec.algorithm == CONCURRENCY  # slots depend on the order: a replay fits only one order
    return expected(
        clock_shift_s=shift if assumed_limits.spec.on_clock else None,
        agreement=agreed / judged if judged else None,
        agreement_as_sent=agreed_as_sent / judged if judged and not (held and reordered) else None,
        reordered=reordered,
        why_not=None,
    )


_Tried = tuple[int, float, list[Bools]]
"""A replay: the number of observed decisions that it predicts, its clock shift in s, and, for each limiter, whether
each request is accepted."""


def _fit(assumed_limits: AssumedLimits, logs: list[RequestLog], clock: tuple[float, float]) -> _Tried:
    """Return the replay that predicts the most decisions. ``clock`` is ``Record.clock``."""
    offset, reach = clock
    if assumed_limits.spec.algorithm == CONCURRENCY:
        tried = [_try(assumed_limits.spec, logs, offset, lead) for lead in _LEADS_S]
        return max(tried, key=lambda each: each[0])
    if not assumed_limits.spec.on_clock:
        return _try(assumed_limits.spec, logs, offset)
    # The shift does not change during a run, so a limiter's first requests are enough to fit it.
    first = [log.part(0, _FITTED) for log in logs]
    best = _try(assumed_limits.spec, first, offset)
    requests, steps = sum(len(log.times) for log in first), _STEPS
    if assumed_limits.spec.algorithm != VECTORISED and requests * steps > _TOO_MANY:
        steps = max(3, _TOO_MANY // requests) | 1
    # At hundreds of requests/s, a step of the first grid spans several requests. Therefore a finer grid around the best
    # shift follows.
    for width in (reach, 2 * reach / (steps - 1)):
        grid = np.clip(best[1] + np.linspace(-width, width, steps), offset - reach, offset + reach)
        for shift in sorted(grid.tolist(), key=lambda shift: abs(shift - offset)):
            found = _try(assumed_limits.spec, first, shift)
            if found[0] > best[0]:
                best = found
    return _try(assumed_limits.spec, logs, best[1])


def _try(spec: LimiterSpec, logs: list[RequestLog], shift: float, lead: float = 0.0) -> _Tried:
    """Replay with a clock shift (server minus client). Requests end ``lead`` seconds earlier than recorded."""
    decisions = [
        replay(spec, log.limit, log.times + shift, np.maximum(log.times, log.ends - lead) + shift) for log in logs
    ]
    return sum(agreeing(log, ~allowed) for log, allowed in zip(logs, decisions, strict=True)), shift, decisions


def agreeing(log: RequestLog, rejected: Bools) -> int:
    """Return the number of observed decisions that a replay predicts."""
    return int(((rejected == log.rejected) & log.known).sum())
