"""What makes the load of a run, for the engine to conduct: the protocol, and this process alone.

``distributed.master`` has the other one, whose load workers make.
"""

from collections.abc import Callable
from typing import Protocol

import gevent

from loadtest.contract import Outcome, Reason
from loadtest.load.dispatcher import ALL, Dispatcher, Partition
from loadtest.load.health import Health
from loadtest.load.pool import Growth
from loadtest.load.session import Session
from loadtest.record.run_info import BudgetUse, ClockInfo, CpuSample, GeneratorInfo, PeerInfo
from loadtest.record.samples import Sample


class LoadGenerator(Protocol):
    """What the engine needs of whatever makes the load of a run."""

    on_abort: Callable[[str], None]
    """Called with the reason where the run should end."""

    @property
    def lead_ns(self) -> int:
        """How far ahead the epoch has to be set, for every process to know of it in time."""
        ...

    @property
    def ready(self) -> bool:
        """Whether every user that is wanted has asked for an arrival."""
        ...

    @property
    def offered_all(self) -> bool:
        """Whether the whole schedule has been offered."""
        ...

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be sent, and nothing is in flight."""
        ...

    def begin(self) -> None:
        """Offer the schedule from the session's epoch on."""
        ...

    def stop(self, *, discard: bool = False) -> None:
        """Offer nothing more.

        Args:
            discard: whether what was offered and waits for a user is not sent any longer, either.
        """
        ...

    def finish(self) -> None:
        """The drain is over: have everything that was recorded in the record. Users may still be there, and idle."""
        ...

    def unwatch(self) -> None:
        """Users are about to go: watch them, and this process, no longer."""
        ...

    def end(self, *, aborted: bool) -> None:
        """Users are gone: record what became of arrivals that were never sent."""
        ...

    @property
    def cpu(self) -> list[CpuSample]:
        """CPU of the generator processes, second by second."""
        ...

    @property
    def generators(self) -> list[GeneratorInfo]:
        """What each generator process knows of itself."""
        ...

    @property
    def budget_used(self) -> BudgetUse:
        """What all generator processes together have used of the request budget so far, until the run's end."""
        ...

    @property
    def clock(self) -> ClockInfo | None:
        """The target's clock against ours."""
        ...

    @property
    def peers(self) -> dict[str, PeerInfo]:
        """The addresses that all generator processes together connected to."""
        ...


class LocalGenerator:
    """A ``LoadGenerator`` that is this process alone, with the users of its session.

    Args:
        session: the run.
        partition: which arrivals it offers; all of them by default.
    """

    def __init__(self, session: Session, partition: Partition | None = None) -> None:
        self.on_abort: Callable[[str], None] = lambda _: None
        self.partition = partition or Partition(ALL, last=True)
        self._session = session
        self.dispatcher = Dispatcher(session.schedules, session.pools, session.live, self.partition)
        self.health = Health(session.pools, worker=session.worker)
        self._growth: Growth | None = None
        self._offering: gevent.Greenlet | None = None

    @property
    def lead_ns(self) -> int:
        """Writing the epoch into run.json takes some ms, which would be the first arrivals' start lag."""
        return 50_000_000

    @property
    def budget_used(self) -> BudgetUse:
        """What this process has used."""
        return self._session.endpoint.budget.used

    @property
    def clock(self) -> ClockInfo | None:
        """By the answers to this process."""
        return self._session.clock.estimate(exact=self._session.info.target.embedded)

    @property
    def peers(self) -> dict[str, PeerInfo]:
        """What this process connected to."""
        return self._session.endpoint.address.resolver.peers

    @property
    def cpu(self) -> list[CpuSample]:
        """CPU of this process, second by second."""
        return self.health.cpu

    @property
    def generators(self) -> list[GeneratorInfo]:
        """What this process knows of itself."""
        return [self.health.figures()]

    @property
    def ready(self) -> bool:
        """Whether every user of every pool has asked for an arrival at least once."""
        return all(pool.ready for pool in self._session.pools.values())

    @property
    def offered_all(self) -> bool:
        """Whether the partition is exhausted; an error of the dispatcher is raised here."""
        if self._offering is not None and self._offering.ready():
            self._offering.get()
        return self.partition.exhausted

    @property
    def quiet(self) -> bool:
        """Whether every pool is."""
        return all(pool.quiet for pool in self._session.pools.values())

    def begin(self) -> None:
        """Offer the partition from the session's epoch on."""
        self._growth = Growth(self._session.environment, self._session.pools)
        self.health.start(self._session.epoch_ns)
        self._offering = gevent.spawn(self.dispatcher.run, self._session.epoch_ns)

    def stop(self, *, discard: bool = False) -> None:
        """Offer nothing more."""
        if self._offering is not None:
            self._offering.kill()
            self._offering = None
        if discard:
            for pool in self._session.pools.values():
                pool.close()

    def finish(self) -> None:
        """Nothing: the engine closes the recorder."""

    def unwatch(self) -> None:
        """Let pools and process be as they are."""
        if self._growth is not None:
            self._growth.stop()
        self.health.stop()

    def end(self, *, aborted: bool) -> None:
        """Record what still waits for a user as dropped."""
        session = self._session
        for name, pool in session.pools.items():
            entry = session.entries[name]
            for arrival in pool.surrender():
                session.record(
                    Sample(
                        row="operation",
                        traffic=name,
                        operation=entry.operation,
                        stage=arrival.stage,
                        outcome=Outcome.DROPPED,
                        reason=Reason.ABORTED if aborted else Reason.NO_USER_FREE,
                        arrival=arrival.number,
                        intended_start=arrival.intended_ns,
                        key_index=entry.key_index(arrival.number),
                        request_id=session.trace_id(entry, arrival.number),
                    )
                )
