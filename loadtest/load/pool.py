"""The pool of users of each traffic entry: which of them gets the next arrival, and how a pool grows."""

import fcntl
import gc
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event

from loadtest.processes import MOST_FILES, SPARE_FILES, allow_files
from loadtest.record.run_info import PoolInfo
from loadtest.schedule import Arrival

if TYPE_CHECKING:  # importing it patches the interpreter, which not every user of a pool wants
    from locust.env import Environment

logger = logging.getLogger(__name__)
_CROWD: Final = 8
_STEP: Final = 5
"""Users made at once: 5 take about 0.25 ms, for which nothing is sent."""
_PAUSE_S: Final = 0.001
_FREEZE_EVERY: Final = 100


class Taker(Protocol):
    """What a pool needs of a user."""

    free_ns: int
    """When it became free (monotonic ns); set by the pool."""


class Pool:
    """The users of one traffic entry, and the arrivals that wait for one of them.

    The longest-idle user is handed out last, so that connections stay as warm as a real client's. A pool starts with
    ``size`` users and may grow to ``cap``; without one it stays as it is.
    """

    def __init__(self, size: int, cap: int | None = None) -> None:
        self.started = size
        self.size = size
        """Users that it has, or is about to have."""
        self.cap = size if cap is None else max(size, cap)
        self.backlog: deque[Arrival] = deque()
        """Due arrivals that no user was free for."""
        self.on_scarce: Callable[[], None] = lambda: None
        """Called at each arrival that leaves few users idle, for as long as the pool may grow (see ``Growth``)."""
        self._closed = False
        # Greenlets by identity of their users, in the order in which they became idle: a list would be searched for
        # each user that is stopped.
        self._idle: dict[int, Any] = {}
        self._all: set[int] = set()
        self._waited = self._longest_ns = self._full_ns = 0
        # Since when which arrival has been waiting, by its number, the oldest first.
        self._since: dict[int, int] = {}
        self._full_since: int | None = None

    @property
    def ready(self) -> bool:
        return len(self._all) >= self.size

    @property
    def quiet(self) -> bool:
        return (self._closed or not self.backlog) and len(self._idle) >= min(self.size, len(self._all))

    @property
    def crowded(self) -> bool:
        return len(self._all) - len(self._idle) > _CROWD

    @property
    def scarce(self) -> bool:
        """Whether so few users are idle that it should grow, and it may."""
        return self.size < self.cap and len(self._idle) < self._reserve and not self._closed

    def offer(self, arrival: Arrival) -> None:
        """Hand an arrival that is due to an idle user, which begins it before this returns, or let it wait for one."""
        if self._idle and not self._closed:
            _hand(self._idle.popitem()[1], arrival)
        else:
            self._wait(arrival)
        if self.size < self.cap and self.scarce:
            self.on_scarce()

    def take(self, user: Taker) -> Arrival:
        """Wait for the next arrival, as a user that is free from now on.

        A user that is stopped while it waits leaves nothing behind.
        """
        user.free_ns = time.monotonic_ns()
        self._all.add(id(user))
        if self.backlog:
            # Nobody else would run for as long as arrivals wait and none of them has to be sent.
            gevent.sleep(0)
            if self.backlog and not self._closed:
                return self._relieve(time.monotonic_ns())
        self._idle[id(user)] = getcurrent()
        try:
            arrival: Arrival = get_hub().switch()
        except BaseException:
            self._idle.pop(id(user), None)
            raise
        return arrival

    def close(self) -> None:
        """Hand nothing out any longer: what waits stays in the backlog."""
        self._closed = True

    def surrender(self) -> list[Arrival]:
        waiting = list(self.backlog)
        now = time.monotonic_ns()
        while self.backlog:
            self._relieve(now)
        return waiting

    def give_back(self, arrival: Arrival) -> None:
        self.backlog.appendleft(arrival)

    def figures(self, now_ns: int) -> PoolInfo:
        """How it fared until now, a moment of the monotonic clock."""
        oldest = next(iter(self._since.values()), now_ns)
        full = self._full_ns + (0 if self._full_since is None else now_ns - self._full_since)
        return PoolInfo(
            started=self.started,
            size=self.size,
            cap=self.cap,
            waited=self._waited,
            longest_wait_ms=round(max(self._longest_ns, now_ns - oldest) / 1e6, 3),
            full_s=round(full / 1e9, 3),
        )

    @property
    def _reserve(self) -> int:
        """Users that had better be idle: a tenth, at least five, but no more than half of a small pool."""
        return max(1, min(self.size // 2, max(5, self.size // 10)))

    def _wait(self, arrival: Arrival) -> None:
        self.backlog.append(arrival)
        if self._closed:
            # Nobody was missing: nothing is handed out any longer.
            return
        now = self._since[arrival.number] = time.monotonic_ns()
        self._waited += 1
        if self._full_since is None:
            self._full_since = now

    def _relieve(self, now_ns: int) -> Arrival:
        arrival = self.backlog.popleft()
        since = self._since.pop(arrival.number, None)
        if since is not None:
            self._longest_ns = max(self._longest_ns, now_ns - since)
        if not self.backlog and self._full_since is not None:
            self._full_ns += now_ns - self._full_since
            self._full_since = None
        return arrival


def _hand(user: Any, arrival: Arrival) -> None:
    """Let an idle user go on with an arrival at once, and come back here as soon as it waits for something.

    By way of a queue, the user would begin after everything else that the event loop has to do in this turn.
    """
    current, hub = getcurrent(), get_hub()
    if current is hub:
        # As every greenlet that waits, it comes back to the event loop.
        user.switch(arrival)
        return
    back = hub.loop.run_callback(current.switch)
    try:
        user.switch(arrival)
    finally:
        # Whoever is stopped meanwhile must not be woken up again.
        back.stop()


class Growth:
    """Makes more users of the class that is named after a pool when few of its users are idle.

    They are users of Locust's runner, so that it stops them, too.
    """

    def __init__(self, environment: "Environment", pools: Mapping[str, Pool]) -> None:
        self._environment = environment
        self._pools = pools
        files = allow_files()
        _make_room(min(files, MOST_FILES))
        self._most_users = files - SPARE_FILES
        self._made = 0
        self._scarce = Event()
        for pool in pools.values():
            pool.on_scarce = self._scarce.set
        self._greenlet = gevent.spawn(self._grow_forever)

    def stop(self) -> None:
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


def _make_room(files: int) -> None:
    """Have the system make room for so many files now.

    Linux doubles the table of a process's files when it is full, and lets a process with several threads wait for
    5 to 15 ms each time.
    """
    with Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, files - 1))
