"""Adds users to the pools of a process before they run short of idle ones.

Who offers a run's arrivals: the engine conducts a crew, which is this process alone or workers elsewhere.
"""

import fcntl
import gc
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import gevent
import psutil
from gevent.event import Event
from locust.env import Environment

from loadtest.contract import Outcome, Reason
from loadtest.load.dispatcher import ALL, Dispatcher, Share
from loadtest.load.health import Health
from loadtest.load.pool import Pool
from loadtest.load.session import Session
from loadtest.record.run_info import ClockInfo, CpuSample, GeneratorInfo, PeerInfo
from loadtest.record.samples import Sample

_STEP: Final = 5
"""Users made at once: 5 take about 0.25 ms, for which nothing is sent."""
_PAUSE_S: Final = 0.001
_FREEZE_EVERY: Final = 100
_FILES: Final = 65_536
_SPARE_FILES: Final = 64
"""What a process has open beside a connection for each user."""

logger = logging.getLogger(__name__)


class Growth:
    """Watches pools, and makes more users of the class that is named after a pool when few of its users are idle.

    Args:
        environment: Locust's, whose runner's users they will be, so that it stops them, too.
        pools: by traffic entry.
    """

    def __init__(self, environment: Environment, pools: Mapping[str, Pool]) -> None:
        self._environment = environment
        self._pools = pools
        self._most_users = allow_files() - _SPARE_FILES
        self._made = 0
        self._scarce = Event()
        for pool in pools.values():
            pool.on_scarce = self._scarce.set
        self._greenlet = gevent.spawn(self._grow_forever)

    def stop(self) -> None:
        """Let the pools be as they are."""
        self._greenlet.kill()

    def _grow_forever(self) -> None:
        while True:
            self._scarce.wait()
            self._scarce.clear()
            while scarce := [(name, pool) for name, pool in self._pools.items() if pool.scarce]:
                for name, pool in scarce:
                    self._grow(name, pool)
                    # Not zero, after which the event loop would not look at sockets and timers first.
                    gevent.sleep(_PAUSE_S)

    def _grow(self, name: str, pool: Pool) -> None:
        runner = self._environment.runner
        if runner is None:
            return
        if runner.user_count + _STEP > self._most_users:
            # A user that cannot connect would look like a target that cannot be connected to.
            pool.cap = pool.size
            logger.warning("The pool of %s stays at %d users: no more files may be open (ulimit -n).", name, pool.size)
            return
        # As its spawn_users does it, which counts all users for its log at each call: ms, where there are many.
        make = runner.user_classes_by_name[name]
        step = min(_STEP, pool.cap - pool.size)
        pool.size += step
        self._made += step
        if self._made % _FREEZE_EVERY < step:
            # As at the epoch: users are no garbage, and to look through hundreds of new ones takes ms.
            gc.freeze()
        for _ in range(step):
            make(self._environment).start(runner.user_greenlets)


def allow_files() -> int:
    """Let this process have as many files open as the system lets it, at most 65,536.

    Returns:
        How many that is. Where there is no such limit, as many.
    """
    process = psutil.Process()
    if not hasattr(process, "rlimit"):
        return _FILES
    soft, hard = (_FILES if n == psutil.RLIM_INFINITY else n for n in process.rlimit(psutil.RLIMIT_NOFILE))
    files = max(soft, min(hard, _FILES))
    if soft < files:
        process.rlimit(psutil.RLIMIT_NOFILE, (files, process.rlimit(psutil.RLIMIT_NOFILE)[1]))
    _make_room(min(files, _FILES))
    return files


def _make_room(files: int) -> None:
    """Have the system make room for so many files now.

    Linux doubles the table of a process's files when it is full, and lets a process with several threads wait for
    5 to 15 ms each time.
    """
    with Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, files - 1))


class Crew(Protocol):
    """What the engine needs of whoever offers the arrivals."""

    on_abort: Callable[[str], None]
    """Told why the run should end, if it should."""

    @property
    def lead_ns(self) -> int:
        """How far ahead the epoch has to be set, for everybody to know of it in time."""
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
        """All is done: have everything that was recorded in the record. Users may still be there, and idle."""
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
    def clock(self) -> ClockInfo | None:
        """The target's clock against ours."""
        ...

    @property
    def peers(self) -> dict[str, PeerInfo]:
        """What was connected to, by address, all generator processes together."""
        ...


class LocalCrew:
    """This process alone, with the users of its session.

    Args:
        session: the run.
        share: which arrivals it offers; all of them by default.
    """

    def __init__(self, session: Session, share: Share | None = None) -> None:
        self.on_abort: Callable[[str], None] = lambda _: None
        self.share = share or Share(ALL, last=True)
        self._session = session
        self.dispatcher = Dispatcher(session.schedules, session.pools, session.live, self.share)
        self.health = Health(session.pools, worker=session.worker)
        self._growth: Growth | None = None
        self._offering: gevent.Greenlet | None = None

    @property
    def lead_ns(self) -> int:
        """Writing down when the epoch is takes some ms, which would be the first arrivals' start lag."""
        return 50_000_000

    @property
    def clock(self) -> ClockInfo | None:
        """As the answers to this process tell it."""
        return self._session.clock.estimate(exact=self._session.info.target.embedded)

    @property
    def peers(self) -> dict[str, PeerInfo]:
        """What this process connected to."""
        return self._session.endpoint.address.names.peers

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
        """Whether the share is exhausted; an error of the dispatcher is raised here."""
        if self._offering is not None and self._offering.ready():
            self._offering.get()
        return self.share.exhausted

    @property
    def quiet(self) -> bool:
        """Whether every pool is."""
        return all(pool.quiet for pool in self._session.pools.values())

    def begin(self) -> None:
        """Offer the share from the session's epoch on."""
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
        """Nothing: the recorder is closed by the engine."""

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
