"""Comparison of policies under every limiter that may be in force. The answer is a sentence."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from loadtest.advice.bound import bound
from loadtest.advice.policies import PRESENT, Policy, usual
from loadtest.advice.polls import paced
from loadtest.advice.results import Advice, PolicyResult
from loadtest.advice.simulator import SimulatedEnd, Simulation
from loadtest.advice.work import Limits, Work, World
from loadtest.contract import LimitName
from loadtest.errors import ExitCode
from loadtest.words import count, counted, duration_ms, joined, rate, seconds, times_as


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

    ``source`` is a noun phrase that names the origin of limits and execution times. ``present`` is the client's policy
    or its recorded result. It is None if neither is known. ``notes`` are added to the reasons.
    """
    bound_s = None if work.rate is not None else max(bound(work, limits, world) for world in limits.worlds)
    given = [] if present is None else [present]
    ours = paced(work, limits)
    policies = [ours, *given, *usual(work, limits)]
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
    """Return the result of a policy under the limiters that are worst for it."""
    ends = [(Simulation(work, limits, world, policy).run(), world) for world in limits.worlds]
    end, world = max(ends, key=lambda each: (-each[0].done, each[0].seconds, each[0].rejections))
    most = max(ends, key=lambda each: each[0].rejections)[0]
    finite = math.isfinite(end.seconds) and work.rate is None
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
        worst=_worst_limit(end, world, limits),
    )


def _worst_limit(end: SimulatedEnd, world: World, limits: Limits) -> str:
    """Return the limit that rejected most requests. Its algorithm is added if several may be in force."""
    name = max(end.sent, key=lambda each: (end.rejected[each], end.sent[each] / world[each].limit.rate))
    return f"{name}: {world[name].algorithm}" if len(limits.worlds) > 1 else str(name)


def _sentence(results: Sequence[PolicyResult], work: Work) -> str:
    best = results[0]
    known = results[1].name == PRESENT
    other = results[1] if known else next(each for each in results if each.name == "backoff")
    client = "your client" if known else "backoff with full jitter"
    without = "without a 429" if not best.rejected else f"with {counted(best.rejected, '429')}"
    if work.rate is not None:
        ours = f"At {rate(work.rate)} the paced policy shows 95 % of results within {_time(best.wait_p95_s)} {without}"
        theirs = f"gets {times_as(other.rejected_per_1000)} 429s per 1,000 requests"
    elif best.seconds is None:
        return f"The paced policy finishes {best.done:,} of {work.several(work.count)} within a day {without}."
    else:
        ours = f"The paced policy finishes {work.several(work.count)} in {seconds(round(best.seconds, 1))} {without}"
        late = f"finishes {count(other.done)}"
        theirs = late if other.seconds is None else f"needs {seconds(round(other.seconds, 1))}"
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
        yield f"With one poll a job the limits accept at most {rate(most)}."
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
