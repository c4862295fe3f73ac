"""What ends a run early: circuit breakers, and thresholds with ``abort = true``. Pure: samples in, reasons out.

Both judge while the run goes on, from counts and a histogram; final figures never come from here.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from loadtest.contract import Outcome
from loadtest.load.live import LiveFigures, LiveStage
from loadtest.load.recorder import PendingJobs
from loadtest.metrics import METRICS, Cell, counted
from loadtest.record.run_info import TrafficPlan, covered_seconds
from loadtest.record.samples import Sample
from loadtest.scenario import Breakers, Scenario
from loadtest.stats.log_histogram import GROWTH, LogHistogram
from loadtest.stats.shares import wilson
from loadtest.threshold import Judgement, Threshold, judge

AUTH_IN_A_ROW: Final = 3
RECENT: Final = 20
"""Answers that the share of 5xx is taken of."""

Expected = Mapping[str, Mapping[str, frozenset[int]]]
"""Statuses that are expected, by traffic and stage."""
FEWEST: Final = 20
"""Operations or requests that a share or a time needs before it is judged."""
FEWEST_SECONDS: Final = 10.0
"""Of its stages, before a rate is judged."""
_BEYOND: Final = 5
"""Operations that must lie beyond a percentile before it is judged: 100 for p95, 500 for p99."""
_UNITS: Final = {"ms": " ms", "per_s": "/s", "number": ""}
_Z: Final = 2.576

_Known = tuple[float, float, float]
"""Low, value and high."""


class CircuitBreakers:
    """Watches the samples of a run, once they are counted, for reasons to end it."""

    def __init__(
        self,
        settings: Breakers,
        pending: PendingJobs,
        expected: Expected,
        directory: Path,
        thresholds: "list[LiveThreshold]",
    ) -> None:
        self._settings = settings
        self._pending = pending
        self._expected = expected
        self._stop_file = directory / settings.stop_file
        self._thresholds = thresholds
        self._refused = 0
        self._recent: deque[bool] = deque(maxlen=RECENT)

    def see(self, sample: Sample) -> str | None:
        """Take one sample into account; gives a reason to end the run, if it is one."""
        if sample.row != "request":
            return None
        self._pending.see(sample)
        if len(self._pending) > self._settings.pending_jobs:
            return f"more than {self._settings.pending_jobs:,} jobs were pending at once (breakers.pending_jobs)"
        if sample.status is None:
            # No answer: a server that is gone is for validity and thresholds to judge.
            return None
        expected = sample.outcome == Outcome.OK or sample.status in self._expected.get(sample.traffic, {}).get(
            sample.stage, ()
        )
        return self._auth(sample.status, expected=expected) or self._server_errors(sample.status, expected=expected)

    def check(self, elapsed: float) -> str | None:
        """Check what no sample shows, about once a second; gives a reason to end the run, if there is one.

        Args:
            elapsed: seconds since the epoch.
        """
        if self._stop_file.exists():
            return f"the stop file {self._stop_file} is there"
        for threshold in self._thresholds:
            if (value := threshold.broken(elapsed)) is not None:
                return f"a threshold that aborts did not hold: {threshold.text}, but it was {value}"
        return None

    def _auth(self, status: int, *, expected: bool) -> str | None:
        if status not in {401, 403}:
            self._refused = 0
        elif not expected:
            self._refused += 1
            if self._settings.auth and self._refused >= AUTH_IN_A_ROW:
                return f"{self._refused} answers in a row refused the key (last: {status}); check WORKFLOW_API_KEYS"
        return None

    def _server_errors(self, status: int, *, expected: bool) -> str | None:
        share = self._settings.server_errors
        self._recent.append(status >= 500 and not expected)
        errors = sum(self._recent)
        if share is None or len(self._recent) < RECENT or errors <= share * RECENT + 1e-9:
            return None
        return (
            f"{errors} of the last {RECENT} answers were 5xx (the last with {status}), more than the {share * 100:g} % "
            "of breakers.server_errors"
        )


def make_breakers(
    scenario: Scenario,
    plans: Mapping[str, TrafficPlan],
    pending: PendingJobs,
    expected: Expected,
    *,
    directory: Path,
    live: LiveFigures,
) -> CircuitBreakers:
    """The breakers of a run, as its scenario sets them."""
    thresholds = [LiveThreshold(each.parsed, plans, live) for each in scenario.threshold if each.abort]
    return CircuitBreakers(scenario.breakers, pending, expected, directory, thresholds)


class LiveJudgement(NamedTuple):
    """What a threshold shows while the run goes on."""

    value: str
    """With its unit; empty while too little was seen."""
    judgement: Judgement
    """Of what was seen so far."""


class LiveThreshold:
    """One threshold whose metric can be known early, and what was seen in its scope.

    Shares, rates and times are judged once there are enough samples, counts only where they are too high already.

    Args:
        threshold: the requirement (see ``why_not_early``).
        plans: the stages of all traffic, for its scope.
        live: what was seen of them.
    """

    def __init__(self, threshold: Threshold, plans: Mapping[str, TrafficPlan], live: LiveFigures) -> None:
        self._threshold = threshold
        self._live = live
        scope = [
            (name, stage)
            for name, plan in plans.items()
            if threshold.traffic in (None, name) and threshold.operation in (None, plan.operation)
            for stage in plan.stages
            if not stage.warmup and threshold.stage in (None, stage.name)
        ]
        self._scope = {(name, stage.name) for name, stage in scope}
        self._stages = [stage for _, stage in scope]

    @property
    def text(self) -> str:
        """Its scope and what it requires."""
        return f"{self._threshold.scope}: {self._threshold.text}"

    def now(self, elapsed: float) -> LiveJudgement:
        """What it shows.

        Args:
            elapsed: seconds since the epoch.
        """
        known = self._known(elapsed)
        if known is None:
            return LiveJudgement("", "inconclusive")
        low, value, high = known
        share = self._threshold.unit == "share"
        text = f"{value * 100:.3g} %" if share else f"{value:.3g}{_UNITS[self._threshold.unit]}"
        return LiveJudgement(text, judge(self._threshold, (low, high)))

    def broken(self, elapsed: float) -> str | None:
        """The value, as text, if the threshold certainly does not hold; else None.

        Args:
            elapsed: seconds since the epoch.
        """
        now = self.now(elapsed)
        return now.value if now.judgement == "fail" else None

    def _seen(self) -> list[LiveStage]:
        entries = self._live.entries
        stages = [entries[traffic].stages.get(stage) for traffic, stage in self._scope if traffic in entries]
        return [figures for figures in stages if figures is not None]

    def _count(self, names: Sequence[str]) -> int:
        """The sum of some counts, by their names in ``metrics.PARTS``."""
        operations: Counter[Cell] = Counter()
        requests: Counter[Cell] = Counter()
        for each in self._seen():
            operations.update({Cell(outcome): count for outcome, count in each.operations_sent.items()})
            never = each.operations - each.operations_sent
            operations.update({Cell(outcome, sent=False): count for outcome, count in never.items()})
            for (kind, status, outcome), count in each.requests.items():
                requests[Cell(outcome, kind=kind, status=status)] += count
        return sum(counted(name, operations, requests) for name in names)

    def _known(self, elapsed: float) -> _Known | None:
        """Low, value and high of the metric now; None while too little was seen."""
        entry = METRICS[self._threshold.metric]
        if not entry.parts:
            return self._time(self._threshold.metric.partition(".")[2])
        part = self._count(entry.parts)
        if not entry.whole:
            return (part,) * 3
        if entry.whole == "seconds":
            seconds = covered_seconds(self._stages, elapsed)
            return (part / seconds,) * 3 if seconds >= FEWEST_SECONDS else None
        whole = self._count((entry.whole,))
        if whole < FEWEST:
            return None
        return _share(part, whole) if entry.unit == "share" else (part / whole,) * 3

    def _time(self, statistic: str) -> _Known | None:
        seen = self._seen()
        times = LogHistogram()
        for each in seen:
            times += each.response_time
        if statistic == "max":
            return (max((each.longest_ms for each in seen), default=0.0),) * 3
        if times.count < FEWEST:
            return None
        if statistic == "mean":
            return (sum(each.response_time_ms for each in seen) / times.count,) * 3
        share = int(statistic[1:]) / 100
        value = times.quantile(share)
        if value is None or times.count * (1 - share) < _BEYOND - 1e-9:
            return None
        # The histogram knows it to within a bucket.
        return value / GROWTH, value, value * GROWTH


def _share(part: int, whole: int) -> _Known:
    """A share with its 99 % score interval: two failures among the first twenty are no 10 % yet."""
    share = part / whole
    low, high = wilson(share, whole, _Z)
    return low, share, high
