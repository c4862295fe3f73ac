"""Health of a load generator process, and estimates of other machines' clocks. A run's validity depends on this health.

The process records CPU use, stalls of the event loop, long garbage collections and full pools. Once a second it times a
fixed loop. The loop's time depends on the machine but not on the service. This monitoring takes about 0.1 % of a core.
"""

import gc
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import gevent
import psutil

from loadtest.http_headers import ClockOffset, parse_date
from loadtest.load.exchange import HttpExchange
from loadtest.load.pool import Pool
from loadtest.record.run_info import ClockInfo, CpuLoopInfo, CpuSample, GeneratorInfo, PauseInfo

WAKE_INTERVAL_NS: Final = 50_000_000
STALL_NS: Final = 50_000_000
"""The event loop has stalled if it wakes at least this late. Shorter delays are normal on a busy machine."""
LONG_COLLECTION_NS: Final = 10_000_000
_CPU_INTERVAL_NS: Final = 1_000_000_000
_LOOP_ROUNDS: Final = 4_000
"""Rounds of the timed loop. They take about 0.3 ms: much longer than reading the clock, but harmless for arrivals."""
_LOOPS_BEFORE: Final = 7
_LOOPS_KEPT: Final = 600
_STRETCHES: Final = 10
_LEAST_IN_STRETCH: Final = 2
_ROUGH: Final = 0.5
_KEPT: Final = 64


def time_loop() -> float:
    """Return the wall time of a fixed loop in pure Python, in ms."""
    value, begin = 1, time.perf_counter_ns()
    for _ in range(_LOOP_ROUNDS):
        # A linear congruential generator (Numerical Recipes) cannot be optimised away, and creates no garbage.
        value = (value * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
    return (time.perf_counter_ns() - begin) / 1e6


class CpuLoop:
    """Timings of the fixed loop in ms. To save memory, long runs keep only every second timing, later every fourth."""

    def __init__(self, measure: Callable[[], float] = time_loop) -> None:
        self._measure = measure
        self._before: list[float] = []
        self.kept: list[float] = []
        self._step = 1
        self._count = 0

    def measure_before(self) -> None:
        self._before = [self._measure() for _ in range(_LOOPS_BEFORE)]

    def measure(self) -> None:
        took = self._measure()
        if self._count % self._step == 0:
            self.kept.append(took)
        self._count += 1
        if len(self.kept) > _LOOPS_KEPT:
            self.kept = self.kept[::2]
            self._step *= 2

    @property
    def info(self) -> CpuLoopInfo:
        """The median timing and its relative standard error, which comes from medians of successive stretches."""
        stretch = max(_LEAST_IN_STRETCH, len(self.kept) // _STRETCHES)
        stretches = [
            math.log(statistics.median(self.kept[begin : begin + stretch]))
            for begin in range(0, len(self.kept) - stretch + 1, stretch)
        ]
        # With fewer than 5 stretches, the standard error would be too imprecise.
        known = len(stretches) >= _STRETCHES // 2
        return CpuLoopInfo(
            n=self._count,
            before_ms=round(statistics.median(self._before), 4) if self._before else None,
            p50_ms=round(statistics.median(self.kept), 4) if self.kept else None,
            se=round(statistics.stdev(stretches) / math.sqrt(len(stretches)), 5) if known else None,
        )


def note_pause(pauses: PauseInfo, pause_ns: int, from_ns: int) -> None:
    """Count a pause if it is at least ``from_ns`` long."""
    if pause_ns >= from_ns:
        pauses.count += 1
        pauses.total_ms = round(pauses.total_ms + pause_ns / 1e6, 3)
        pauses.longest_ms = max(pauses.longest_ms, round(pause_ns / 1e6, 3))


class Health:
    """Observes this process and its pools. Keys of ``pools`` are traffic entries. ``clock`` returns monotonic ns."""

    def __init__(
        self, pools: Mapping[str, Pool], *, worker: int = 0, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.cpu: list[CpuSample] = []
        """CPU use of this process and the machine, about once a second since ``start``."""
        self._pools = pools
        self._clock = clock
        self._process = psutil.Process()
        self._info = GeneratorInfo(worker=worker)
        self._epoch_ns = self._since = self._due = self._next_cpu = self._collecting_since = 0
        self._loop = CpuLoop()
        self._watch: gevent.Greenlet | None = None
        self._stopped = False

    def start(self, epoch_ns: int) -> None:
        """Start to observe. Times in CPU samples count from ``epoch_ns`` (monotonic)."""
        self._epoch_ns, self._since = epoch_ns, self._clock()
        self._next_cpu = self._since + _CPU_INTERVAL_NS
        self._loop.measure_before()
        self._process.cpu_percent()
        psutil.cpu_percent()
        gc.callbacks.append(self._collected)
        self._watch = gevent.spawn(self._watch_forever)

    def stop(self) -> None:
        """Stop observing, and keep the figures. Do nothing before ``start`` and after the first ``stop``."""
        if self._watch is None or self._stopped:
            return
        self._watch.kill()
        gc.callbacks.remove(self._collected)
        # Count a stall that has not ended.
        note_pause(self._info.stalls, self._clock() - self._due, STALL_NS)
        self.figures()
        self._stopped = True

    def figures(self) -> GeneratorInfo:
        info = self._info
        now = self._clock()
        if not self._stopped:
            info.watched_s = round((now - self._since) / 1e9, 3) if self._since else 0.0
            info.cpu_loop = self._loop.info
            info.pools = {name: pool.figures(now) for name, pool in self._pools.items()}
        return info

    def _watch_forever(self) -> None:
        while True:
            self._due = self._clock() + WAKE_INTERVAL_NS
            gevent.sleep(WAKE_INTERVAL_NS / 1e9)
            now = self._clock()
            note_pause(self._info.stalls, now - self._due, STALL_NS)
            if now >= self._next_cpu:
                self._next_cpu = max(self._next_cpu + _CPU_INTERVAL_NS, now + _CPU_INTERVAL_NS // 2)
                elapsed_s = round((now - self._epoch_ns) / 1e9, 3)
                own = self._process.cpu_percent()
                machine = psutil.cpu_percent()
                worker = self._info.worker
                self.cpu.append(CpuSample(t_s=elapsed_s, percent=own, worker=worker, machine=machine))
                self._loop.measure()

    def _collected(self, phase: str, _: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting_since = self._clock()
        elif self._collecting_since:
            note_pause(self._info.collections, self._clock() - self._collecting_since, LONG_COLLECTION_NS)


class ServerClock:
    """Estimates the server's clock minus our clock. Each new ``Date`` gives bounds (see ``ClockOffset``).

    If the server's clock jumps, the bounds may contradict each other. Then only the last new ``Date`` is used.
    """

    def __init__(self) -> None:
        # The wall clock is read only once, so that setting it during a run has no effect.
        self._anchor = time.time_ns() - time.monotonic_ns()
        self._bounds = ClockOffset()
        self._previous: HttpExchange | None = None
        self._previous_second = 0.0
        self._rough = 0.0
        self.answers = 0

    def anchor(self, monotonic_ns: int, unix_ns: int) -> None:
        """Use the master's wall clock, which read ``unix_ns`` when our monotonic clock read ``monotonic_ns``."""
        self._anchor = unix_ns - monotonic_ns

    def see(self, exchange: HttpExchange) -> None:
        """Add an answer. This is cheap if the previous answer had the same ``Date``."""
        date = exchange.date
        if date is None:
            return
        self.answers += 1
        previous = self._previous
        if previous is not None and previous.date == date:
            self._previous = exchange
            return
        moment = parse_date(date.decode("latin-1"))
        if moment is None:
            return
        second = moment.timestamp()
        if previous is not None:
            # The last answer of the previous second gives a tighter bound than the first answer of that second.
            self._bounds.high = min(self._bounds.high, self._previous_second + 1 - self._wall(previous.start))
        self._bounds.see(second, self._wall(exchange.start), self._wall(exchange.end))
        self._rough = second + 0.5 - self._wall((exchange.start + exchange.end) // 2)
        self._previous, self._previous_second = exchange, second

    def estimate(self, *, exact: bool) -> ClockInfo | None:
        """Return the offset and its uncertainty in s, or None before the first ``Date``.

        An ``exact`` server, such as the embedded target, renews ``Date`` for each answer. A server such as
        uvicorn renews it once a second. Its ``Date`` may be 1 s old, so the upper bound is 1 s higher.
        """
        if self._previous is None:
            return None
        low, high = self._bounds.low, self._bounds.high + (0.0 if exact else 1.0)
        if low <= high:
            middle, half = (low + high) / 2, (high - low) / 2
            return ClockInfo(offset_s=round(middle, 4), uncertainty_s=round(half, 4), answers=self.answers)
        return ClockInfo(offset_s=round(self._rough, 3), uncertainty_s=_ROUGH, answers=self.answers)

    def _wall(self, monotonic_ns: int) -> float:
        return (monotonic_ns + self._anchor) / 1e9


class WorkerClock:
    """Estimates the offset of a worker's monotonic clock from the master's, by timing reports and their answers.

    The method is that of NTP (RFC 5905, section 8). The worker sends a report at t1. The master receives it at t2 and
    answers at t3. The worker receives the answer at t4. The offset is ((t1 − t2) + (t4 − t3)) / 2. Its error is at most
    half of the round trip (t4 − t1) − (t3 − t2). Of the latest exchanges, the exchange
    with the shortest round trip is used.

    If both processes seem to run on one machine (``shared``), they have the same clock, unless an exchange shows a
    difference: a process in a time namespace has another clock.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self.exchanges = deque[tuple[int, int]](maxlen=_KEPT)
        """Round trip and offset of the latest exchanges, in ns."""

    def see(self, sent_ns: int, received_ns: int, replied_ns: int, answered_ns: int) -> None:
        """Add an exchange. The arguments are t1, t2, t3 and t4."""
        trip = (answered_ns - sent_ns) - (replied_ns - received_ns)
        offset = ((sent_ns - received_ns) + (answered_ns - replied_ns)) // 2
        self.exchanges.append((trip, offset))

    @property
    def estimate(self) -> tuple[int, int]:
        """Measured offset and its uncertainty in ns. Both are 0 before the first exchange."""
        if not self.exchanges:
            return 0, 0
        trip, offset = min(self.exchanges)
        return offset, (trip + 1) // 2

    @property
    def is_shared(self) -> bool:
        """Whether both processes seem to run on one machine and to have the same clock."""
        offset, uncertainty = self.estimate
        return self.shared and abs(offset) <= uncertainty

    @property
    def offset_ns(self) -> int:
        """Nanoseconds to add to a time on the master's clock to get the time on the worker's clock."""
        return 0 if self.is_shared else self.estimate[0]
