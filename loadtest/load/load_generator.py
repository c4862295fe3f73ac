"""The load generator of a run in one process, and ways to end such a process."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import gevent
from gevent import os as gevent_os

from loadtest.contract import Outcome, Reason
from loadtest.errors import LoadtestError
from loadtest.load.dispatcher import ALL, Dispatcher, Partition
from loadtest.load.health import Health
from loadtest.load.pool import Growth
from loadtest.load.session import Session
from loadtest.program import pasteable
from loadtest.record.run_info import BudgetUse, ClockInfo, CpuSample, GeneratorInfo, PeerInfo

_PAUSE: Final = 0.02


def wait_until(patience: float, over: Callable[[], bool]) -> bool:
    """Wait at most ``patience`` seconds until a condition holds. Return whether it holds."""
    deadline = time.monotonic() + patience
    while not (held := over()) and time.monotonic() < deadline:
        gevent.sleep(_PAUSE)
    return held


class LocalGenerator:
    """Offers the arrivals of a partition, by default all arrivals, to the users of this process.

    ``DistributedGenerator`` in ``distributed.master`` has the same methods, but its load comes from workers.
    """

    lead_ns = 50_000_000
    """The epoch is set this many ns ahead, so that writing run.json does not count as start lag."""

    def __init__(self, session: Session, partition: Partition | None = None) -> None:
        self.partition = partition or Partition(ALL, last=True)
        self._session = session
        self.dispatcher = Dispatcher(
            session.schedules, session.pools, session.live, self.partition, session.recorder.offer
        )
        self._health = Health(session.pools, worker=session.worker)
        self._growth: Growth | None = None
        self._offering: gevent.Greenlet | None = None

    @property
    def budget_used(self) -> BudgetUse:
        return self._session.endpoint.budget.used

    @property
    def clock(self) -> ClockInfo | None:
        return self._session.clock.estimate(exact=self._session.info.target.embedded)

    @property
    def peers(self) -> dict[str, PeerInfo]:
        return self._session.endpoint.address.resolver.peers

    @property
    def cpu(self) -> list[CpuSample]:
        return self._health.cpu

    @property
    def generators(self) -> list[GeneratorInfo]:
        return [self._health.figures()]

    @property
    def ready(self) -> bool:
        """Whether every user has requested its first arrival."""
        return all(pool.ready for pool in self._session.pools.values())

    @property
    def offered_all(self) -> bool:
        """Whether all arrivals of the partition were offered. Raises the dispatcher's error, if there is one."""
        if self._offering is not None and self._offering.ready():
            self._offering.get()
        return self.partition.exhausted

    @property
    def quiet(self) -> bool:
        return all(pool.quiet for pool in self._session.pools.values())

    def begin(self) -> None:
        self._growth = Growth(self._session.environment, self._session.pools)
        self._health.start(self._session.epoch_ns)
        self._offering = gevent.spawn(self.dispatcher.run, self._session.epoch_ns)

    def stop(self, *, discard: bool = False) -> None:
        """Offer nothing more. With ``discard``, arrivals that wait for a user are not sent."""
        if self._offering is not None:
            self._offering.kill()
            self._offering = None
        if discard:
            for pool in self._session.pools.values():
                pool.close()

    def finish(self) -> None:
        """Do nothing, because this process has recorded all its samples."""

    def unwatch(self) -> None:
        if self._growth is not None:
            self._growth.stop()
        self._health.stop()

    def end(self, *, aborted: bool) -> None:
        session = self._session
        reason = Reason.ABORTED if aborted else Reason.NO_USER_FREE
        for entry in session.entries.values():
            for arrival in entry.pool.surrender():
                session.record(session.operation(entry, arrival, Outcome.DROPPED, reason))


def on_signals(act: Callable[[], object]) -> list[Any]:
    """Call ``act`` in its own greenlet on SIGINT and SIGTERM. Return the handlers, so that they can be cancelled.

    Python's own handler of SIGINT raises an exception in the current greenlet, which would lose the greenlet's arrival.
    """
    return [gevent.signal_handler(number, act) for number in (signal.SIGINT, signal.SIGTERM)]


def on_end_of(descriptor: int, act: Callable[[], object]) -> None:
    """Call ``act`` when the parent process closes its end of a pipe or socket, or ends."""

    def watch() -> None:
        while gevent_os.tp_read(descriptor, 1024):
            pass
        act()

    gevent.spawn(watch)


@contextmanager
def plain_refusal() -> Iterator[None]:
    """End the process with the message and exit code of a ``LoadtestError``, without a traceback."""
    try:
        yield
    except LoadtestError as error:
        sys.stderr.write(pasteable(f"loadtest: {error}\n"))
        raise SystemExit(int(error.exit_code)) from None
