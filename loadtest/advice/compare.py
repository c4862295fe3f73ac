"""Comparison of the paced policy with usual policies and a bound, under every limiter that may be in force.

A replay of the limiters in virtual time gives the bound: a time before which no client can finish its work. The paced
policy sends as fast as every limiter that may be in force accepts. Its poll times balance the wait for results against
the number of polls.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from loadtest.advice.gates import gates
from loadtest.advice.policies import PACED, PRESENT, Policy, give_up, usual
from loadtest.advice.results import Advice, PolicyResult
from loadtest.advice.simulator import Simulation
from loadtest.advice.work import Candidate, Limits, Work, World
from loadtest.arrays import Floats
from loadtest.contract import LimitName
from loadtest.errors import ExitCode
from loadtest.limits import ALGORITHMS, CONCURRENCY
from loadtest.words import count, counted, duration_ms, joined, rate, seconds, times_as

_POINTS: Final = 64
"""Quantiles divide the execution times into at most this many parts. Planned polls come just after quantiles."""
_MARGIN_S: Final = 0.001
"""Seconds from the job's expected end to the poll."""
_COSTS: Final = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, math.inf)
"""Costs of a poll (``poll_times``), in multiples of the median execution time. Each gives a plan to choose from."""
_SIMULATED: Final = 10_000
"""Polling plans are simulated only if there are at most this many jobs."""
_EQUAL: Final = 1.005
"""Two times count as equal if their ratio is at most this."""
_QUOTA: Final = 0.9
"""Polls may use this share of the retrieval limit if plans are not simulated."""
_GRAIN_S: Final = 1e-6
"""A step in s that exceeds the rounding of unix times."""


def compare(
    work: Work,
    limits: Limits,
    *,
    source: str,
    present: Policy | PolicyResult | None = None,
    deadline_s: float | None = None,
    notes: Sequence[str] = (),
) -> Advice:
    """Compare the present policy, the policies of usual clients, and the paced policy.

    ``source`` is a noun phrase that names the origin of limits and execution times. ``present`` is the policy
    of the user's client, or its recorded result; None if neither is known. ``notes`` are added to the reasons.
    """
    bound_s = None if work.rate is not None else max(bound(work, limits, world) for world in limits.worlds)
    ours = paced(work, limits)
    policies = [ours, *([] if present is None else [present]), *usual(work, limits)]
    results = [each if isinstance(each, PolicyResult) else _worst(each, work, limits, bound_s) for each in policies]
    best = results[0]
    late = deadline_s is not None and (best.seconds is None or best.seconds > deadline_s)
    spacing = {name: limits.spacing(name, work.clients) for name in work.names}
    return Advice(
        source=source,
        operation=work.operation,
        count=work.count,
        rate=work.rate,
        clients=work.clients,
        deadline_s=deadline_s,
        execution_s=tuple(np.percentile(work.execution_s, [50, 95, 100]).tolist()),
        limits={name: tuple(each.words for each in limits.candidates[name]) for name in work.names},
        spacing_s=spacing,
        poll_times_s=ours.poll_times,
        bound_s=bound_s,
        policies=tuple(results),
        sentence=_sentence(results, work),
        reasons=(*_deadline(best, bound_s, deadline_s), *_reasons(work, limits, spacing), *notes),
        exit_code=int(ExitCode.FAIL if late else ExitCode.PASS),
    )


def _worst(policy: Policy, work: Work, limits: Limits, bound_s: float | None) -> PolicyResult:
    """Return the result of a policy under the limiters that are worst for it.

    Its requests and 429s are counted under the limiters that reject most.
    """
    ends = [(Simulation(work, limits, world, policy).run(), world) for world in limits.worlds]
    end, world = max(ends, key=lambda each: (-each[0].done, each[0].seconds, each[0].rejections))
    most = max(ends, key=lambda each: each[0].rejections)[0]
    finite = math.isfinite(end.seconds) and work.rate is None
    limit = max(end.sent, key=lambda each: (end.rejected[each], end.sent[each] / world[each].limit.rate))
    return PolicyResult(
        name=policy.name,
        words=policy.words,
        done=end.done,
        seconds=end.seconds if finite else None,
        bound_ratio=end.seconds / bound_s if finite and bound_s else None,
        requests=most.requests,
        rejected=most.rejections,
        wait_p95_s=end.wait_p95_s if end.done else None,
        polls_per_job=end.sent[LimitName.RETRIEVAL] / max(1, end.done) if work.polled else None,
        worst=f"{limit}: {world[limit].algorithm}" if len(limits.worlds) > 1 else str(limit),
    )


def _sentence(results: Sequence[PolicyResult], work: Work) -> str:
    best, other = results[:2]
    client = "your client"
    if other.name != PRESENT:
        other = next(each for each in results if each.name == "backoff")
        client = "backoff with full jitter"
    without = "without a 429" if not best.rejected else f"with 429 on {counted(best.rejected, 'request')}"
    if work.rate is not None:
        ours = f"At {rate(work.rate)} the paced policy shows 95 % of results within {_time(best.wait_p95_s)} {without}"
        theirs = f"gets 429 on {times_as(other.rejected_per_1000)} of 1,000 requests"
    elif best.seconds is None:
        return f"The paced policy finishes {best.done:,} of {work.words} within a day {without}."
    else:
        ours = f"The paced policy finishes {work.words} in {seconds(round(best.seconds, 1))} {without}"
        theirs = f"finishes {count(other.done)}"
        if other.seconds is not None:
            theirs = f"needs {seconds(round(other.seconds, 1))}"
    if other.done is None:
        return f"{ours}. In the log your clients got {other.words}."
    return f"{ours}; {client} {theirs}."


def _time(value_s: float | None) -> str:
    return duration_ms(None if value_s is None else value_s * 1000)


def _deadline(best: PolicyResult, bound_s: float | None, deadline_s: float | None) -> Iterator[str]:
    if bound_s is None:
        return
    yield f"The limits let no client finish before {seconds(round(bound_s, 1))}."
    if deadline_s is not None and bound_s > deadline_s:
        yield f"So no client meets the deadline of {seconds(deadline_s)}."
    elif deadline_s is not None:
        met = best.seconds is not None and best.seconds <= deadline_s
        yield f"The paced policy {'meets' if met else 'misses'} the deadline of {seconds(deadline_s)}."


def _reasons(work: Work, limits: Limits, spacing: Mapping[LimitName, float]) -> Iterator[str]:
    most = min(limits.rate(name) for name in work.names)
    if work.polled and math.isfinite(most) and not limits.shared:
        yield f"With one poll a job the limits accept jobs at up to {rate(most)}."
    if work.rate is not None and work.rate > most:
        yield f"{rate(work.rate)} is more than the limits accept: work piles up without end."
    if work.clients > 1:
        apart = joined([f"{_time(each)} on {name}" for name, each in spacing.items()])
        yield f"{work.clients} clients share the limits and send in turns: each leaves {apart} between requests."
    several: dict[str, list[str]] = {}
    for name in work.names:
        if len(found := limits.candidates[name]) > 1:
            algorithms = list(dict.fromkeys(each.algorithm for each in found))
            texts = algorithms if len(algorithms) == len(found) else [each.words for each in found]
            several.setdefault(joined(texts, "or"), []).append(name)
    for words, names in several.items():
        yield f"The limiter on {joined(names)} may be {words}; each figure is for the policy's worst case."


def let_through(candidate: Candidate, ready: Iterable[float], epoch: float) -> list[float]:
    """Return the earliest times at which a new limiter lets requests through. All times are in s from ``epoch``.

    No request is sent before its time in ``ready``. For windows, logs, counters and buckets, it is optimal to send as
    soon as the limiter accepts. A queue lets a request through when it releases the request. For a concurrency limit,
    the result is ``ready``.
    """
    if candidate.algorithm == CONCURRENCY:
        return [*ready]
    decide, now = candidate.limiter().decide, 0.0
    times: list[float] = []
    for earliest in ready:
        now, allowed = max(now, earliest), False
        while not allowed:
            allowed, _, _, wait, delay = decide(epoch + now)
            admitted = now + delay
            now += wait if allowed else max(wait, _GRAIN_S)
        times.append(admitted)
    return times


def bound(work: Work, limits: Limits, world: World) -> float:
    """Return a time in s before which no client can finish the work.

    Jobs are submitted in the given order, because no client knows beforehand which jobs take long.
    """
    first, executions = world[work.submit], np.array(work.executions)
    if first.algorithm == CONCURRENCY and not work.polled:
        return float(max(executions.sum() / first.limit.count, executions.max()))
    through = np.array(let_through(first, [0.0] * work.count, work.epoch))
    # Before ended[k], no client has k + 1 ended jobs.
    ended = np.sort(through + executions)
    if not work.polled:
        return float(ended[-1])
    if limits.shared:
        return max(float(ended[-1]), let_through(first, [0.0] * 2 * work.count, work.epoch)[-1])
    candidate = world[LimitName.RETRIEVAL]
    algorithm = ALGORITHMS[candidate.algorithm]
    if not algorithm.windowed or algorithm.aligned or candidate.algorithm == "sliding-log":
        return let_through(candidate, ended.tolist(), work.epoch)[-1]
    # The first window may end immediately, if an earlier request opened it.
    windows = np.maximum(0, -(-np.arange(work.count, 0, -1) // candidate.limit.count) - 2)
    # No retrieval precedes the first job, so a replay from this job on is a second bound.
    earliest = let_through(candidate, [float(through[0])] * work.count, work.epoch)[-1]
    return max(float((ended + windows * candidate.limit.window).max()), earliest)


def poll_times(execution_s: Floats, cost_s: float) -> tuple[float, ...]:
    """Return the times of polls, in s since acceptance, by dynamic programming over ascending execution times.

    The times minimise the mean time from a job's end to the poll that sees the end, plus ``cost_s`` for each poll. If
    ``cost_s`` is infinite, there is a single poll.
    """
    ends = np.unique(np.quantile(execution_s, np.linspace(0, 1, _POINTS + 1), method="higher"))
    if math.isinf(cost_s):
        return (float(ends[-1]) + _MARGIN_S,)
    share = np.diff(np.searchsorted(execution_s, ends, side="right"), prepend=0) / len(execution_s)
    # For the jobs that have ended by each point: their share, and the sum of share × end.
    ended, moments = np.cumsum(share), np.cumsum(share * ends)
    before, earlier = np.concatenate([[0.0], ended]), np.concatenate([[0.0], moments])
    best, following = np.zeros(len(ends) + 1), np.zeros(len(ends), int)
    for k in range(len(ends) - 1, -1, -1):
        waits = ends[k:] * (ended[k:] - before[k]) - (moments[k:] - earlier[k])
        costs = waits + best[k + 1 :]
        following[k] = k + int(np.argmin(costs))
        best[k] = costs.min() + cost_s * (1 - before[k])
    times, place = [], 0
    while place < len(ends):
        place = int(following[place])
        times.append(float(ends[place]) + _MARGIN_S)
        place += 1
    return tuple(times)


def paced(work: Work, limits: Limits, *, told: bool = True) -> Policy:
    """Return the paced policy. It follows the limiters that may be in force, and polls as in ``_plan_polls``.

    If ``told`` is False, the clients do not know that other clients share the limits.
    """
    policy = Policy(
        PACED,
        "sends as fast as every limiter that may be in force accepts",
        give_up,
        lambda *_: 0.0,
        gates=partial(gates, work, limits, None, told=told),
    )
    return _with_polls(policy, _plan_polls(work, limits, policy)) if work.polled else policy


def _with_polls(policy: Policy, times: tuple[float, ...]) -> Policy:
    return replace(policy, poll=lambda _number, elapsed, _draw: next_poll(times, elapsed), poll_times=times)


def _plan_polls(work: Work, limits: Limits, policy: Policy) -> tuple[float, ...]:
    """Return the polling plan with the most polls among those that do not delay the work."""
    typical = float(np.median(work.execution_s)) or 1.0
    plans = list(dict.fromkeys(poll_times(work.execution_s, cost * typical) for cost in _COSTS))
    if work.rate is None and work.count <= _SIMULATED:
        # The pace depends on all limiters that may be in force, so one combination of them suffices.
        world = limits.worlds[0]
        ends = [Simulation(work, limits, world, _with_polls(policy, each)).run().seconds for each in plans]
        return next(times for times, end in zip(plans, ends, strict=True) if end <= _EQUAL * min(ends))
    rate, most = work.rate or limits.rate(work.submit), limits.rate(LimitName.RETRIEVAL)
    if not limits.shared:
        for times in plans:
            if (1 + np.searchsorted(times[:-1], work.executions).mean()) * rate <= _QUOTA * most:
                return times
    return plans[-1]


def next_poll(times: tuple[float, ...], elapsed: float) -> float:
    """Return the seconds until the next poll of a job that was accepted ``elapsed`` s ago.

    After the last of ``times``, the gap is half of the last planned gap, or ``elapsed`` ÷ 4 if that is longer.
    """
    for time in times:
        if time > elapsed:
            return time - elapsed
    gaps = [after - before for before, after in pairwise((0.0, *times))]
    return max(gaps[-1] / 2, elapsed / 4)
