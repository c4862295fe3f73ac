"""Usage of each limit between stage boundaries, over time and by window, and the bottleneck limit."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Final

import numpy as np

from loadtest.analysis import distribution
from loadtest.analysis.columns import KINDS, Rows, tally
from loadtest.analysis.counts import folded
from loadtest.analysis.reader import Chunk
from loadtest.analysis.rejections import BURST_GAP_S, in_bursts
from loadtest.analysis.rejections.phases import boundaries
from loadtest.analysis.results import Count, Proportion, Result
from loadtest.analysis.run_record import Record
from loadtest.arrays import Bools, Floats, Ints
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import LIMIT_OF_KIND, LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, THROTTLED_STATUS
from loadtest.limits import ALGORITHMS
from loadtest.limits.fits import Fit
from loadtest.limits.loads import RequestLog, opened

MOST_KEYS: Final = 64
"""For each period between two stage boundaries, at most this many keys are kept: the busiest keys."""
_UNEVEN: Final = 1.05


class KeyUse(Result, frozen=True, kw_only=True):
    """Usage of one key's quota in a period. ``share`` is ``sent`` ÷ requests that the sustained rate allows."""

    key: Count
    sent: Count
    throttled: Count
    share: float


class LimitUsage(Result, frozen=True, kw_only=True):
    """Usage of one limit in a period between two stage boundaries.

    Attributes:
        stretch: names of the period's stages that use the limit. If only polls of earlier jobs use the limit, names of
            all stages in the period.
        share: requests sent ÷ requests that the sustained rate allows, over all quotas. For a concurrency limit, it is
            the mean number of requests in flight, without those that get 429, ÷ the sum of all quotas.
        throttled_rate: 429s ÷ requests sent.
        keys: keys with their own quotas, the busiest first. Empty for a single quota or a concurrency limit.
    """

    limit: str
    stretch: str
    start_s: float
    end_s: float
    sent: Count
    throttled: Count
    share: float
    throttled_rate: Proportion
    keys: tuple[KeyUse, ...] = ()

    @property
    def busiest(self) -> float:
        """The share of the busiest key, which reaches its limit first. Without ``keys``, this is ``share``."""
        return self.keys[0].share if self.keys else self.share

    @property
    def uneven(self) -> bool:
        """Whether the busiest key's share is more than 1.05 × that of all keys together."""
        return self.busiest > _UNEVEN * self.share


def limit_uses(record: Record) -> list[LimitUsage]:
    """Return the usage of each limit between neighbouring stage boundaries of the traffic, without the warm-up.

    A request counts in the period of its send time, because late polls of one stage use quota during the next.
    """
    uses, assumed = [], record.assumed_limits
    ends = {min(t, record.covered_s) for key in record.stages() for t in (key.stage.start_s, key.stage.end_s)}
    for name in record.limits():
        kinds = [place for place, kind in enumerate(KINDS) if LIMIT_OF_KIND[kind] in assumed.together(name)]
        limit, quotas = assumed.limit_on(name), record.quotas_on(name)
        for begin, end in pairwise(sorted(ends)):
            sent, throttled = _by_key(record, kinds, begin, end)
            seconds, total = end - begin, sent.total()
            if not total:
                continue
            if held := assumed.spec.algorithm == CONCURRENCY:
                share = record.counts.held_s(kinds, begin, end) / seconds / (limit.count * quotas)
            else:
                share = total / (limit.rate * quotas * seconds)
            allowed = limit.rate * seconds
            busiest = sorted(sent, key=lambda key: (-sent[key], key))[:MOST_KEYS] if quotas > 1 and not held else ()
            uses.append(
                LimitUsage(
                    limit=name,
                    stretch=_stretch(record, name, begin, end),
                    start_s=begin,
                    end_s=end,
                    sent=total,
                    throttled=throttled.total(),
                    share=share,
                    throttled_rate=throttled.total() / total,
                    keys=tuple(
                        KeyUse(key=key, sent=sent[key], throttled=throttled[key], share=sent[key] / allowed)
                        for key in busiest
                    ),
                )
            )
    return uses


def _by_key(record: Record, kinds: list[int], begin_s: float, end_s: float) -> tuple["Counter[int]", "Counter[int]"]:
    """Count the requests of some kinds sent within a span, and the 429s among them, by key."""
    cells = record.counts.sent_within([(begin_s, end_s)])
    sent = {cell: count for cell, count in cells.items() if cell.kind in kinds}
    throttled = {cell: count for cell, count in sent.items() if cell.status == THROTTLED_STATUS}
    return folded(sent, attrgetter("key")), folded(throttled, attrgetter("key"))


def _stretch(record: Record, limit: str, begin: float, end: float) -> str:
    """Return the stages in a period that use the limit; all stages if only polls of earlier stages use the limit."""
    on = [key for key in record.stages() if key.stage.start_s < end and key.stage.end_s > begin]
    together = set(record.assumed_limits.together(limit))
    own = [key.stage.name for key in on if together & set(LIMITS_OF_OPERATION[key.operation])]
    return " + ".join(dict.fromkeys(own or [key.stage.name for key in on]))


def bottleneck_limit(uses: list[LimitUsage]) -> LimitUsage | None:
    """Return the usage with the most 429s or, if there are no 429s, with the highest share."""
    return max(uses, key=lambda use: (use.throttled, use.busiest), default=None)


@dataclass(frozen=True, eq=False)
class LimitSeries:
    """Numbers of one limit's requests by time bin. Times are in s since the epoch.

    Attributes:
        cuts: bin edges, aligned with the server's windows if their phase is known.
        boundaries: assumed starts of the server's windows.
        offered: number of requests by intended time, including requests that were never sent.
        sent: number of requests by send time. ``accepted`` and ``throttled`` are also counted by send time.
        expected: share of sent requests that the assumed limiter would reject; NaN if unknown.
    """

    cuts: Floats
    boundaries: Floats
    expected: Floats
    offered: Ints
    sent: Ints
    accepted: Ints
    throttled: Ints


class LimitRates:
    """Collects a ``LimitSeries`` for each limit with requests."""

    def __init__(self, record: Record) -> None:
        self.by_limit: dict[str, LimitSeries] = {}
        self._covered_s = record.covered_s
        self._drawn_on: dict[str, LimitSeries] = {}
        for name in record.limits():
            together = record.assumed_limits.together(name)
            requested = sum(record.counts.requested(each) for each in together)
            marks = boundaries(record, record.assumed_limits.limit_on(name).window)
            cuts = distribution.edges(record.covered_s, requested, 8, float(marks[0]) if len(marks) else 0.0)
            bins, own = max(0, len(cuts) - 1), record.on_limit(name)
            seconds = record.sent_requests["start"][own] / 1e9
            places = distribution.place(seconds, cuts)
            known = np.flatnonzero((places >= 0) & (seconds <= record.covered_s))
            rejected = record.expectation.rejected[own][known]
            with np.errstate(invalid="ignore"):  # a bin without requests has no share
                expected = np.bincount(places[known], rejected, bins) / np.bincount(places[known], minlength=bins)
            self.by_limit[name] = LimitSeries(cuts, marks, expected, *np.zeros((4, bins), np.int64))
            self._drawn_on |= dict.fromkeys(together, self.by_limit[name])

    def add(self, chunk: Chunk) -> None:
        for kind, rows in chunk.requests.by_kind:
            if (series := self._drawn_on.get(LIMIT_OF_KIND[KINDS[kind]])) is None:
                continue
            places, status = self._places(series, rows, "start"), rows.floats("status")
            throttled = status == THROTTLED_STATUS
            tally(series.sent, places)
            tally(series.throttled, places[throttled])
            tally(series.accepted, places[~np.isnan(status) & ~throttled])
            tally(series.offered, self._places(series, rows, "intended_start"))
        for stage_index, rows in chunk.operations.by_stage:
            series = self._drawn_on.get(LIMIT_OF_OPERATION[chunk.vocabulary.stage_keys[stage_index].operation])
            never = rows.where(np.isnan(rows.floats("start")))
            if series is not None and len(never):
                tally(series.offered, self._places(series, never, "intended_start"))

    def _places(self, series: LimitSeries, rows: Rows, column: str) -> Ints:
        seconds = rows.floats(column) / 1e9
        # The series exclude the set-up before the epoch and the drain after the end.
        outside = (seconds < 0) | (seconds > self._covered_s)
        return np.where(outside, -1, distribution.place(seconds, series.cuts))


KEPT: Final = 2_000
"""At most this many windows are kept individually. Further windows count only in totals."""


class WindowCounts(Result, frozen=True, kw_only=True):
    """Accepted requests in the windows of one limit's limiters.

    Attributes:
        windows: number of windows with at least one request.
        whole: number of windows that are entirely between a limiter's first and last request, and have no edge within a
            burst.
        saturated: number of whole windows with a rejected request.
        spread: minimum, median and maximum of accepted requests in saturated windows; None if there are none.
        over: number of windows with more than ``count`` accepted requests. Requests near an edge do not count, and
            windows with an edge within a burst are left out.
        most_in_any: maximum number of requests that a limiter accepted in any period of ``window_s`` minus the
            tolerance for network delay.
        seems: the limit that saturated windows suggest; None if they disagree, or if there are fewer than two.
    """

    count: Count
    window_s: float
    limiters: Count
    windows: Count
    whole: Count
    saturated: Count
    spread: tuple[int, float, int] | None
    over: Count
    most_in_any: Count
    seems: int | None


@dataclass(frozen=True, eq=False)
class AcceptedWindows:
    """The windows of one limit's limiters: totals of all windows, and arrays of the first ``KEPT`` windows.

    ``begins_s`` is the start of each window in s since the epoch.
    """

    counts: WindowCounts
    begins_s: Floats
    limiter: Ints
    accepted: Ints
    rejected: Ints
    is_whole: Bools


def accepted_windows(requests: RequestLog, fit: Fit, since_epoch: Floats) -> AcceptedWindows:
    """Count the accepted requests in each window that has at least one request, for all limiters of a limit.

    Send times ``since_epoch`` are in s, with NaN for the preflight.
    """
    times, window = requests.times, requests.limit.window
    firsts, begins = _begins(requests, fit)
    accepted, rejected = (
        np.add.reduceat(flags.astype(np.int64), firsts) for flags in (requests.accepted, requests.rejected)
    )
    torn = _torn(times, firsts)
    whole = _whole(requests, firsts, begins) & ~torn
    full = whole & (rejected > 0)
    with np.errstate(invalid="ignore"):
        offset = np.fmin.reduceat(since_epoch - times, firsts)
    seen = accepted[full]
    passed = times[requests.accepted]
    reach = np.searchsorted(passed, passed + window - requests.tolerance_s, side="left")
    agree = len(seen) > 1 and seen.max() - seen.min() <= max(1, 0.02 * float(np.median(seen)))
    counts = WindowCounts(
        count=requests.limit.count,
        window_s=window,
        limiters=len(requests.begins),
        windows=len(firsts),
        whole=int(whole.sum()),
        saturated=len(seen),
        spread=(int(seen.min()), float(np.median(seen)), int(seen.max())) if len(seen) else None,
        over=int(((accepted - _beside(requests, firsts, begins) > requests.limit.count) & ~torn).sum()),
        most_in_any=int((reach - np.arange(len(passed))).max(initial=0)),
        seems=round(float(np.median(seen))) if agree else None,
    )
    return AcceptedWindows(
        counts=counts,
        begins_s=(begins + offset)[:KEPT],
        limiter=(np.searchsorted(requests.begins, firsts, side="right") - 1)[:KEPT],
        accepted=accepted[:KEPT],
        rejected=rejected[:KEPT],
        is_whole=whole[:KEPT],
    )


def _begins(requests: RequestLog, fit: Fit) -> tuple[Ints, Floats]:
    """Return the first request and the start of each window. Windows start by the server's clock or with a request."""
    if not ALGORITHMS[fit.spec.algorithm].aligned:
        firsts = np.asarray(opened(requests), np.int64)
        return firsts, requests.times[firsts]
    shift = (fit.shift_s or 0.0) - fit.spec.phase
    number = np.floor((requests.times + shift) / requests.limit.window + 1e-12)
    firsts = np.flatnonzero(np.diff(number, prepend=-np.inf) != 0)
    return firsts, number[firsts] * requests.limit.window - shift


def _torn(times: Floats, firsts: Ints) -> Bools:
    """Return True for windows with an edge within a burst."""
    gaps, crowded = np.diff(times, prepend=-np.inf), in_bursts(times)[1]
    torn = np.append(crowded[firsts] & crowded[firsts - 1] & (gaps[firsts] <= BURST_GAP_S), False)
    return np.asarray(torn[:-1] | torn[1:])


def _whole(requests: RequestLog, firsts: Ints, begins: Floats) -> Bools:
    """Return True for windows that are entirely between the first and last request of their limiter."""
    of = np.searchsorted(requests.begins, firsts, side="right") - 1
    first = requests.times[requests.begins]
    last = requests.times[np.append(requests.begins[1:], len(requests.times)) - 1]
    begun = begins >= first[of] - requests.tolerance_s
    return np.asarray(begun & (begins + requests.limit.window <= last[of] + requests.tolerance_s))


def _beside(requests: RequestLog, firsts: Ints, begins: Floats) -> Ints:
    """Return how many requests of each window are so near an edge that they may belong to the neighbouring window."""
    ends = np.append(firsts[1:], len(requests.times))
    early = np.searchsorted(requests.times, begins + requests.tolerance_s) - firsts
    late = ends - np.searchsorted(requests.times, begins + requests.limit.window - requests.tolerance_s)
    return np.asarray(np.maximum(early, 0) + np.maximum(late, 0))
