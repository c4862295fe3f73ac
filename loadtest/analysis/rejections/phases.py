"""The server's windows in a run, and the range of 429s over all phases of these windows.

The phase is the moment of a window at which a run starts. The number of 429s depends on the phase, so it can differ
between runs with the same requests. The range of this number comes from replays at many phases. For fixed windows, send
times are taken modulo the window, and a phase between each two neighbouring times is replayed, so the range is exact.
Phases are evenly spaced for other clock-aligned limiters, and for very many requests. The range is valid only if
requests do not depend on responses and the server uses the assumed limiter.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from loadtest.analysis.columns import KINDS
from loadtest.analysis.rejections import agreeing
from loadtest.analysis.run_record import Record
from loadtest.arrays import Bools, Floats, Ints
from loadtest.contract import LIMIT_OF_OPERATION, POLLED_OPERATIONS, LimitName, RequestKind
from loadtest.limits import LimiterSpec
from loadtest.limits.fits import BAR
from loadtest.limits.loads import RequestLog
from loadtest.limits.replays import VECTORISED, replay
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import StagePlan
from loadtest.units import Limit

_MOST_WINDOWS: Final = 1_000_000
_RARE: Final = 0.025
"""``PhaseRange.usual`` excludes this share of the phases on each side."""
_MOST_PLACES: Final = 4_000_000
"""For fixed windows, at most this many phases × windows are replayed. If a phase between each two send times would
exceed this, fewer phases are replayed, evenly spaced."""
_MOST_DECISIONS: Final = 200_000
"""At most this many phases × requests are replayed for a limiter without a vectorised replay."""
_LEAST_PHASES: Final = 16
NEXT_WINDOW: Final = "the server's next window, which begins at a different second of each run"


def boundaries(record: Record, window_s: float) -> Floats:
    """Return the starts of the server's wall-aligned windows within the run, in seconds since the epoch.

    The result is empty if windows are not wall-aligned, their phase is unknown, or there are more than a million.
    """
    assumed = record.assumed_limits
    # If the limiter does not depend on the server's clock, the shift is None.
    shift_s = record.expectation.clock_shift_s
    unknown = shift_s is None or not assumed.windowed or record.info.epoch_unix_ns is None
    if unknown or record.covered_s > _MOST_WINDOWS * window_s:
        return np.zeros(0)
    first = (assumed.spec.phase - record.info.window_phase_s(window_s, shift_s or 0.0)) % window_s
    return np.arange(first, record.covered_s, window_s)


class PhaseRange(NamedTuple):
    """The range of the number of rejected requests in one stage, over all phases.

    ``usual`` are the 2.5th and 97.5th percentiles over the phases. ``why_not`` is the reason for a missing range.
    """

    least: int = 0
    most: int = 0
    usual: tuple[int, int] = (0, 0)
    sent: int = 0
    phases: int = 0
    why_not: str = ""


def waits(stage: StagePlan, operation: str, *, retried: bool) -> str:
    """Return the reason why a stage's times and errors depend on the server's windows; empty if they do not."""
    if operation in POLLED_OPERATIONS and LimitName.RETRIEVAL in stage.over:
        return f"polls above the retrieval limit are rejected until {NEXT_WINDOW}"
    if retried and stage.expect_429:
        return f"retries above a limit wait for {NEXT_WINDOW}"
    return ""


def depends_on_phase(record: Record, traffic: str, *, polls: bool = True) -> str:
    """Return "polls" or "retries" if the entry sends requests whose number depends on the server's windows; else "".

    ``polls`` is False for a limiter that gets no polls.
    """
    if polls and record.info.traffic[traffic].operation in POLLED_OPERATIONS:
        return "polls"
    return "retries" if written_entry(record.info, traffic).retries else ""


def phase_ranges(record: Record) -> dict[int, PhaseRange]:
    """Return the range of 429s over phases, by stage index.

    The result is empty if the assumed limiter was not replayed, or does not depend on the server's clock. A range
    counts the requests that begin a stage's operations. For jobs, these are the submits.
    """
    assumed = record.assumed_limits
    if record.expectation.why_not is not None or not assumed.spec.on_clock or record.info.epoch_unix_ns is None:
        return {}
    found: dict[int, PhaseRange] = {}
    keys = record.vocabulary.stage_keys
    for name, logs in record.limiter_requests.items():
        stage_index = record.sent_requests["stage_index"]
        for linked in _linked([(log, np.where(log.judged, stage_index[log.place], -1)) for log in logs]):
            stages = np.unique(np.concatenate([each for _, each in linked]))
            present = stages[stages >= 0].tolist()
            own = [i for i in present if assumed.drawn_on(LIMIT_OF_OPERATION[keys[i].operation]) == name]
            if not own:  # only polls or requests of the set-up draw on this limit
                continue
            why = _why_not(record, [log for log, _ in linked], present)
            ranges = {} if why else _over_phases(assumed.spec, linked, present)
            found |= {index: ranges.get(index, PhaseRange(why_not=why)) for index in own}
    return found


_Placed = tuple[RequestLog, Ints]
"""A limiter's log, and the index of each request's stage; -1 outside all stages."""


def _linked(logs: list[_Placed]) -> list[list[_Placed]]:
    """Group the limiters of one limit. Limiters of different keys form a group if the same stage sent to them."""
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


def _why_not(record: Record, logs: list[RequestLog], present: list[int]) -> str:
    """Return why replays of these limiters at other phases would be invalid; empty if they are valid."""
    if not record.sent.complete:
        return "the record is so long that only its first requests are replayed"
    kinds = record.sent_requests["kind"]
    polls = any((kinds[log.place[log.judged]] == KINDS.index(RequestKind.POLL)).any() for log in logs)
    for name in dict.fromkeys(record.vocabulary.stage_keys[index].traffic for index in present):
        if kind := depends_on_phase(record, name, polls=polls):
            return f"“{name}” sends {kind}, whose number depends on when the server’s windows begin"
    answered = sum(int(log.known.sum()) for log in logs)
    rejected = record.expectation.rejected > 0
    if not answered:
        return "no request was answered"
    agreed = sum(agreeing(log, rejected[log.place]) for log in logs)
    return "" if agreed >= BAR * answered else "the assumed limiter does not explain the decisions"


def _over_phases(spec: LimiterSpec, placed: Sequence[_Placed], present: list[int]) -> dict[int, PhaseRange]:
    """Return the range of each stage in ``present``. All limiters have the same windows."""
    asked = [(log.times, stages[:, None] == present) for log, stages in placed]
    replayed = rejected_by_phase(spec, placed[0][0].limit, asked)
    if replayed is None:
        return dict.fromkeys(present, PhaseRange(why_not="too many requests to replay them at every phase"))
    found = {}
    for place, index in enumerate(present):
        sent = sum(int(counted[:, place].sum()) for _, counted in asked)
        rejected = replayed.rejected[:, place]
        usual = extent(spec, replayed.usual(place), sent)
        found[index] = PhaseRange(*extent(spec, rejected, sent), usual, sent, len(rejected))
    return found


def extent(spec: LimiterSpec, rejected: Ints, sent: int) -> tuple[int, int]:
    """Return the smallest and the largest number of rejected requests over the phases.

    Except for fixed windows, the range is one request wider at each end: evenly spaced phases may miss the extremes.
    """
    between = 0 if spec.algorithm == VECTORISED else 1
    return max(int(rejected.min()) - between, 0), min(int(rejected.max()) + between, sent)


class Replayed(NamedTuple):
    """Numbers of rejected requests, ``[phase, stage]``. Each phase stands for a share of a window, in ``lasting``."""

    rejected: Ints
    lasting: Floats

    def usual(self, stage: int) -> Ints:
        """Return the 2.5th and 97.5th percentiles of a stage's rejected requests over phases."""
        ordered = np.argsort(self.rejected[:, stage], kind="stable")
        reached = np.cumsum(self.lasting[ordered])
        places = np.searchsorted(reached, [_RARE, 1 - _RARE]).clip(max=len(ordered) - 1)
        return np.asarray(self.rejected[ordered[places], stage])


def rejected_by_phase(spec: LimiterSpec, limit: Limit, asked: Sequence[tuple[Floats, Bools]]) -> Replayed | None:
    """Replay requests at each phase of windows on the server's clock; None if there are too many requests or windows.

    For each limiter, ``asked`` has ascending request times in s, and whether a stage counts a request, ``[request,
    stage]``.
    """
    times = [each for each, _ in asked if len(each)]
    # Floats are more precise near zero. Whole windows are subtracted, which does not change phases.
    base = math.floor(min(each[0] for each in times) / limit.window) * limit.window
    fixed, requests = spec.algorithm == VECTORISED, sum(len(each) for each in times)
    windows = math.ceil((max(each[-1] for each in times) - base) / limit.window) + 2
    most = _MOST_PLACES // windows if fixed else _MOST_DECISIONS // requests
    if most < _LEAST_PHASES:
        return None
    places = np.unique((np.concatenate(times) - base) % limit.window)
    number = min(most, len(places))
    phases = np.linspace(0.0, limit.window, number, endpoint=False)
    lasting = np.full(number, 1 / number)
    if fixed and number == len(places):
        after = np.append(places[1:], places[0] + limit.window)
        phases = (places + after) / 2 % limit.window
        lasting = (after - places) / limit.window
    total = np.zeros((len(phases), asked[0][1].shape[1]), np.int64)
    for each, counted in asked:
        if fixed:
            total += _fixed_windows(limit, each - base, counted, phases, windows)
        else:
            shifted = (each - base - phase + limit.window for phase in phases.tolist())
            total += np.stack([counted[~replay(spec, limit, at)].sum(axis=0) for at in shifted])
    return Replayed(total, lasting)


def _fixed_windows(limit: Limit, times: Floats, counted: Bools, phases: Floats, windows: int) -> Ints:
    begins = phases[:, None] + (np.arange(windows) - 1) * limit.window
    first = np.searchsorted(times, begins)
    after = np.append(first[:, 1:], np.full((len(phases), 1), len(times)), axis=1)
    passed = np.minimum(first + limit.count, after)
    ahead = np.concatenate((np.zeros((1, counted.shape[1]), np.int64), np.cumsum(counted, axis=0)))
    return np.stack([(each[after] - each[passed]).sum(axis=1) for each in ahead.T], axis=1)
