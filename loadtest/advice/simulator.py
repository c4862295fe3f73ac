"""Simulation of clients and rate limiters in virtual time: a heap of processes, each a generator that yields its wait.

Requests reach the server at once; an answer is known a round trip later. Jobs start when their submit is let through.
"""

import math
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop
from typing import Final

import numpy as np

from loadtest.advice.gates import Door, Process, Scheduler
from loadtest.advice.policies import Policy
from loadtest.advice.work import Limits, Work, World
from loadtest.contract import LimitName
from loadtest.limits import CONCURRENCY, Decision, Limiter

MOST_S: Final = 86_400.0
"""Seconds after which a simulation ends, whether or not the work is done."""
_MOST_PER_JOB: Final = 200
_MOST_MORE: Final = 10_000
"""A simulation also ends after this many 429s per job and in addition, because some limiters may lock clients out."""


@dataclass(frozen=True, slots=True)
class SimulatedEnd:
    """The end of one simulation.

    Attributes:
        seconds: time of the last result; infinite if some job has none.
        sent: requests by limit.
        last_s: time of the last result that was seen.
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


class Simulation(Scheduler):
    """One policy under one limiter for each limit. A simulation can run only once."""

    def __init__(self, work: Work, limits: Limits, world: World, policy: Policy, seed: int = 0) -> None:
        super().__init__(seed)
        self.work, self.limits, self.policy = work, limits, policy
        made: dict[LimitName, Limiter] = {}
        for name in work.names:
            made[name] = made[work.submit] if limits.shared and made else world[name].limiter()
        self._limiters = made
        self._held = {name for name in work.names if world[name].algorithm == CONCURRENCY}
        self._sent, self._rejected = dict.fromkeys(work.names, 0), dict.fromkeys(work.names, 0)
        self._waits: list[float] = []
        self._last, self._rejections = 0.0, 0
        self._executions = work.executions

    def run(self) -> SimulatedEnd:
        """Run until the work is done or given up, or for ``MOST_S`` of virtual time."""
        for process in self._clients():
            self.start(process)
        heap, resume = self._heap, self.resume
        most = _MOST_PER_JOB * self.work.count + _MOST_MORE
        while heap and heap[0][0] <= MOST_S and self._rejections <= most:
            self.now, _, process = heappop(heap)
            resume(process)
        done = len(self._waits)
        return SimulatedEnd(
            done=done,
            seconds=self._last if done == self.work.count else math.inf,
            sent=self._sent,
            rejected=self._rejected,
            last_s=self._last,
            wait_p95_s=float(np.percentile(self._waits, 95)) if done else math.inf,
        )

    def ask(self, name: LimitName, takes: float) -> Decision:
        """Send a request now; an accepted request ends after ``takes`` s."""
        limiter = self._limiters[name]
        decision = limiter.decide(self.work.epoch + self.now)
        self._sent[name] += 1
        if not decision.allowed:
            self._rejected[name] += 1
            self._rejections += 1
        elif self._held and name in self._held:
            self.start(self._release(limiter), takes)
        return decision

    def _release(self, limiter: Limiter) -> Process:
        limiter.release(self.work.epoch + self.now)
        return
        yield

    def _clients(self) -> Iterator[Process]:
        work, policy = self.work, self.policy
        rate = 1 / policy.every_s if work.rate is None and policy.every_s else work.rate
        for client in range(work.clients):
            mine = deque(range(client, work.count, work.clients))
            gates = policy.gates(self, client) if policy.gates else {}
            if rate is not None or gates:
                yield self._arrivals(mine, gates, rate or math.inf)
            else:
                yield from (self._slot(mine) for _ in range(policy.in_flight))

    def _arrivals(self, jobs: "deque[int]", gates: Mapping[LimitName, Door], rate: float) -> Process:
        """Start the jobs at the times that ``rate`` gives."""
        for number in jobs:
            if (wait := number / rate - self.now) > 0:
                yield wait
            self.resume(self._job(number, gates))

    def _slot(self, jobs: "deque[int]") -> Process:
        """Do one job after another."""
        while jobs:
            yield from self._job(jobs.popleft(), {})

    def _job(self, number: int, gates: Mapping[LimitName, Door]) -> Process:
        work, policy, trip = self.work, self.policy, self.limits.round_trip_s
        door, polls, execution = gates.get(work.submit), gates.get(LimitName.RETRIEVAL), self._executions[number]
        takes = trip if work.polled else trip + execution
        decision = yield from self._request(work.submit, takes, door)
        if decision is None:
            return
        accepted = self.now + decision.delay
        late, polled, seen = decision.delay + takes, 0, not work.polled
        if seen:
            yield late
        while not seen:
            polled += 1
            if (wait := policy.poll(polled, self.now + late - accepted, self.draw)) is None:
                return
            yield late + wait
            decision = yield from self._request(LimitName.RETRIEVAL, trip, polls, retries=policy.retries_polls)
            delay, late = (decision.delay if decision else 0.0), 0.0
            seen = decision is not None and self.now + delay >= accepted + execution
            yield delay + trip
            if polls is not None:
                polls.ended()
        if door is not None:
            door.ended()
        self._seen(accepted)

    def _request(
        self, name: LimitName, takes: float, door: Door | None, *, retries: bool = True
    ) -> Generator[float | Door, None, Decision | None]:
        """Send a request until it is accepted; None if the client gives up."""
        attempt, begun = 0, self.now
        while True:
            if door is not None:
                yield door
            decision = self.ask(name, takes)
            if door is not None:
                door.learn(decision)
            if decision.allowed:
                return decision
            attempt += 1
            if door is None:
                stated = self.limits.stated_wait(decision)
                wait = self.policy.wait(attempt, self.now - begun, self.draw(), stated) if retries else None
                if wait is None:
                    return None
                yield wait + self.limits.round_trip_s

    def _seen(self, accepted: float) -> None:
        self._last = self.now
        self._waits.append(self.now - accepted)
