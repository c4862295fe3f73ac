"""The dispatcher. It wakes at the intended start of each arrival, and hands the arrival to a pool of users.

Without workers, one process offers all arrivals. Otherwise each of n workers offers every n-th arrival until a *cut*.
From the cut on, all arrivals are divided anew. All workers agree on the cut (see ``distributed.assignment``).
"""

import ctypes
import ctypes.util
import heapq
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from operator import attrgetter
from typing import Any, Final, NamedTuple

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event

from loadtest.load.live import LiveFigures
from loadtest.load.pool import Pool
from loadtest.record.generator_limits import DISPATCH_LAG_MS
from loadtest.schedule import Arrival, TrafficSchedule

NEVER: Final = 2**63 - 1
"""A moment (ns) that never comes."""
_ABSOLUTE: Final = 1
_READ: Final = 1
_YIELD_EVERY: Final = 50
_GRAIN_NS: Final = 200_000
"""If arrivals are dense, wake-ups are at least this far apart: a timer costs a tenth of a request's CPU time."""
_DENSE: Final = 32
"""The density of arrivals is measured over this many arrivals."""
_LOOK_NS: Final = 50_000_000
"""During a long wait, the dispatcher checks at least this often whether its partition has changed."""
_HELD: Final = 0.01
_LATE_NS: Final = int(DISPATCH_LAG_MS * 1e6)


class Timer:
    """Calls a function at given times of the monotonic clock, to within about 0.1 ms.

    ``gevent.sleep`` wakes on a 1 ms grid, and often late. A Linux ``timerfd`` that gevent's loop watches avoids both.
    Without ``timerfd``, the timer uses ``gevent.sleep``.
    """

    def __init__(self) -> None:
        # os.timerfd_create exists only since Python 3.13.
        self._library = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        if hasattr(self._library, "timerfd_create"):
            self._fd = self._library.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        # The C structure ``itimerspec`` has s and ns of an interval, then s and ns of the next event.
        self._setting = (ctypes.c_long * 4)()
        self._step: Callable[[], int | None] | None = None
        self._waiting: Any = None
        self._hub: Any = get_hub()
        loop = self._hub.loop
        # The watcher runs before other ready events. It stays started, because starting it may need a system call.
        self._watcher = loop.io(self._fd, _READ, priority=loop.MAXPRI) if self._fd >= 0 else None
        if self._watcher is not None:
            self._watcher.start(self._on_due)

    def serve(self, step: Callable[[], int | None]) -> None:
        """Call ``step`` now, and again at each time (ns) that it returns. Return when ``step`` returns None.

        The event loop calls ``step``, so ``step`` must not wait.
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
        # Setting the timer also clears an event that was not read. A value of 0 would disarm the timer.
        self._setting[2], self._setting[3] = divmod(max(1, moment_ns), 1_000_000_000)
        self._library.timerfd_settime(self._fd, _ABSOLUTE, self._setting, None)

    def _on_due(self) -> None:
        step, waiting = self._step, self._waiting
        if step is None:
            # No new time is set, so the loop would report this event until it is read.
            with suppress(BlockingIOError):
                os.read(self._fd, 8)
            return
        try:
            moment_ns = step()
        except Exception as error:  # noqa: BLE001 - the event loop would only print the error
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
    """Every ``step``-th arrival of each traffic entry, from ``from_ns`` on. If ``step`` is 0, it has no arrivals."""

    from_ns: int  # since the epoch
    place: int  # each arrival's number, modulo ``step``
    step: int


ALL: Final = Stride(0, 0, 1)


class Partition:
    """Arrivals of one process. They form successive strides. A cut ends a stride.

    If ``last`` is true, the first stride is the only stride. While ``held()`` is true, due arrivals are not offered.
    """

    def __init__(
        self, first: Stride | None = None, *, last: bool = False, held: Callable[[], bool] = lambda: False
    ) -> None:
        self.last = last
        self.held = held
        self.until_ns = NEVER
        """Cut of the current stride. Arrivals from this moment on are not offered."""
        self.reached_ns = -1
        """Intended start of the last offered arrival."""
        self.exhausted = False
        """Whether all its arrivals have been offered."""
        self._next: deque[tuple[Stride, int]] = deque([] if first is None else [(first, NEVER)])
        self._more = Event()

    def stop_at(self, cut_ns: int) -> bool:
        """End the newest stride at ``cut_ns``. If a later arrival has been offered, do nothing and return False."""
        if self._next:
            self._next[-1] = (self._next[-1][0], cut_ns)
            return True
        if self.reached_ns >= cut_ns:
            return False
        self.until_ns = cut_ns
        return True

    def assign(self, stride: Stride) -> None:
        """Add the next stride."""
        self.exhausted = False
        self._next.append((stride, NEVER))
        self._more.set()

    @property
    def superseded(self) -> bool:
        return bool(self._next)

    def withdraw(self) -> None:
        """Offer nothing until the next stride."""
        self.until_ns = -1
        self._next.clear()

    def take(self) -> Stride:
        while not self._next:
            self._more.clear()
            self._more.wait()
        stride, self.until_ns = self._next.popleft()
        return stride


class Dispatcher:
    """Offers a partition's arrivals (by default all) at their intended starts. Calls ``note`` with each arrival."""

    def __init__(
        self,
        schedules: Sequence[TrafficSchedule],
        pools: dict[str, Pool],
        live: LiveFigures,
        partition: Partition | None = None,
        note: Callable[[Arrival], None] | None = None,
    ) -> None:
        self._schedules = schedules
        self._pools = pools
        self._live = live
        self._note = note or live.offer
        self._partition = partition or Partition(ALL, last=True)

    def run(self, epoch_ns: int) -> None:
        """Offer every arrival of the partition. Return only if no other stride can follow."""
        with closing(Timer()) as timer:
            while True:
                self._offer_all(self._partition.take(), timer, epoch_ns)
                if self._partition.last:
                    return

    def offer(self, arrival: Arrival) -> None:
        self._note(arrival)
        self._pools[arrival.traffic].offer(arrival)

    def _offer_all(self, stride: Stride, timer: Timer, epoch_ns: int) -> None:
        partition, live = self._partition, self._live
        schedules = self._schedules if stride.step else ()
        by_entry = [schedule.share(stride.place, stride.step, stride.from_ns) for schedule in schedules]
        arrivals = by_entry[0] if len(by_entry) == 1 else heapq.merge(*by_entry, key=attrgetter("intended_ns"))
        following = next(arrivals, None)
        latest = deque([-_GRAIN_NS * _DENSE], _DENSE)

        def offer_due() -> int | None:
            """Offer due arrivals. Return the time (ns) of the next call.

            Return None after the last arrival, at the cut, or while arrivals are held.
            """
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
                if now - due > _LATE_NS:
                    live.late += 1
                latest.append(following.intended_ns)
                partition.reached_ns = following.intended_ns
                self.offer(following)
                following = next(arrivals, None)
            # The dispatcher is behind schedule. Let users send the arrivals that they have.
            return now

        while True:
            timer.serve(offer_due)
            if following is None:
                partition.exhausted = True
                return
            # Either the next arrival belongs to another worker or to a later stride, or all arrivals are held.
            if following.intended_ns >= partition.until_ns and partition.superseded:
                return
            gevent.sleep(_HELD)
