"""``measurements.json``: a run's measurements for comparisons with other runs.

Each stage of each traffic entry, except the warm-up, has these measurements:

* Response time p50 and p95, executionTime p50 and p95, overhead p50. A job's response time is its time to result, so
  its p95 is judged once, as time to result. The client sees a result only at a poll, so this time is an upper bound.
  The error due to the last polling interval is ``resolution_ms``.
* Error rate, and the difference between the 429 rate and its expected value from a replay of the assumed limiter. The
  phase (the moment of the server's window at which a run starts) changes both rates equally, but not the difference.
* Goodput. Above a limit, it depends on the phase, so it is shown but not judged. Lost goodput then
  appears as unexpected 429s or errors.

If retries or polls above a limit wait for the server's next window, response times are shown but not judged. For jobs,
the same holds for overhead and error rate.
"""

import math
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from loadtest.analysis.columns import StageKey
from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.phases import NEXT_WINDOW, waits
from loadtest.analysis.time_blocks import EXECUTION, LEAST_MS, OVERHEAD, RESPONSE, log_goodput
from loadtest.analysis.times import LAST_PENDING
from loadtest.compare.measurements import (
    FILE_NAME,
    NATURES,
    ControlMeasurement,
    GeneratorIdentity,
    Measurement,
    Metric,
    RunMeasurements,
    TargetIdentity,
    flattened,
    significant,
)
from loadtest.contract import EXECUTING_OPERATIONS, LIMIT_OF_OPERATION, POLLED_OPERATIONS
from loadtest.metrics import METRICS
from loadtest.record.effective_scenario import NOT_HASHED, polling
from loadtest.record.run_directory import write_json
from loadtest.record.run_info import RunInfo
from loadtest.stats.order_statistics import QUANTILES, interval_ranks, needed, rank
from loadtest.stats.shares import share_score, share_scores

IDLE_MS: Final = 1.0
"""A traffic entry is idle if its executionTime p95 is below this many ms."""
_ROUNDING_MS: Final = 1.0
"""An executionTime in whole milliseconds may be off by this many ms."""
_PLAIN_SHARES: Final = tuple(each for each in Metric if NATURES[each].unit == "share" and not METRICS[each].expected)
_DIGITS: Final = 6
_ERROR_DIGITS: Final = 4
_NOTHING: Final = 1e-9
_TIMED_OUT: Final = "it reaches time-outs, so only a lower bound is known"


def write(measured: RunMeasurements, directory: Path) -> Path:
    """Write ``measurements.json`` into the run's directory, atomically, and return its path."""
    path = directory / FILE_NAME
    write_json(path, measured, indent=1)
    return path


def measure(findings: Findings) -> RunMeasurements:
    """Return a run's measurements for comparisons. The same record always gives the same result."""
    record, verdict = findings.record, findings.verdict
    info = record.info
    versions = {
        "python": info.versions.get("python"),
        "harness": info.versions.get("workflow-loadtest"),
        "region": info.machine.get("region"),
    }
    return RunMeasurements(
        run=info.id,
        scenario=info.scenario.name,
        scenario_hash=info.scenario.hash,
        started=info.started,
        commit=info.commit,
        target_version=info.target_version,
        embedded=info.target.embedded,
        target=target_identity(info),
        generator=generator_identity(info),
        # A run that was cut short may be valid, but other runs cannot be compared with it.
        valid=verdict.word not in {"invalid", "aborted"} and not verdict.interrupted,
        verdict=verdict.word,
        sentence=verdict.sentence,
        controls=tuple(_controls(findings)),
        measurements=tuple(one for key in record.stages() for one in _Stage(findings, key).measurements()),
        idle_entries=_idle_entries(findings),
        not_found_entries=record.not_found_entries,
        definition=flattened({key: each for key, each in info.scenario.effective.items() if key not in NOT_HASHED}),
        files=info.scenario.files,
        versions={name: version for name, version in versions.items() if version is not None},
        same=tuple((info.scenario.effective.get("regression") or {}).get("same") or ()),
        polling={name: text for name in info.traffic if (text := polling(info, name))},
    )


def target_identity(info: RunInfo) -> TargetIdentity:
    """Return the facts about the target that must be equal in all runs of a history."""
    target = info.target
    limits = dict(sorted(target.limits.items())) | ({} if target.limit_all is None else {"all": target.limit_all})
    said = [f"{target.limiter} by {target.limit_scope}"]
    said += [f"{name} {limit.count} per {limit.window:g} s" for name, limit in limits.items()]
    said += [f"burst {target.burst}"] if target.burst is not None else []
    said += ["rejected requests count"] if target.count_rejected else []
    said += [f"phase {target.phase:g} s"] if target.phase else []
    said += ["rounded down"] if target.round_down else []
    said += [f"{target.draws} requests draw"] if target.draws != "all" else []
    return TargetIdentity(
        host="embedded" if target.embedded else target.url,
        endpoint=target.endpoint_digest,
        limits=", ".join(said),
        faults=tuple(fault.text for fault in target.faults),
        keys=info.keys,
    )


def generator_identity(info: RunInfo) -> GeneratorIdentity:
    """Return the load generator's machine and the number of its workers."""
    os, cpu, cores = (info.machine.get(name, "unknown") for name in ("os", "cpu", "cores"))
    return GeneratorIdentity(os=os, cpu=cpu, cores=cores, workers=info.workers)


def _controls(findings: Findings) -> list[ControlMeasurement]:
    record, found = findings.record, []
    lag = record.time("dispatch_lag_ms", record.stages())
    p99 = QUANTILES["p99"]
    if lag.n >= needed(p99):
        times = findings.blocks.dispatch_lag
        se, value = None if times is None else times.error(p99), significant(lag.nearest(p99), _DIGITS)
        found.append(ControlMeasurement(name="dispatch lag p99", value_ms=value, se=_rounded(se)))
    # If there are several generators, the slowest determines how late requests are sent.
    loops = [one.cpu_loop for one in record.info.generators if one.cpu_loop.p50_ms is not None]
    if loops:
        slowest = max(loops, key=lambda loop: loop.p50_ms or 0.0)
        found.append(ControlMeasurement(name="CPU loop", value_ms=slowest.p50_ms or 0.0, se=slowest.se))
    return found


def _idle_entries(findings: Findings) -> tuple[str, ...]:
    record, plans = findings.record, findings.record.info.traffic
    executing = [name for name, plan in plans.items() if plan.operation in EXECUTING_OPERATIONS]
    times = {name: record.time(EXECUTION, record.stages(traffic=name)) for name in executing}
    known = {name: each for name, each in times.items() if interval_ranks(each.n, 0.5) is not None}
    return tuple(name for name, each in known.items() if each.nearest(0.95) < IDLE_MS)


class _Stage:
    """The measurements of one traffic entry in one stage."""

    def __init__(self, findings: Findings, key: StageKey) -> None:
        record = self.record = findings.record
        self.key = key
        self.jobs = key.operation in POLLED_OPERATIONS
        self.figures = findings.metrics.traffic[key.traffic].stages[key.stage.name]
        self.blocks = findings.blocks.stages.get(key.place)
        self.whole_ms = key.place not in findings.blocks.uneven
        retries = findings.observed_429.retries.get(key.traffic)
        self.waits = waits(key.stage, key.operation, retried=retries is not None and retries.operations > 0)
        """The reason why the stage's times and errors depend on the server's windows; empty if they do not."""
        self.times = {name: record.times[name].get([key.place]) for name in (EXECUTION, OVERHEAD, LAST_PENDING)}
        self.times[RESPONSE] = record.response_times(key.traffic).get([key.place])

    def measurements(self) -> list[Measurement]:
        """Return the measurements that have samples, in the order of ``Metric``."""
        twice = "it is the same as time to result p95"
        before = "" if self.key.operation in EXECUTING_OPERATIONS else "its jobs ran before the retrieval"
        found = [
            self._time(Metric.RESPONSE_TIME_P50, RESPONSE, 0.50, self.waits),
            self._time(Metric.RESPONSE_TIME_P95, RESPONSE, 0.95, twice if self.jobs else self.waits),
            self._time(Metric.EXECUTION_TIME_P50, EXECUTION, 0.50, before),
            self._time(Metric.EXECUTION_TIME_P95, EXECUTION, 0.95, before),
            self._time(Metric.OVERHEAD_P50, OVERHEAD, 0.50, self.waits if self.jobs else ""),
            self._time(Metric.TIME_TO_RESULT_P95, RESPONSE, 0.95, self.waits) if self.jobs else None,
            *(self._plain_share(metric) for metric in _PLAIN_SHARES),
            self._throttled_rate(),
            self._goodput(),
        ]
        return [one for one in found if one is not None]

    def _time(self, metric: Metric, field: str, quantile: float, why_not: str) -> Measurement | None:
        whole = self.times[field]
        if not whole.n:
            return None
        least, most = whole.nearest(quantile), whole.greatest_at(rank(whole.n, quantile))
        # The lower bound counts a time-out with its duration, and the upper bound counts it as infinite.
        value = most if math.isfinite(most) else least
        resolution = self._resolution(field, least, quantile) + value - least
        times = None if self.blocks is None else self.blocks.times.get(field)
        hidden = resolution / 2 if field == EXECUTION else 0.0
        few = f"too few samples: {whole.n}, p{quantile * 100:.0f} needs {needed(quantile)}"
        return self._measurement(
            metric,
            value=value,
            score=math.log(max(value, LEAST_MS, hidden)),
            n=whole.n,
            se=None if times is None else times.error(quantile),
            why_not=few if whole.n < needed(quantile) else why_not if math.isfinite(most) else _TIMED_OUT,
            # In the file, every time has a resolution, which may be 0. Other metrics have none.
            resolution_ms=significant(resolution, _DIGITS),
        )

    def _resolution(self, field: str, value: float, quantile: float) -> float:
        """Return a time's error in ms due to the last polling interval or to rounding."""
        if field == EXECUTION:
            return _ROUNDING_MS if self.whole_ms else 0.0
        lower = self.times[LAST_PENDING]
        if not self.jobs or not lower.n:
            return 0.0
        upper = value if field == RESPONSE else self.times[RESPONSE].nearest(quantile)
        return max(0.0, upper - lower.nearest(quantile))

    def _plain_share(self, metric: Metric) -> Measurement | None:
        value = attrgetter(metric)(self.figures)
        if value is None:
            return None
        blocks = self.blocks if metric == Metric.ERROR_RATE else None
        n = attrgetter(METRICS[metric].n)(self.figures)
        return self._measurement(
            metric,
            value=value,
            score=share_score(round(value * n), n),
            n=n,
            se=None if blocks is None else blocks.error(share_scores, blocks.errors, blocks.sent),
            why_not=self.waits if self.jobs else "",
        )

    def _throttled_rate(self) -> Measurement | None:
        counts = self.figures.operations
        refused, n = counts.throttled, counts.sent
        if not n:
            return None
        expected = self.figures.expected_throttled_rate
        why_not = ""
        assumed = self.record.assumed_limits
        if expected is None and self.key.stage.expect_429:
            why_not = f"no expected 429 rate: {self.record.expectation.why_not or 'none was replayed'}"
        known = expected or 0.0
        limit = assumed.drawn_on(LIMIT_OF_OPERATION[self.key.operation])
        window_s = assumed.limit_on(limit).window if limit in self.record.limits() else 0.0
        return self._measurement(
            Metric.THROTTLED_RATE,
            value=refused / n - known,
            score=share_score(refused, n) - share_score(known * n, n),
            n=n,
            se=None if self.blocks is None else self.blocks.excess_error(window_s),
            expected=None if why_not else known,
            why_not=why_not,
        )

    def _goodput(self) -> Measurement | None:
        counts = self.figures.operations
        seconds = self.figures.seconds
        plan = self.key.stage
        if not counts.offered or not seconds:
            return None
        return self._measurement(
            Metric.GOODPUT,
            value=counts.ok / seconds,
            score=math.log((counts.ok + 0.5) / seconds),
            n=counts.offered,
            se=None if self.blocks is None else self.blocks.error(log_goodput, self.blocks.ok, self.blocks.offered),
            why_not=f"above a limit it depends on {NEXT_WINDOW}" if plan.expect_429 or plan.over else "",
        )

    def _measurement(
        self, metric: Metric, *, score: float, se: float | None, why_not: str, **given: Any
    ) -> Measurement:
        return Measurement(
            definition=NATURES[metric].definition,
            traffic=self.key.traffic,
            stage=self.key.stage.name,
            metric=metric,
            score=significant(score, _DIGITS),
            se=_rounded(se),
            gated=not why_not,
            why_not=why_not,
            **given,
        )


def _rounded(value: float | None) -> float | None:
    """Round a standard error. Rounding noise becomes zero, and an error that is not finite becomes None."""
    if value is None or not math.isfinite(value):
        return None
    return significant(value, _ERROR_DIGITS) if value > _NOTHING else 0.0
