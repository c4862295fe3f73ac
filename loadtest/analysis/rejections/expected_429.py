"""Expected 429s, from a replay of the assumed limiter over the recorded sends.

The phase of wall-aligned windows is as uncertain as the server's clock. For these windows, the limiter is replayed at a
grid of clock shifts within the uncertainty, and the shift that predicts the most observed decisions is kept. Clock
errors do not affect other algorithms. A concurrency limit also needs the ends of requests; the time from the end at the
server to the end at the client is fitted in the same way.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from loadtest.arrays import Bools
from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.limits import LimiterSpec
from loadtest.limits.loads import RequestLog
from loadtest.limits.replays import VECTORISED, replay
from loadtest.record.run_info import RunInfo

_STEPS: Final = 41
_TOO_MANY: Final = 200_000
"""Requests × shifts above which a limiter without a vectorised replay uses a coarser grid."""
_FITTED: Final = 50_000
"""Maximum number of requests per limiter used to fit the clock shift."""
_LEADS_S: Final = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005)
"""Seconds from a request's end at the server to its end at the client, tried for a concurrency limit."""


@dataclass(frozen=True)
class Expectation:
    """The assumed limiter's decisions.

    Attributes:
        rejected: for each sent request, warm-up included, by the frame's index: 1.0 for a 429, else 0.0; NaN if no
            limit is assumed.
        shift_s: best-fitting value of the server's clock minus the client's; None if it does not matter or is unknown.
        agreement: share of the observed decisions (429 or not) that the replay predicts; None without decisions.
        agreement_as_sent: ``agreement`` in the order of sending, without reordered bursts; None if unknown.
        reordered: requests of bursts that were moved because accepted requests are replayed first.
        why_not: reason why nothing could be replayed, in words.
    """

    rejected: "pd.Series[float]"
    shift_s: float | None = None
    agreement: float | None = None
    agreement_as_sent: float | None = None
    reordered: int = 0
    why_not: str | None = None


def expect(info: RunInfo, sent: pd.DataFrame, logs: list[RequestLog], clock: tuple[float, float]) -> Expectation:
    """Replay each assumed limiter over all sent requests that use its quota; ``clock`` is that of ``Record.clock``."""
    nothing = pd.Series(np.nan, index=sent.index, dtype=float)
    if not len(sent):
        return Expectation(nothing, why_not="no request was sent")
    if info.imported:
        return Expectation(nothing, why_not="a log does not state which limiter to expect")
    if info.epoch_unix_ns is None:
        return Expectation(nothing, why_not="the run never reached its epoch, so the server's windows are unknown")
    try:
        assumed_limits = AssumedLimits.recorded(info.target)
    except ValueError as error:
        return Expectation(nothing, why_not=str(error))
    if not logs:
        return Expectation(nothing, why_not="no limit is assumed for these requests")
    agreed, shift, decisions = _fit(assumed_limits, logs, clock)
    judged = sum(int((log.answered & log.judged).sum()) for log in logs)
    rejected, agreed_as_sent, reordered = np.full(len(sent), np.nan), 0, 0
    start = sent["start"].to_numpy()
    for log, allowed in zip(logs, decisions, strict=True):
        own = log.judged
        place, refused, was_429, answered = log.place[own], ~allowed[own], log.rejected[own], log.answered[own]
        rejected[place] = refused
        # Reordered requests exchanged their times, so the replay is the same.
        order = np.lexsort((place, start[place]))
        reordered += int((order != np.arange(len(order))).sum())
        agreed_as_sent += int(((refused == was_429[order]) & answered[order]).sum())
    held = assumed_limits.spec.algorithm == CONCURRENCY  # the order changes which request holds a slot
    return Expectation(
        pd.Series(rejected, index=sent.index),
        shift if assumed_limits.aligned else None,
        agreed / judged if judged else None,
        agreed_as_sent / judged if judged and not (held and reordered) else None,
        reordered,
    )


_Tried = tuple[int, float, list[Bools]]
"""The number of observed decisions that a replay predicts, the clock shift, and each limiter's decisions."""


def _fit(assumed_limits: AssumedLimits, logs: list[RequestLog], clock: tuple[float, float]) -> _Tried:
    """Return the replay that agrees best; in a tie, that whose shift is nearest to the measured clock offset."""
    offset, reach = clock
    if assumed_limits.spec.algorithm == CONCURRENCY:
        tried = [_try(assumed_limits.spec, logs, offset, lead) for lead in _LEADS_S]
        return max(tried, key=lambda each: each[0])
    if not assumed_limits.aligned:
        return _try(assumed_limits.spec, logs, offset)
    # The phase is constant, so a limiter's first requests are enough to fit it.
    first = [log.part(0, _FITTED) for log in logs]
    best = _try(assumed_limits.spec, first, offset)
    requests, steps = sum(len(log.times) for log in first), _STEPS
    if assumed_limits.spec.algorithm != VECTORISED and requests * steps > _TOO_MANY:
        steps = max(3, _TOO_MANY // requests) | 1
    # At hundreds of requests/s, a step of the first grid contains several: refine the grid around the best shift.
    for around, width in ((offset, reach), (None, 2 * reach / (steps - 1))):
        centre = best[1] if around is None else around
        grid = np.clip(centre + np.linspace(-width, width, steps), offset - reach, offset + reach)
        for shift in sorted(grid.tolist(), key=lambda shift: abs(shift - offset)):
            found = _try(assumed_limits.spec, first, shift)
            if found[0] > best[0]:
                best = found
    return _try(assumed_limits.spec, logs, best[1])


def _try(spec: LimiterSpec, logs: list[RequestLog], shift: float, lead: float = 0.0) -> _Tried:
    """Replay with a clock shift (server minus client) and requests that ended ``lead`` earlier, in seconds."""
    decisions = [
        replay(spec, log.limit, log.times + shift, np.maximum(log.times, log.ends - lead) + shift) for log in logs
    ]
    return sum(agreeing(log, ~allowed) for log, allowed in zip(logs, decisions, strict=True)), shift, decisions


def agreeing(log: RequestLog, rejected: Bools) -> int:
    """Return the number of observed decisions that a replay predicts."""
    return int(((rejected == log.rejected) & log.answered & log.judged).sum())
