"""Sentences about the result of a capacity search."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from loadtest.assumed_limits import AssumedLimits
from loadtest.capacity.results import Constraint, Guess, Level
from loadtest.capacity.search import HIGHEST, Precision, RateRange, bounded, flat_until, hopeless, outcomes
from loadtest.contract import DOCUMENTED, POLLED_OPERATIONS, LimitName, Operation
from loadtest.errors import ExitCode
from loadtest.words import duration_ms, joined, percent

_MINUTE: Final = 60
_ONE: Final = 1.1
"""Up to this many polls per job count as one poll."""
_NEARLY: Final = 0.9
"""A limit is nearly exhausted above this share of it. Below this share of a guess, 429s are unexpected."""


class EarlyStopError(Exception):
    """Ends a search early, for the reason ``words``.

    ``code`` is the exit code, with two exceptions: INVALID if the generator was the bottleneck; otherwise PASS if there
    is a range and ``code`` is INCONCLUSIVE or ABORTED.
    """

    def __init__(self, words: str, code: ExitCode) -> None:
        super().__init__(words)
        self.words, self.code = words, code


class CapacityAnswer(NamedTuple):
    """The answer of a search. Unless some levels passed and some failed, the range is None."""

    range: RateRange | None
    sentence: str
    code: ExitCode


@dataclass(frozen=True, slots=True)
class Offered:
    """The load that a search offers, and the assumed limits.

    ``base_rates`` are operations/s of each entry at multiplier 1; ``expected`` are the forecast's guesses. ``probe`` is
    a ``loadtest probe`` command without the limit's name. It is empty for an embedded target.
    """

    base_rates: Mapping[str, float]
    operations: Mapping[str, Operation]
    assumed: AssumedLimits
    keys: int
    expected: Sequence[Guess] = ()
    probe: str = ""

    def per_minute(self, limit: LimitName) -> float:
        """Requests per minute that a limit accepts in the long run, over all keys."""
        return self.assumed.rate_of_keys(limit, self.keys) * _MINUTE


def stopping(levels: Sequence[Level], middle: float) -> Level | None:
    """Return the level that shows the bottleneck: the slowest failure at or above ``middle``, else the fastest."""
    failed = sorted((level for level, passed in outcomes(levels) if not passed), key=attrgetter("multiplier"))
    return next((level for level in failed if level.multiplier >= middle), failed[-1] if failed else None)


def answer(
    levels: Sequence[Level], found: RateRange, offered: Offered, stopped: EarlyStopError | None
) -> CapacityAnswer:
    """Return the answer from levels in the order of their runs; ``stopped`` is None after a complete search."""
    high = stopping(levels, found.middle)
    code = stopped.code if stopped else ExitCode.INCONCLUSIVE
    if high is not None and high.constraint == Constraint.GENERATOR:
        code = ExitCode.INVALID
    then = f"; {stopped.words}" if stopped else ""
    if bounded(levels) and high is not None:
        sentence = f"{rates(offered, found.low, found.high)}: {_stopped_by(high, offered)}"
        if high.constraint == Constraint.POLL_BUDGET:
            sentence += paced(levels, offered)
        if found.width > Precision().width:
            then += f"; the range is {percent(found.width, 0)} wide, and more runs (--minutes) narrow it"
        code = ExitCode.PASS if code in {ExitCode.INCONCLUSIVE, ExitCode.ABORTED} else code
        return CapacityAnswer(found, f"{sentence}{then}.", code)
    held = max((level.multiplier for level, passed in outcomes(levels) if passed), default=None)
    if held is None:
        return CapacityAnswer(None, f"No answer: {_no_answer(levels)}{then}.", code)
    reach = "it is the highest rate tried" if held * 2 > HIGHEST else "no faster run was judged"
    return CapacityAnswer(None, f"At least {rates(offered, held)}: all thresholds pass, and {reach}{then}.", code)


def rates(offered: Offered, *multipliers: float) -> str:
    """Format each entry's rate at a multiplier, or its range between two: "470 to 490 jobs a minute"."""
    each = {name: per_minute(*(rate * each for each in multipliers)) for name, rate in offered.base_rates.items()}
    if len(each) == 1:
        (name,) = each
        return f"{each[name]} {offered.operations[name].several} a minute"
    times = " to ".join(f"{multiplier:.3g}" for multiplier in multipliers)
    return f"{times} times the scenario's rates (" + ", ".join(f"{n} {r}/min" for n, r in each.items()) + ")"


def per_minute(*per_second: float) -> str:
    """Format a rate, or the two ends of a range, per minute."""
    return " to ".join(f"{rate * _MINUTE:,.0f}" for rate in per_second)


def _stopped_by(level: Level, offered: Offered) -> str:
    match level.constraint:
        case Constraint.LIMIT:
            return _unexpected(level, offered) or f"above it the {level.limit} limit rejects requests"
        case Constraint.POLL_BUDGET:
            polls = [e.requests_per_operation - 1 for e in level.entries.values() if e.requests_per_operation]
            each = f" ({max(polls):.1f} a job)" if polls else ""
            return f"above it polls{each} exhaust the {level.limit} limit"
        case Constraint.ERRORS:
            return "above it requests fail" + _beside(level)
        case Constraint.GENERATOR:
            return "above it this load generator was the bottleneck: use --processes"
    return "above it requests wait for each other in the service" + _beside(level)


def _beside(level: Level) -> str:
    """Name the limits that reject requests without being the bottleneck."""
    rejecting = [name for name, seen in level.limits.items() if seen.throttled_rate]
    return f", and {joined(rejecting)} requests get 429" if rejecting else ", without any 429"


def _unexpected(level: Level, offered: Offered) -> str:
    """Return a note if 429s begin below 90 % of the multiplier that the forecast expected; empty otherwise."""
    assumed = next((guess.multiplier for guess in offered.expected if guess.limit == level.limit), math.inf)
    if level.constraint != Constraint.LIMIT or level.limit is None or level.multiplier >= assumed * _NEARLY:
        return ""
    documented = offered.per_minute(level.limit)
    instead = f", not {documented:,.0f}" if math.isfinite(documented) else ""
    limit = offered.assumed.limits[level.limit]
    against = "" if limit == DOCUMENTED[level.limit] else f" --documented {level.limit}={limit}"
    more = f"; `{offered.probe} {level.limit}{against}` tells more" if offered.probe else ""
    begin = per_minute(level.limits[level.limit].accepted)
    return f"429s begin at {begin} a minute{instead}: a lower limit, another client, or shedding{more}"


def _failure(level: Level, offered: Offered) -> str:
    """Describe a failed level by its rate, the thresholds that failed, and its shares of 429s and 503s."""
    rejected = [
        f"; {percent(seen.throttled_rate)} of the {name} requests got 429"
        for name, seen in level.limits.items()
        if seen.throttled_rate
    ]
    note = f"At {rates(offered, level.multiplier)}, {joined(level.broken)} did not hold{''.join(rejected)}."
    full = max((entry.unavailable_rate for entry in level.entries.values()), default=0.0)
    if level.constraint == Constraint.ERRORS and full:
        note += (
            f" {percent(full)} of the requests got 503: either the service was full, or it throttles with 503 "
            f"({f'`{offered.probe}`' if offered.probe else 'the verb probe'} tells which)."
        )
    return note


def _no_answer(levels: Sequence[Level]) -> str:
    counted = sorted((level for level, _ in outcomes(levels)), key=attrgetter("multiplier"))
    unsure = [level for level in levels if level.outcome == "inconclusive"]
    if not counted and not unsure:
        return "no judged run was made"
    if not counted:
        return (
            f"{', '.join(unsure[-1].broken)} cannot be judged in {unsure[-1].stage_s:g} s at "
            f"{unsure[-1].multiplier:.3g} times the scenario's rate: give the stage a longer duration, or the "
            "threshold a lower percentile"
        )
    if (pair := hopeless(levels)) is not None:
        at = joined([f"{level.multiplier:.3g}" for level in pair])
        return (
            f"{', '.join(pair[0].broken)} fails at every rate: equally at {at} times the scenario's rate{_times(pair)}"
        )
    few = "; slower runs have too few values to be judged" if unsure else ""
    return (
        f"no rate passes: {counted[0].multiplier:.3g} times the scenario's rate, the lowest of {len(counted)}, breaks "
        f"{', '.join(counted[0].broken)}{few}"
    )


def _times(pair: Sequence[Level]) -> str:
    """Return the levels' times and their meaning, to end a sentence; empty unless the service is the bottleneck."""
    texts = [duration_ms(max(e.typical_ms or 0 for e in level.entries.values())) for level in pair]
    slow = pair[0].constraint == Constraint.SERVICE
    return f" (response times {joined(texts)}): requests do not wait for each other, the service itself is slow" * slow


def paced(levels: Sequence[Level], offered: Offered) -> str:
    """Return the capacity with one poll per job, as the end of a sentence; empty if jobs already need only one."""
    polls = _polls(levels, offered)
    jobs = [rate for name, rate in offered.base_rates.items() if offered.operations[name] in POLLED_OPERATIONS]
    if not polls or min(polls) <= _ONE:
        return ""
    accepted = min(offered.per_minute(LimitName.RETRIEVAL), offered.per_minute(LimitName.ASYNC_SUBMIT))
    most = accepted / (sum(jobs) * _MINUTE)
    took = [entry.execution_p50_ms for level in levels for entry in level.entries.values() if entry.execution_p50_ms]
    apart = f", or at intervals above executionTime (p50 {max(took):,.0f} ms)," if took else ""
    return f"; with polls paced by Retry-After{apart} one poll per job is enough: at most {rates(offered, most)}"


def _polls(levels: Sequence[Level], offered: Offered) -> list[float]:
    return [
        entry.requests_per_operation - 1
        for level in levels
        if level.outcome == "holds"
        for name, entry in level.entries.items()
        if offered.operations[name] in POLLED_OPERATIONS and entry.requests_per_operation
    ]


def reasons(levels: Sequence[Level], offered: Offered, high: Level | None) -> tuple[str, ...]:
    """Return notes on the failure, contradictions, flat times, nearly exhausted limits, jobs and untried rates.

    ``high`` is the level that shows the bottleneck.
    """
    found = [_failure(high, offered) if high is not None else "", _contradiction(levels)]
    flat = flat_until(levels)
    if flat is not None and (high is None or high.constraint != Constraint.SERVICE):
        found.append(
            f"The service's times were still flat at {rates(offered, flat)}: neither median response time nor "
            "executionTime had grown."
        )
    held = max((level for level, passed in outcomes(levels) if passed), key=attrgetter("multiplier"), default=None)
    for name, seen in held.limits.items() if held is not None and high is None else ():
        used = seen.sent_rate * _MINUTE / offered.per_minute(name)
        if used >= _NEARLY and not seen.throttled_rate:
            found.append(
                f"{percent(used, 0)} of the {name} limit of {offered.per_minute(name):,.0f} a minute was used, and "
                "no request was rejected: this limit is the expected bottleneck."
            )
    # If 429s begin below the assumed limit, a comparison of the assumed limits could mislead.
    if high is None or not _unexpected(high, offered):
        found.append(_break_even(levels, offered))
    if levels:
        least, most = (rates(offered, end(level.multiplier for level in levels)) for end in (min, max))
        others = f"any rate except {least}" if least == most else f"below {least} and above {most}"
        found.append(f"Not tried: {others}.")
    return tuple(filter(None, found))


def _contradiction(levels: Sequence[Level]) -> str:
    """Return a note if a failed rate is below 90 % of a passed rate; empty otherwise."""
    slowest = min((level.multiplier for level, passed in outcomes(levels) if not passed), default=math.inf)
    fastest = max((level.multiplier for level, passed in outcomes(levels) if passed), default=0.0)
    if fastest * _NEARLY <= slowest:
        return ""
    return (
        f"{fastest:.3g} times the scenario's rates passed, but {slowest:.3g} times failed: either by chance, or "
        "because the service changed during the search."
    )


def _break_even(levels: Sequence[Level], offered: Offered) -> str:
    """Compare the work that the limits accept as sync runs and as jobs.

    The result is empty if all entries are retrievals, or if a limit has no rate.
    """
    sync, submits = offered.per_minute(LimitName.SYNC_RUN), offered.per_minute(LimitName.ASYNC_SUBMIT)
    retrieval, polls = offered.per_minute(LimitName.RETRIEVAL), max(_polls(levels, offered), default=0.0)
    runs = {Operation.SYNC_RUN, Operation.ASYNC_RUN} & {*offered.operations.values()}
    if not runs or not math.isfinite(sync + submits + retrieval):
        return ""
    more = "never allow more"  # Every job needs a submit and a poll, so both limits bound jobs.
    if min(submits, retrieval) > sync:
        more = f"allow more if each needs fewer than {retrieval / sync:.3g} polls"
    each = f"{polls:.1f} polls" if polls else "one poll"
    return (
        f"For the same work, the limits accept {sync:,.0f} sync runs a minute and at most "
        f"{min(submits, retrieval / max(polls, 1)):,.0f} jobs with {each} each. Jobs {more}."
    )
