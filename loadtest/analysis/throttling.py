"""Which 429s were to be expected: the believed limiter, replayed over the recorded sends.

The server's clock is known to within an uncertainty only, and the phase of its windows with it. So the replay is made
at a grid of clock shifts within that uncertainty, and the one that agrees with most of the observed decisions is
kept: its expectation is what the believed limiter would have done with exactly these sends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtest import limiters
from loadtest.analysis.frame import Record
from loadtest.limits import Limit
from loadtest.runfile import RunInfo

_CLOCK_MARGIN_S: Final = 0.1
"""Added to the clock's uncertainty: a request is decided on some time after its first byte was sent."""
_NO_CLOCK_S: Final = 0.5
_BURST_GAP_S: Final = 0.002
_BURST_SPAN_S: Final = 0.02
_BURST_SIZE: Final = 5
"""So many requests of one key on one limit, with no more than that between them and in all, make a burst."""
_STEPS: Final = 41
_TOO_MANY: Final = 200_000
"""Requests × shifts beyond which a limiter without a vectorised replay is shifted on a coarser grid."""


@dataclass(frozen=True)
class Expectation:
    """What the believed limiter would have answered.

    Attributes:
        rejected: by the frame's index, for every sent request: 1.0 if it would be a 429, else 0.0; NaN where no
            limit is believed. Warm-up included.
        shift_s: server's clock minus ours that agreed best; None where nothing could be replayed.
        agreement: share of the observed decisions (429 or not) that it predicts; None without any.
        why_not: in words, why nothing could be replayed.
    """

    rejected: "pd.Series[float]"
    shift_s: float | None = None
    agreement: float | None = None
    why_not: str | None = None


def expect(record: Record) -> Expectation:
    """Replay the believed limiter, one for each key and limit name, over every request that was sent."""
    sent, info = record.sent_requests, record.info
    nothing = pd.Series(np.nan, index=sent.index, dtype=float)
    if not len(sent):
        return Expectation(nothing, why_not="no request was sent")
    if info.epoch_unix_ns is None:
        return Expectation(nothing, why_not="the run never reached its epoch, so the server's windows are unknown")
    name = info.target.limiter.replace("_", "-")
    if name not in limiters.ALGORITHMS:
        return Expectation(nothing, why_not=f"no limiter is known by the name {info.target.limiter!r}")
    groups = list(_groups(sent, info))
    if not groups:
        return Expectation(nothing, why_not="no limit is believed to hold for these requests")
    agreed, judged, shift, decisions = _fit(name, groups, info)
    rejected = nothing.copy()
    for group, allowed in zip(groups, decisions, strict=True):
        rejected.loc[group.index] = (~allowed).astype(float)
    return Expectation(rejected, shift, agreed / judged if judged else None)


@dataclass(frozen=True)
class _Group:
    """The requests of one key on one limit, in order of their sending."""

    limit: Limit
    index: pd.Index
    times: NDArray[np.float64]
    """Unix seconds of our clock."""
    was_429: NDArray[np.bool_]
    answered: NDArray[np.bool_]
    before: NDArray[np.float64]
    """Unix seconds of what the preflight sent: it drew on the limit, and is no row of the record."""


def _groups(sent: pd.DataFrame, info: RunInfo) -> Iterator[_Group]:
    epoch = (info.epoch_unix_ns or 0) / 1e9
    # Assumption: a request with a bad key is refused before any limit is looked at, and draws on none.
    ordered = sent[sent["mistake"] != "bad_key"].sort_values("start", kind="stable")
    for (name, key), rows in ordered.groupby(["limit", ordered["key_index"].fillna(0.0)], sort=True):
        believed = info.target.limits.get(str(name))
        if believed is not None:
            status = rows["status"].to_numpy(float)
            times = rows["start"].to_numpy(float) / 1e9 + epoch
            order = _arrival_order(times, status == 429)
            status = status[order]
            limit = Limit(believed.count, believed.window_s)
            before = np.sort([s.unix_s for s in info.preflight if s.limit == name and s.key_index == key])
            yield _Group(limit, rows.index[order], times, status == 429, ~np.isnan(status), before)


def _arrival_order(times: NDArray[np.float64], was_429: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The order in which requests may have reached the server: that of sending, but within a burst accepted ones first.

    Requests that leave within a few ms on different connections arrive in any order. Which of them were accepted
    cannot be predicted, only how many; with the accepted ones first, the replay is held against their number.
    """
    bursts, first, last = np.zeros(len(times), int), -np.inf, -np.inf
    for at, time in enumerate(times.tolist()):
        apart = time - last > _BURST_GAP_S or time - first > _BURST_SPAN_S
        bursts[at] = bursts[at - 1] + apart if at else 0
        first, last = (time if apart else first), time
    crowded = np.bincount(bursts)[bursts] >= _BURST_SIZE if len(times) else np.zeros(0, bool)
    return np.lexsort((np.arange(len(times)), crowded & was_429, bursts))


def _fit(name: str, groups: list[_Group], info: RunInfo) -> tuple[int, int, float, list[NDArray[np.bool_]]]:
    """The shift that agrees best, of equals the one nearest the clock's estimate: agreed, judged, shift, decisions."""
    offset = info.clock.offset_s if info.clock else 0.0
    reach = info.clock.uncertainty_s + _CLOCK_MARGIN_S if info.clock else _NO_CLOCK_S
    judged = sum(int(group.answered.sum()) for group in groups)
    steps = _STEPS
    if name != "fixed-window" and judged * steps > _TOO_MANY:
        steps = max(3, _TOO_MANY // judged) | 1
    best = _try(name, groups, offset)
    # A second, finer grid around the best of the first: at hundreds a second, a step of it holds several requests.
    for around, width in ((offset, reach), (None, 2 * reach / (steps - 1))):
        centre = best[1] if around is None else around
        grid = np.clip(centre + np.linspace(-width, width, steps), offset - reach, offset + reach)
        for shift in sorted(grid.tolist(), key=lambda shift: abs(shift - offset)):
            tried = _try(name, groups, shift)
            if tried[0] > best[0]:
                best = tried
    return best[0], judged, best[1], best[2]


def _try(name: str, groups: list[_Group], shift: float) -> tuple[int, float, list[NDArray[np.bool_]]]:
    """One shift: how many observed decisions it predicts, the shift, and its decisions for each group."""
    decisions = [
        replay(name, group.limit, np.concatenate((group.before, group.times)) + shift)[len(group.before) :]
        for group in groups
    ]
    agreed = sum(
        int(((~allowed == group.was_429) & group.answered).sum())
        for group, allowed in zip(groups, decisions, strict=True)
    )
    return agreed, shift, decisions


def replay(name: str, limit: Limit, times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each request passes a fresh limiter; the same as ``limiters.replay``, and fast for fixed windows.

    Args:
        name: a name in ``limiters.ALGORITHMS``.
        limit: the limit.
        times: unix seconds of the server's clock, ascending.
    """
    if name != "fixed-window":
        return np.asarray(limiters.replay(limiters.make(limiters.LimiterSpec(name), limit), times.tolist()), bool)
    window = np.floor_divide(times, limit.window)
    # As in the leaf: where the floor and the product differ by one bit, the time lies on the next boundary.
    window = np.where(times >= (window + 1) * limit.window, window + 1, window)
    first = np.concatenate(([True], window[1:] != window[:-1])) if len(times) else np.zeros(0, bool)
    position = np.arange(len(times))
    return position - np.maximum.accumulate(np.where(first, position, 0)) < limit.count


def boundaries(record: Record, expectation: Expectation, window_s: float) -> NDArray[np.float64]:
    """Seconds since the epoch at which a wall-aligned window of the server begins, within the run.

    Empty where the limiter is not wall-aligned or its phase is unknown.
    """
    info = record.info
    aligned = info.target.limiter.replace("_", "-") == "fixed-window"
    if not aligned or expectation.shift_s is None or info.epoch_unix_ns is None:
        return np.zeros(0)
    epoch = info.epoch_unix_ns / 1e9 + expectation.shift_s
    first = np.ceil(epoch / window_s) * window_s - epoch
    return np.arange(first, record.covered_s, window_s)
