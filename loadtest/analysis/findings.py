"""Everything that the analysis finds out about a record, in one object; and ``metrics.json``, its file."""

import json
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Final

from loadtest.analysis.chunks import scan
from loadtest.analysis.errors import ErrorGroup
from loadtest.analysis.evenness import Evenness, Evennesses
from loadtest.analysis.executions import Executions, ExecutionTimes
from loadtest.analysis.generators import generators
from loadtest.analysis.heat import Heat, Heats
from loadtest.analysis.judgement import Judged, judge_all
from loadtest.analysis.keys import KeyFigures, KeyTimes, SlowKey
from loadtest.analysis.lags import Lags, WorstLags
from loadtest.analysis.ledger import Ledger
from loadtest.analysis.limit_rates import LimitRates, LimitSeries
from loadtest.analysis.limit_use import LimitUse, LimitUses
from loadtest.analysis.metrics import compute
from loadtest.analysis.oddities import Oddity
from loadtest.analysis.points import Points, Responses
from loadtest.analysis.record import Record
from loadtest.analysis.recovery import Retried
from loadtest.analysis.slowest import Phases, SlowOperation
from loadtest.analysis.throttled import Throttled, look_into
from loadtest.analysis.throttled import as_json as throttled_json
from loadtest.analysis.throttling import Expectation, expect
from loadtest.analysis.validity import Check, check
from loadtest.analysis.verdict import Verdict, decide
from loadtest.record.run_directory import write_atomically

SCHEMA_VERSION: Final = 1
FILE_NAME: Final = "metrics.json"


@dataclass(frozen=True)
class Findings:
    """What a record says: its figures, whether they are valid, and the verdict."""

    record: Record
    expectation: Expectation
    metrics: dict[str, Any]
    """``{overall, operations, traffic}``."""
    uses: list[LimitUse]
    evenness: dict[str, Evenness]
    rates: dict[str, LimitSeries]
    """By limit, over time."""
    responses: dict[str, Responses]
    """By traffic entry, over time."""
    lags: dict[str, Lags]
    """By traffic entry, over time."""
    heats: dict[str, Heat]
    """By traffic entry that has many operations, or of a long run."""
    executions: dict[str, Executions]
    """executionTime by traffic entry, over time and against what the client saw."""
    errors: list[ErrorGroup]
    """What was not ok, the most frequent first."""
    oddities: list[Oddity]
    """What the target said and cannot be."""
    ledger: Ledger
    """What became of the jobs."""
    slowest: dict[str, list[SlowOperation]]
    """By traffic entry, the slowest first."""
    throttled: Throttled
    """All that is told of the 429s."""
    keys: list[KeyFigures]
    """Response times by traffic entry and key; empty where there is one key."""
    slow_keys: list[SlowKey]
    """Keys that are slower than the others of their entry, the slowest first."""
    checks: list[Check]
    judged: list[Judged]
    verdict: Verdict


def find(record: Record) -> Findings:
    """Analyse a record. The same record always gives the same findings.

    What is seen over time is gathered in a second pass: bins need to know how much there is and when windows begin.
    """
    expectation = expect(record)
    metrics = compute(record, expectation)
    judged = judge_all(record.info, metrics)
    uses, evenness, rates = LimitUses(record), Evennesses(record), LimitRates(record, expectation)
    points, lags, slowest = Points(record), WorstLags(record), record.slowest.result()
    phases = Phases(record.book, [one for found in slowest.values() for one in found])
    retried, throttled = Retried(record), look_into(record, expectation)
    executions, heats, keys = ExecutionTimes(record), Heats(record), KeyTimes(record)
    scan(record.directory, record.book, [uses, evenness, rates, points, lags, phases, retried, executions, heats, keys])
    checks = check(record, metrics["overall"], evenness.result())
    verdict = decide(record.info, checks, judged)
    return Findings(
        record,
        expectation,
        metrics,
        uses.result(),
        evenness.result(),
        rates.of,
        points.result(),
        lags.result(),
        heats.result(),
        executions.result(),
        record.errors.result(),
        record.oddities.result(),
        record.jobs.result(),
        slowest,
        replace(throttled, retries=retried.result()),
        keys.result(),
        keys.slow(),
        checks,
        judged,
        verdict,
    )


def as_json(findings: Findings) -> dict[str, Any]:
    """``metrics.json``: the figures, and beside them the verdict with all that it rests on."""
    info = findings.record.info
    return {
        "schema": SCHEMA_VERSION,
        "run": {
            "id": info.id,
            "scenario": info.scenario.name,
            "scenario_hash": info.scenario.hash,
            "seed": info.seed,
            "started": info.started,
            "covered_s": findings.record.covered_s,
            "end": info.end,
            "complete": info.complete,
        },
        "verdict": findings.verdict.word,
        "exit_code": int(findings.verdict.exit_code),
        "interrupted": findings.verdict.interrupted,
        "sentence": findings.verdict.sentence,
        "reasons": list(findings.verdict.reasons),
        "validity": [asdict(one) for one in findings.checks],
        "thresholds": [_threshold(one) for one in findings.judged],
        "limits": [{**asdict(use), "throttled_rate": use.throttled_rate} for use in findings.uses],
        "expected": {
            "limiter": info.target.limiter,
            "burst": info.target.burst,
            "count_rejected": info.target.count_rejected,
            "limit_scope": info.target.limit_scope,
            "clock_shift_s": findings.expectation.shift_s,
            "agreement": findings.expectation.agreement,
            "why_not": findings.expectation.why_not,
        },
        "throttling": throttled_json(findings.throttled),
        "errors": [asdict(one) for one in findings.errors],
        "oddities": [asdict(one) for one in findings.oddities],
        "jobs": asdict(findings.ledger),
        "keys": [one.as_json() for one in findings.keys],
        "slow_keys": [{**asdict(one), "factor": one.factor} for one in findings.slow_keys],
        "slowest": {name: [asdict(one) for one in found] for name, found in findings.slowest.items()},
        "generators": [one.as_json() for one in generators(info)],
        "evenness": {name: asdict(one) for name, one in findings.evenness.items()},
        **findings.metrics,
    }


def write(findings: Findings) -> Path:
    """Write ``metrics.json`` into the run directory, atomically, and return its path."""
    path = findings.record.directory / FILE_NAME
    text = json.dumps(as_json(findings), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")
    return path


def _threshold(one: Judged) -> dict[str, Any]:
    threshold = one.threshold
    return {
        "require": threshold.text,
        "traffic": threshold.traffic,
        "operation": threshold.operation,
        "stage": threshold.stage,
        "unit": threshold.unit,
        "judgement": one.judgement,
        "value": one.value,
        # JSON has no infinity: an upper bound that isn't known is null.
        "bounds": [bound if isfinite(bound) else None for bound in one.bounds] if one.bounds else None,
        "interval": one.interval,
        "expected": one.expected,
        "margin": one.margin,
        "n": one.n,
        "why": one.why,
    }
