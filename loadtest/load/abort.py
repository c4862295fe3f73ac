"""Reasons to end a run early: circuit breakers, the stop file, and thresholds with ``abort = true``."""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from loadtest.contract import JOB_KINDS, TERMINAL, Outcome
from loadtest.load.live import LiveFigures, LiveStage
from loadtest.metrics import METRICS
from loadtest.record.run_info import TrafficPlan, covered_seconds
from loadtest.record.samples import Sample
from loadtest.scenario import Breakers
from loadtest.stats.order_statistics import GROWTH, LogHistogram
from loadtest.stats.shares import wilson
from loadtest.threshold import Judgement, Threshold, judge

AUTH_IN_A_ROW: Final = 3
RECENT: Final = 20
"""The share of 5xx responses is computed over this many of the latest answers."""

FEWEST: Final = 20
"""A share, ratio, mean or percentile with fewer samples than this is not judged."""
FEWEST_SECONDS: Final = 10.0
"""A rate is judged only after its threshold's stages have lasted this many seconds."""
_BEYOND: Final = 5
"""A percentile is judged only if at least this many operations exceed it. So p95 needs 100 operations, and p99 500."""
_UNITS: Final = {"ms": " ms", "per_s": "/s", "number": ""}


class CircuitBreakers:
    """Decides from a run's samples, stop file and thresholds whether the run must end early.

    ``see`` updates ``pending``, the recorder's pending jobs. ``expected`` has the expected statuses by traffic entry
    and stage.
    """

    def __init__(
        self,
        settings: Breakers,
        pending: dict[str, int],
        expected: Mapping[str, Mapping[str, frozenset[int]]],
        directory: Path,
        thresholds: "list[LiveThreshold]",
    ) -> None:
        # These are copied because each request reads them, and attributes of pydantic's models are slow.
        self._most_pending, self._auth, self._share = settings.pending_jobs, settings.auth, settings.server_errors
        self._pending = pending
        self._expected = expected
        self._stop_file = directory / settings.stop_file
        self._thresholds = thresholds
        self._refused = 0
        self._recent: deque[bool] = deque(maxlen=RECENT)

    def see(self, sample: Sample) -> str | None:
        """Add a request. Return a reason to end the run, or None."""
        if (job_id := sample.job_id) is not None:
            if sample.job_state in TERMINAL or (sample.status == 404 and sample.kind in JOB_KINDS):
                self._pending.pop(job_id, None)
            elif sample.accepted_job is not None:
                self._pending[job_id] = sample.key_index or 0
        if len(self._pending) > self._most_pending:
            return f"more than {self._most_pending:,} jobs were pending at once (breakers.pending_jobs)"
        if (status := sample.status) is None:
            # There is no answer, and the other breakers judge only answers.
            return None
        expected = sample.outcome == Outcome.OK or status in self._expected.get(sample.traffic, {}).get(
            sample.stage, ()
        )
        self._recent.append(500 <= status < 600 and not expected)
        if status not in {401, 403}:
            self._refused = 0
        elif not expected:
            self._refused += 1
            if self._auth and self._refused >= AUTH_IN_A_ROW:
                return f"{self._refused} answers in a row refused the key (last: {status}); check WORKFLOW_API_KEYS"
        errors, share = self._recent.count(True), self._share
        if share is None or len(self._recent) < RECENT or errors <= share * RECENT + 1e-9:
            return None
        return (
            f"{errors} of the last {RECENT} answers were 5xx (the latest: {status}), more than the {share * 100:g} % "
            "of breakers.server_errors"
        )

    def check(self, elapsed_s: float) -> str | None:
        """Check the stop file and the thresholds. Return a reason to end the run, or None."""
        if self._stop_file.exists():
            return f"the stop file {self._stop_file} exists"
        for live in self._thresholds:
            value, judgement = live.now(elapsed_s)
            if judgement == "fail":
                text = f"{live.threshold.scope}: {live.threshold.text}"
                return f"a threshold with abort = true failed: {text}, but it was {value}"
        return None


class LiveThreshold:
    """A threshold that can be judged during the run.

    Shares, ratios, means and percentiles need enough samples, and rates enough time. A count or maximum fails as soon
    as it exceeds its bound.
    """

    def __init__(self, threshold: Threshold, plans: Mapping[str, TrafficPlan], live: LiveFigures) -> None:
        self.threshold = threshold
        self._live = live
        self._scope = [
            (name, stage)
            for name, plan in plans.items()
            for stage in plan.stages
            if not stage.warmup and threshold.covers(name, plan.operation, stage.name)
        ]

    def now(self, elapsed_s: float) -> tuple[str, Judgement]:
        """Return the current value with its unit, and the judgement. The value is empty if it is too early to judge."""
        known = self._known(elapsed_s)
        if known is None:
            return "", "inconclusive"
        low, value, high = known
        unit = self.threshold.unit
        text = f"{value * 100:.3g} %" if unit == "share" else f"{value:.3g}{_UNITS[unit]}"
        return text, judge(self.threshold, (low, high))

    def _known(self, elapsed_s: float) -> tuple[float, float, float] | None:
        """Return a lower bound, the current value and an upper bound, or None if it is too early to judge."""
        metric = METRICS[self.threshold.metric]
        entries = ((self._live.entry(name), stage.name) for name, stage in self._scope)
        seen = [entry.stages[stage] for entry, stage in entries if stage in entry.stages]
        if not metric.parts:
            return _time(seen, self.threshold.metric.partition(".")[2])
        part = sum(stage.count(*metric.parts) for stage in seen)
        if not metric.whole:
            return (part,) * 3
        if metric.whole == "seconds":
            seconds = covered_seconds([stage for _, stage in self._scope], elapsed_s)
            return (part / seconds,) * 3 if seconds >= FEWEST_SECONDS else None
        whole = sum(stage.count(metric.whole) for stage in seen)
        if whole < FEWEST:
            return None
        value = part / whole
        if metric.unit != "share":
            return (value,) * 3
        # The 99 % score interval is judged: two failures among the first 20 do not yet prove a share of 10 %.
        low, high = wilson(value, whole, 2.576)
        return low, value, high


def _time(seen: list[LiveStage], statistic: str) -> tuple[float, float, float] | None:
    times = LogHistogram()
    for each in seen:
        times += each.response_time
    if statistic == "max":
        return (times.longest,) * 3
    if times.count < FEWEST:
        return None
    if statistic == "mean":
        return (times.total / times.count,) * 3
    share = int(statistic[1:]) / 100
    value = times.quantile(share)
    if value is None or times.count * (1 - share) < _BEYOND - 1e-9:
        return None
    # A quantile of the histogram is accurate only to within one bucket.
    return value / GROWTH, value, value * GROWTH
