"""Live figures of a run, counted while samples are recorded, in bounded memory. Reports do not use them."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType
from typing import Final

import numpy as np

from loadtest.contract import TIMED, Outcome, RequestKind
from loadtest.metrics import PARTS, Cell, counted
from loadtest.record.generator_limits import LATE_SHARE, LEAST_LATE, SOON_S
from loadtest.record.progress import EntryProgress
from loadtest.record.run_info import StagePlan
from loadtest.record.samples import SETUP, Sample
from loadtest.schedule import Arrival
from loadtest.stats.order_statistics import LogHistogram

_DEFAULT_WINDOW_S: Final = 60.0
_RECENT_S: Final = 10.0
LATE: Final = ""
"""Cause in ``held`` if arrivals were offered late. If a pool was full, the cause is its traffic entry's name."""
_LEAST_SECOND: Final = 0.5
"""Successive counts of held arrivals are at least this many seconds apart. A tick before that does not count them."""
PERCENTILES: Final = {
    "response_time": {"p50": 0.5, "p95": 0.95, "p99": 0.99},
    "execution_time": {"p50": 0.5, "p95": 0.95},
}
"""Percentiles of recent times (see ``RecentTimes``). Each second, they are added to the run's ``LiveSeries``."""
_SHOWN_REQUESTS: Final = {
    "sent": "requests.sent",
    "accepted": "requests.accepted",
    Outcome.THROTTLED: "requests.throttled",
    Outcome.FAILED: "requests.errors",
}
"""Names of the tracks of requests, each with the name of its count in ``metrics.PARTS``."""
MOST_BUCKETS: Final = 1200
TIME_BOUNDS_MS: Final = (
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0,
)  # fmt: skip
"""Upper bounds of the buckets in the histograms of ``/metrics``. One more bucket counts longer times."""
_SLICES: Final = 60
_LEAST_WINDOW_S: Final = 10.0


class LiveSeries:
    """Tracks of a run by name. A track has a count or a value for each bucket of time since the epoch.

    Buckets are one second wide at first. Their width doubles when there are too many of them.
    """

    def __init__(self) -> None:
        self.width_s = 1
        self.counts: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self.gauges: defaultdict[tuple[str, ...], list[float | None]] = defaultdict(list)
        """The last value in each bucket, or None if a bucket has no value."""
        self.changed_from: int | None = None
        """First bucket that has changed since this attribute was set to None."""

    def count(self, second: int, *tracks: list[int], count: int = 1) -> None:
        if second < 0:
            return
        index = self._index(second)
        for track in tracks:
            track.extend([0] * (index + 1 - len(track)))
            track[index] += count

    def note(self, name: tuple[str, ...], elapsed_s: float, value: float | None) -> None:
        index = self._index(int(elapsed_s))
        track = self.gauges[name]
        track += [None] * (index + 1 - len(track))
        track[index] = value

    def _index(self, second: int) -> int:
        while (index := second // self.width_s) >= MOST_BUCKETS:
            self.width_s *= 2
            for counts in self.counts.values():
                counts[:] = [sum(pair) for pair in zip_longest(counts[::2], counts[1::2], fillvalue=0)]
            for gauge in self.gauges.values():
                pairs = zip_longest(gauge[::2], gauge[1::2])
                gauge[:] = [first if last is None else last for first, last in pairs]
            self.changed_from = 0
        if self.changed_from is None or index < self.changed_from:
            self.changed_from = index
        return index


class RecentTimes:
    """Collects times in ms. It gives percentiles of recent times, and counts of all times for ``/metrics``.

    Percentiles cover the last ``window_s`` seconds, but at least 10 s: percentiles of shorter periods are noise.
    """

    def __init__(self, window_s: float) -> None:
        self.window_s = max(window_s, _LEAST_WINDOW_S)
        self.counts = np.zeros(len(TIME_BOUNDS_MS) + 1, int)
        """Counts of all times between successive ``TIME_BOUNDS_MS``."""
        self.total_ms = 0.0
        self._slice_s = max(1.0, self.window_s / _SLICES)
        self._slice = LogHistogram()
        self._begun_s = 0.0
        self._slices: deque[LogHistogram] = deque()
        self._window = LogHistogram()

    def extend(self, times_ms: Sequence[float]) -> LogHistogram:
        """Add times, and return their histogram."""
        new = LogHistogram()
        new.extend(times_ms)
        if times_ms:
            self.counts += np.bincount(np.searchsorted(TIME_BOUNDS_MS, times_ms), minlength=len(self.counts))
            self.total_ms += new.total
            self._slice += new
        return new

    def slide(self, elapsed_s: float) -> None:
        """Move the end of the window to ``elapsed_s``. Call this about once a second."""
        passed = int((elapsed_s - self._begun_s) / self._slice_s + 0.1)
        for _ in range(min(passed, _SLICES)):
            self._window += self._slice
            self._slices.append(self._slice)
            self._slice = LogHistogram()
            if len(self._slices) > math.ceil(self.window_s / self._slice_s):
                self._window -= self._slices.popleft()
        self._begun_s += passed * self._slice_s

    def quantile(self, share: float) -> float | None:
        return self._window.quantile(share)

    def quantile_of_last(self, seconds: float, share: float) -> float | None:
        """Return a quantile of the times in the last ``seconds``, rounded up to whole slices of the window."""
        recent = LogHistogram()
        for each in (self._slice, *list(self._slices)[-math.ceil(seconds / self._slice_s) :]):
            recent += each
        return recent.quantile(share)


class LiveStage:
    """Counts and times of one traffic entry in one stage."""

    def __init__(self) -> None:
        self.requests = Counter[Cell]()
        self.operations = Counter[Cell]()
        """Ended operations, counted by cell."""
        self.response_time = LogHistogram()
        self.new_times: list[float] = []
        """Response times (ms) since the last ``fold``."""

    def count(self, *names: str) -> int:
        """Return the sum of the counts that have these names in ``metrics.PARTS``."""
        return sum(counted(name, self.operations, self.requests) for name in names)


class EntryFigures:
    """Figures of one traffic entry. Only operations with outcome ``ok`` or ``timed_out`` have a response time."""

    def __init__(self, traffic: str, window_s: float, series: LiveSeries) -> None:
        self.stages: dict[str, LiveStage] = {}
        self.response_time = RecentTimes(window_s)
        self.execution_time = RecentTimes(window_s)
        self.dispatch_lag = RecentTimes(window_s)
        self._traffic = traffic
        self._series = series
        # Samples and times (ms) since the last ``fold``. Counting them together is several times faster. An item of
        # ``_new`` has a sample's stage, its second (-1 for an operation) and the fields of its ``Cell``.
        self._new: list[tuple[str, int, Outcome, bool, RequestKind | None, int | None]] = []
        self._executions: list[float] = []
        self._lags: list[float] = []

    @property
    def ended(self) -> int:
        return sum(stage.operations.total() for stage in self.stages.values())

    @property
    def total(self) -> LiveStage:
        """Counts of all stages together, without the seeding of jobs."""
        total = LiveStage()
        for name, stage in self.stages.items():
            if name != SETUP:
                total.requests.update(stage.requests)
                total.operations.update(stage.operations)
        return total

    def count(self, sample: Sample) -> None:
        """Note a sample. ``fold`` counts it later."""
        if (stage := self.stages.get(sample.stage)) is None:
            stage = self.stages[sample.stage] = LiveStage()
        start = sample.start
        intended = sample.intended_start
        if sample.row == "operation":
            sent = start is not None and intended is not None
            self._new.append((sample.stage, -1, sample.outcome, sent, None, None))
            if start is not None and intended is not None:
                free = sample.user_free
                self._lags.append((start - (intended if free is None or free < intended else free)) / 1e6)
                if sample.outcome in TIMED and sample.end is not None:
                    stage.new_times.append((sample.end - intended) / 1e6)
        elif start is not None:
            second = start // 1_000_000_000
            self._new.append((sample.stage, second, sample.outcome, True, sample.kind, sample.status))
            if sample.execution_time_ms is not None:
                self._executions.append(sample.execution_time_ms)

    def _tracks_of(self, cell: Cell) -> list[list[int]]:
        counts = self._series.counts
        tracks = [counts["requests", self._traffic, str(cell.kind), name] for name in _SHOWN_REQUESTS]
        return [track for track, part in zip(tracks, _SHOWN_REQUESTS.values(), strict=True) if PARTS[part](cell)]

    def fold(self) -> None:
        """Count the samples since the last call."""
        for (name, second, outcome, sent, kind, status), count in Counter(self._new).items():
            cell, stage = Cell(outcome, sent, kind, status), self.stages[name]
            if kind is None:
                stage.operations[cell] += count
            else:
                stage.requests[cell] += count
                self._series.count(second, *self._tracks_of(cell), count=count)
        for stage in self.stages.values():
            stage.response_time += self.response_time.extend(stage.new_times)
            stage.new_times.clear()
        self.execution_time.extend(self._executions)
        self.dispatch_lag.extend(self._lags)
        for noted in (self._new, self._executions, self._lags):
            noted.clear()

    def tick(self, elapsed_s: float, in_flight: int) -> None:
        """Note the entry's gauges. Call this about once a second."""
        series, traffic = self._series, self._traffic
        series.note(("in_flight", traffic), elapsed_s, in_flight)
        for name, percentiles in PERCENTILES.items():
            times: RecentTimes = getattr(self, name)
            times.slide(elapsed_s)
            for percentile, share in percentiles.items():
                series.note((name, traffic, percentile), elapsed_s, times.quantile(share))
        self.dispatch_lag.slide(elapsed_s)

    def progress(self, stage: StagePlan | None, offered: int) -> EntryProgress:
        """Return the figures for the terminal, with the p95 of the last 10 s. ``stage`` is None outside all stages."""
        total = self.total
        shown = (Outcome.OK, Outcome.THROTTLED, Outcome.FAILED, Outcome.TIMED_OUT)
        return EntryProgress(
            stage="" if stage is None else stage.name,
            offered=offered,
            in_flight=offered - total.operations.total(),
            **{outcome: total.count(f"operations.{outcome}") for outcome in shown},
            p95_ms=self.response_time.quantile_of_last(_RECENT_S, 0.95),
        )


class LiveFigures:
    """Counts the samples of a run by traffic entry. ``windows`` has the window of each entry's limit, in seconds."""

    def __init__(self, windows: Mapping[str, float] | None = None) -> None:
        self.offered = Counter[str]()
        """Number of offered arrivals by traffic entry."""
        self.entries: dict[str, EntryFigures] = {}
        self.series = LiveSeries()
        self.late = 0
        """Arrivals that were offered more than ``DISPATCH_LAG_MS`` after their intended start."""
        self.bottleneck = ""
        """Warning that the load generator cannot keep up or is near its limit, with a remedy. Otherwise empty."""
        self._held_seconds: dict[str, int] = {}
        # Elapsed seconds, offered arrivals, and held arrivals by cause, at the last count.
        self._counted: tuple[float, int, Mapping[str, int]] = 0.0, 0, {}
        self._windows = windows or {}
        self._newly_offered: dict[str, Counter[int]] = defaultdict(Counter)
        # Traffic entry, second, and ``count`` (1 or -1) of each arrival since the last ``fold``.
        self._due: list[tuple[str, int, int]] = []

    @property
    def all_silent(self) -> bool:
        """Whether requests were sent, but none of them got a response."""
        totals = [entry.total for entry in self.entries.values()]
        answered = ("requests.accepted", "requests.throttled")
        return any(each.requests for each in totals) and not any(each.count(*answered) for each in totals)

    @property
    def held(self) -> list[str]:
        """Causes that held up too many arrivals in each of the last ``SOON_S`` seconds: ``LATE`` or entry names."""
        return [cause for cause, seconds in self._held_seconds.items() if seconds >= SOON_S]

    def entry(self, traffic: str) -> EntryFigures:
        if (figures := self.entries.get(traffic)) is None:
            window = self._windows.get(traffic, _DEFAULT_WINDOW_S)
            figures = self.entries[traffic] = EntryFigures(traffic, window, self.series)
        return figures

    def count(self, sample: Sample) -> None:
        (self.entries.get(sample.traffic) or self.entry(sample.traffic)).count(sample)

    def fold(self) -> None:
        """Count the arrivals and samples since the last call."""
        for (traffic, second, sign), count in Counter(self._due).items():
            self.offered[traffic] += sign * count
            self._newly_offered[traffic][second] += sign * count
        self._due.clear()
        for entry in self.entries.values():
            entry.fold()

    def offer(self, arrival: Arrival, count: int = 1) -> None:
        """Note an offered arrival. ``count`` is -1 for an arrival that another worker will offer instead."""
        self._due.append((arrival.traffic, arrival.intended_ns // 1_000_000_000, count))

    def take_offered(self) -> dict[str, dict[int, int]]:
        """Return the number of arrivals offered since the last call, by traffic entry and second of the run."""
        taken, self._newly_offered = self._newly_offered, defaultdict(Counter)
        return {traffic: dict(counts) for traffic, counts in taken.items()}

    def add_offered(self, offered: Mapping[str, Mapping[int, int]]) -> None:
        """Add offered arrivals of this process or a worker to the series."""
        for traffic, counts in offered.items():
            track = self.series.counts["offered", traffic]
            for second, count in counts.items():
                self.series.count(second, track, count=count)

    def offered_rate(self, traffic: str, seconds: int) -> float:
        """Return the offered arrivals per second over about the last ``seconds``."""
        buckets = max(1, seconds // self.series.width_s)
        end = len(self.series.gauges["pending_jobs",]) - 1
        counted = self.series.counts["offered", traffic][max(0, end - buckets) : max(0, end)]
        return sum(counted) / (buckets * self.series.width_s)

    def dispatch_lag_ms(self, share: float) -> float | None:
        """Return the ``share`` quantile (ms) of recent dispatch lag: the maximum over all entries."""
        lags = [lag for entry in self.entries.values() if (lag := entry.dispatch_lag.quantile(share)) is not None]
        return max(lags, default=None)

    def tick(self, elapsed_s: float, pending_jobs: int, full_pools: Mapping[str, int] = MappingProxyType({})) -> None:
        """Note all gauges. Call this about once a second. ``full_pools`` comes from ``generator_limits.full_pools``."""
        self.add_offered(self.take_offered())
        self._count_held(elapsed_s, {LATE: self.late, **full_pools})
        for traffic, entry in self.entries.items():
            entry.tick(elapsed_s, self.offered[traffic] - entry.ended)
        self.series.note(("pending_jobs",), elapsed_s, pending_jobs)
        self.series.note(("dispatch_lag", "p99"), elapsed_s, self.dispatch_lag_ms(0.99))

    def _count_held(self, elapsed_s: float, held: Mapping[str, int]) -> None:
        before_s, offered, before = self._counted
        if elapsed_s - before_s < _LEAST_SECOND:
            return
        self._counted = elapsed_s, self.offered.total(), held
        share = LATE_SHARE * (self.offered.total() - offered)
        for cause, count in held.items():
            many = max(LEAST_LATE if cause == LATE else 1, share)
            seconds = self._held_seconds.get(cause, 0) + 1
            self._held_seconds[cause] = seconds if count - before.get(cause, 0) >= many else 0
