"""Wakes at intended starts and hands arrivals to idle users: users are the pool of concurrency, not the rate."""

import heapq
import time
from collections.abc import Sequence
from typing import Final

import gevent

from loadtest.load.live import Live
from loadtest.load.pool import Pool
from loadtest.load.share import ALL, Assignment, Share
from loadtest.load.timer import Timer
from loadtest.schedule import Arrival, TrafficSchedule

_YIELD_EVERY: Final = 50
_LOOK_NS: Final = 50_000_000
"""How often a long wait looks whether it is still wanted."""
_HELD: Final = 0.01


class Dispatcher:
    """Offers arrivals of all traffic entries at their intended starts.

    Args:
        schedules: of the entries.
        pools: of their users.
        live: counts what is offered.
        share: which of the arrivals are this process's.
    """

    def __init__(
        self, schedules: Sequence[TrafficSchedule], pools: dict[str, Pool], live: Live, share: Share | None = None
    ) -> None:
        self._schedules = schedules
        self._pools = pools
        self._live = live
        self._share = share or Share(ALL, last=True)
        self._late = 0

    def run(self, epoch_ns: int) -> None:
        """Offer every arrival of the share; returns after the last one of a share that cannot get another."""
        timer = Timer()
        try:
            while True:
                self._carry_out(self._share.take(), timer, epoch_ns)
                if self._share.last:
                    return
        finally:
            timer.close()

    def give(self, arrival: Arrival) -> None:
        """Offer an arrival that is due."""
        self._live.offered[arrival.traffic] += 1
        self._pools[arrival.traffic].offer(arrival)

    def _carry_out(self, assignment: Assignment, timer: Timer, epoch_ns: int) -> None:
        share = self._share
        place, of = assignment.place, assignment.of
        mine = [schedule.share(place, of, assignment.from_ns) for schedule in self._schedules] if of else []
        for arrival in heapq.merge(*mine, key=_intended):
            if not self._await(arrival, timer, epoch_ns):
                return
            share.reached_ns = arrival.intended_ns
            self.give(arrival)
        share.exhausted = True

    def _await(self, arrival: Arrival, timer: Timer, epoch_ns: int) -> bool:
        """Wait until an arrival is due; whether it is still ours then."""
        share, due = self._share, epoch_ns + arrival.intended_ns
        while True:
            now = time.monotonic_ns()
            if arrival.intended_ns >= share.until_ns:
                # It is another's, or still ours if the next assignment turns out to begin later.
                if share.superseded:
                    return False
                gevent.sleep(_HELD)
            elif due > now:
                timer.wait_until(min(due, now + _LOOK_NS))
                self._late = 0
            elif share.held():
                gevent.sleep(_HELD)
            else:
                self._late += 1
                if self._late % _YIELD_EVERY == 0:
                    # Behind the schedule: those who were handed an arrival must get to send it.
                    gevent.sleep(0)
                return True


def _intended(arrival: Arrival) -> int:
    return arrival.intended_ns
