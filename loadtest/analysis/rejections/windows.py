"""How many requests each of a limiter's windows really let pass, against the limit."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from loadtest.analysis.results import Count, Result
from loadtest.arrays import Bools, Floats, Ints
from loadtest.limits import ALGORITHMS
from loadtest.limits.fits import Fit
from loadtest.limits.loads import RequestLog, opened

KEPT: Final = 2_000
"""Windows that are kept one by one: the first."""


class WindowCounts(Result, frozen=True, kw_only=True):
    """What the windows of all limiters of one limit let pass.

    Attributes:
        count: N, as it was assumed.
        window_s: W.
        limiters: how many there are.
        windows: in which a request was sent.
        whole: of these, the ones that lie within what the limiter was asked from first to last.
        saturated: of the whole ones, those in which a request was refused.
        spread: accepted in each saturated whole window: least, median, most; None without any.
        over: windows, whole or not, that let more than N pass, whatever is unsure about their edges.
        most_in_any: the most that one limiter accepted in any time of length W, wherever it begins.
        seems: what the limit seems to be by the saturated whole windows; None where they don't agree with one another.
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
    """The windows of all limiters of one limit.

    Attributes:
        counts: of all of them.
        begins_s: of each kept window, its beginning in s since the epoch.
        accepted, sent, rejected: requests of each kept window.
        is_whole: of each kept window.
    """

    counts: WindowCounts
    begins_s: Floats = field(repr=False)
    accepted: Ints = field(repr=False)
    sent: Ints = field(repr=False)
    rejected: Ints = field(repr=False)
    is_whole: Bools = field(repr=False)


def accepted_windows(requests: RequestLog, fit: Fit, since_epoch: Floats) -> AcceptedWindows:
    """Count what each window let pass.

    Args:
        requests: of one limit, at least one request.
        fit: of the limiter whose windows to count by: wall-aligned ones, or such as begin with a request (a log's as
            well, whose windows begin anywhere).
        since_epoch: when each request was sent, in s since the epoch; NaN for the preflight's.
    """
    times, window = requests.times, requests.limit.window
    firsts, begins = _begins(requests, fit)
    accepted, rejected, sent = (
        np.add.reduceat(flags.astype(np.int64), firsts)
        for flags in (requests.accepted, requests.rejected, requests.judged)
    )
    whole = _whole(requests, firsts, begins)
    full = whole & (rejected > 0)
    with np.errstate(invalid="ignore"):
        offset = np.fmin.reduceat(since_epoch - times, firsts)
    seen = accepted[full]
    agree = len(seen) > 1 and seen.max() - seen.min() <= max(1, 0.02 * float(np.median(seen)))
    counts = WindowCounts(
        count=requests.limit.count,
        window_s=window,
        limiters=len(requests.begins),
        windows=len(firsts),
        whole=int(whole.sum()),
        saturated=len(seen),
        spread=(int(seen.min()), float(np.median(seen)), int(seen.max())) if len(seen) else None,
        over=int((accepted - _beside(requests, firsts, begins) > requests.limit.count).sum()),
        most_in_any=_most_in_any(requests),
        seems=round(float(np.median(seen))) if agree else None,
    )
    return AcceptedWindows(
        counts=counts,
        begins_s=(begins + offset)[:KEPT],
        accepted=accepted[:KEPT],
        sent=sent[:KEPT],
        rejected=rejected[:KEPT],
        is_whole=whole[:KEPT],
    )


def _begins(requests: RequestLog, fit: Fit) -> tuple[Ints, Floats]:
    if not ALGORITHMS[fit.spec.algorithm].aligned:
        firsts = np.asarray(opened(requests), np.int64)
        return firsts, requests.times[firsts]
    shift = fit.shift_s or 0.0
    number = np.floor((requests.times + shift) / requests.limit.window + 1e-12)
    firsts = np.flatnonzero(np.diff(number, prepend=-np.inf) != 0)
    return firsts, number[firsts] * requests.limit.window - shift


def _whole(requests: RequestLog, firsts: Ints, begins: Floats) -> Bools:
    """Whether each window lies within what its limiter was asked from first to last."""
    of = np.searchsorted(requests.begins, firsts, side="right") - 1
    first = requests.times[requests.begins]
    last = requests.times[np.append(requests.begins[1:], len(requests.times)) - 1]
    whole: Bools = begins >= first[of] - requests.tolerance_s
    whole &= begins + requests.limit.window <= last[of] + requests.tolerance_s
    return whole


def _beside(requests: RequestLog, firsts: Ints, begins: Floats) -> Ints:
    """Requests of each window that came so near to an edge that they may belong to the neighbour."""
    ends = np.append(firsts[1:], len(requests.times))
    early = np.searchsorted(requests.times, begins + requests.tolerance_s) - firsts
    late = ends - np.searchsorted(requests.times, begins + requests.limit.window - requests.tolerance_s)
    near: Ints = np.maximum(early, 0) + np.maximum(late, 0)
    return near


def _most_in_any(requests: RequestLog) -> int:
    passed = requests.times[requests.accepted]
    if not len(passed):
        return 0
    reach = np.searchsorted(passed, passed + requests.limit.window - requests.tolerance_s, side="left")
    return int((reach - np.arange(len(passed))).max())
