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
_GRAIN_NS: Final = 200_000
"""Least time between two wake-ups where arrivals are denser: to set a timer costs a tenth of a request's CPU."""
_DENSE: Final = 32
"""Arrivals over which density is looked at."""
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
    """Calls a function at moments of the monotonic clock, to about 0.1 ms, while a greenlet waits.

    ``gevent.sleep`` wakes on a 1 ms grid and oversleeps; a Linux ``timerfd`` watched by gevent's loop does not.
    Elsewhere, sleeping has to do.
    """

    def __init__(self) -> None:
        self._library = _library()
        self._fd = -1
        if self._library is not None:
            self._fd = self._library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        self._setting = _Setting()
        self._step: Callable[[], int | None] | None = None
        self._waiting: Any = None
        self._hub: Any = get_hub()
        loop = self._hub.loop
        # Before whatever else became ready at the same time. For good: each start of a watcher may be a system call.
        self._watcher = loop.io(self._fd, _READ, priority=loop.MAXPRI) if self._fd >= 0 else None
        if self._watcher is not None:
            self._watcher.start(self._on_due)

    def serve(self, step: Callable[[], int | None]) -> None:
        """Call ``step``, and again each time when the moment (ns) has come that it returned, until it returns None.

        It is called by the event loop, in which it must not wait.
        """
        while (moment_ns := step()) is not None:
            if self._watcher is None:
                gevent.sleep(max(0.0, (moment_ns - time.monotonic_ns()) / 1e9))
                continue
            self._set(moment_ns)
            self._step, self._waiting = step, getcurrent()
            try:
                self._hub.switch()
            finally:
                self._step = self._waiting = None
            return

    def _set(self, moment_ns: int) -> None:
        # It is not ready to be read any longer, either. Of 0, it would never be ready.
        value = self._setting.value
        value.seconds, value.nanoseconds = divmod(max(1, moment_ns), 1_000_000_000)
        if self._library is not None:
            self._library.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(self._setting), None)

    def _on_due(self) -> None:
        step, waiting = self._step, self._waiting
        if step is None:
            # It is not set anew: it would be reported until it is read.
            with suppress(BlockingIOError):
                os.read(self._fd, 8)
            return
        try:
            moment_ns = step()
        except Exception as error:  # noqa: BLE001 - the loop would only print it
            waiting.throw(error)
            return
        if moment_ns is None:
            waiting.switch()
        else:
            self._set(moment_ns)

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
        arrivals = heapq.merge(*by_entry, key=attrgetter("intended_ns"))
        following = next(arrivals, None)
        latest = deque([-_GRAIN_NS * _DENSE], _DENSE)

        def offer_due() -> int | None:
            """Offer what is due; gives the next moment to look, or None where no arrival may be offered now."""
            nonlocal following
            for _ in range(_YIELD_EVERY):
                if following is None or following.intended_ns >= partition.until_ns:
                    return None
                now, due = time.monotonic_ns(), epoch_ns + following.intended_ns
                if due > now:
                    dense = following.intended_ns - latest[0] < _GRAIN_NS * len(latest)
                    return max(due, now + _GRAIN_NS) if dense else min(due, now + _LOOK_NS)
                if partition.held():
                    return None
                latest.append(following.intended_ns)
                partition.reached_ns = following.intended_ns
                self.offer(following)
                following = next(arrivals, None)
            # Behind the schedule: users that were handed an arrival must get to send it.
            return now

        while True:
            timer.serve(offer_due)
            if following is None:
                partition.exhausted = True
                return
            # It is another worker's, or still ours if the next stride turns out to begin later; or all are held.
            if following.intended_ns >= partition.until_ns and partition.superseded:
                return
            gevent.sleep(_HELD)
