"""Simulation of clients and rate limiters in virtual time. Each event of a job schedules the job's next event.

Requests reach the server without delay. Answers arrive a round trip later. A job starts when its submit is let through.
"""

import math
from collections import deque
from dataclasses import dataclass
from functools import partial
from heapq import heappop
from typing import Final

import numpy as np

from loadtest.advice.gates import Scheduler
from loadtest.advice.policies import Policy
from loadtest.advice.work import Candidate, Limits, Work, World
from loadtest.contract import LimitName
from loadtest.limits import CONCURRENCY, Limiter

MOST_S: Final = 86_400.0
"""A simulation ends after this many seconds of virtual time, even if the work is not done."""
_MOST_PER_JOB: Final = 200
_MOST_MORE: Final = 10_000
"""A simulation also ends after ``_MOST_PER_JOB`` 429s per job plus this number: some limiters reject forever."""
_RETRY_TOKENS: Final = 5
"""Tokens that a retry takes. A successful retry returns them. A success without retries adds one token."""


@dataclass(frozen=True, slots=True)
class SimulatedEnd:
    """The end of one simulation, with the numbers of requests that each limit got and rejected.

    Attributes:
        seconds: time of the last result; infinite if a job has no result.
        last_s: time of the last result, even if other jobs have no result; 0 without results.
        wait_p95_s: 95th percentile of the times from a job's acceptance to its result; infinite without results.
    """

    done: int
    seconds: float
    sent: dict[LimitName, int]
    rejected: dict[LimitName, int]
    last_s: float
    wait_p95_s: float

    @property
    def requests(self) -> int:
        return sum(self.sent.values())

    @property
    def rejections(self) -> int:
        return sum(self.rejected.values())


class _Served:
    """One of the server's limits: its limiter, and counts of its requests."""

    __slots__ = ("decide", "held", "limiter", "rejected", "sent")

    def __init__(self, candidate: Candidate, limiter: Limiter | None) -> None:
        self.limiter = limiter or candidate.limiter()
        self.decide, self.held = self.limiter.decide, candidate.algorithm == CONCURRENCY
        self.sent = self.rejected = 0


class Simulation(Scheduler):
    """A simulation of one policy under one combination of limiters. It can run only once."""

    def __init__(self, work: Work, limits: Limits, world: World, policy: Policy, seed: int = 0) -> None:
        super().__init__(seed)
        self.work, self.limits, self.policy, self.epoch = work, limits, policy, work.epoch
        one = world[work.submit].limiter() if limits.shared else None
        self.served = {name: _Served(world[name], one) for name in work.names}
        self.executions = iter(work.executions)  # in order of acceptance, because no client knows them beforehand
        self.rejections = 0
        self.waits: list[float] = []
        self.last = 0.0

    def run(self) -> SimulatedEnd:
        """Run until the work is done or given up, or until virtual time or 429s exceed their maximum."""
        for number in range(self.work.clients):
            _Client(self, number)
        heap, most = self._heap, _MOST_PER_JOB * self.work.count + _MOST_MORE
        while heap and heap[0][0] <= MOST_S and self.rejections <= most:
            self.now, _, action = heappop(heap)
            action()
        done = len(self.waits)
        return SimulatedEnd(
            done=done,
            seconds=self.last if done == self.work.count else math.inf,
            sent={name: each.sent for name, each in self.served.items()},
            rejected={name: each.rejected for name, each in self.served.items()},
            last_s=self.last,
            wait_p95_s=float(np.percentile(self.waits, 95)) if done else math.inf,
        )


class _Client:
    """A client. Without a schedule, it starts all jobs immediately if it has gates.

    With neither a schedule nor gates, it starts ``in_flight`` jobs, and another job whenever a job ends.
    """

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.simulation = simulation
        work, policy = simulation.work, simulation.policy
        self.tokens = policy.quota
        self.gates = policy.gates(simulation, number) if policy.gates else {}
        self._jobs = deque(range(number, work.count, work.clients))
        self._start = policy.start if work.rate is None else lambda job: job / (work.rate or math.inf)
        self._free = 0
        self._in_slots = self._start is None and not self.gates
        for _ in range(policy.in_flight if self._in_slots else 1):
            simulation.after(0.0, self.ended if self._in_slots else self._arrive)

    def _arrive(self) -> None:
        while self._jobs:
            if self._start is not None and (wait := self._start(self._jobs[0]) - self.simulation.now) > 0:
                self.simulation.after(wait, self._arrive)
                return
            self._jobs.popleft()
            _Job(self)

    def ended(self) -> None:
        """Start the next job in place of a job that ended."""
        self._free += self._in_slots
        while self._free == 1 and self._jobs:  # A job that ends at once calls this method; only the outer call loops.
            self._jobs.popleft()
            _Job(self)
            self._free -= 1


class _Job:
    """A job or run, from its first request to its result."""

    __slots__ = (
        "_accepted", "_attempt", "_begun", "_client", "_execution", "_gate", "_limit", "_polls", "_seen", "_simulation",
    )  # fmt: skip

    def __init__(self, client: _Client) -> None:
        self._client, self._simulation = client, client.simulation
        self._execution = 0.0
        self._polls = 0
        self._seen = False
        self._request(self._simulation.work.submit)

    def _retrieve(self) -> None:
        self._request(LimitName.RETRIEVAL)

    def _request(self, name: LimitName) -> None:
        simulation = self._simulation
        self._limit, self._attempt, self._begun = simulation.served[name], 0, simulation.now
        self._gate = self._client.gates.get(name)
        if self._gate is None:
            self._send()
        else:
            self._gate.join(self._send, poll=self._polls > 0)

    def _send(self) -> None:
        simulation, limit, gate = self._simulation, self._limit, self._gate
        decision = limit.decide(simulation.epoch + simulation.now)
        limit.sent += 1
        if gate is not None:
            gate.learn(decision)
        if decision.allowed:
            if quota := simulation.policy.quota:
                self._client.tokens = min(quota, self._client.tokens + (_RETRY_TOKENS if self._attempt else 1))
            self._pass(decision.delay)
            return
        limit.rejected += 1
        simulation.rejections += 1
        if gate is not None:
            gate.join(self._send, poll=self._polls > 0)
        else:
            self._again(simulation.limits.stated_wait(decision))

    def _pass(self, delay: float) -> None:
        """Schedule what follows an accepted request. A leaky queue first holds it for ``delay`` s."""
        simulation, limiter = self._simulation, self._limit.limiter
        if not self._polls:
            self._execution = next(simulation.executions)
        takes = simulation.limits.round_trip_s + (0.0 if simulation.work.polled else self._execution)
        if self._limit.held:
            simulation.after(takes, partial(limiter.release, 0.0))
        if not self._polls:
            self._accepted = simulation.now + delay
            if simulation.work.polled:
                self._poll(delay + takes)
                return
        self._seen = not simulation.work.polled or simulation.now + delay >= self._accepted + self._execution
        simulation.after(delay + takes, self._answered)

    def _again(self, stated: float | None) -> None:
        """Retry after a 429, or give the request up. After a poll that is given up, the next poll follows as usual."""
        simulation, policy, client = self._simulation, self._simulation.policy, self._client
        self._attempt += 1
        trip, wait = simulation.limits.round_trip_s, None
        if policy.retries_polls or not self._polls:
            wait = policy.wait(self._attempt, simulation.now - self._begun, simulation.draw(), stated)
        if wait is not None and (not policy.quota or client.tokens >= _RETRY_TOKENS):
            client.tokens -= _RETRY_TOKENS
            simulation.after(wait + trip, self._send)
        elif self._polls:
            simulation.after(trip, self._answered)
        else:
            client.ended()

    def _poll(self, late: float) -> None:
        """Schedule the next poll. The last answer reaches the client in ``late`` s."""
        self._polls += 1
        simulation = self._simulation
        elapsed = simulation.now + late - self._accepted
        if (wait := simulation.policy.poll(self._polls, elapsed, simulation.draw)) is None:
            self._client.ended()
        else:
            simulation.after(late + wait, self._retrieve)

    def _answered(self) -> None:
        simulation = self._simulation
        if self._polls and self._gate is not None:
            self._gate.ended()
        if not self._seen:
            self._poll(0.0)
            return
        if gates := self._client.gates:
            gates[simulation.work.submit].ended()
        simulation.last = simulation.now
        simulation.waits.append(simulation.now - self._accepted)
        self._client.ended()
