"""All results of an analysis in one object, and the file ``metrics.json`` with most of these results."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np

from loadtest.analysis.anomalies import Anomaly, ErrorGroup, KeyFigures, KeyTimes, SlowKey
from loadtest.analysis.answers import ComparisonAnswer, answer_all, compared_entries
from loadtest.analysis.columns import FAILED, THROTTLED, TIMED_OUT
from loadtest.analysis.consistency import Evenness, Evennesses, Inconsistency
from loadtest.analysis.counts import Ledger
from loadtest.analysis.frames import Run, names_of
from loadtest.analysis.intervals import MetricInterval, metric_intervals
from loadtest.analysis.metrics import RunFigures, compute, deliberate_errors
from loadtest.analysis.reader import Chunk, Visitor, scan
from loadtest.analysis.rejections.observed_429 import Observed429, Observed429Result, look_into
from loadtest.analysis.rejections.recovery import Retried
from loadtest.analysis.rejections.usage import LimitRates, LimitSeries, LimitUsage, limit_uses
from loadtest.analysis.relative import ArrivalValues, judge_any, referred_entries
from loadtest.analysis.results import (
    CountedFigures,
    DeliberateErrors,
    ExpectedLimiter,
    OperationFigures,
    OverallFigures,
    Result,
    RunSummary,
    Summary,
    result_of,
)
from loadtest.analysis.run_record import Record, load_record
from loadtest.analysis.time_blocks import TimeBlocks
from loadtest.analysis.timelines import Executions, Heat, Lags, Responses, Timelines
from loadtest.analysis.times import Phases
from loadtest.analysis.validity import Generator, ValidityCheck, check, generators
from loadtest.analysis.verdict import (
    Judged,
    Verdict,
    VerdictWord,
    decide,
    describe_import,
    judged_by,
    thresholds_of,
    unexpected_errors,
)
from loadtest.arrays import Floats
from loadtest.contract import THROTTLED_STATUS, Reason
from loadtest.metrics import STATISTICS, UNITS
from loadtest.record import run_directory
from loadtest.record.effective_scenario import written_entry
from loadtest.record.figures import FILE_NAME, SlowOperation
from loadtest.threshold import Threshold, parse_threshold
from loadtest.words import counted

if TYPE_CHECKING:
    import pandas as pd

_LEAST_ERRORS: Final = 3
"""A stage fails by default only if it has at least this many unexpected errors."""
_REPLACING: Final = frozenset({"error_rate", "operations.ok", "operations.failed", "operations.timed_out"})
"""A written threshold for one of these metrics replaces ``unexpected_errors`` in its scope."""


class Results(Result, frozen=True, kw_only=True):
    """The figures of a run, and the verdict with its evidence.

    Times are in ms, or in s if their name is ``seconds`` or ends in _s. Error and 429 rates are shares from 0 to 1;
    other rates are per second. A new field does not change the number in ``schema``, but a new meaning of a field does.

    Attributes:
        uses: use of each limit in each period between two successive stage boundaries; ``limits`` in the file.
        keys: response times by traffic entry and API key, for entries with several keys. The first 64 keys are listed.
        slow_keys: keys that are significantly slower than the other keys of their traffic entry.
        on_purpose: operations that the scenario expects to end in an error, by traffic entry and kind.
    """

    schema: Literal[1]
    run: RunSummary
    word: VerdictWord = msgspec.field(name="verdict")
    exit_code: int
    interrupted: bool
    sentence: str
    reasons: tuple[str, ...]
    checks: list[ValidityCheck] = msgspec.field(name="validity")
    inconsistencies: list[Inconsistency]
    judged: list[Judged] = msgspec.field(name="thresholds")
    uses: list[LimitUsage] = msgspec.field(name="limits")
    expected: ExpectedLimiter
    observed_429: Observed429Result = msgspec.field(name="throttling")
    errors: list[ErrorGroup]
    anomalies: list[Anomaly] = msgspec.field(name="oddities")
    ledger: Ledger = msgspec.field(name="jobs")
    keys: list[KeyFigures]
    slow_keys: list[SlowKey]
    slowest: dict[str, list[SlowOperation]]
    generators: list[Generator]
    evenness: dict[str, Evenness]
    answers: list[ComparisonAnswer]
    on_purpose: list[DeliberateErrors]
    intervals: list[MetricInterval]
    overall: OverallFigures
    operations: dict[str, OperationFigures]
    traffic: dict[str, OperationFigures]


class Findings(Results, frozen=True, kw_only=True, eq=False):
    """The analysis of a record: the content of ``metrics.json``, and results that only reports show.

    ``responses``, ``lags``, ``heats`` and ``executions`` are series over the run, by traffic entry.
    """

    record: Record
    metrics: RunFigures
    observed_429: Observed429
    rates: dict[str, LimitSeries]
    responses: dict[str, Responses]
    lags: dict[str, Lags]
    heats: dict[str, Heat]
    executions: dict[str, Executions]
    blocks: TimeBlocks
    verdict: Verdict = msgspec.field(name="decision")  # in the file, `verdict` is only the verdict's word


def find(record: Record) -> Findings:
    """Analyse a record. Bins of time need a second pass, because their width depends on counts from the first pass."""
    observed_429 = look_into(record)
    metrics = compute(record)
    rates = LimitRates(record)
    evenness = Evennesses(record.vocabulary, record.arrivals)
    retried, timelines = Retried(record), Timelines(record)
    phases = Phases(record.vocabulary, record.slowest.result())
    keys = KeyTimes(record.vocabulary, record.info.keys)
    blocks = TimeBlocks(record)
    thresholds = thresholds_of(record.info)
    values = ArrivalValues(record.vocabulary, compared_entries(record.info) | referred_entries(thresholds))
    unexpected = _UnexpectedErrors(record)
    visitors: list[Visitor] = [evenness, rates, timelines, phases, retried, keys, blocks, values, unexpected]
    scan(record.directory, record.vocabulary, visitors)
    intervals, even = metric_intervals(record, metrics, blocks), evenness.result()
    key_figures, slow_keys = keys.result()
    judged = [judge_any(one, record, metrics, values, intervals) for one in thresholds]
    judged += _default_thresholds(record, metrics, unexpected.by_stage, thresholds)
    checks = check(record, metrics.overall, even)
    verdict = describe_import(record, metrics) or decide(record.info, checks, judged)
    return Findings(
        **_once(record, metrics, verdict),
        uses=limit_uses(record),
        evenness=even,
        rates=rates.by_limit,
        responses=timelines.responses,
        lags={name: lags for name, lags in timelines.lags.items() if not np.isnan(lags.longest[0]).all()},
        heats=timelines.heats,
        executions={name: each for name, each in timelines.executions.items() if each.n + each.anomaly_count},
        observed_429=msgspec.structs.replace(observed_429, retries=retried.result()),
        keys=key_figures,
        slow_keys=slow_keys,
        blocks=blocks,
        answers=answer_all(record, metrics, values),
        intervals=intervals,
        checks=checks,
        judged=judged,
    )


def _once(record: Record, metrics: RunFigures, verdict: Verdict) -> dict[str, Any]:
    """Return the fields of the verdict, and the fields that need no second pass over the record."""
    info, scenario = record.info, record.info.scenario
    run = result_of(RunSummary, info, scenario=scenario.name, scenario_hash=scenario.hash, covered_s=record.covered_s)
    return {
        "schema": 1,
        "run": run,
        **{name: getattr(verdict, name) for name in ("word", "exit_code", "interrupted", "sentence", "reasons")},
        "inconsistencies": record.consistency.result(),
        "expected": result_of(ExpectedLimiter, record.expectation),
        "generators": generators(info),
        **vars(metrics),
        "errors": record.errors.result(),
        "anomalies": record.anomalies.result(),
        "ledger": record.jobs,
        "slowest": record.slowest.result(),
        "on_purpose": [one for name in info.traffic for one in deliberate_errors(record, name)],
        "record": record,
        "metrics": metrics,
        "verdict": verdict,
    }


class _UnexpectedErrors:
    """Counts the sent operations that failed or timed out unexpectedly, by the index of their stage.

    An error is expected if the stage's ``expect`` lists the operation's last status. After a 429, an error is also
    expected if its reason is ``give_up`` or ``drain``.
    """

    def __init__(self, record: Record) -> None:
        vocabulary = record.vocabulary
        self.by_stage: Counter[int] = Counter()
        self._expected = [
            sorted(written_entry(record.info, key.traffic).expected_in(key.stage.name)) for key in vocabulary.stage_keys
        ]
        self._waited = vocabulary.codes("reason", [Reason.GIVE_UP, Reason.DRAIN])
        self._throttled: list[Floats] = [np.zeros(0) for _ in vocabulary.entries]
        """Arrivals in flight that got a 429, by entry."""

    def add(self, chunk: Chunk) -> None:
        entry_of = chunk.vocabulary.entry_of
        for stage, rows in chunk.requests.by_stage:
            if (rejected := rows.words("outcome") == THROTTLED).any():
                known = self._throttled[entry_of[stage]]
                self._throttled[entry_of[stage]] = np.union1d(known, rows.floats("parent_arrival")[rejected])
        for stage, rows in chunk.operations.by_stage:
            throttled = self._throttled[entry_of[stage]]
            errors = rows.sent.where(np.isin(rows.sent.words("outcome"), (FAILED, TIMED_OUT)))
            if len(errors):
                expected = np.isin(errors.words("reason"), self._waited)
                expected &= np.isin(errors.floats("arrival"), throttled)
                expected |= np.isin(errors.floats("status"), self._expected[stage])
                self.by_stage[stage] += int(np.count_nonzero(~expected))
            if len(throttled):
                self._throttled[entry_of[stage]] = np.setdiff1d(throttled, rows.floats("arrival"))


def _default_thresholds(
    record: Record, metrics: RunFigures, errors: Counter[int], written: list[Threshold]
) -> Iterator[Judged]:
    """Yield the failed default thresholds of a finished run.

    Each entry that sent operations needs an ok operation, unless all its stages expect only 429. A stage must not
    have many unexpected errors, unless a written threshold replaces this rule.
    """
    if record.info.end != "finished" or record.info.imported:
        return
    dead = {
        name: figures.operations.offered
        for name, figures in metrics.traffic.items()
        if figures.operations.sent
        and not figures.operations.ok
        and {stage.expect for stage in written_entry(record.info, name).stages} != {(THROTTLED_STATUS,)}
    }
    for name, offered in dead.items():
        require = parse_threshold("operations.ok > 0", traffic=name)
        yield _failed(require, 0.0, offered, f"no operation was ok ({offered:,} offered)")
    if (allowed := unexpected_errors(record.info)) is None:
        return
    for name, stage, operation, index in record.stages():
        count = errors[index]
        sent = metrics.traffic[name].stages[stage.name].operations.sent
        excused = any(each.metric in _REPLACING and each.covers(name, operation, stage.name) for each in written)
        if count >= _LEAST_ERRORS and count / sent > allowed and not excused and name not in dead:
            require = parse_threshold(f"error_rate <= {allowed * 100:g}%", traffic=name, stage=stage.name)
            failed = f"{count:,} of {counted(sent, 'operation')} failed or timed out"
            why = f"{failed}; unexpected_errors allows {allowed * 100:g}\u00a0%"
            yield _failed(require, count / sent, sent, why)


def _failed(threshold: Threshold, value: float, n: int, why: str) -> Judged:
    margin = -abs(value - threshold.value) or 0.0  # Without `or 0.0`, JSON would show -0.0.
    return judged_by(threshold)(judgement="fail", value=value, margin=margin, n=n, why=why, implicit=True)


def as_json(findings: Findings) -> bytes:
    """Return ``metrics.json`` as bytes."""
    content = result_of(Results, findings, observed_429=findings.observed_429.result())
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def schema_text() -> str:
    """Return the JSON schema of ``metrics.json``, generated from its types."""
    made = msgspec.json.schema(Results)
    for definition in made["$defs"].values():
        definition["description"] = cleandoc(definition["description"])
    title = "metrics.json of a workflow-loadtest run"
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **made}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def write(findings: Findings) -> Path:
    """Write ``metrics.json`` into the run directory, atomically, and return its path."""
    path = findings.record.directory / FILE_NAME
    run_directory.write_atomically(path, as_json(findings))
    return path


def understand(run: str | Path, reports: Path = Path("reports")) -> Findings:
    """Analyse a run. ``run`` is its directory, its id below ``reports``, or ``latest``.

    Raises:
        InputError: if there is no such run.
        RecordError: if a run cannot be read as a record.
    """
    return find(load_record(run_directory.find_run(str(run), reports)))


def metrics_table(runs: Run | Findings | Iterable[Run | Findings], reports: Path = Path("reports")) -> "pd.DataFrame":
    """Return a row for each figure of one or several runs. The figures are those of ``metrics.json``.

    Columns: ``run``, ``traffic`` (``overall`` for all entries), ``stage`` (empty for all stages), ``metric`` and
    ``statistic`` (named as in a threshold: ``response_time`` and ``p95``), ``unit`` (``ms``, ``1/s``, ``share`` from 0
    to 1, or empty for a number), ``value`` (NaN if it is missing or samples are too few), ``low`` and ``high`` (95 %
    interval of a percentile, sampling error only), ``n`` (number of measured times), ``at_least`` (whether the value is
    a lower bound because it reaches a time-out).

    Args:
        runs: a run directory, a run's id, ``latest``, the result of ``understand``, or several of these.
        reports: directory that contains runs given by id.

    Raises:
        InputError: if there is no such run.
        RecordError: if a run cannot be read as a record.
    """
    import pandas as pd  # noqa: PLC0415 - slow to import, and reports do not need it

    wanted = [runs] if isinstance(runs, str | Path | Findings) else list(runs)
    found = [run if isinstance(run, Findings) else understand(run, reports) for run in wanted]
    called = names_of([each.record.directory for each in found])
    wholes: list[dict[str, OverallFigures | OperationFigures]]
    wholes = [{"overall": each.overall, **each.traffic} for each in found]
    rows = [
        {"run": run, "traffic": name, "stage": stage, **row}
        for run, each in zip(called, wholes, strict=True)
        for name, whole in each.items()
        for stage, figures in {"": whole, **whole.stages}.items()
        for row in _rows(figures)
    ]
    columns = ["run", "traffic", "stage", "metric", "statistic", "unit", "value", "low", "high", "n", "at_least"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("value", "low", "high", "n"), "float64"))


def _rows(figures: CountedFigures) -> Iterator[dict[str, Any]]:
    for field in figures.__struct_fields__:
        name, found = field.removesuffix("_ms"), getattr(figures, field)
        if isinstance(found, Summary):
            for statistic in STATISTICS:
                one = found.get(statistic)
                unit = "ms" if field.endswith("_ms") else ""
                low, high = one.interval or (None, None)
                bounds = {"value": one.value, "low": low, "high": high, "n": found.n, "at_least": one.at_least}
                yield {"metric": name, "statistic": statistic, "unit": unit, **bounds}
            continue
        parts = msgspec.structs.asdict(found) if isinstance(found, Result) else {"": found}
        for part, value in parts.items():
            if value is None or isinstance(value, int | float):
                # An expected value has the same unit as its metric.
                unit = UNITS.get(f"{name}.{part}".rstrip(".").replace("expected_", ""), "number")
                named = {"per_s": "1/s", "share": "share"}.get(unit, "")
                yield {"metric": name, "statistic": part, "unit": named, "value": value, "at_least": False}
