"""How many 429s the same sends would have had at any other second: the range over the phases of the server's windows.

Given the sends, a limiter leaves nothing to chance. What varies from run to run is how far into a window of the
server's the run begins. So the assumed limiter is replayed over the recorded sends at every phase that makes a
difference: one between each two neighbours of the sends, as they lie within a window. That is exact where windows are
fixed; of other limiters with windows by the clock, or of very many sends, it is made at phases evenly apart.

The range is that of a run only if its sends do not depend on the answers, and if the assumed limiter is what answered.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from loadtest.analysis.record import Record
from loadtest.analysis.rejections.expected_429 import Expectation
from loadtest.analysis.rejections.sent_requests import LimiterRequests
from loadtest.arrays import Bools, Floats, Ints
from loadtest.contract import LIMIT_OF_OPERATION, POLLED_OPERATIONS, LimitName, RequestKind
from loadtest.limits import LimiterSpec
from loadtest.limits.fits import BAR
from loadtest.limits.replays import VECTORISED, replay
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import StagePlan
from loadtest.units import Limit

_MOST_PLACES: Final = 4_000_000
"""Phases × windows of one limiter beyond which phases are taken evenly apart."""
_MOST_DECISIONS: Final = 200_000
"""Phases × requests of a limiter that is replayed one by one."""
_LEAST_PHASES: Final = 16
NEXT_WINDOW: Final = "the server's next window, which no two runs meet at the same second"


class PhaseRange(NamedTuple):
    """What the replays refuse in one stage, or why there is no range.

    Attributes:
        least: requests refused at the phase that refuses the fewest.
        most: at the one that refuses the most.
        sent: requests of the stage.
        phases: that were replayed.
        why_not: empty with a range.
    """

    least: int = 0
    most: int = 0
    sent: int = 0
    phases: int = 0
    why_not: str = ""


def waits(stage: StagePlan, operation: str, *, retried: bool) -> str:
    """Why times and errors of a stage are those of waiting for the server's windows; empty if they are not."""
    if operation in POLLED_OPERATIONS and LimitName.RETRIEVAL in stage.over:
        return f"polls above the retrieval limit are refused until {NEXT_WINDOW}"
    if retried and stage.expect_429:
        return f"retries above a limit wait for {NEXT_WINDOW}"
    return ""


def depends_on_phase(record: Record, traffic: str, *, polls: bool = True) -> str:
    """What an entry sends that depends on the server's windows, in words; empty if nothing does.

    Args:
        record: the record.
        traffic: the entry.
        polls: whether polls are asked about, too; a limiter of submits alone sees none.
    """
    if polls and record.info.traffic[traffic].operation in POLLED_OPERATIONS:
        return "polls"
    return "retries" if written_entry(record.info, traffic).retries else ""


def phase_ranges(record: Record, expectation: Expectation) -> dict[int, PhaseRange]:
    """The range of 429s over all phases, by stage index; empty where windows do not begin by the server's clock.

    Of the requests that begin a stage's operations: of jobs the submits, whose limiter mostly sees no polls.
    """
    assumed = record.assumed_limits
    if expectation.why_not is not None or not assumed.aligned or record.info.epoch_unix_ns is None:
        return {}
    found: dict[int, PhaseRange] = {}
    by_limit: dict[str, list[LimiterRequests]] = {}
    for group in record.limiter_requests:
        named = LimitName(str(record.sent_requests["limit"].iat[group.index[0]]))
        by_limit.setdefault(assumed.drawn_on(named), []).append(group)
    operations = record.vocabulary.operation_of
    for name, groups in ((name, some) for name, every in by_limit.items() for some in _linked(record, every)):
        stages = [_stages(record, group) for group in groups]
        present = [index for index in np.unique(np.concatenate(stages)).tolist() if index >= 0]
        own = [index for index in present if assumed.drawn_on(LIMIT_OF_OPERATION[operations[index]]) == name]
        if not own:  # the set-up alone, or polls
            continue
        if why := _why_not(record, expectation, groups, present):
            found |= dict.fromkeys(own, PhaseRange(why_not=why))
            continue
        ranges = _over_phases(assumed.spec, groups[0].limit, groups, stages, present)
        found |= {index: ranges[index] for index in own}
    return found


def _linked(record: Record, groups: list[LimiterRequests]) -> list[list[LimiterRequests]]:
    """Limiters that a stage draws on together: what is sent with one key says nothing of another key's limiter."""
    found: list[tuple[set[int], list[LimiterRequests]]] = []
    for group in groups:
        stages, together = {index for index in _stages(record, group).tolist() if index >= 0}, [group]
        apart = []
        for other, some in found:
            if other & stages:
                stages, together = stages | other, some + together
            else:
                apart.append((other, some))
        found = [*apart, (stages, together)]
    return [together for _, together in found]


def _stages(record: Record, group: LimiterRequests) -> Ints:
    found: Ints = record.sent_requests["stage_index"].to_numpy()[group.index.to_numpy()]
    return found


def _why_not(record: Record, expectation: Expectation, groups: list[LimiterRequests], present: list[int]) -> str:
    """Why the sends or the limiter of some groups are not those of every phase; empty if they are."""
    if not record.sent.complete:
        return "only the first requests of so long a record are replayed"
    kinds = record.sent_requests["kind"]
    polls = any((kinds.iloc[group.index] == RequestKind.POLL).any() for group in groups)
    for name in dict.fromkeys(record.vocabulary.stage_keys[index].traffic for index in present):
        if kind := depends_on_phase(record, name, polls=polls):
            return f"“{name}” sends {kind}, and how many depends on when the server’s windows begin"
    agreed = answered = 0
    for group in groups:
        refused = expectation.rejected.reindex(group.index).to_numpy() > 0
        agreed += int(((refused == group.was_429) & group.answered).sum())
        answered += int(group.answered.sum())
    if not answered:
        return "nothing was answered"
    return "" if agreed >= BAR * answered else "the decisions are not those of the assumed limiter in the order sent"


def _over_phases(
    spec: LimiterSpec, limit: Limit, groups: Sequence[LimiterRequests], stages: Sequence[Ints], present: list[int]
) -> dict[int, PhaseRange]:
    """The ranges of the stages that are present; the limiters of all groups have their windows in common."""
    asked = []
    for group, stage in zip(groups, stages, strict=True):
        counted = np.zeros((len(group.before) + len(stage), len(present)), bool)
        known = np.flatnonzero(stage >= 0)
        counted[len(group.before) + known, np.searchsorted(present, stage[known])] = True
        asked.append((np.concatenate((group.before, group.times)), counted))
    refused = refused_by_phase(spec, limit, asked)
    if refused is None:
        return dict.fromkeys(present, PhaseRange(why_not="too many requests to replay them at every phase"))
    found = {}
    for place, index in enumerate(present):
        sent = int(np.sum([counted[:, place].sum() for _, counted in asked]))
        found[index] = PhaseRange(*extent(spec, refused[:, place], sent), sent, len(refused))
    return found


def extent(spec: LimiterSpec, refused: Ints, sent: int) -> tuple[int, int]:
    """The ends of the range; each a request farther where phases are evenly apart, since some lie between them."""
    between = 0 if spec.algorithm == VECTORISED else 1
    return max(int(refused.min()) - between, 0), min(int(refused.max()) + between, sent)


def refused_by_phase(spec: LimiterSpec, limit: Limit, asked: Sequence[tuple[Floats, Bools]]) -> Ints | None:
    """``[phase, stage]``: requests refused at each phase of the windows; None where there are too many to replay.

    Args:
        spec: of limiters whose windows begin by the server's clock.
        limit: of each.
        asked: of each limiter the ascending times of requests in s, and ``[request, stage]`` whether it is counted.
    """
    times = [each for each, _ in asked if len(each)]
    # Near zero floats are finer; whole windows are taken off, so that phases stay what they are.
    base = math.floor(min(each[0] for each in times) / limit.window) * limit.window
    fixed, requests = spec.algorithm == VECTORISED, sum(len(each) for each in times)
    windows = math.ceil((max(each[-1] for each in times) - base) / limit.window) + 2
    most = _MOST_PLACES // windows if fixed else _MOST_DECISIONS // requests
    if most < _LEAST_PHASES:
        return None
    phases = _phases(np.concatenate(times) - base, limit.window, most, exact=fixed)
    total = np.zeros((len(phases), asked[0][1].shape[1]), np.int64)
    for each, counted in asked:
        if fixed:
            total += _fixed_windows(limit, each - base, counted, phases, windows)
        else:
            total += _one_by_one(spec, limit, each - base, counted, phases)
    return total


def _phases(times: Floats, window: float, most: int, *, exact: bool) -> Floats:
    """Where a window may begin, each within the first one: one phase between each two neighbours of the sends."""
    places = np.unique(times % window)
    number = min(most, len(places))
    if not exact or number < len(places):
        return np.linspace(0.0, window, number, endpoint=False)
    found: Floats = (places + np.append(places[1:], places[0] + window)) / 2 % window
    return found


def _fixed_windows(limit: Limit, times: Floats, counted: Bools, phases: Floats, windows: int) -> Ints:
    """The first ``count`` requests of each window pass, whichever stage they are of."""
    begins = phases[:, None] + (np.arange(windows) - 1) * limit.window
    first = np.searchsorted(times, begins)
    after = np.append(first[:, 1:], np.full((len(phases), 1), len(times)), axis=1)
    passed = np.minimum(first + limit.count, after)
    ahead = np.concatenate((np.zeros((1, counted.shape[1]), np.int64), np.cumsum(counted, axis=0)))
    return np.stack([(each[after] - each[passed]).sum(axis=1) for each in ahead.T], axis=1)


def _one_by_one(spec: LimiterSpec, limit: Limit, times: Floats, counted: Bools, phases: Floats) -> Ints:
    shifted = (times - phase + limit.window for phase in phases.tolist())
    return np.stack([counted[~replay(spec, limit, each)].sum(axis=0) for each in shifted])
