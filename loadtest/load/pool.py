"""The users of one traffic entry, and which of them gets the next arrival."""

import time
from collections import deque
from typing import Protocol

from gevent.queue import SimpleQueue

from loadtest.schedule import Arrival


class Taker(Protocol):
    """What a pool needs of a user."""

    inbox: SimpleQueue
    free_ns: int


class Pool:
    """The users of one traffic entry, and the arrivals that wait for one of them.

    The longest-idle user is handed out last, so that connections stay as warm as a real client's.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.backlog: deque[Arrival] = deque()
        """Due arrivals that no user was free for."""
        self._closed = False
        # By identity, in the order in which they became idle: a list would be searched for each user that is stopped.
        self._idle: dict[int, Taker] = {}
        self._all: set[int] = set()

    @property
    def ready(self) -> bool:
        """Whether every user of the pool has asked for an arrival at least once."""
        return len(self._all) >= self.size

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be sent and every user is idle."""
        return (self._closed or not self.backlog) and len(self._idle) >= min(self.size, len(self._all))

    def offer(self, arrival: Arrival) -> None:
        """Hand an arrival that is due to an idle user, or let it wait for one."""
        if self._idle and not self._closed:
            self._idle.popitem()[1].inbox.put(arrival)
        else:
            self.backlog.append(arrival)

    def take(self, user: Taker) -> Arrival:
        """Wait for the next arrival, as a user that is free from now on.

        A user that is stopped while it waits leaves nothing behind: what was already handed to it goes back.
        """
        user.free_ns = time.monotonic_ns()
        self._all.add(id(user))
        if self.backlog and not self._closed:
            return self.backlog.popleft()
        self._idle[id(user)] = user
        try:
            arrival: Arrival = user.inbox.get()
        except BaseException:
            self._idle.pop(id(user), None)
            while not user.inbox.empty():
                self.give_back(user.inbox.get())
            raise
        return arrival

    def close(self) -> None:
        """Hand nothing out any longer: what waits stays in the backlog."""
        self._closed = True

    def give_back(self, arrival: Arrival) -> None:
        """Let an arrival that was taken but never sent wait again, at the front."""
        self.backlog.appendleft(arrival)
