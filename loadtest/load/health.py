"""Health of a load generator process. Its figures decide whether a run is valid.

The process records CPU use, stalls of the event loop, long garbage collections and full pools. Once a second it times a
fixed loop. The loop's time depends on the machine but not on the service. This monitoring takes about 0.1 % of a core.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import gevent
import psutil

from loadtest.load.pool import Pool
from loadtest.record.run_info import CpuLoopInfo, CpuSample, GeneratorInfo, PauseInfo

WAKE_INTERVAL_NS: Final = 50_000_000
STALL_NS: Final = 50_000_000
"""The event loop has stalled if it wakes this late. Shorter delays are normal on a busy machine."""
LONG_COLLECTION_NS: Final = 10_000_000
_CPU_INTERVAL_NS: Final = 1_000_000_000
_LOOP_ROUNDS: Final = 4_000
"""Rounds of the timed loop. They take about 0.3 ms: much longer than reading the clock, but harmless for arrivals."""
_LOOPS_BEFORE: Final = 7
_LOOPS_KEPT: Final = 600
_STRETCHES: Final = 10
_LEAST_IN_STRETCH: Final = 2


def time_loop() -> float:
    """Return the wall time of a fixed loop in pure Python, in ms."""
    value, begin = 1, time.perf_counter_ns()
    for _ in range(_LOOP_ROUNDS):
        # A linear congruential generator (Numerical Recipes) cannot be optimised away, and creates no garbage.
        value = (value * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
    return (time.perf_counter_ns() - begin) / 1e6


class CpuLoop:
    """Timings of the loop in ms. To bound memory, a long run keeps only every second timing, later every fourth."""

    def __init__(self, measure: Callable[[], float] = time_loop) -> None:
        self._measure = measure
        self._before: list[float] = []
        self.kept: list[float] = []
        """Timings of the run that are kept."""
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
        """Median and its relative standard error, which comes from medians of successive stretches (batch means)."""
        stretch = max(_LEAST_IN_STRETCH, len(self.kept) // _STRETCHES)
        stretches = [
            math.log(statistics.median(self.kept[begin : begin + stretch]))
            for begin in range(0, len(self.kept) - stretch + 1, stretch)
        ]
        # With fewer than half of the stretches, the standard error would be too imprecise.
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
        """CPU use in each second since ``start``."""
        self._pools = pools
        self._worker = worker
        self._clock = clock
        self._process = psutil.Process()
        self._stalls, self._collections = PauseInfo(), PauseInfo()
        self._epoch_ns = self._since = self._due = self._next_cpu = self._collecting_since = 0
        self._loop = CpuLoop()
        self._final: GeneratorInfo | None = None
        self._watch: gevent.Greenlet | None = None

    def start(self, epoch_ns: int) -> None:
        """Start to observe. Times of CPU samples are relative to the epoch (monotonic ns)."""
        self._epoch_ns, self._since = epoch_ns, self._clock()
        self._next_cpu = self._since + _CPU_INTERVAL_NS
        self._loop.measure_before()
        self._process.cpu_percent()
        psutil.cpu_percent()
        gc.callbacks.append(self._collected)
        self._watch = gevent.spawn(self._watch_forever)

    def stop(self) -> None:
        """Stop, and keep the figures. Do nothing if it is not running."""
        if self._watch is None:
            return
        self._watch.kill()
        self._watch = None
        gc.callbacks.remove(self._collected)
        # A stall may still be going on.
        note_pause(self._stalls, self._clock() - self._due, STALL_NS)
        self._final = self.figures()

    def figures(self) -> GeneratorInfo:
        if self._final is not None:
            return self._final
        now = self._clock()
        return GeneratorInfo(
            worker=self._worker,
            watched_s=round((now - self._since) / 1e9, 3) if self._since else 0.0,
            stalls=self._stalls,
            collections=self._collections,
            cpu_loop=self._loop.info,
            pools={name: pool.figures(now) for name, pool in self._pools.items()},
        )

    def _watch_forever(self) -> None:
        while True:
            self._due = self._clock() + WAKE_INTERVAL_NS
            gevent.sleep(WAKE_INTERVAL_NS / 1e9)
            now = self._clock()
            note_pause(self._stalls, now - self._due, STALL_NS)
            if now >= self._next_cpu:
                self._next_cpu = max(self._next_cpu + _CPU_INTERVAL_NS, now + _CPU_INTERVAL_NS // 2)
                self.cpu.append(
                    CpuSample(
                        t_s=round((now - self._epoch_ns) / 1e9, 3),
                        percent=self._process.cpu_percent(),
                        worker=self._worker,
                        machine=psutil.cpu_percent(),
                    )
                )
                self._loop.measure()

    def _collected(self, phase: str, _: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting_since = self._clock()
        elif self._collecting_since:
            note_pause(self._collections, self._clock() - self._collecting_since, LONG_COLLECTION_NS)
