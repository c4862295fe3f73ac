"""Wakes at intended starts and hands arrivals to idle users: users are the pool of concurrency, not the rate."""

import heapq
import time
from collections.abc import Sequence
from typing import Final

import gevent

from loadtest.load.live import Live
from loadtest.load.pool import Pool
from loadtest.load.timer import Timer
from loadtest.schedule import Arrival, TrafficSchedule

_YIELD_EVERY: Final = 50


class Dispatcher:
    """Offers the arrivals of all traffic entries at their intended starts."""

    def __init__(self, schedules: Sequence[TrafficSchedule], pools: dict[str, Pool], live: Live) -> None:
        self._schedules = schedules
        self._pools = pools
        self._live = live

    def run(self, epoch_ns: int, worker: int = 0, workers: int = 1) -> None:
        """Offer every arrival of this worker's share; returns after the last one."""
        timer = Timer()
        shares = (schedule.share(worker, workers) for schedule in self._schedules)
        late = 0
        try:
            for arrival in heapq.merge(*shares, key=_intended):
                due = epoch_ns + arrival.intended_ns
                if due > time.monotonic_ns():
                    timer.wait_until(due)
                    late = 0
                else:
                    late += 1
                    if late % _YIELD_EVERY == 0:
                        # Behind the schedule: those who were handed an arrival must get to send it.
                        gevent.sleep(0)
                self._live.offered[arrival.traffic] += 1
                self._pools[arrival.traffic].offer(arrival)
        finally:
            timer.close()


def _intended(arrival: Arrival) -> int:
    return arrival.intended_ns
