"""Offers the arrivals of the schedule: wakes at their intended starts, and hands them to the pools of users.

One process alone offers them all. A worker offers its partition: from each moment on, every n-th arrival that it was
assigned, until a cut on which all workers have agreed (see ``distributed.assignment``).
"""

import ctypes
import ctypes.util
import heapq
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, Final, NamedTuple

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event

from loadtest.load.live import LiveFigures
from loadtest.load.pool import Pool
from loadtest.schedule import Arrival, TrafficSchedule

NEVER: Final = 2**63 - 1
"""A moment that does not come, in ns."""
_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_READ: Final = 1
_YIELD_EVERY: Final = 50
_LOOK_NS: Final = 50_000_000
"""How often a long wait looks whether it is still wanted."""
_HELD: Final = 0.01


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def _library() -> ctypes.CDLL | None:
    # os.timerfd_create comes with Python 3.13 only.
    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "timerfd_create") else None


class Timer:
    """Lets one greenlet at a time wait until a moment of the monotonic clock, to about 0.1 ms.

    ``gevent.sleep`` wakes on a 1 ms grid and oversleeps; a Linux ``timerfd`` watched by gevent's loop does not.
    Elsewhere, sleeping has to do.
    """

    def __init__(self) -> None:
        self._library = _library()
        self._fd = -1
        if self._library is not None:
            self._fd = self._library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        self._setting = _Setting()
        self._waiting: Any = None
        self._hub: Any = get_hub()
        loop = self._hub.loop
        # Before whatever else became ready at the same time. For good: each start of a watcher may be a system call.
        self._watcher = loop.io(self._fd, _READ, priority=loop.MAXPRI) if self._fd >= 0 else None
        if self._watcher is not None:
            self._watcher.start(self._on_due)

    def wait_until(self, moment_ns: int) -> None:
        """Wait until ``time.monotonic_ns()`` reaches a moment; return at once if it has passed."""
        if self._watcher is None or self._library is None:
            gevent.sleep(max(0.0, (moment_ns - time.monotonic_ns()) / 1e9))
            return
        if moment_ns <= time.monotonic_ns():
            return
        value = self._setting.value
        value.seconds, value.nanoseconds = divmod(moment_ns, 1_000_000_000)
        # It is not ready to be read any longer, either.
        self._library.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(self._setting), None)
        self._waiting = getcurrent()
        try:
            self._hub.switch()
        finally:
            self._waiting = None

    def _on_due(self) -> None:
        if (waiting := self._waiting) is not None:
            waiting.switch()
        else:
            # Nobody has set it anew: it would be reported until it is read.
            with suppress(BlockingIOError):
                os.read(self._fd, 8)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
            os.close(self._fd)


class Stride(NamedTuple):
    """Every ``step``-th arrival of each traffic entry from a moment on; none at all where ``step`` is 0."""

    from_ns: int
    """ns since the epoch."""
    place: int
    """Which of them: 0 for the entry's first, and so on."""
    step: int


ALL: Final = Stride(0, 0, 1)


class Partition:
    """Which arrivals one process offers: a stride, and others after it, each from where the one before was cut.

    Args:
        first: what to begin with; None to wait for it.
        last: whether no other stride can follow.
        held: gives whether nothing may be offered right now, even what is due.
    """

    def __init__(
        self, first: Stride | None = None, *, last: bool = False, held: Callable[[], bool] = lambda: False
    ) -> None:
        self.last = last
        self.held = held
        self.until_ns = NEVER
        """Arrivals of the present stride that are intended from here on are not offered."""
        self.reached_ns = -1
        """Intended start of the last arrival that was offered."""
        self.exhausted = False
        """Whether the schedule holds nothing more for this process, by the strides that it has."""
        self._next: deque[tuple[Stride, int]] = deque([] if first is None else [(first, NEVER)])
        self._more = Event()

    def stop_at(self, cut_ns: int) -> bool:
        """End the newest stride at ``cut_ns``; False, and nothing changes, where a later one was offered already."""
        if self._next:
            self._next[-1] = (self._next[-1][0], cut_ns)
            return True
        if self.reached_ns >= cut_ns:
            return False
        self.until_ns = cut_ns
        return True

    def assign(self, stride: Stride) -> None:
        """Give the next stride. It has to begin where the one before was cut."""
        self.exhausted = False
        self._next.append((stride, NEVER))
        self._more.set()

    @property
    def superseded(self) -> bool:
        return bool(self._next)

    def withdraw(self) -> None:
        """Offer nothing at all before the next stride."""
        self.until_ns = -1
        self._next.clear()

    def take(self) -> Stride:
        while not self._next:
            self._more.clear()
            self._more.wait()
        stride, self.until_ns = self._next.popleft()
        return stride


class Dispatcher:
    """Offers arrivals of all traffic entries at their intended starts; all of them, or those of a partition."""

    def __init__(
        self,
        schedules: Sequence[TrafficSchedule],
        pools: dict[str, Pool],
        live: LiveFigures,
        partition: Partition | None = None,
    ) -> None:
        self._schedules = schedules
        self._pools = pools
        self._live = live
        self._partition = partition or Partition(ALL, last=True)
        self._late = 0

    def run(self, epoch_ns: int) -> None:
        """Offer every arrival of the partition; returns only where no other stride can follow."""
        timer = Timer()
        try:
            while True:
                self._offer_all(self._partition.take(), timer, epoch_ns)
                if self._partition.last:
                    return
        finally:
            timer.close()

    def offer(self, arrival: Arrival) -> None:
        self._live.offer(arrival.traffic, arrival.intended_ns)
        self._pools[arrival.traffic].offer(arrival)

    def _offer_all(self, stride: Stride, timer: Timer, epoch_ns: int) -> None:
        partition = self._partition
        schedules = self._schedules if stride.step else ()
        by_entry = [schedule.share(stride.place, stride.step, stride.from_ns) for schedule in schedules]
        for arrival in heapq.merge(*by_entry, key=attrgetter("intended_ns")):
            if not self._await(arrival, timer, epoch_ns):
                return
            partition.reached_ns = arrival.intended_ns
            self.offer(arrival)
        partition.exhausted = True

    def _await(self, arrival: Arrival, timer: Timer, epoch_ns: int) -> bool:
        """Wait until an arrival is due; whether it is still ours then."""
        partition, due = self._partition, epoch_ns + arrival.intended_ns
        while True:
            now = time.monotonic_ns()
            if arrival.intended_ns >= partition.until_ns:
                # It is another worker's, or still ours if the next stride turns out to begin later.
                if partition.superseded:
                    return False
                gevent.sleep(_HELD)
            elif due > now:
                timer.wait_until(min(due, now + _LOOK_NS))
                self._late = 0
            elif partition.held():
                gevent.sleep(_HELD)
            else:
                self._late += 1
                if self._late % _YIELD_EVERY == 0:
                    # Behind the schedule: those who were handed an arrival must get to send it.
                    gevent.sleep(0)
                return True
