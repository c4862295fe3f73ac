"""Expected 429s, from a replay of the assumed limiter over the recorded sends.

The phase of wall-aligned windows is as uncertain as the server's clock. For these windows, the limiter is replayed at a
grid of clock shifts within the uncertainty, and the shift that predicts the most observed decisions is kept. Clock
errors do not affect other algorithms. A concurrency limit also needs the ends of requests; the time from the end at the
server to the end at the client is fitted in the same way.

The phase at which a run starts differs between runs, and so does the number of 429s for the same sends. The range of
this number comes from replays at one phase between each two neighbouring sends, modulo the window. This is exact for
fixed windows. For other clock-aligned limiters, and for very many sends, phases are evenly spaced. The range is valid
only if sends do not depend on responses and the assumed limiter is in force.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from loadtest.analysis.run_record import Record
from loadtest.arrays import Bools, Floats, Ints
from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.contract import LIMIT_OF_OPERATION, POLLED_OPERATIONS, LimitName, RequestKind
from loadtest.limits import LimiterSpec
from loadtest.limits.fits import BAR
from loadtest.limits.loads import RequestLog
from loadtest.limits.replays import VECTORISED, replay
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import StagePlan
from loadtest.units import Limit

_STEPS: Final = 41
_MOST_WINDOWS: Final = 1_000_000
_TOO_MANY: Final = 200_000
"""Requests × shifts above which a limiter without a vectorised replay uses a coarser grid."""
_FITTED: Final = 50_000
"""Maximum number of requests per limiter used to fit the clock shift."""
_LEADS_S: Final = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005)
"""Seconds from a request's end at the server to its end at the client, tried for a concurrency limit."""
_RARE: Final = 0.025
"""Share of the phases excluded on each side of a range."""
_MOST_PLACES: Final = 4_000_000
"""Phases × windows of one limiter above which phases are evenly spaced."""
_MOST_DECISIONS: Final = 200_000
"""Maximum product of phases and requests for a limiter without a vectorised replay."""
_LEAST_PHASES: Final = 16
NEXT_WINDOW: Final = "the server's next window, which each run meets at another second"


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


def expect(record: Record) -> Expectation:
    """Replay each assumed limiter over all sent requests that use its quota."""
    sent, info = record.sent_requests, record.info
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
    logs = [log for some in record.limiter_requests.values() for log in some]
    if not logs:
        return Expectation(nothing, why_not="no limit is assumed for these requests")
    agreed, shift, decisions = _fit(assumed_limits, logs, record.clock)
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
    return sum(_agreeing(log, ~allowed) for log, allowed in zip(logs, decisions, strict=True)), shift, decisions


def _agreeing(log: RequestLog, rejected: Bools) -> int:
    """Return the number of observed decisions that a replay predicts."""
    return int(((rejected == log.rejected) & log.answered & log.judged).sum())


def boundaries(record: Record, expectation: Expectation, window_s: float) -> Floats:
    """Return the starts of the server's wall-aligned windows within the run, in seconds since the epoch.

    Empty if windows are not wall-aligned, their phase is unknown, or there are more than a million.
    """
    assumed = record.assumed_limits
    # The shift is None unless the limiter depends on the server's clock.
    unknown = expectation.shift_s is None or not assumed.windowed or record.info.epoch_unix_ns is None
    if unknown or record.covered_s > _MOST_WINDOWS * window_s:
        return np.zeros(0)
    first = (assumed.spec.phase - record.info.window_phase_s(window_s, expectation.shift_s or 0.0)) % window_s
    return np.arange(first, record.covered_s, window_s)


class PhaseRange(NamedTuple):
    """The range of rejected requests in one stage over all phases, or the reason for its absence.

    Attributes:
        usual: the 2.5th and 97.5th percentiles over all phases.
    """

    least: int = 0
    most: int = 0
    usual: tuple[int, int] = (0, 0)
    sent: int = 0
    phases: int = 0
    why_not: str = ""


def waits(stage: StagePlan, operation: str, *, retried: bool) -> str:
    """Return why a stage's times and errors depend on waiting for the server's windows; empty if they do not."""
    if operation in POLLED_OPERATIONS and LimitName.RETRIEVAL in stage.over:
        return f"polls above the retrieval limit are rejected until {NEXT_WINDOW}"
    if retried and stage.expect_429:
        return f"retries above a limit wait for {NEXT_WINDOW}"
    return ""


def depends_on_phase(record: Record, traffic: str, *, polls: bool = True) -> str:
    """Return the entry's requests that depend on the server's windows, in words; empty if there are none.

    ``polls``: whether polls matter; False for a limiter of submits alone.
    """
    if polls and record.info.traffic[traffic].operation in POLLED_OPERATIONS:
        return "polls"
    return "retries" if written_entry(record.info, traffic).retries else ""


def phase_ranges(record: Record, expectation: Expectation) -> dict[int, PhaseRange]:
    """Return the range of 429s over phases, by stage index; empty if windows are not aligned with the server's clock.

    It includes the requests that begin a stage's operations: for jobs the submits, whose limiter mostly sees no polls.
    """
    assumed = record.assumed_limits
    if expectation.why_not is not None or not assumed.aligned or record.info.epoch_unix_ns is None:
        return {}
    found: dict[int, PhaseRange] = {}
    keys = record.vocabulary.stage_keys
    for name, logs in record.limiter_requests.items():
        for linked in _linked([(log, _stages(record, log)) for log in logs]):
            stages = np.unique(np.concatenate([each for _, each in linked]))
            present = stages[stages >= 0].tolist()
            own = [i for i in present if assumed.drawn_on(LIMIT_OF_OPERATION[keys[i].operation]) == name]
            if not own:  # only requests of the set-up, or polls, draw on this limit
                continue
            if why := _why_not(record, expectation, [log for log, _ in linked], present):
                found |= dict.fromkeys(own, PhaseRange(why_not=why))
                continue
            ranges = _over_phases(assumed.spec, linked, present)
            found |= {index: ranges[index] for index in own}
    return found


_Placed = tuple[RequestLog, Ints]
"""A limiter's log, and the index of each request's stage; -1 outside all stages."""


def _stages(record: Record, log: RequestLog) -> Ints:
    found = record.sent_requests["stage_index"].to_numpy()[log.place]
    return np.where(log.judged, found, -1)


def _linked(logs: list[_Placed]) -> list[list[_Placed]]:
    """Group the limiters of one limit, one per key, that got requests in the same stage."""
    found: list[tuple[set[int], list[_Placed]]] = []
    for log, stages in logs:
        reached, together = {index for index in stages.tolist() if index >= 0}, [(log, stages)]
        apart = []
        for other, some in found:
            if other & reached:
                reached, together = reached | other, some + together
            else:
                apart.append((other, some))
        found = [*apart, (reached, together)]
    return [together for _, together in found]


def _why_not(record: Record, expectation: Expectation, logs: list[RequestLog], present: list[int]) -> str:
    """Return why replays at other phases would be invalid for these limiters; empty if they are valid."""
    if not record.sent.complete:
        return "the record is so long that only its first requests are replayed"
    kinds = record.sent_requests["kind"]
    polls = any((kinds.iloc[log.place[log.judged]] == RequestKind.POLL).any() for log in logs)
    for name in dict.fromkeys(record.vocabulary.stage_keys[index].traffic for index in present):
        if kind := depends_on_phase(record, name, polls=polls):
            return f"“{name}” sends {kind}, whose number depends on when the server’s windows begin"
    answered = sum(int((log.answered & log.judged).sum()) for log in logs)
    rejected = expectation.rejected.to_numpy() > 0
    agreed = sum(_agreeing(log, rejected[log.place]) for log in logs)
    if not answered:
        return "no request was answered"
    return "" if agreed >= BAR * answered else "the assumed limiter does not explain decisions in the order sent"


def _over_phases(spec: LimiterSpec, placed: Sequence[_Placed], present: list[int]) -> dict[int, PhaseRange]:
    """Return the ranges of the stages that are present; all limiters share the same windows."""
    asked = [(log.times, stages[:, None] == present) for log, stages in placed]
    replayed = rejected_by_phase(spec, placed[0][0].limit, asked)
    if replayed is None:
        return dict.fromkeys(present, PhaseRange(why_not="too many requests to replay them at every phase"))
    found = {}
    for place, index in enumerate(present):
        sent = int(np.sum([counted[:, place].sum() for _, counted in asked]))
        rejected = replayed.rejected[:, place]
        usual = extent(spec, replayed.usual(place), sent)
        found[index] = PhaseRange(*extent(spec, rejected, sent), usual, sent, len(rejected))
    return found


def extent(spec: LimiterSpec, rejected: Ints, sent: int) -> tuple[int, int]:
    """Return the range's ends, each widened by a request if phases are evenly spaced and may miss the extremes."""
    between = 0 if spec.algorithm == VECTORISED else 1
    return max(int(rejected.min()) - between, 0), min(int(rejected.max()) + between, sent)


class Replayed(NamedTuple):
    """Requests rejected at each phase of the windows.

    Attributes:
        rejected: ``[phase, stage]``.
        lasting: the share of a window that each phase represents.
    """

    rejected: Ints
    lasting: Floats

    def usual(self, stage: int) -> Ints:
        """Return a stage's 2.5th and 97.5th percentiles over phases, weighted by ``lasting``."""
        ordered = np.argsort(self.rejected[:, stage], kind="stable")
        reached = np.cumsum(self.lasting[ordered])
        places = np.searchsorted(reached, [_RARE, 1 - _RARE]).clip(max=len(ordered) - 1)
        return np.asarray(self.rejected[ordered[places], stage])


def rejected_by_phase(spec: LimiterSpec, limit: Limit, asked: Sequence[tuple[Floats, Bools]]) -> Replayed | None:
    """Replay requests at each phase of the windows; None if there are too many.

    Args:
        spec: a limiter whose windows are aligned with the server's clock.
        limit: the limit of each limiter.
        asked: for each limiter, ascending request times in s, and ``[request, stage]`` whether the request counts.
    """
    times = [each for each, _ in asked if len(each)]
    # Floats are more precise near zero; subtracting whole windows keeps phases.
    base = math.floor(min(each[0] for each in times) / limit.window) * limit.window
    fixed, requests = spec.algorithm == VECTORISED, sum(len(each) for each in times)
    windows = math.ceil((max(each[-1] for each in times) - base) / limit.window) + 2
    most = _MOST_PLACES // windows if fixed else _MOST_DECISIONS // requests
    if most < _LEAST_PHASES:
        return None
    phases, lasting = _phases(np.concatenate(times) - base, limit.window, most, exact=fixed)
    total = np.zeros((len(phases), asked[0][1].shape[1]), np.int64)
    for each, counted in asked:
        if fixed:
            total += _fixed_windows(limit, each - base, counted, phases, windows)
        else:
            shifted = (each - base - phase + limit.window for phase in phases.tolist())
            total += np.stack([counted[~replay(spec, limit, at)].sum(axis=0) for at in shifted])
    return Replayed(total, lasting)


def _phases(times: Floats, window: float, most: int, *, exact: bool) -> tuple[Floats, Floats]:
    """Return phases, one between each two neighbouring sends, and the share of a window that each represents."""
    places = np.unique(times % window)
    number = min(most, len(places))
    if not exact or number < len(places):
        return np.linspace(0.0, window, number, endpoint=False), np.full(number, 1 / number)
    after = np.append(places[1:], places[0] + window)
    return np.asarray((places + after) / 2 % window), (after - places) / window


def _fixed_windows(limit: Limit, times: Floats, counted: Bools, phases: Floats, windows: int) -> Ints:
    begins = phases[:, None] + (np.arange(windows) - 1) * limit.window
    first = np.searchsorted(times, begins)
    after = np.append(first[:, 1:], np.full((len(phases), 1), len(times)), axis=1)
    passed = np.minimum(first + limit.count, after)
    ahead = np.concatenate((np.zeros((1, counted.shape[1]), np.int64), np.cumsum(counted, axis=0)))
    return np.stack([(each[after] - each[passed]).sum(axis=1) for each in ahead.T], axis=1)
