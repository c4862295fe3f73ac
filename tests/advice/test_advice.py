"""Policies in virtual time: the paced one reaches the bound without a 429, and no schedule beats the bound."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.advice.compare import bound, compare, paced
from loadtest.advice.policies import Policy, every_second, full_jitter, scheduled, usual
from loadtest.advice.simulator import SimulatedEnd, Simulation
from loadtest.advice.work import Candidate, Limits, Work, any_algorithm
from loadtest.contract import DOCUMENTED, LimitName, Operation
from loadtest.limits import ALGORITHMS, CONCURRENCY, LimiterSpec
from loadtest.scenario import Polling, Retry
from loadtest.units import Limit

EXECUTION_S = np.sort(np.random.default_rng(1).lognormal(np.log(2), 0.4, 200))
COUNTING = [name for name in ALGORITHMS if name != CONCURRENCY]
SUBMIT, RETRIEVAL = LimitName.ASYNC_SUBMIT, LimitName.RETRIEVAL
BACKOFF = Policy("backoff", "", full_jitter, every_second)


def limited(algorithm: str, limit: Limit, burst: int | None = None) -> Limits:
    """The same known limiter for submits and retrievals."""
    candidate = Candidate(LimiterSpec(algorithm, burst), limit)
    return Limits(dict.fromkeys(LimitName, (candidate,)))


def jobs(count: int, clients: int = 1) -> Work:
    """Jobs of two seconds at the median."""
    return Work(Operation.ASYNC_RUN, count, clients=clients, execution_s=EXECUTION_S)


def end(work: Work, limits: Limits, policy: Policy) -> SimulatedEnd:
    """The end of a policy under the first limiter that may be in force."""
    return Simulation(work, limits, limits.worlds[0], policy).run()


@pytest.mark.parametrize("algorithm", COUNTING)
@pytest.mark.parametrize("limit", [Limit(100, 60.0), Limit(50, 5.0)])
def test_a_paced_client_reaches_the_bound_without_a_429(algorithm: str, limit: Limit) -> None:
    """With a known limiter it ends within 5 % of the bound, or two executions, whichever is more."""
    limits = limited(algorithm, limit)
    for count in (40, 450):
        found = end(jobs(count), limits, paced(jobs(count), limits))
        least = bound(jobs(count), limits, limits.worlds[0])
        assert (found.done, found.rejections) == (count, 0)
        assert least <= found.seconds <= least + max(0.05 * least, 2 * float(EXECUTION_S[-1]))


def test_a_paced_client_fits_every_limiter_that_may_be_in_force() -> None:
    """Where the algorithm is unknown no candidate rejects anything, and the time is near the strictest's bound."""
    limits, work = Limits({name: any_algorithm(limit) for name, limit in DOCUMENTED.items()}), jobs(600)
    ends = [Simulation(work, limits, world, paced(work, limits)).run() for world in limits.worlds]
    strictest = max(bound(work, limits, world) for world in limits.worlds)
    assert {found.rejections for found in ends} == {0}
    assert max(found.seconds for found in ends) <= strictest + 2 * float(EXECUTION_S[-1])


@pytest.mark.parametrize("algorithm", ["fixed-window", "sliding-counter", "token-bucket"])
def test_clients_that_share_a_limit(algorithm: str) -> None:
    """Twenty clients that know of each other get no 429; without this knowledge at least 90 % fewer than backoff."""
    limits, work = limited(algorithm, Limit(100, 60.0)), jobs(1000, clients=20)
    usual = end(work, limits, BACKOFF)
    told, untold = (end(work, limits, paced(work, limits, told=told)) for told in (True, False))
    assert told.rejections == 0
    assert told.seconds <= 1.3 * usual.seconds
    assert untold.rejections <= 0.1 * usual.rejections
    assert untold.seconds <= 1.5 * usual.seconds


TIMES = st.lists(st.floats(0, 3), min_size=1, max_size=60).map(np.cumsum)


@given(
    algorithm=st.sampled_from(COUNTING),
    burst=st.integers(1, 4),
    count=st.integers(1, 9),
    submits=TIMES,
    polls=TIMES,
)
def test_no_schedule_beats_the_bound(algorithm: str, burst: int, count: int, submits: Any, polls: Any) -> None:
    """Whatever the times of submits and polls, the last of a number of jobs is seen no earlier than the bound says."""
    limits = limited(algorithm, Limit(3, 4.0), burst if ALGORITHMS[algorithm].has_burst else None)
    work = replace(jobs(count), execution_s=np.array([0.5, 1.0, 1.5]))
    ready = sorted(
        through + execution
        for through, execution in zip(let_through(limits, work, submits), work.executions, strict=False)
    )
    ends = []
    # Polls before the first submit name no job, so they are not sent.
    for at in let_through(limits, work, polls[polls >= submits[0]]):
        if len(ends) < len(ready) and at >= ready[len(ends)]:
            ends.append(at)
    if len(ends) == count:
        assert ends[-1] >= bound(work, limits, limits.worlds[0]) - 1e-6


def let_through(limits: Limits, work: Work, times: Any) -> list[float]:
    """The times at which a new limiter lets requests through that are sent at these times."""
    limiter = limits.worlds[0][SUBMIT].limiter()
    answers = [(at, limiter.decide(work.epoch + at)) for at in times]
    return [at + answer.delay for at, answer in answers if answer.allowed]


def test_the_bound_of_a_shared_limiter_is_reached() -> None:
    """Where submits and polls share a limiter, a job needs two of its permits."""
    limits = replace(limited("sliding-log", Limit(100, 60.0)), shared=True)
    found = end(jobs(300), limits, paced(jobs(300), limits))
    least = bound(jobs(300), limits, limits.worlds[0])
    assert least == pytest.approx(300, abs=1)
    assert found.seconds <= least + 2 * float(EXECUTION_S[-1])
    assert found.rejections == 0


def test_a_limit_on_requests_at_the_same_time() -> None:
    """Sync runs keep every slot busy, and no more."""
    limits = limited(CONCURRENCY, Limit(10, 60.0))
    work = replace(jobs(200), operation=Operation.SYNC_RUN)
    found = end(work, limits, paced(work, limits))
    assert found.rejections == 0
    assert found.seconds <= bound(work, limits, limits.worlds[0]) + float(EXECUTION_S[-1])


def test_the_quota_of_retries_in_aws_standard_mode() -> None:
    """After a hundred retries that failed, a client sends each request once."""
    limits, work = limited("fixed-window", Limit(50, 3600.0)), replace(jobs(300), operation=Operation.SYNC_RUN)
    aws = next(each for each in usual(work, limits) if each.name == "AWS standard")
    assert end(work, limits, aws).requests == 400


def test_polls_cost_what_the_retrieval_limit_leaves() -> None:
    """Where retrieval binds, a job gets about one poll; where it has room, results are seen soon after they exist."""
    scarce = Limits({SUBMIT: any_algorithm(Limit(1000, 60.0)), RETRIEVAL: any_algorithm(Limit(100, 60.0))})
    ample = Limits({SUBMIT: any_algorithm(Limit(100, 60.0)), RETRIEVAL: any_algorithm(Limit(2000, 60.0))})
    one, many = (compare(jobs(300), limits, source="a test") for limits in (scarce, ample))
    assert one.best.polls_per_job == pytest.approx(1, abs=0.05)
    assert many.best.polls_per_job is not None
    assert many.best.polls_per_job > 2
    assert (many.best.wait_p95_s or 0) < float(np.percentile(EXECUTION_S, 95)) + 0.5


def test_the_answer_compares_the_present_policy() -> None:
    """It names both times; a deadline below the bound is one that no client meets."""
    limits = limited("fixed-window", Limit(100, 60.0))
    policy = scheduled("present", "", Retry(), Polling(), 1.0)
    found = compare(jobs(300), limits, source="a test", present=policy, deadline_s=60.0)
    assert "300 jobs in 2 min" in found.sentence
    assert "your client needs 5 min" in found.sentence
    assert any("no client meets" in each for each in found.reasons)
    assert found.exit_code == 1
    assert found.policies[1].name == "present"
    assert found.best.bound_ratio == pytest.approx(1, abs=0.1)
