"""The users of one traffic entry, and which of them gets the next arrival."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import gevent
from gevent import get_hub, getcurrent

from loadtest.record.run_info import PoolInfo
from loadtest.schedule import Arrival

_CROWD: Final = 8


class Taker(Protocol):
    """What a pool needs of a user."""

    free_ns: int
    """When it became free (monotonic ns); set by the pool."""


class Pool:
    """The users of one traffic entry, and the arrivals that wait for one of them.

    The longest-idle user is handed out last, so that connections stay as warm as a real client's.

    Args:
        size: users that it starts with.
        cap: most that it may ever have; None for ``size``.
    """

    def __init__(self, size: int, cap: int | None = None) -> None:
        self.started = size
        self.size = size
        """Users that it has, or is about to have."""
        self.cap = size if cap is None else max(size, cap)
        self.backlog: deque[Arrival] = deque()
        """Due arrivals that no user was free for."""
        self.on_scarce: Callable[[], None] = _nobody
        """Called at each arrival that leaves few users idle, for as long as the pool may grow (see ``growth``)."""
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
        """Whether every user of the pool has asked for an arrival at least once."""
        return len(self._all) >= self.size

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be sent and every user is idle."""
        return (self._closed or not self.backlog) and len(self._idle) >= min(self.size, len(self._all))

    @property
    def crowded(self) -> bool:
        """Whether many of its users are busy."""
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
        """Let go of everything that waits, and return it."""
        waiting = list(self.backlog)
        now = time.monotonic_ns()
        while self.backlog:
            self._relieve(now)
        return waiting

    def give_back(self, arrival: Arrival) -> None:
        """Let an arrival that was taken but never sent wait again, at the front."""
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
        """Take the arrival that has waited longest."""
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
    back = get_hub().loop.run_callback(getcurrent().switch)
    try:
        user.switch(arrival)
    finally:
        # Whoever is stopped meanwhile must not be woken up again.
        back.stop()


def _nobody() -> None:
    """A pool that nobody watches does not grow."""
