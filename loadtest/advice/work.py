"""The work of clients, and the rate limiters that may be in force."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from loadtest.arrays import Floats
from loadtest.contract import LIMIT_OF_OPERATION, LimitName, Operation
from loadtest.errors import InputError
from loadtest.limits import ALGORITHMS, CONCURRENCY, Decision, Limiter, LimiterSpec, at_once, in_words, make
from loadtest.units import Limit
from loadtest.words import limit as limit_words

ROUND_TRIP_S: Final = 0.002
"""Default seconds from a request to its answer, typical of a loopback target."""
JITTER_S: Final = 0.001
"""Default variation of a request's time to the server, in s."""
_SPARE: Final = 1.25
"""The maximum number of unfinished jobs is this many times the number that keeps the retrieval limit busy."""
MOST: Final = 200_000
"""Maximum number of jobs or runs that are simulated."""
_STREAM_WINDOWS: Final = 3
"""Work without end is simulated for this many times the longest window of any limit."""


class Candidate(NamedTuple):
    """A limiter that may be in force."""

    spec: LimiterSpec
    limit: Limit

    @property
    def algorithm(self) -> str:
        return self.spec.algorithm

    @property
    def windowed(self) -> bool:
        return ALGORITHMS[self.algorithm].windowed

    @property
    def words(self) -> str:
        if self.algorithm == CONCURRENCY:
            return f"{self.limit.count} at the same time"
        return f"{in_words(self.spec)}, {limit_words(self.limit.count, self.limit.window)}"

    def spacing(self, clients: int, jitter_s: float) -> float:
        """Return a safe time in s between two requests of a client, if the clients take turns."""
        limit = self.limit
        if self.algorithm == CONCURRENCY:  # It has no pace, so a client that adapts begins with this spacing.
            return clients / limit.count
        if self.windowed and (share := (limit.count - 1) // clients):
            return (limit.window + jitter_s) / share
        return clients * (limit.window / limit.count + jitter_s)

    def stricter(self, jitter_s: float) -> "Candidate":
        """Return a stricter limiter for a client's replica.

        This candidate accepts every request that the stricter limiter accepts, even if times vary by ``jitter_s``.
        """
        spec, limit = self
        if spec.on_clock:  # Unchanged: the gate sends no requests near the windows' edges.
            return self
        if self.windowed:
            return Candidate(spec, Limit(limit.count, limit.window + jitter_s))
        burst, holds = at_once(spec, limit), ALGORITHMS[spec.algorithm].holds
        # One waiting request in a queue is enough to hide the jitter. In a bucket, one spare token absorbs the jitter.
        if most := min(burst - 1, 1) if holds else burst - 1:
            return Candidate(replace(spec, algorithm="gcra", burst=most), limit)
        slower = Limit(limit.count, limit.window + jitter_s * limit.count)
        return Candidate(replace(spec, algorithm="gcra", burst=1), slower)

    def limiter(self) -> Limiter:
        return make(self.spec, self.limit)


World = Mapping[LimitName, Candidate]
"""The limiter of each limit in one simulation."""


@dataclass(frozen=True)
class Limits:
    """The limiters that may be in force, by limit.

    Attributes:
        shared: whether one limiter counts the requests of all limits together.
        retry_after: whether a 429 states the seconds to wait.
        jitter_s: variation of a request's time to the server.
        round_trip_s: time from a request to its answer.
    """

    candidates: Mapping[LimitName, Sequence[Candidate]]
    shared: bool = False
    retry_after: bool = True
    jitter_s: float = JITTER_S
    round_trip_s: float = ROUND_TRIP_S

    def stated_wait(self, decision: Decision) -> float | None:
        """Return the whole seconds in a 429's Retry-After header, or None if 429s have no such header."""
        return float(math.ceil(decision.retry_after or 1.0)) if self.retry_after else None

    @property
    def worlds(self) -> list[World]:
        """Combinations of candidates. Every candidate of every limit occurs in at least one of them."""
        most = max(len(each) for each in self.candidates.values())
        return [{name: each[k % len(each)] for name, each in self.candidates.items()} for k in range(most)]

    def rate(self, name: LimitName) -> float:
        """Return the requests/s that every candidate accepts in the long run."""
        return min(math.inf if each.algorithm == CONCURRENCY else each.limit.rate for each in self.candidates[name])

    def spacing(self, name: LimitName, clients: int) -> float:
        """Return the time in s between two requests of each client that is safe under every candidate."""
        return max(each.spacing(clients, self.jitter_s) for each in self.candidates[name])

    def unfinished(self, longest_s: float) -> float:
        """Return the maximum number of unfinished jobs of all paced clients.

        With this many jobs, the retrieval limit stays busy, even if every job runs for ``longest_s``.
        """
        most = [
            2 * at_once(each.spec, each.limit) + each.limit.rate * longest_s
            for each in self.candidates[LimitName.RETRIEVAL]
            if each.algorithm != CONCURRENCY
        ]
        return max(1.0, _SPARE * max(most, default=math.inf))


def any_algorithm(limit: Limit) -> tuple[Candidate, ...]:
    """Return the limiters that may enforce a limit of requests per window."""
    return tuple(Candidate(LimiterSpec(name), limit) for name in ALGORITHMS if name != CONCURRENCY)


@dataclass(frozen=True)
class Work:
    """The work to be done.

    Attributes:
        count: number of jobs or runs; for work without end, the simulated number.
        rate: arrivals/s of work without end. If it is None, all work is present at the start.
        execution_s: observed execution times in s, ascending.
        epoch: the beginning of the work, in unix seconds.
    """

    operation: Operation
    count: int
    rate: float | None = None
    clients: int = 1
    execution_s: Floats = field(default_factory=lambda: np.array([1.0]))
    epoch: float = 1.8e9 - 1.8e9 % 3600

    @cached_property
    def submit(self) -> LimitName:
        """The limit of the first request."""
        return LIMIT_OF_OPERATION[self.operation]

    @cached_property
    def polled(self) -> bool:
        return self.operation == Operation.ASYNC_RUN

    @property
    def names(self) -> tuple[LimitName, ...]:
        """The limits that the work uses."""
        return (self.submit, LimitName.RETRIEVAL) if self.polled else (self.submit,)

    @cached_property
    def executions(self) -> list[float]:
        """The execution time of each job. The observed times are shuffled, always into the same order."""
        order = np.random.Generator(np.random.PCG64(self.count)).permutation(self.count)
        places = (order + 0.5) / self.count * len(self.execution_s)
        return list(self.execution_s[places.astype(int)].tolist())

    @property
    def words(self) -> str:
        return f"{self.count:,} {self.operation.called(self.count)}"


def endless_count(rate: float, limits: Limits) -> int:
    """Return the number of arrivals to simulate for work without end.

    Raises ``InputError`` if the number is above ``MOST``.
    """
    window = max(each.limit.window for some in limits.candidates.values() for each in some)
    if (count := max(1, round(rate * window * _STREAM_WINDOWS))) > MOST:
        raise InputError(
            f"--rate is too high: {_STREAM_WINDOWS} windows of {window:g} s would take {count:,} arrivals, "
            f"and at most {MOST:,} are simulated",
            "Lower --rate, or replace it by --jobs.",
        )
    return count
