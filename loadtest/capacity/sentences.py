"""What a search found, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.assumed_limits import AssumedLimits
from loadtest.capacity.models import flat_until
from loadtest.capacity.results import Constraint, Level
from loadtest.capacity.search import HIGHEST, LOWEST, Bracket
from loadtest.contract import LimitName, Operation

_MINUTE: Final = 60
_ONE: Final = 1.1
"""Polls a job, up to which it is called one."""
_WORDS: Final = {Operation.SYNC_RUN: "sync runs", Operation.ASYNC_RUN: "jobs", Operation.RETRIEVAL: "retrievals"}


@dataclass(frozen=True, slots=True)
class Offered:
    """What a search offers, and to which limits.

    Attributes:
        base_rates: operations/s of each traffic entry at multiplier 1.
        operations: what each asks for.
        assumed: what is assumed of the limits.
        keys: API keys that share the traffic.
    """

    base_rates: Mapping[str, float]
    operations: Mapping[str, Operation]
    assumed: AssumedLimits
    keys: int

    def per_minute(self, limit: LimitName) -> float:
        """What a limit lets through in the long run, of all keys together."""
        return self.assumed.rate_on(limit) * self.assumed.quotas(self.keys) * _MINUTE


def rates(multiplier: float, offered: Offered) -> str:
    """Rates a minute at a multiplier: "480 jobs a minute", or by entry where there are several."""
    each = {name: f"{rate * multiplier * _MINUTE:,.0f}" for name, rate in offered.base_rates.items()}
    if len(each) == 1:
        (name,) = each
        return f"{each[name]} {_WORDS[offered.operations[name]]} a minute"
    return f"{multiplier:.3g} times the scenario's rates (" + ", ".join(f"{n} {r}/min" for n, r in each.items()) + ")"


def stopped_by(constraint: Constraint, limit: LimitName | None, level: Level) -> str:
    """What stops more, as the second part of the answer."""
    match constraint:
        case Constraint.LIMIT:
            return f"above it the {limit} limit refuses ({_broken(level)})"
        case Constraint.POLL_BUDGET:
            polls = [e.requests_per_operation - 1 for e in level.entries.values() if e.requests_per_operation]
            each = f" ({max(polls):.1f} a job)" if polls else ""
            return f"above it polls{each} spend the {limit} limit ({_broken(level)})"
        case Constraint.SERVICE:
            return f"above it requests wait for each other in the service, without any 429 ({_broken(level)})"
        case Constraint.ERRORS:
            return f"above it requests fail, without any 429 ({_broken(level)})"
        case Constraint.GENERATOR:
            return f"above it this load generator was the bottleneck ({_broken(level)}): use --processes"


def _broken(level: Level) -> str:
    return f"at {level.multiplier:.3g} times its rate: " + ", ".join(level.broken)


def unjudged(level: Level) -> str:
    """Why a level leads to no answer that says neither."""
    return (
        f"{_list(level)} cannot be judged at {level.multiplier:.3g} times the scenario's rate, in {level.stage_s:g} s: "
        "give the stage a longer duration, or the threshold a lower percentile"
    )


def no_answer(between: Bracket, levels: int) -> str:
    """Why there is no answer."""
    if between.high is not None and not between.consistent:
        least = f"{between.high.multiplier:.3g} times the scenario's rate"
        return f"can't tell: {least} did not hold, and a higher rate did: the service changed while it was measured"
    if between.high is None:
        highest = between.low.multiplier if between.low is not None else 0.0
        reach = "the highest rate that is tried" if highest >= HIGHEST else f"all {levels} runs that were allowed"
        return f"no limit was met: {highest:.3g} times the scenario's rate holds, {reach}"
    if between.low is None:
        lowest = between.high.multiplier
        reach = "the lowest rate that is tried" if lowest / 2 < LOWEST else f"the lowest of {levels} runs"
        return f"nothing holds: {lowest:.3g} times the scenario's rate, {reach}, breaks {_list(between.high)}"
    return (
        f"the highest rate that holds lies between {between.low.multiplier:.3g} and {between.high.multiplier:.3g} "
        f"times the scenario's rate, after {levels} runs"
    )


def _list(level: Level) -> str:
    return ", ".join(level.broken)


def reasons(levels: Sequence[Level], offered: Offered, constraint: Constraint | None) -> tuple[str, ...]:
    """What else a reader must know: what other constraints would allow, and how far nothing grew.

    Args:
        levels: of the search.
        offered: what it offered.
        constraint: what stops more; None where that is not known.
    """
    found = []
    jobs = [name for name, operation in offered.operations.items() if operation == Operation.ASYNC_RUN]
    retrieval = offered.per_minute(LimitName.RETRIEVAL)
    flat = flat_until(levels)
    if flat is not None and constraint is not Constraint.SERVICE:
        found.append(
            f"The service itself was still flat at {rates(flat, offered)}: neither response time nor executionTime had "
            "grown."
        )
    polls = [
        entry.requests_per_operation - 1
        for level in levels
        if level.outcome == "holds"
        for name, entry in level.entries.items()
        if name in jobs and entry.requests_per_operation
    ]
    if constraint == Constraint.POLL_BUDGET and len(offered.operations) == 1 and polls and min(polls) > _ONE:
        found.append(f"With one retrieval a job, {retrieval:,.0f} jobs a minute would be the most.")
    if polls and max(polls) > 0:
        sync = offered.per_minute(LimitName.SYNC_RUN)
        most = min(offered.per_minute(LimitName.ASYNC_SUBMIT), retrieval / max(polls))
        found.append(
            f"The same work as sync runs: the limits let {sync:,.0f} a minute through, and {most:,.0f} as jobs "
            f"with {max(polls):.1f} polls each. Jobs carry more as long as one needs fewer polls than "
            f"{retrieval / sync:.3g}."
        )
    return tuple(found)
