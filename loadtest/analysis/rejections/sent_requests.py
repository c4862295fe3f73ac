"""A compact frame of the sent requests, at most a million per limit name, and each limiter's requests for a replay."""

from collections import defaultdict
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtest.analysis.columns import KINDS, Rows, Vocabulary
from loadtest.analysis.reader import Chunk
from loadtest.arrays import Bools, Floats, Ints
from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_KIND, THROTTLED_STATUS, ErrorCode
from loadtest.limits.loads import RequestLog
from loadtest.record.run_info import RunInfo
from loadtest.units import Limit

HEADERS_KEPT: Final = 50_000
"""Maximum number of responses whose rate-limit headers are kept; later headers are dropped."""
MOST: Final = 1_000_000
"""Maximum number of requests kept per limit name. Later requests in the record have no expectation."""
_LIMIT: Final = np.array([LIMIT_NAMES.index(LIMIT_OF_KIND[kind]) for kind in KINDS], np.int8)
_COLUMNS: Final = {
    **dict.fromkeys(("start", "end", "status", "key_index", "parent_arrival", "execution_time_ms"), np.float64),
    **dict.fromkeys(("traffic", "mistake"), np.int16),
    "outcome": np.int8,
    **dict.fromkeys(("error_code", "retry_after"), np.int32),  # a target may send any number of distinct texts
    "stage_index": np.int64,
    "kind": np.int8,
    "limit": np.int8,
}


class SentRequests:
    """Sent requests, including set-up and warm-up, which use quota too."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.complete = True
        self._vocabulary = vocabulary
        self._room = np.full(len(LIMIT_NAMES), MOST)
        # np.empty allocates pages lazily.
        most = MOST * len(LIMIT_NAMES)
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(most, kind) for name, kind in _COLUMNS.items()}
        self._kept = 0
        self._headers: list[tuple[Ints, list[str]]] = []
        self._headers_kept = 0

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
        for name, column in self._columns.items():
            own = {"stage_index": rows.stage_index, "limit": limit}.get(name)
            if own is None:
                own = rows.floats(name) if _COLUMNS[name] is np.float64 else rows.words(name)
            column[kept] = own
        self._keep_headers(rows)
        self._kept += len(rows)

    def rate_headers(self) -> tuple[Ints, list[str]]:
        """Return places in ``frame()``, and rate-limit headers of the responses there: lines of ``name: value``."""
        places = np.concatenate([np.zeros(0, np.int64), *(place for place, _ in self._headers)])
        return places, [text for _, texts in self._headers for text in texts]

    def frame(self) -> pd.DataFrame:
        """Return one row for each request, in the order of the record.

        Columns: ``start``, ``end`` (ns), ``status``, ``key_index``, ``parent_arrival``, ``execution_time_ms`` (floats,
        NaN for null); ``outcome`` (a place in ``OUTCOMES``);
        ``traffic``, ``mistake``, ``error_code``, ``kind``, ``limit`` (categories); ``stage_index`` (-1 for the set-up),
        ``in_figures``; ``retry_after`` (a place in the vocabulary, -1 for none).
        """
        columns: dict[str, Any] = {name: column[: self._kept] for name, column in self._columns.items()}
        words = {name: self._vocabulary.words[name] for name in ("traffic", "mistake", "error_code")}
        words |= {"kind": list(KINDS), "limit": list(LIMIT_NAMES)}
        for name, known in words.items():
            columns[name] = pd.Categorical.from_codes(columns[name], pd.Index(known, dtype=str))
        judged = np.append(self._vocabulary.in_figures, False)  # the last one stands for -1
        columns["in_figures"] = judged[columns["stage_index"]]
        # No copy, because there are up to three million rows.
        return pd.DataFrame(columns, copy=False)

    def _keep_headers(self, rows: Rows) -> None:
        if self._headers_kept >= HEADERS_KEPT:
            return
        headers = rows.columns.arrow("rate_limit")
        if headers.null_count == len(headers):
            return
        own = headers.take(rows.places)
        places = np.flatnonzero(own.is_valid().to_numpy(zero_copy_only=False))[: HEADERS_KEPT - self._headers_kept]
        if len(places):
            self._headers.append((places + self._kept, own.take(places).to_pylist()))
            self._headers_kept += len(places)

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
"""Minimum number of requests to one limiter in a burst, which the gap and span above (in s) delimit."""
_LEAST_S: Final = 0.001
_MOST_S: Final = 0.25
"""Minimum and maximum assumed seconds from sending a request to the server's decision."""
_SILENCE: Final = 50
"""Idle windows between two limiters in a log: a bucket in debt needs 2 × burst ÷ N windows to refill."""
_NEEDED: Final = ("start", "end", "status", "key_index", "traffic", "kind", "limit")
_INVALID: Final = (400, 404, 405, 413, 431, 503)
"""Statuses of invalid requests, which use no quota if only valid requests do."""


def limiter_requests(sent: pd.DataFrame, info: RunInfo, assumed_limits: AssumedLimits) -> dict[str, list[RequestLog]]:
    """Return the requests of each assumed limiter, by the limit's name, of a run that reached its epoch.

    Times are unix seconds of the client's clock. For a concurrency limit, a rejected request is given the duration of
    the last accepted request of its kind, because a replay that accepts it would otherwise free its slot at once.
    """
    # Assumption: a request with a bad key is rejected before any limit is checked, and uses no quota.
    counted = sent["mistake"] != "bad_key"
    if info.imported:
        counted &= sent["status"] != ErrorCode.INVALID_API_KEY.status
    if assumed_limits.draws == "valid":
        counted &= sent["mistake"].isna() & ~sent["status"].isin(_INVALID)
    ordered = sent.loc[counted, list(_NEEDED)].sort_values("start", kind="stable")
    keys = ordered["key_index"].fillna(0.0) if assumed_limits.per_key else pd.Series(0.0, index=ordered.index)
    called = {name: assumed_limits.drawn_on(name) for name in assumed_limits.limits}
    epoch, found = (info.epoch_unix_ns or 0) / 1e9, defaultdict(list)
    for (name, key), rows in ordered.groupby([ordered["limit"].map(called), keys], sort=True):
        before = [
            each.unix_s
            for each in info.preflight
            if called.get(each.limit) == name and (each.key_index == key or not assumed_limits.per_key)  # type: ignore[call-overload] # any name may be looked up
        ]
        took = _took(rows) if assumed_limits.spec.algorithm == CONCURRENCY else rows["end"] - rows["start"]
        times, status = rows["start"].to_numpy(float) / 1e9 + epoch, rows["status"].to_numpy(float)
        # Requests sent within a few ms on different connections arrive in any order, so a replay can predict only the
        # number of accepted requests: in a burst, these come first.
        bursts, crowded = in_bursts(times)
        order = np.lexsort((np.arange(len(times)), crowded & (status == THROTTLED_STATUS), bursts))
        ends = np.fmax(times, (rows["start"] + took).to_numpy(float)[order] / 1e9 + epoch)
        place, early = rows.index.to_numpy(np.int64), len(before)
        log = log_of(
            assumed_limits.limit_on(str(name)),
            np.concatenate((np.sort(before), times)),
            np.concatenate((np.sort(before), ends)),
            np.concatenate((np.zeros(early), status[order])),
            np.concatenate((np.full(early, -1), place[order])),
        )
        found[str(name)].append(log)
    return found


def log_of(limit: Limit, times: Floats, ends: Floats, status: Floats, place: Ints) -> RequestLog:
    """Return the log of one limiter.

    Args:
        limit: the limit.
        times: send times, in any order.
        ends: times of the response or time-out.
        status: NaN without a response.
        place: index of each request in ``SentRequests.frame()``; -1 for a preflight's request, which used quota but is
            not in the record.
    """
    order = np.argsort(times, kind="stable")
    times, ends, status, place = times[order], ends[order], status[order], place[order]
    rejected, answered = status == THROTTLED_STATUS, ~np.isnan(status)
    return RequestLog(limit, times, ends, rejected, answered, place >= 0, 0.0, place, np.zeros(1, np.int64))


def _took(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return each request's duration in ns; a rejected request has the duration of an accepted neighbour."""
    took = rows["end"] - rows["start"]
    of_kind = took.where(rows["status"] != THROTTLED_STATUS).groupby([rows["traffic"], rows["kind"]], observed=True)
    return of_kind.ffill().fillna(of_kind.bfill()).fillna(took)


def in_bursts(times: Floats) -> tuple[Ints, Bools]:
    """Return the index of each request's burst, and whether the burst is so large that its order is unknown.

    Send times are in s and ascend.
    """
    apart = np.diff(times, prepend=-np.inf) > BURST_GAP_S
    first = times[np.maximum.accumulate(np.where(apart, np.arange(len(times)), 0))] if len(times) else times
    # Longer bursts are cut into pieces of the maximum span.
    piece = ((times - first) // BURST_SPAN_S).astype(int)
    bursts = np.cumsum(apart | (np.diff(piece, prepend=0) != 0))
    return bursts, np.bincount(bursts)[bursts] >= _BURST_SIZE if len(times) else np.zeros(0, bool)


def decision_delay(logs: list[RequestLog]) -> float:
    """Return the longest time from a request's start to the decision, in s: the 90th percentile of 429s' durations."""
    took = np.concatenate([(log.ends - log.times)[log.rejected] for log in logs])
    return float(np.clip(np.quantile(took, 0.9), _LEAST_S, _MOST_S)) if len(took) else _LEAST_S


def join(logs: list[RequestLog], tolerance_s: float) -> RequestLog:
    """Join the logs of one limit's limiters, at least one, into one log, one limiter after another."""
    window = logs[0].limit.window
    base = np.floor(min(log.times[0] for log in logs) / window) * window
    stride = (np.ceil((max(log.times[-1] for log in logs) - base) / window) + _SILENCE) * window
    moved = [
        replace(log, times=log.times + offset, ends=log.ends + offset)
        for log, offset in zip(logs, np.arange(len(logs)) * stride - base, strict=True)
    ]
    names = ("times", "ends", "rejected", "answered", "judged", "place")
    columns: dict[str, Any] = {name: np.concatenate([getattr(log, name) for log in moved]) for name in names}
    begins = np.cumsum([0, *(len(log.times) for log in moved[:-1])])
    return replace(logs[0], **columns, tolerance_s=tolerance_s, begins=begins)
