"""Pools of users, one for each traffic entry: handing arrivals to users, and growth."""

import fcntl
import gc
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event

from loadtest.processes import MOST_FILES, SPARE_FILES, allow_files
from loadtest.record.run_info import PoolInfo
from loadtest.schedule import Arrival

if TYPE_CHECKING:  # importing Locust patches the interpreter, which tests of pools avoid
    from locust.env import Environment

logger = logging.getLogger(__name__)
_CROWD: Final = 8
_STEP: Final = 5
"""Number of users made at once. Making 5 takes about 0.25 ms, during which nothing is sent."""
_PAUSE_S: Final = 0.001
_FREEZE_EVERY: Final = 100


class Pool:
    """The users of one traffic entry, and arrivals that wait for a free user.

    The most recently used user gets the next arrival, so that its connection is warm. A pool starts with ``size`` users
    and may grow to ``cap``; without ``cap``, its size is fixed.
    """

    def __init__(self, size: int, cap: int | None = None) -> None:
        self.started = size
        self.size = size
        """Number of users, including those being started."""
        self.cap = size if cap is None else max(size, cap)
        self.backlog: deque[Arrival] = deque()
        """Due arrivals that wait for a user."""
        self.on_scarce: Callable[[], None] = lambda: None
        """Called at each arrival that leaves few users idle, while the pool may grow (see ``Growth``)."""
        self._closed = False
        # Users' greenlets by identity, in order of becoming idle. Removal from a list would need a search.
        self._idle: dict[int, Any] = {}
        self._all: set[int] = set()
        self._waited = self._longest_ns = self._full_ns = 0
        # Start of the wait (monotonic ns) by number of the arrival, the oldest first.
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
        """Whether the pool should and may grow, because few users are idle."""
        return self.size < self.cap and len(self._idle) < self._reserve and not self._closed

    def offer(self, arrival: Arrival) -> None:
        """Hand a due arrival to an idle user, which begins it before this call returns, or put it into the backlog."""
        if self._idle and not self._closed:
            _hand(self._idle.popitem()[1], arrival)
        else:
            self._wait(arrival)
        if self.size < self.cap and self.scarce:
            self.on_scarce()

    def take(self) -> Arrival:
        """Wait for the next arrival. A free user's greenlet calls this, and may be stopped meanwhile."""
        user = getcurrent()
        self._all.add(id(user))
        if self.backlog:
            # Other greenlets need a turn while arrivals wait.
            gevent.sleep(0)
            if self.backlog and not self._closed:
                return self._relieve(time.monotonic_ns())
        self._idle[id(user)] = user
        try:
            arrival: Arrival = get_hub().switch()
        except BaseException:
            self._idle.pop(id(user), None)
            raise
        return arrival

    def close(self) -> None:
        """Stop handing out arrivals; the backlog stays."""
        self._closed = True

    def surrender(self) -> list[Arrival]:
        waiting = list(self.backlog)
        now = time.monotonic_ns()
        while self.backlog:
            self._relieve(now)
        return waiting

    def figures(self, now_ns: int) -> PoolInfo:
        """Return the figures until ``now_ns`` (monotonic)."""
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
        """Wanted number of idle users: a tenth of the pool, at least five, but at most half of the pool."""
        return max(1, min(self.size // 2, max(5, self.size // 10)))

    def _wait(self, arrival: Arrival) -> None:
        self.backlog.append(arrival)
        if self._closed:
            # Nothing is handed out any longer, so the arrival does not wait for a user.
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
    """Switch to an idle user with an arrival, and return as soon as the user waits for something.

    If a queue handed the arrival over, the user would begin after all other work of the event loop's turn.
    """
    current, hub = getcurrent(), get_hub()
    if current is hub:
        # When the user waits, it switches back to the event loop.
        user.switch(arrival)
        return
    back = hub.loop.run_callback(current.switch)
    try:
        user.switch(arrival)
    finally:
        # A greenlet that was stopped meanwhile must not be woken again.
        back.stop()


class Growth:
    """Adds users to pools that have few idle users.

    A user's class is named after its pool. Locust's runner owns the users, and stops them.
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
                    # With zero, the event loop would not look at sockets and timers first.
                    gevent.sleep(_PAUSE_S)

    def _grow(self, name: str, pool: Pool) -> None:
        runner = self._environment.runner
        if runner is None:
            return
        if runner.user_count + _STEP > self._most_users:
            # A user that cannot open a socket would look like an unreachable target.
            pool.cap = pool.size
            logger.warning("The pool of %s stays at %d users: no more files may be open (ulimit -n).", name, pool.size)
            return
        # Equivalent to spawn_users, which takes ms to count many users for its log.
        make = runner.user_classes_by_name[name]
        step = min(_STEP, pool.cap - pool.size)
        pool.size += step
        self._made += step
        if self._made % _FREEZE_EVERY < step:
            # Users are never garbage; a collection that scans hundreds of them takes ms.
            gc.freeze()
        for _ in range(step):
            make(self._environment).start(runner.user_greenlets)


def _make_room(files: int) -> None:
    """Enlarge the process's table of files now.

    Linux doubles a full table, which blocks a process with several threads for 5 to 15 ms each time.
    """
    with Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, files - 1))
