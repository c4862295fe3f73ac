"""What ends a run early: circuit breakers, and thresholds with ``abort = true``. Pure: samples in, reasons out.

Both judge while the run goes on, from counts and a histogram; final figures never come from here.
"""

import math
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from loadtest.contract import ERRORS, FIRST_KINDS, THROTTLED_STATUS, TIMED, Outcome
from loadtest.load.recorder import PendingJobs
from loadtest.record.run_info import TrafficPlan
from loadtest.record.samples import Sample
from loadtest.scenario import Scenario
from loadtest.scenario.model import Breakers
from loadtest.stats import GROWTH, LogHistogram
from loadtest.threshold import LIVE_COUNTS, LIVE_RATES, Threshold, judge

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
    """Watches the samples of a run for reasons to end it.

    Args:
        settings: which breakers are on.
        pending: the jobs that are pending.
        expected: statuses that are no failure.
        directory: the run directory, from which a relative stop file starts.
        thresholds: those that abort.
    """

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
        for threshold in self._thresholds:
            threshold.see(sample)
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
    scenario: Scenario, plans: Mapping[str, TrafficPlan], pending: PendingJobs, expected: Expected, directory: Path
) -> CircuitBreakers:
    """The breakers of a run, as its scenario sets them."""
    thresholds = [LiveThreshold(each.parse(), plans) for each in scenario.threshold if each.abort]
    return CircuitBreakers(scenario.breakers, pending, expected, directory, thresholds)


class LiveThreshold:
    """One threshold that aborts, and the samples in its scope, counted.

    Shares, rates and times are judged once there are enough samples, counts only where they are too high already.

    Args:
        threshold: the requirement, of a metric that can be known early (see ``loadtest.scenario``).
        plans: the stages of all traffic, for its scope.
    """

    def __init__(self, threshold: Threshold, plans: Mapping[str, TrafficPlan]) -> None:
        self._threshold = threshold
        scope = [
            (name, stage)
            for name, plan in plans.items()
            if threshold.traffic in (None, name) and threshold.operation in (None, plan.operation)
            for stage in plan.stages
            if not stage.warmup and threshold.stage in (None, stage.name)
        ]
        self._scope = {(name, stage.name) for name, stage in scope}
        self._stages = sorted((stage.start_s, stage.start_s + stage.duration_s) for _, stage in scope)
        self._counts: Counter[str] = Counter()
        self._times = LogHistogram()
        self._total_ms = 0.0
        self._longest_ms = 0.0

    @property
    def text(self) -> str:
        """Its scope and what it requires."""
        return f"{self._threshold.scope}: {self._threshold.text}"

    def see(self, sample: Sample) -> None:
        """Count a sample, if it is in scope."""
        if (sample.traffic, sample.stage) not in self._scope:
            return
        counts = self._counts
        if sample.row == "operation":
            counts[f"operations.{sample.outcome}"] += 1
            counts["operations.sent"] += sample.start is not None
            if sample.outcome in TIMED and sample.end is not None and sample.intended_start is not None:
                took = (sample.end - sample.intended_start) / 1e6
                self._times.add(took)
                self._total_ms += took
                self._longest_ms = max(self._longest_ms, took)
        elif sample.start is not None:
            counts["requests.sent"] += 1
            counts["requests.throttled"] += sample.status == THROTTLED_STATUS
            counts["requests.accepted"] += sample.status is not None and sample.status != THROTTLED_STATUS
            counts["requests.errors"] += sample.outcome in ERRORS
            counts["first"] += sample.kind in FIRST_KINDS

    def broken(self, elapsed: float) -> str | None:
        """The value, as text, if the threshold certainly does not hold; else None.

        Args:
            elapsed: seconds since the epoch.
        """
        known = self._known(elapsed)
        if known is None:
            return None
        low, value, high = known
        if judge(self._threshold, (low, high)) != "fail":
            return None
        if self._threshold.unit == "share":
            return f"{value * 100:.3g} %"
        return f"{value:.3g}{_UNITS[self._threshold.unit]}"

    def _known(self, elapsed: float) -> _Known | None:
        """Low, value and high of the metric now; None while too little was seen."""
        metric, counts = self._threshold.metric, self._counts
        if metric.startswith("response_time."):
            return self._time(metric.removeprefix("response_time."))
        if metric in LIVE_COUNTS:
            return (counts[metric],) * 3
        if metric in LIVE_RATES:
            return self._rate(elapsed)
        sent = counts["operations.sent"]
        if metric == "amplification":
            return (counts["first"] / sent,) * 3 if sent >= FEWEST else None
        if metric == "requests.throttled_rate":
            return _share(counts["requests.throttled"], counts["requests.sent"])
        if metric == "throttled_rate":
            return _share(counts["operations.throttled"], sent)
        return _share(counts["operations.failed"] + counts["operations.timed_out"], sent)

    def _time(self, statistic: str) -> _Known | None:
        count = self._times.count
        if statistic == "max":
            return (self._longest_ms,) * 3
        if count < FEWEST:
            return None
        if statistic == "mean":
            return (self._total_ms / count,) * 3
        share = int(statistic[1:]) / 100
        value = self._times.quantile(share)
        if value is None or count * (1 - share) < _BEYOND - 1e-9:
            return None
        # The histogram knows it to within a bucket.
        return value / GROWTH, value, value * GROWTH

    def _rate(self, elapsed: float) -> _Known | None:
        seconds = self._seconds(elapsed)
        if seconds < FEWEST_SECONDS:
            return None
        metric = self._threshold.metric
        counted = "operations.ok" if metric == "goodput" else metric.removesuffix("_rate")
        return (self._counts[counted] / seconds,) * 3

    def _seconds(self, elapsed: float) -> float:
        """Seconds so far in which any stage in scope was on."""
        total, reached = 0.0, 0.0
        for begin, end in self._stages:
            total += max(0.0, min(end, elapsed) - max(begin, reached))
            reached = max(reached, min(end, elapsed))
        return total


def _share(part: int, whole: int) -> _Known | None:
    """A share with its 99 % score interval (Wilson 1927): two failures among the first twenty are no 10 % yet."""
    if whole < FEWEST:
        return None
    share = part / whole
    centre = (share + _Z * _Z / (2 * whole)) / (1 + _Z * _Z / whole)
    half = _Z / (1 + _Z * _Z / whole) * math.sqrt(share * (1 - share) / whole + (_Z / (2 * whole)) ** 2)
    return centre - half, share, centre + half
