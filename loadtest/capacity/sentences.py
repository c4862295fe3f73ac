"""Sentences about the result of a capacity search."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from loadtest.assumed_limits import AssumedLimits
from loadtest.capacity.models import flat_until
from loadtest.capacity.results import Constraint, Guess, Level
from loadtest.capacity.search import HIGHEST, LOWEST, bracket, estimate, judged, older_low
from loadtest.contract import POLLED_OPERATIONS, LimitName, Operation
from loadtest.errors import ExitCode
from loadtest.words import percent

_MINUTE: Final = 60
_ONE: Final = 1.1
"""Maximum number of polls per job that counts as one."""
_NEARLY: Final = 0.9
"""Share of a limit that counts as nearly exhausted."""


class EarlyStop(NamedTuple):
    """The reason for an early end of a search, as the end of a sentence, and its exit code if there is no answer."""

    words: str
    code: ExitCode


class CapacityAnswer(NamedTuple):
    """The highest passing multiplier, None if unknown, with a sentence and the exit code."""

    multiplier: float | None
    sentence: str
    code: ExitCode


@dataclass(frozen=True, slots=True)
class Offered:
    """The load of a search and its limits: ``base_rates`` are operations/s of each entry at multiplier 1."""

    base_rates: Mapping[str, float]
    operations: Mapping[str, Operation]
    assumed: AssumedLimits
    keys: int

    def per_minute(self, limit: LimitName) -> float:
        """Requests per minute that a limit accepts in the long run, over all keys."""
        return self.assumed.rate_of_keys(limit, self.keys) * _MINUTE


def answer(
    levels: Sequence[Level], guesses: Sequence[Guess], offered: Offered, stopped: EarlyStop | None
) -> CapacityAnswer:
    """Return the answer from levels in the order of their runs; ``stopped`` is None after a complete search."""
    multiplier, high = estimate(levels, guesses), bracket(levels).high
    late = high is not None and high.constraint == Constraint.GENERATOR
    if multiplier is not None and high is not None and high.constraint is not None:
        sentence = f"About {rates(multiplier, offered)}: {_stopped_by(high.constraint, high)}"
        if high.constraint == Constraint.POLL_BUDGET:
            sentence += paced(levels, offered)
        return CapacityAnswer(multiplier, f"{sentence}.", ExitCode.INVALID if late else ExitCode.PASS)
    code = stopped.code if stopped else ExitCode.INVALID if late else ExitCode.INCONCLUSIVE
    then = f"; {stopped.words}" if stopped else ""
    low = bracket(levels).low
    if any(level.outcome == "inconclusive" for level in judged(levels)) or high is not None or low is None:
        said = f"No answer: {_no_answer(levels)}{then}."
    else:
        reach = "it is the highest rate tried" if low.multiplier >= HIGHEST else "no faster run was judged"
        said = f"At least {rates(low.multiplier, offered)}: all thresholds pass, and {reach}{then}."
    return CapacityAnswer(None, said, code)


def rates(multiplier: float, offered: Offered) -> str:
    """Format rates per minute at a multiplier: "480 jobs a minute", or for each of several entries."""
    each = {name: f"{rate * multiplier * _MINUTE:,.0f}" for name, rate in offered.base_rates.items()}
    if len(each) == 1:
        (name,) = each
        return f"{each[name]} {offered.operations[name].several} a minute"
    return f"{multiplier:.3g} times the scenario's rates (" + ", ".join(f"{n} {r}/min" for n, r in each.items()) + ")"


def _stopped_by(constraint: Constraint, level: Level) -> str:
    broken = f"at {level.multiplier:.3g} times its rate: " + ", ".join(level.broken)
    match constraint:
        case Constraint.LIMIT:
            return f"above it the {level.limit} limit rejects requests ({broken})"
        case Constraint.POLL_BUDGET:
            polls = [e.requests_per_operation - 1 for e in level.entries.values() if e.requests_per_operation]
            each = f" ({max(polls):.1f} a job)" if polls else ""
            return f"above it polls{each} exhaust the {level.limit} limit ({broken})"
        case Constraint.SERVICE:
            return f"above it requests wait for each other in the service, without any 429 ({broken})"
        case Constraint.ERRORS:
            share = max((entry.unavailable_rate for entry in level.entries.values()), default=0.0)
            full = f"; {percent(share)} of the requests got 503: either the service was full, or it throttles with 503 "
            full += "(`loadtest probe` tells which)"
            return f"above it requests fail, without any 429 ({broken}){full if share else ''}"
        case Constraint.GENERATOR:
            return f"above it this load generator was the bottleneck ({broken}): use --processes"


def _no_answer(levels: Sequence[Level]) -> str:
    levels = judged(levels)
    for level in levels:
        if level.outcome == "inconclusive":
            return (
                f"{', '.join(level.broken)} cannot be judged at {level.multiplier:.3g} times the scenario's rate, in "
                f"{level.stage_s:g} s: give the stage a longer duration, or the threshold a lower percentile"
            )
    between, runs = bracket(levels), f"{len(levels)} run" + "s" * (len(levels) > 1)
    low, high = ("" if each is None else f"{each.multiplier:.3g}" for each in (between.low, between.high))
    if between.high is None:
        return "no judged run was made"
    if not between.consistent:
        return (
            f"can't tell: {high} times the scenario's rate failed, but a higher rate passed: the service changed "
            "during the search"
        )
    if between.low is None:
        reach = "the lowest rate tried" if between.high.multiplier / 2 < LOWEST else f"the lowest of {runs}"
        return f"no rate passes: {high} times the scenario's rate, {reach}, breaks {', '.join(between.high.broken)}"
    if older_low(between, levels) is not None:
        return (
            f"can't tell: {low} times the scenario's rate passed before {high} times failed, and was not tried again "
            "since: the service may have become slower"
        )
    return f"the highest passing rate lies between {low} and {high} times the scenario's rate, after {runs}"


def paced(levels: Sequence[Level], offered: Offered) -> str:
    """Return the capacity with one poll per job, as the end of a sentence; empty if jobs already need only one."""
    polls = _polls(levels, offered)
    jobs = [rate for name, rate in offered.base_rates.items() if offered.operations[name] in POLLED_OPERATIONS]
    if not polls or min(polls) <= _ONE:
        return ""
    most = min(offered.per_minute(LimitName.RETRIEVAL), offered.per_minute(LimitName.ASYNC_SUBMIT)) / (
        sum(jobs) * _MINUTE
    )
    took = [entry.execution_p50_ms for level in levels for entry in level.entries.values() if entry.execution_p50_ms]
    apart = f", or at intervals above executionTime (p50 {max(took):,.0f} ms)," if took else ""
    return f"; with polls paced by Retry-After{apart} one poll per job is enough: at most {rates(most, offered)}"


def _polls(levels: Sequence[Level], offered: Offered) -> list[float]:
    return [
        entry.requests_per_operation - 1
        for level in levels
        if level.outcome == "holds"
        for name, entry in level.entries.items()
        if offered.operations[name] in POLLED_OPERATIONS and entry.requests_per_operation
    ]


def reasons(levels: Sequence[Level], offered: Offered, constraint: Constraint | None) -> tuple[str, ...]:
    """Return notes: how long times stayed flat, the capacity in the other form of operation, and untested rates."""
    # An exploratory run is too short to count as a pass.
    found, tried = [], "tried for a whole stage" if any(level.scout for level in levels) else "tried"
    levels = judged(levels)
    flat = flat_until(levels)
    if flat is not None and constraint is not Constraint.SERVICE:
        found.append(
            f"The service itself was still flat at {rates(flat, offered)}: neither median response time nor "
            "executionTime had grown."
        )
    low = bracket(levels).low
    for name, seen in low.limits.items() if low is not None and constraint is None else ():
        used = seen.sent_rate * _MINUTE / offered.per_minute(name)
        if used >= _NEARLY and not seen.throttled_rate:
            found.append(
                f"{percent(used, 0)} of the {name} limit of {offered.per_minute(name):,.0f} a minute was used, and "
                "no request was rejected: it is the expected bottleneck."
            )
    found.append(_break_even(levels, offered))
    if levels:
        least, most = (rates(end(level.multiplier for level in levels), offered) for end in (min, max))
        others = f"any rate except {least}" if least == most else f"below {least} and above {most}"
        found.append(f"Not {tried}: {others}.")
    return tuple(filter(None, found))


def _break_even(levels: Sequence[Level], offered: Offered) -> str:
    """The capacity that the limits leave for the same work as sync runs and as jobs; empty for retrievals alone."""
    sync, submits = offered.per_minute(LimitName.SYNC_RUN), offered.per_minute(LimitName.ASYNC_SUBMIT)
    retrieval, polls = offered.per_minute(LimitName.RETRIEVAL), max(_polls(levels, offered), default=0.0)
    runs = {Operation.SYNC_RUN, Operation.ASYNC_RUN} & {*offered.operations.values()}
    if not runs or not math.isfinite(sync + submits + retrieval):
        return ""
    as_jobs = f"and as jobs at most {min(submits, retrieval / max(polls, 1)):,.0f}"
    as_jobs += f", with {polls:.1f} polls each" if polls else ", with one poll each"
    if min(submits, retrieval) <= sync:  # Every job needs one poll.
        return f"The same work: the limits accept {sync:,.0f} a minute as sync runs {as_jobs}: jobs never allow more."
    return (
        f"The same work: the limits accept {sync:,.0f} a minute as sync runs {as_jobs}. Jobs allow more if "
        f"each needs fewer than {retrieval / sync:.3g} polls."
    )
