"""Which 429s were to be expected: the assumed limiter, replayed over the recorded sends.

The server's clock is known to within an uncertainty only, and the phase of wall-aligned windows with it. So where
windows are aligned, the replay is made at a grid of clock shifts within that uncertainty, and the one that agrees with
most of the observed decisions is kept: its expectation is what the assumed limiter would have done with exactly these
sends. To the other algorithms a clock's error is nothing; a limit on concurrency is given the ends of requests, and how
much earlier than we saw it the server knew is fitted likewise.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from loadtest.analysis.record import Record
from loadtest.analysis.rejections.sent_requests import LimiterRequests
from loadtest.arrays import Bools, Floats
from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.limits import LimiterSpec
from loadtest.limits.replays import VECTORISED, replay
from loadtest.record.run_info import RunInfo

_CLOCK_MARGIN_S: Final = 0.1
"""Added to the clock's uncertainty: a request is decided on some time after its first byte was sent."""
_NO_CLOCK_S: Final = 0.5
_STEPS: Final = 41
_MOST_WINDOWS: Final = 1_000_000
_TOO_MANY: Final = 200_000
"""Requests × shifts beyond which a limiter without a vectorised replay is shifted on a coarser grid."""
_FITTED: Final = 50_000
"""Requests of each limiter on which the clock's shift is fitted."""
_LEADS_S: Final = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005)
"""By how much sooner than we saw it a server may have ended a request, at which a limit on concurrency is tried."""


@dataclass(frozen=True)
class Expectation:
    """What the assumed limiter would have answered.

    Attributes:
        rejected: by the frame's index, for every sent request: 1.0 if it would be a 429, else 0.0; NaN where no
            limit is assumed. Warm-up included.
        shift_s: server's clock minus ours that agreed best; None where it does not matter to the limiter, or nothing
            could be replayed.
        agreement: share of the observed decisions (429 or not) that it predicts; None without any.
        agreement_as_sent: the same where no request of a burst was put before another; None where that was not asked.
        reordered: requests of bursts that were put in another order than they were sent in: accepted ones first.
        why_not: in words, why nothing could be replayed.
    """

    rejected: "pd.Series[float]"
    shift_s: float | None = None
    agreement: float | None = None
    agreement_as_sent: float | None = None
    reordered: int = 0
    why_not: str | None = None


def expect(record: Record) -> Expectation:
    """Replay the assumed limiters, each over every request that was sent and drew on it."""
    sent, info = record.sent_requests, record.info
    nothing = pd.Series(np.nan, index=sent.index, dtype=float)
    if not len(sent):
        return Expectation(nothing, why_not="no request was sent")
    if info.epoch_unix_ns is None:
        return Expectation(nothing, why_not="the run never reached its epoch, so the server's windows are unknown")
    try:
        assumed_limits = AssumedLimits.recorded(info.target)
    except ValueError as error:
        return Expectation(nothing, why_not=str(error))
    groups = record.limiter_requests
    if not groups:
        return Expectation(nothing, why_not="no limit is assumed for these requests")
    agreed, shift, decisions = _fit(assumed_limits, groups, info)
    judged = sum(int(group.answered.sum()) for group in groups)
    rejected = nothing.copy()
    for group, allowed in zip(groups, decisions, strict=True):
        rejected.loc[group.index] = (~allowed).astype(float)
    agreed_as_sent, reordered = _as_sent(record, groups, decisions)
    held = assumed_limits.spec.algorithm == CONCURRENCY  # who holds a slot for how long depends on the order, too
    return Expectation(
        rejected,
        shift if assumed_limits.aligned else None,
        agreed / judged if judged else None,
        agreed_as_sent / judged if judged and not (held and reordered) else None,
        reordered,
    )


def _as_sent(record: Record, groups: list[LimiterRequests], decisions: list[Bools]) -> tuple[int, int]:
    """Decisions that a replay predicts in the order of sending, and how many requests ``_arrival_order`` put elsewhere.

    Requests that were put in another order took each other's times, so that the replay is the same.
    """
    agreed = moved = 0
    starts = record.sent_requests["start"]
    for group, allowed in zip(groups, decisions, strict=True):
        order = np.lexsort((group.index.to_numpy(), starts.loc[group.index].to_numpy()))
        moved += int((order != np.arange(len(order))).sum())
        agreed += int(((~allowed == group.was_429[order]) & group.answered[order]).sum())
    return agreed, moved


_Tried = tuple[int, float, list[Bools]]
"""How many observed decisions a replay predicts, the shift of the clock, and the decisions for each limiter."""


def _fit(assumed_limits: AssumedLimits, groups: list[LimiterRequests], info: RunInfo) -> _Tried:
    """The replay that agrees best; of equals the one nearest to what is known of the clock."""
    offset, reach = clock(info)
    if assumed_limits.spec.algorithm == CONCURRENCY:
        tried = [_try(assumed_limits.spec, groups, offset, lead) for lead in _LEADS_S]
        return max(tried, key=lambda each: each[0])
    if not assumed_limits.aligned:
        return _try(assumed_limits.spec, groups, offset)
    # The phase is the same all along, so that the first so many of a limiter's requests show it.
    whole, groups = groups, [group.first(_FITTED) for group in groups]
    best = _try(assumed_limits.spec, groups, offset)
    requests, steps = sum(len(group.times) for group in groups), _STEPS
    if assumed_limits.spec.algorithm != VECTORISED and requests * steps > _TOO_MANY:
        steps = max(3, _TOO_MANY // requests) | 1
    # A second, finer grid around the best of the first: at hundreds a second, a step of it holds several requests.
    for around, width in ((offset, reach), (None, 2 * reach / (steps - 1))):
        centre = best[1] if around is None else around
        grid = np.clip(centre + np.linspace(-width, width, steps), offset - reach, offset + reach)
        for shift in sorted(grid.tolist(), key=lambda shift: abs(shift - offset)):
            found = _try(assumed_limits.spec, groups, shift)
            if found[0] > best[0]:
                best = found
    return _try(assumed_limits.spec, whole, best[1])


def clock(info: RunInfo) -> tuple[float, float]:
    """The server's clock minus ours, and by how much that may be wrong when requests are decided on, in s."""
    if info.clock is None:
        return 0.0, _NO_CLOCK_S
    return info.clock.offset_s, info.clock.uncertainty_s + _CLOCK_MARGIN_S


def _try(spec: LimiterSpec, groups: list[LimiterRequests], shift: float, lead: float = 0.0) -> _Tried:
    """One replay: the server's clock minus ours, and by how much sooner than we saw it requests ended, in seconds."""
    agreed, decisions = 0, []
    for group in groups:
        times = np.concatenate((group.before, group.times)) + shift
        ends = np.concatenate((group.before, np.maximum(group.times, group.ends - lead))) + shift
        allowed = replay(spec, group.limit, times, ends)[len(group.before) :]
        agreed += int(((~allowed == group.was_429) & group.answered).sum())
        decisions.append(allowed)
    return agreed, shift, decisions


def boundaries(record: Record, expectation: Expectation, window_s: float) -> Floats:
    """Seconds since the epoch at which a wall-aligned window of the server begins, within the run.

    Empty where the limiter is not wall-aligned or its phase is unknown, and where there are a million of them.
    """
    # A shift is known only where a limiter is wall-aligned.
    if expectation.shift_s is None or record.info.epoch_unix_ns is None:
        return np.zeros(0)
    if record.covered_s > _MOST_WINDOWS * window_s:
        return np.zeros(0)
    first = -record.info.window_phase_s(window_s, expectation.shift_s) % window_s
    return np.arange(first, record.covered_s, window_s)
