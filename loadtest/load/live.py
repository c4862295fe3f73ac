"""Counts the samples of a run as they are recorded, for those who watch it; no final figure is made of these."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final

from loadtest.contract import ERRORS, THROTTLED_STATUS, TIMED, Outcome, RequestKind
from loadtest.load.live_series import LiveSeries, RecentTimes, Track
from loadtest.record.progress import EntryProgress
from loadtest.record.samples import Sample
from loadtest.stats import LogHistogram

_DEFAULT_WINDOW_S: Final = 60.0
_RECENT_S: Final = 10.0
PERCENTILES: Final = {
    "response_time": {"p50": 0.5, "p95": 0.95, "p99": 0.99},
    "execution_time": {"p50": 0.5, "p95": 0.95},
}
"""Which are noted each second, of the times of the last window."""


class StageFigures:
    """What was seen of one traffic entry in one stage."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[RequestKind | None, int | None, Outcome]] = Counter()
        """Requests that were sent, by kind, status and outcome."""
        self.operations: Counter[Outcome] = Counter()
        """Operations that ended, by outcome."""
        self.operations_sent: Counter[Outcome] = Counter()
        """Of these, those of which something was sent."""
        self.response_time = LogHistogram()
        """Of operations that were ok or timed out."""
        self.response_time_ms = 0.0
        """Their sum."""
        self.longest_ms = 0.0

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return self.requests.total()

    @property
    def throttled(self) -> int:
        """Requests that got 429."""
        return sum(count for (_, status, _), count in self.requests.items() if status == THROTTLED_STATUS)

    @property
    def accepted(self) -> int:
        """Requests that were answered otherwise."""
        return sum(n for (_, status, _), n in self.requests.items() if status not in {None, THROTTLED_STATUS})

    def add_time(self, ms: float) -> None:
        """Take a response time into account."""
        self.response_time.add(ms)
        self.response_time_ms += ms
        self.longest_ms = max(self.longest_ms, ms)


class Flow:
    """The requests of one kind of a traffic entry, by when they were sent."""

    def __init__(self, series: LiveSeries, traffic: str, kind: RequestKind) -> None:
        self._tracks = {
            name: series.track("requests", traffic, kind, name, counts=True)
            for name in ("sent", "accepted", Outcome.THROTTLED, Outcome.FAILED)
        }
        self._chosen: dict[tuple[int | None, Outcome], tuple[Track, ...]] = {}

    def tracks(self, status: int | None, outcome: Outcome) -> tuple[Track, ...]:
        """Those in which a request counts that ended so."""
        if (chosen := self._chosen.get((status, outcome))) is None:
            names = ["sent"]
            if status is not None:
                names.append(Outcome.THROTTLED if status == THROTTLED_STATUS else "accepted")
            if outcome in ERRORS:
                names.append(Outcome.FAILED)
            chosen = self._chosen[status, outcome] = tuple(self._tracks[name] for name in names)
        return chosen


class EntryFigures:
    """What was seen of one traffic entry.

    Args:
        traffic: its name.
        window_s: of the limit that it draws on first.
        series: of the run.
    """

    def __init__(self, traffic: str, window_s: float, series: LiveSeries) -> None:
        self.stages: dict[str, StageFigures] = {}
        self.response_time = RecentTimes(window_s)
        """Of operations that were ok or timed out."""
        self.execution_time = RecentTimes(window_s)
        """Of requests whose answer says it."""
        self.dispatch_lag = RecentTimes(window_s)
        """Of operations that were sent."""
        self._traffic = traffic
        self._series = series
        self._flows: dict[RequestKind, Flow] = {}

    def outcome(self, outcome: Outcome) -> int:
        """Operations that ended so."""
        return sum(stage.operations[outcome] for stage in self.stages.values())

    @property
    def ended(self) -> int:
        """Operations that ended."""
        return sum(stage.operations.total() for stage in self.stages.values())

    def requests_of(self, kind: RequestKind, outcome: Outcome | None = None) -> int:
        """Requests of a kind that were sent, or those of them with an outcome."""
        return sum(
            count
            for stage in self.stages.values()
            for (each, _, its_outcome), count in stage.requests.items()
            if each == kind and outcome in {None, its_outcome}
        )

    def count(self, sample: Sample) -> None:
        """Take one sample into account."""
        if (stage := self.stages.get(sample.stage)) is None:
            stage = self.stages[sample.stage] = StageFigures()
        if sample.row == "operation":
            self._count_operation(sample, stage)
        elif sample.start is not None:
            stage.requests[sample.kind, sample.status, sample.outcome] += 1
            if sample.kind is not None:
                if (flow := self._flows.get(sample.kind)) is None:
                    flow = self._flows[sample.kind] = Flow(self._series, self._traffic, sample.kind)
                self._series.count(sample.start, *flow.tracks(sample.status, sample.outcome))
            if sample.execution_time_ms is not None:
                self.execution_time.add(sample.execution_time_ms)

    def _count_operation(self, sample: Sample, stage: StageFigures) -> None:
        stage.operations[sample.outcome] += 1
        intended, start = sample.intended_start, sample.start
        if start is None or intended is None:
            return
        stage.operations_sent[sample.outcome] += 1
        free = sample.user_free
        self.dispatch_lag.add((start - (intended if free is None or free < intended else free)) / 1e6)
        if sample.outcome in TIMED and sample.end is not None:
            took = (sample.end - intended) / 1e6
            stage.add_time(took)
            self.response_time.add(took)

    def tick(self, elapsed: float, in_flight: int) -> None:
        """Note what the last window shows; called about once a second.

        Args:
            elapsed: seconds since the epoch.
            in_flight: operations that were offered and have not ended.
        """
        series, traffic = self._series, self._traffic
        series.note(series.track("in_flight", traffic, counts=False), elapsed, in_flight)
        for name, percentiles in PERCENTILES.items():
            times: RecentTimes = getattr(self, name)
            times.slide(elapsed)
            for percentile, share in percentiles.items():
                track = series.track(name, traffic, percentile, counts=False)
                series.note(track, elapsed, times.quantile(share))
        self.dispatch_lag.slide(elapsed)

    def progress(self, stage: str, offered: int) -> EntryProgress:
        """The figures as the console shows them.

        Args:
            stage: that the entry is in; empty between two.
            offered: arrivals that became due.
        """
        return EntryProgress(
            stage=stage,
            offered=offered,
            in_flight=offered - self.ended,
            ok=self.outcome(Outcome.OK),
            throttled=self.outcome(Outcome.THROTTLED),
            failed=self.outcome(Outcome.FAILED),
            timed_out=self.outcome(Outcome.TIMED_OUT),
            p95_ms=self.response_time.quantile_of_last(_RECENT_S, 0.95),
        )


class LiveFigures:
    """Counts the samples of a run, by traffic entry.

    Args:
        windows: seconds of the window of the limit that each traffic entry draws on first; a minute by default.
    """

    def __init__(self, windows: Mapping[str, float] | None = None) -> None:
        self.offered: Counter[str] = Counter()
        """Arrivals that became due, by traffic."""
        self.entries: dict[str, EntryFigures] = {}
        """By traffic; only those that have samples."""
        self.series = LiveSeries()
        self._windows = windows or {}
        self._newly_offered: dict[str, Counter[int]] = defaultdict(Counter)
        self._lag: Track = self.series.track("dispatch_lag", "p99", counts=False)
        self._pending: Track = self.series.track("pending_jobs", counts=False)

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return sum(stage.sent for entry in self.entries.values() for stage in entry.stages.values())

    @property
    def answered(self) -> int:
        """Requests that were answered, 429s included."""
        stages = [stage for entry in self.entries.values() for stage in entry.stages.values()]
        return sum(stage.accepted + stage.throttled for stage in stages)

    def entry(self, traffic: str) -> EntryFigures:
        """The figures of a traffic entry."""
        if (figures := self.entries.get(traffic)) is None:
            window = self._windows.get(traffic, _DEFAULT_WINDOW_S)
            figures = self.entries[traffic] = EntryFigures(traffic, window, self.series)
        return figures

    def count(self, sample: Sample) -> None:
        """Take one sample into account."""
        self.entry(sample.traffic).count(sample)

    def offer(self, traffic: str, intended_ns: int) -> None:
        """Count an arrival that became due."""
        self.offered[traffic] += 1
        self._newly_offered[traffic][intended_ns // 1_000_000_000] += 1

    def take_offered(self) -> dict[str, dict[int, int]]:
        """What was offered since this was called last: how many arrivals, by traffic and second of the run."""
        taken, self._newly_offered = self._newly_offered, defaultdict(Counter)
        return {traffic: dict(counts) for traffic, counts in taken.items()}

    def add_offered(self, offered: Mapping[str, Mapping[int, int]]) -> None:
        """Put what was offered, here or by a worker, into the series."""
        for traffic, counts in offered.items():
            track = self.series.track("offered", traffic, counts=True)
            for second, count in counts.items():
                self.series.count(second * 1_000_000_000, track, count=count)

    def offered_rate(self, traffic: str, seconds: int) -> float:
        """Arrivals per second that became due in about the last seconds."""
        newest = self._lag.values
        buckets = max(1, seconds // self.series.width_s)
        end = len(newest) - 1
        counted = self.series.track("offered", traffic, counts=True).values[max(0, end - buckets) : max(0, end)]
        return sum(count or 0 for count in counted) / (buckets * self.series.width_s)

    def dispatch_lag_ms(self, share: float) -> float | None:
        """A percentile of the dispatch lags of the last window, the worst of all traffic entries."""
        lags = [lag for entry in self.entries.values() if (lag := entry.dispatch_lag.quantile(share)) is not None]
        return max(lags, default=None)

    def tick(self, elapsed: float, pending_jobs: int) -> None:
        """Note what the gauges show; called about once a second.

        Args:
            elapsed: seconds since the epoch.
            pending_jobs: jobs that were accepted and not yet seen to end.
        """
        self.add_offered(self.take_offered())
        for traffic, entry in self.entries.items():
            entry.tick(elapsed, self.offered[traffic] - entry.ended)
        self.series.note(self._pending, elapsed, pending_jobs)
        self.series.note(self._lag, elapsed, self.dispatch_lag_ms(0.99))
